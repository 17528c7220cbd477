"""Vectors of the ASTRA toolbox: a detector and a source, or rays, for each view by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from prdit_core.errors import UsageError
from prdit_core.inverse.operators.circular import CircularSpec
from prdit_core.inverse.operators.cone import ConeSpec

if TYPE_CHECKING:
    from prdit_core.inverse.operators.joseph import Array
    from prdit_core.inverse.operators.projector import ViewsSpec

# Share of a bin, or of the source's distance, by which views of one scanner may differ.
SAME = 1e-3


@dataclass(frozen=True)
class Views:
    """What turns: angles, widths of a bin and of a row, where the axis is, source and detector."""

    angles_deg: tuple[float, ...]
    bin_width: float
    row_height: float
    axis_bin: float | None = None
    source: float | None = None
    detector: float = 0.0


def recognised(vectors: Array, bins: int, *, parallel: bool) -> Views:
    """The turning scanner that vectors describe.

    Parameters
    ----------
    vectors : (V, 6), or (V, 12) for a detector with rows: the source or the direction of the rays,
        the middle of the detector, the steps to the next bin and to the next row
    bins : of a row
    parallel : whether rays are

    Raises
    ------
    UsageError
        If they describe anything else.
    """
    row = 1.0
    if vectors.shape[1] == 12:
        row = float(np.linalg.norm(vectors[:, 9:], axis=1).mean())
        _agree(vectors[:, 9:], np.array([0, 0, row]), SAME * row, "its rows do not run along z")
        _agree(vectors[:, (2, 5, 8)], 0.0, SAME * row, "it moves or tilts along z")
        vectors = vectors[:, (0, 1, 3, 4, 6, 7)]
    beam, middle, step = vectors[:, :2], vectors[:, 2:4], vectors[:, 4:]
    width = float(np.linalg.norm(step, axis=1).mean())
    across = step / width
    _agree(np.linalg.norm(across, axis=1), 1.0, SAME, "its bins are not equally wide")
    along = np.stack([-across[:, 1], across[:, 0]], axis=1)
    aside, ahead = (np.sum(beam * axis, axis=1) for axis in (across, along))
    off, behind = (np.sum(middle * axis, axis=1) for axis in (across, along))
    shift = float(off.mean()) / width
    _agree(off, shift * width, SAME * width, "its detector moves to the side")
    tilted = "its detector is not upright to the ray through the axis"
    source: float | None = None
    if parallel:
        _agree(aside, 0.0, SAME * float(np.abs(ahead).min()), tilted)
    else:
        source = -float(ahead.mean())
        if source <= 0:
            raise not_ours("its bins run the other way; mirror data and vectors")
        _agree(aside, 0.0, SAME * source, tilted)
        _agree(-ahead, source, SAME * source, "its source does not keep its distance")
        _agree(behind, float(behind.mean()), SAME * source, "its detector does not keep its")
    return Views(
        tuple(np.degrees(np.arctan2(across[:, 1], across[:, 0])).tolist()),
        width,
        row,
        None if abs(shift) < SAME else (bins - 1) / 2 - shift,
        source,
        0.0 if source is None else float(behind.mean()),
    )


def _agree(actual: Array, expected: Array | float, tolerance: float, fault: str) -> None:
    if not np.all(np.abs(actual - expected) <= tolerance):
        raise not_ours(fault)


def not_ours(fault: str) -> UsageError:
    """The refusal of a geometry that ASTRA has and we do not."""
    return UsageError(
        f"the ASTRA geometry is none that can be reconstructed here: {fault}; use ASTRA for it"
    )


def vectors_of(spec: ViewsSpec) -> list[list[float]]:
    """Of a detector that the axis does not meet in its middle."""
    beyond = ((spec.bins - 1) / 2 - spec.centre) * spec.bin_mm
    source, behind = 1.0, 0.0
    if isinstance(spec, CircularSpec):
        source = spec.source_axis_mm
        behind = spec.source_detector_mm - source
    vectors = []
    for across, along in spec.frames():
        parts = [-source * along, behind * along + beyond * across, spec.bin_mm * across]
        if isinstance(spec, ConeSpec):
            parts = [np.append(part, 0.0) for part in parts] + [np.array([0.0, 0.0, spec.row_mm])]
        vectors.append(np.concatenate(parts).tolist())
    return vectors

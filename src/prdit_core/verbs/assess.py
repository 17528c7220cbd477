"""Assess reconstructions of one measurement: what is certain, what is imagined, what is wrong."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from prdit_core.errors import InputRejected
from prdit_core.geometry import by
from prdit_core.intensity import HU
from prdit_core.inverse.operators.projector import ViewsSpec
from prdit_core.inverse.problem import Problem, in_measured_unit
from prdit_core.metrics.fidelity import fidelity, grey_fidelity
from prdit_core.pictures import WINDOW_HU, Panel
from prdit_core.provenance import MAKER, SYNTHETIC
from prdit_core.series import Sums
from prdit_core.verbs.classical import relative_window, solved_classically
from prdit_core.verbs.reconstruct import determined_hu

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prdit_core.inverse.measurement import Measurement
    from prdit_core.volume import Volume

# Axes and corners of grids that agree to this, in mm, are the same.
SAME_MM = 0.01


@dataclass(frozen=True, eq=False)
class Assessment:
    """Reconstructions of one measurement, seen together.

    Attributes
    ----------
    count : of the reconstructions
    volume : the only one, or their mean
    parts : further volumes by name: "spread" of several; where a prior made them, what the data
        "determined" of `volume` and the rest of it, which the prior "imagined", in its units
    fbp : filtered backprojection, where rays were measured
    truth : where it is known
    numbers : JSON: misfit, size of the parts, and where the truth is known, fidelity of each and
        of `volume`
    """

    count: int
    volume: Volume
    parts: dict[str, Volume]
    fbp: Volume | None
    truth: Volume | None
    numbers: dict[str, Any]

    def panels(self) -> list[Panel]:
        """Rows of a picture: FBP, the reconstruction, its spread, what was imagined, the truth."""
        window, units = _window(self.volume), self.volume.units
        name = "reconstruction" if self.count == 1 else f"mean of {self.count} reconstructions"
        if units != HU:
            name += f", {window[0]:.0f} to {window[1]:.0f} {units}"
        rows = [(self.fbp, "filtered backprojection"), (self.volume, name)]
        panels = [
            Panel(one.voxels_hu, one.spacing_mm, window, caption)
            for one, caption in rows
            if one is not None
        ]
        if "spread" in self.parts:
            spread = self.parts["spread"]
            top = max(1.0, float(np.percentile(spread.voxels_hu, 99.5)))
            caption = f"spread (standard deviation), 0 to {top:.0f} {units}"
            panels.append(Panel(spread.voxels_hu, spread.spacing_mm, (0.0, top), caption))
        if "imagined" in self.parts:
            imagined = self.parts["imagined"]
            top = max(1.0, float(np.percentile(np.abs(imagined.voxels_hu), 99.5)))
            range_words = f"-{top:.0f} (blue) to {top:.0f} {units}"
            caption = f"imagined: not determined by the data, {range_words}"
            panels.append(
                Panel(imagined.voxels_hu, imagined.spacing_mm, (-top, top), caption, "signed")
            )
        if self.truth is not None:
            panels.append(Panel(self.truth.voxels_hu, self.truth.spacing_mm, window, "truth"))
        return panels


def assess(
    measurement: Measurement, volumes: Iterable[Volume], truth: Volume | None = None
) -> Assessment:
    """Mean, spread, parts and errors of reconstructions by one method.

    Parameters
    ----------
    volumes : one or more, of which only sums are kept
    truth : on the same grid

    Raises
    ------
    InputRejected
        If the truth lies on another grid.
    """
    if truth is not None:
        check_truth(measurement, truth)
    problem, sums, each = in_measured_unit(measurement, "cpu"), Sums(), []
    for volume in volumes:
        sums.add(volume.voxels_hu)
        each.append(_numbers(problem, volume, truth))
    parts = {}
    if sums.count > 1:
        summary = sums.summary(volume)
        volume, parts["spread"] = summary.mean, summary.spread
    if MAKER in volume.metadata:
        parts |= _split(problem, volume)
    rays = isinstance(measurement.spec, ViewsSpec) and volume.metadata["method"] != "fbp"
    numbers = {
        "volumes": each,
        "volume": _numbers(problem, volume, truth),
        suffixed("size", volume.units): {name: _rms(part) for name, part in parts.items()},
    }
    return Assessment(
        sums.count,
        volume,
        parts,
        solved_classically(problem, "fbp") if rays else None,
        truth,
        numbers,
    )


def check_truth(measurement: Measurement, truth: Volume) -> None:
    """Raise `InputRejected` unless the truth lies on the grid that is reconstructed."""
    shape, affine = measurement.spec.shape, measurement.affine
    same = truth.shape == shape
    if affine is not None:
        same = same and np.allclose(truth.affine, affine, rtol=0, atol=SAME_MM)
    if not same:
        raise InputRejected(
            f"the truth, {by(truth.shape)} voxels, does not lie on the grid that was measured, "
            f"{by(shape)} voxels; resample it, or take what `simulate --truth` wrote"
        )


def _split(problem: Problem, volume: Volume) -> dict[str, Volume]:
    determined = determined_hu(problem, volume)
    rest = volume.voxels_hu - determined.voxels_hu
    parts = {"determined": determined.voxels_hu, "imagined": rest}
    return {
        name: replace(volume, voxels_hu=voxels, metadata=_described(volume, name))
        for name, voxels in parts.items()
    }


def _described(volume: Volume, kind: str) -> dict[str, Any]:
    made = f"{kind} part of a reconstruction, PRDiT {volume.metadata[MAKER][:8]}"
    return {**volume.metadata, "kind": kind, "description": f"{SYNTHETIC}; {made}"}


def _numbers(problem: Problem, volume: Volume, truth: Volume | None) -> dict[str, Any]:
    """Misfit, and errors where the truth is known."""
    hu = torch.from_numpy(volume.voxels_hu.astype(np.float32))[None, None]
    numbers: dict[str, Any] = {"misfit": problem.misfit(problem.measured(hu))}
    if "index" in volume.metadata:
        numbers["index"] = volume.metadata["index"]
    if truth is None:
        return numbers
    # The same for all methods, where each volume has a window of its own to be shown in.
    if volume.units == HU:
        window = _window(volume)
    else:
        window = relative_window(truth.voxels_hu, volume.units)
    grey = asdict(grey_fidelity(truth.voxels_hu, volume.voxels_hu, window))
    if math.isinf(grey["psnr"]):
        grey["psnr"] = None  # JSON knows no infinity
    plain = fidelity(truth.voxels_hu, volume.voxels_hu)
    tissues = {name: asdict(error) for name, error in plain.tissues.items()}
    return {
        **numbers,
        "grey": {**grey, "note": "both clipped to the window and scaled to 0..1"},
        suffixed("mae", volume.units): plain.mae_hu,
        suffixed("rmse", volume.units): plain.rmse_hu,
        **({"tissues": tissues} if volume.units == HU else {}),
    }


def suffixed(quantity: str, units: str) -> str:
    """Name of a number in a report: HU are part of it, other units stand in the record."""
    return f"{quantity}_hu" if units == HU else quantity


def _window(volume: Volume) -> tuple[float, float]:
    low, high = volume.metadata.get("window_hu", WINDOW_HU)
    return float(low), float(high)


def _rms(volume: Volume) -> float:
    return float(np.sqrt(np.square(volume.voxels_hu, dtype=np.float64).mean()))

"""From k-space of a scanner to a measurement of a magnitude along a phase.

The phase is that of the low frequencies that were measured whole, as partial Fourier imaging takes
it (D. Noll et al., IEEE Trans. Med. Imaging 10, 154 (1991)).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from prdit_core.data.grid import rejected
from prdit_core.intensity import ARBITRARY
from prdit_core.inverse.measurement import Measurement
from prdit_core.inverse.operators.kspace import middle_of, sampled_at, slices_of
from prdit_core.provenance import UNITS
from prdit_core.volume import axial_affine

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from prdit_core.data.fastmri import RawKspace
    from prdit_core.inverse.operators.kspace import Complex

# What the brightest voxels of a zero-filled volume become, so that whole numbers are fine enough.
BRIGHT, SHARE = 1000.0, 99.9
# Rows and columns of low frequencies that tell the phase, at most; fewer than so many are coarse.
# Odd, so that frequency 0 is the middle of them.
MOST, FEW = 31, 9
# Pixel sizes that agree to this are the same.
_SAME = 0.01


def measurement_of_kspace(raw: RawKspace) -> Measurement:
    """The measurement in units that are arbitrary, with the phase taken from its middle.

    Parameters
    ----------
    raw : rows that reach beyond what the scanner shows (oversampled readout) are cropped, since all
        frequencies along them were measured

    Raises
    ------
    InputRejected
        If frequency 0 was not measured.
    """
    values, notes = _without_oversampling(raw)
    _, height, width = values.shape
    sampled = raw.sampled[:height] if height < len(raw.sampled) else raw.sampled
    if not sampled[height // 2, width // 2]:
        why = "the middle of its k-space was not measured"
        raise rejected(raw.name, why, "check that frequency 0 lies at half of rows and columns")
    edge = _whole_middle(sampled)
    if edge < FEW:
        notes.append(f"the phase is known from {edge} x {edge} frequencies only and is coarse")
    window = np.hamming(edge)[:, None] * np.hamming(edge)
    spec = sampled_at(sampled, values.shape, middle_of(values, edge, edge) * window)
    bright = float(np.percentile(np.abs(slices_of(np.where(sampled, values, 0))), SHARE))
    scale = BRIGHT / bright
    pairs = (values[:, sampled] * scale).astype(np.complex64)
    spacing = _spacing_mm(raw, values.shape)
    if spacing is None:
        notes.append("the file does not say how large voxels are: 1 mm is assumed")
    notes.append("where the slices lie in the patient is not known")
    metadata = {"source": raw.name, UNITS: ARBITRARY, "scale": scale, "notes": notes}
    metadata["phase"] = f"estimated from the middle {edge} x {edge} of k-space"
    affine = axial_affine(spacing or (1.0, 1.0, 1.0), values.shape)
    reals = np.stack([pairs.real, pairs.imag], axis=-1)
    return Measurement(reals, spec, affine=affine, metadata=metadata)


def _without_oversampling(raw: RawKspace) -> tuple[Complex, list[str]]:
    """The k-space of the rows that the scanner shows, where all along them was measured."""
    shown, encoded, height = raw.reconstructed, raw.encoded, raw.values.shape[1]
    if shown is None or encoded is None or not (raw.sampled == raw.sampled[:1]).all():
        return raw.values, []
    rows = shown.count[0]
    pixel, shown_pixel = encoded.field_mm[0] / height, shown.field_mm[0] / rows
    if rows >= height or abs(pixel / shown_pixel - 1) > _SAME:
        return raw.values, []
    along = np.fft.fftshift(np.fft.ifft(np.fft.ifftshift(raw.values, 1), axis=1, norm="ortho"), 1)
    first = height // 2 - rows // 2
    kept = np.fft.ifftshift(along[:, first : first + rows], 1)
    cropped = np.fft.fftshift(np.fft.fft(kept, axis=1, norm="ortho"), 1)
    return cropped, [f"{height} rows of an oversampled readout were cropped to {rows}"]


def _whole_middle(sampled: NDArray[np.bool_]) -> int:
    """Edge of the largest square around the middle that was measured whole."""
    height, width = sampled.shape
    best = 1
    for edge in range(1, min(MOST, height, width) + 1, 2):
        top, left = height // 2 - edge // 2, width // 2 - edge // 2
        if not sampled[top : top + edge, left : left + edge].all():
            break
        best = edge
    return best


def _spacing_mm(raw: RawKspace, shape: tuple[int, ...]) -> tuple[float, float, float] | None:
    """(z, y, x) of the voxels: the slice, the readout along rows, the phase along columns."""
    if raw.encoded is None:
        return None
    readout, phase, thick = raw.encoded.field_mm
    return thick / raw.encoded.count[2], readout / raw.values.shape[1], phase / shape[2]

"""Voxels that no beam crossed: what fills a slice up to its rectangle, and what it becomes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from prdit_core.data.grid import rejected
from prdit_core.data.hounsfield import LOWEST_HU

VoxelMask = NDArray[np.bool_]

# The most that a CT scanner's extended scale states.
MOST_HU = 30710
_BLANK_HU, _SHARP_KINDS = -1500, 8
# Of all voxels: metal throws some far below air; a wrong sign bit 0.1 % of a public abdomen.
_MAX_STREAKS = 0.0005


def equal_to_padding(pixels: NDArray[Any], padding: tuple[int, int] | None) -> VoxelMask:
    """Which stored pixels have the value, or lie in the range, that a header declares as padding.

    Parameters
    ----------
    pixels
        Integers of any shape, before slope and intercept.
    padding
        PixelPaddingValue and PixelPaddingRangeLimit, in any order, both included; with the sign
        of the pixels or without, since writers take it either way.
    """
    if padding is None:
        return np.zeros(pixels.shape, bool)
    lift = 2**15 if pixels.dtype.kind == "i" else 0
    low, high = sorted((value + lift) % 2**16 - lift for value in padding)
    return (pixels >= low) & (pixels <= high)


def wrapped_padding(pixels: NDArray[Any], slope: float, intercept: float) -> VoxelMask:
    """Which unsigned pixels are negative padding whose sign was lost: -2000 stored as 63536.

    Read without sign no scanner states such HU, and with it they lie below `LOWEST_HU`.
    """
    if pixels.dtype != np.uint16:
        return np.zeros(pixels.shape, bool)
    levels = np.arange(2**16)
    unsigned, signed = levels * slope + intercept, (levels - 2**16) * slope + intercept
    wrapped: VoxelMask = ((unsigned > MOST_HU) & (signed < LOWEST_HU))[pixels]
    return wrapped


def touching_edges(axial: VoxelMask) -> VoxelMask:
    """The parts of a slice's mask that reach its edge, as what fills it up does.

    The same value inside the body is tissue, or metal at the end of the scale.
    """
    if not axial.any():
        return axial
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(axial.astype(np.uint8))
    reaching: VoxelMask = sitk.GetArrayFromImage(sitk.BinaryGrindPeak(image, False, 1, 0)) > 0
    return reaching


def without_padding(voxels: NDArray[Any]) -> tuple[NDArray[Any], list[str]]:
    """The voxels with everything below -1024 HU (padding, noise) set to -1024, and a note."""
    count = int(np.count_nonzero(voxels < LOWEST_HU))
    if not count:
        return voxels, []
    note = f"{count} voxels below {LOWEST_HU} HU were set to {LOWEST_HU}"
    return np.maximum(voxels, voxels.dtype.type(LOWEST_HU)), [note]


def check_blanks(voxels: NDArray[Any], padding: VoxelMask, name: str) -> list[str]:
    """Tell padding, sharp or blurred, from bone that a wrong sign bit threw below air.

    Padding reaches the edge of its slice, bone does not.

    Parameters
    ----------
    voxels
        HU (D, H, W).
    padding
        Where there is padding that the header declares, of the same shape.
    name
        What to call the input in the message.

    Returns
    -------
    notes
        That the padding is blurred, if so.

    Raises
    ------
    InputRejected
        If many values inside the body lie below any padding.
    """
    blank = voxels < _BLANK_HU
    if len(np.unique(voxels[blank])) <= _SHARP_KINDS:
        return []
    inside = blank & ~np.stack([touching_edges(axial) for axial in blank | padding])
    kinds, count = len(np.unique(voxels[inside])), np.count_nonzero(inside)
    if kinds > _SHARP_KINDS and count > _MAX_STREAKS * voxels.size:
        why = f"its pixels take {kinds} values below {_BLANK_HU} HU, which is no padding"
        raise rejected(name, why, "correct PixelRepresentation, BitsStored or the rescale")
    if count == np.count_nonzero(blank):
        return []
    return ["its padding is not sharp, as after lossy compression or resampling"]

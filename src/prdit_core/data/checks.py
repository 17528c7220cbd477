"""Voxels of any file as Hounsfield units, and whether there is lung in them."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from prdit_core.data.grid import rejected
from prdit_core.data.hounsfield import BODY_HU, INT16_MAX, INT16_MIN, LUNG_HU
from prdit_core.data.padding import wrapped_padding
from prdit_core.errors import NumericalError

if TYPE_CHECKING:
    from prdit_core.volume import Volume

Voxels = NDArray[Any]

# Share of the body that is enclosed air of lung density: 0.11 to 0.35 in the five chests of
# shared/data, 0.012 in its two abdomens.
MIN_LUNG = 0.05
MIN_BACKGROUND = 0.05


def stored_as_hu(voxels: Voxels) -> Voxels:
    """Any numeric array as int16 (integers, saturating) or float32 (everything else)."""
    if voxels.dtype.kind not in "iu":
        with np.errstate(over="ignore"):
            return voxels.astype(np.float32, copy=False)
    limits = np.iinfo(voxels.dtype)
    if limits.min >= INT16_MIN and limits.max <= INT16_MAX:
        return voxels.astype(np.int16, copy=False)
    low, high = max(limits.min, INT16_MIN), min(limits.max, INT16_MAX)
    return np.clip(voxels, low, high).astype(np.int16)


def as_hu(voxels: Voxels, hu_offset: float) -> Voxels:
    """Any numeric array with `hu_offset` added as int16 or float32; lost signs of padding found."""
    hu = stored_as_hu(with_offset(voxels, hu_offset))
    wrapped = wrapped_padding(voxels, 1.0, hu_offset)
    return np.where(wrapped, hu.dtype.type(INT16_MIN), hu) if wrapped.any() else hu


def as_int16(voxels: Voxels, name: str) -> NDArray[np.int16]:
    """Finite HU as they are written: rounded, and saturated with a warning.

    Raises
    ------
    NumericalError
        If a voxel is NaN or infinite.
    """
    if voxels.dtype.kind == "f" and not np.all(np.isfinite(voxels)):
        raise NumericalError(
            f"cannot write {name}: it holds NaN or infinite HU; nothing was written"
        )
    outside = int(np.count_nonzero((voxels < INT16_MIN) | (voxels > INT16_MAX)))
    if outside:
        warnings.warn(f"{name}: {outside} voxels outside int16 were saturated", stacklevel=3)
    rounded: NDArray[np.int16] = np.clip(np.rint(voxels), INT16_MIN, INT16_MAX).astype(np.int16)
    return rounded


def with_offset(voxels: Voxels, hu_offset: float) -> Voxels:
    """The voxels moved by `hu_offset`, before anything saturates; whole numbers stay whole."""
    if hu_offset == 0:
        return voxels
    if voxels.dtype.kind in "iu" and float(hu_offset).is_integer():
        wide = np.int32 if voxels.itemsize <= 2 else np.int64
        return voxels.astype(wide) + int(hu_offset)
    return voxels.astype(np.float32) + np.float32(hu_offset)


def without_nan(voxels: Voxels, nan_fill: float | None, name: str) -> tuple[Voxels, list[str]]:
    """The voxels with NaN and infinity filled by `nan_fill`, and a note of how many there were.

    Raises
    ------
    InputRejected
        If there are any and `nan_fill` is None.
    """
    if voxels.dtype.kind != "f":
        return voxels, []
    bad = ~np.isfinite(voxels)
    count = int(np.count_nonzero(bad))
    if not count:
        return voxels, []
    if nan_fill is None:
        why = f"{count} voxels are NaN or infinite"
        raise rejected(name, why, "repair it, or state a value for them with --nan-fill")
    return np.where(bad, np.float32(nan_fill), voxels), [f"{count} voxels were NaN or infinite"]


def little_lung(volume: Volume) -> bool:
    """Whether hardly any lung is in the field of view, as in a scan of the abdomen.

    Lung is counted as air of lung density that tissue encloses within its axial slice, on a
    grid of about 4 mm, and compared with the body.
    """
    steps = [max(1, round(4.0 / spacing)) for spacing in volume.spacing_mm]
    coarse = volume.voxels_hu[:: steps[0], :: steps[1], :: steps[2]]
    tissue = coarse > LUNG_HU[1]
    body = np.stack([_filled(axial) for axial in tissue])
    lung = body & ~tissue & (coarse > LUNG_HU[0])
    return bool(np.count_nonzero(lung) < MIN_LUNG * np.count_nonzero(body))


def dense_background(volume: Volume) -> str | None:
    """What to say of a background of one value that is no air, as padding with 0 HU is."""
    corners = volume.voxels_hu[:: volume.shape[0] - 1, :: volume.shape[1] - 1][..., [0, -1]]
    values, counts = np.unique(corners, return_counts=True)
    value = values[np.argmax(counts)]
    share = np.count_nonzero(volume.voxels_hu == value) / volume.voxels_hu.size
    if value <= BODY_HU or counts.max() < corners.size / 2 or share < MIN_BACKGROUND:
        return None
    return f"{share:.0%} of the voxels are {value:g} HU, as padding is that the file does not state"


def _filled(axial: NDArray[np.bool_]) -> NDArray[np.bool_]:
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.ascontiguousarray(axial, dtype=np.uint8))
    filled: NDArray[np.bool_] = sitk.GetArrayFromImage(sitk.BinaryFillhole(image, False, 1)) > 0
    return filled

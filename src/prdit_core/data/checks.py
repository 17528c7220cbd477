"""Whether voxels can be Hounsfield units, and whether there is lung in them."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from prdit_core.data.grid import rejected
from prdit_core.data.landmarks import LUNG_HU
from prdit_core.errors import NumericalError

if TYPE_CHECKING:
    from prdit_core.errors import InputRejected
    from prdit_core.volume import Volume

Voxels = NDArray[Any]

LOWEST_HU = -1024
HIGHEST_HU = 4096
INT16_MIN, INT16_MAX = -32768, 32767

# Body CT has at least this share of voxels below -500 HU, and of soft tissue and blood.
MIN_AIR, MIN_TISSUE, MAX_ABOVE_HIGHEST = 0.001, 0.01, 0.01

# Share of the body that is enclosed air of lung density: 0.11 to 0.35 in the five chests of
# shared/data, 0.012 in its two abdomens.
MIN_LUNG = 0.05


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
    """The voxels moved by `hu_offset`; integers stay integers where the offset is one."""
    if hu_offset == 0:
        return voxels
    if voxels.dtype.kind in "iu" and float(hu_offset).is_integer():
        return stored_as_hu(voxels.astype(np.int32) + int(hu_offset))
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


def without_padding(voxels: Voxels) -> tuple[Voxels, list[str]]:
    """The voxels with everything below -1024 HU (padding, noise) set to -1024, and a note."""
    count = int(np.count_nonzero(voxels < LOWEST_HU))
    if not count:
        return voxels, []
    note = f"{count} voxels below {LOWEST_HU} HU were set to {LOWEST_HU}"
    return np.maximum(voxels, voxels.dtype.type(LOWEST_HU)), [note]


def check_hu(voxels: Voxels, name: str) -> None:
    """Refuse voxels that cannot be the Hounsfield units of a body.

    Padding, which lies below -1024 HU, counts neither as air nor as tissue.

    Raises
    ------
    InputRejected
        A constant; values far above bone; no air, as in MR images, label maps and CT stored
        with an offset; no soft tissue.
    """
    if voxels.min() == voxels.max():
        raise rejected(name, f"every voxel is {voxels.flat[0]}", "give a scan with content")
    scanned = voxels[voxels >= LOWEST_HU]
    if not scanned.size:
        raise rejected(name, f"no voxel reaches {LOWEST_HU} HU", "check the rescale values")
    above = _share(scanned > HIGHEST_HU)
    if above > MAX_ABOVE_HIGHEST:
        why = f"{above:.0%} of the voxels lie above {HIGHEST_HU} HU, which no body does"
        raise rejected(name, why, "check PixelRepresentation, BitsStored and the rescale values")
    if _share(scanned < -500) < MIN_AIR:
        raise _no_air(scanned, name)
    if _share((scanned >= -200) & (scanned <= 200)) < MIN_TISSUE:
        why = "not CT in HU: hardly a voxel lies between -200 and 200, where soft tissue is"
        raise rejected(name, why, "check the rescale values, or state --hu-offset")


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


def _no_air(scanned: Voxels, name: str) -> InputRejected:
    """The refusal of voxels (of any shape, without padding) among which there is no air."""
    if _share((scanned > 824) & (scanned < 1274)) > 0.05:
        why = "air lies at about 0, not at -1000 HU, as if 1024 had been added"
        return rejected(name, why, "state --hu-offset -1024")
    if scanned.min() >= 0 and scanned.max() < 256 and len(np.unique(scanned[::8])) < 150:
        return rejected(name, "not CT: it looks like a label map", "give the scan itself")
    span = f"{float(scanned.min()):g} to {float(scanned.max()):g}"
    why = f"not CT in HU: its values run from {span} and no air lies below -500"
    return rejected(name, why, "give a CT scan in Hounsfield units")


def _filled(axial: NDArray[np.bool_]) -> NDArray[np.bool_]:
    image = sitk.GetImageFromArray(np.ascontiguousarray(axial, dtype=np.uint8))
    filled: NDArray[np.bool_] = sitk.GetArrayFromImage(sitk.BinaryFillhole(image, False, 1)) > 0
    return filled


def _share(mask: NDArray[np.bool_]) -> float:
    return float(np.count_nonzero(mask) / mask.size)

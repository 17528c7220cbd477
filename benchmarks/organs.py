"""Organs of a chest, found in a CT by HU and by where they lie, and changes of painted ones.

Tissues come from HU or from a label map, organs from tissues by the same rules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.float32]
    Mask = NDArray[np.bool_]
    Labels = NDArray[np.uint8]

BODY_HU, LUNG_HU, FAT_HU, BONE_HU = -500.0, -400.0, (-160.0, -40.0), 180.0
NODULE_RADIUS, GROWN = 2.2, 2  # voxels
OUTSIDE = ("air", "table")
LUNGS = ("lung_right", "lung_left", "lung_vessels", "airways", "nodule")
FAT = ("fat", "mediastinum")
BONES = ("spine", "ribs", "sternum", "shoulder")
ORGANS = ("lungs", "heart and vessels", "under the diaphragm", "fat", "bones")


def painted(labels: Labels, names: Sequence[str]) -> dict[str, Mask]:
    """Masks (D, H, W) of `ORGANS` in a label map whose numbers begin with 1."""
    lungs, fat, bones = (_of(labels, names, *some) for some in (LUNGS, FAT, BONES))
    return _organs(lungs, fat, bones, body_of(labels, names))


def body_of(labels: Labels, names: Sequence[str]) -> Mask:
    """All that is neither air around nor table."""
    return _of(labels, names, *(name for name in names if name not in OUTSIDE))


def found(hu: Array) -> dict[str, Mask]:
    """Masks (D, H, W) of `ORGANS` in a CT whose axes are up, back and left.

    The body is the largest thing that is not air, filled slice by slice.
    """
    spots, _ = ndimage.label(ndimage.binary_opening(hu > BODY_HU))
    sizes = np.bincount(spots.ravel())
    sizes[0] = 0
    largest = (spots == sizes.argmax()) & (spots > 0)
    body = np.stack([ndimage.binary_fill_holes(one) for one in largest])
    lungs, bones = body & (hu < LUNG_HU), body & (hu > BONE_HU)
    return _organs(lungs, body & (hu > FAT_HU[0]) & (hu < FAT_HU[1]), bones, body)


def _organs(lungs: Mask, fat: Mask, bones: Mask, body: Mask) -> dict[str, Mask]:
    """By tissue and place: soft with lung to both sides is the heart's, with lung above others'."""
    soft = body & ~lungs & ~fat & ~bones
    beside = np.maximum.accumulate(lungs, 2) & np.maximum.accumulate(lungs[..., ::-1], 2)[..., ::-1]
    under = np.maximum.accumulate(lungs[::-1], 0)[::-1]
    heart, other = soft & beside, soft & under & ~beside
    return dict(zip(ORGANS, (lungs, heart, other, fat, bones), strict=True))


def dice(a: Mask, b: Mask) -> float:
    """Overlap of two masks; 1 where both are empty."""
    both = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / both if both else 1.0


def larger_heart(labels: Labels, names: Sequence[str]) -> Labels:
    """The same with the heart grown into the lungs by two voxels."""
    heart = names.index("heart") + 1
    grown = ndimage.binary_dilation(labels == heart, iterations=GROWN)
    return np.where(grown & _air(labels, names), heart, labels).astype(np.uint8)


def one_nodule_more(labels: Labels, names: Sequence[str]) -> Labels:
    """The same with a ball where the lungs are widest."""
    air = _air(labels, names)
    middle = np.unravel_index(ndimage.distance_transform_edt(air).argmax(), air.shape)
    axes = np.indices(air.shape)
    away = sum((axis - place) ** 2 for axis, place in zip(axes, middle, strict=True))
    ball = (away <= NODULE_RADIUS**2) & air
    return np.where(ball, names.index("nodule") + 1, labels).astype(np.uint8)


def _air(labels: Labels, names: Sequence[str]) -> Mask:
    return _of(labels, names, "lung_right", "lung_left")


def _of(labels: Labels, names: Sequence[str], *wanted: str) -> Mask:
    numbers = [number for number, name in enumerate(names, 1) if name in wanted]
    there: Mask = np.isin(labels, numbers)
    return there

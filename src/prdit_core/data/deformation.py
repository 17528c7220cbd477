"""Smooth random deformation of label maps: other organs, and other sizes of them, for more data.

Free-form deformation by cubic B-splines (D. Rueckert et al., IEEE Trans. Med. Imaging 18, 712
(1999)) whose coefficients are small enough to be one-to-one (Y. Choi and S. Lee, Graph. Models 62,
411 (2000)), and then a scaling around each organ that is one-to-one as well. So nothing is torn or
folded; voxels take the label nearest to where they come from.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from prdit_core.errors import UsageError
from prdit_core.noise import Draw, numpy_generator
from prdit_core.volume import Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

# Largest coefficient, in distances of nodes, of a spline that is one-to-one in three dimensions.
ONE_TO_ONE = 1 / 2.48
# Sizes beyond this would fold what lies around an organ: 1 - 2 e^(-3/2) (size - 1) must be above 0.
LARGEST_SIZE = 2.0
# Reach of the scaling of an organ, in standard deviations of its voxels' places.
WIDTH = 1.5
# How often all is halved where an organ would be lost, which are few voxels.
HALVINGS = 6


@dataclass(frozen=True)
class Deformation:
    """How far label maps are deformed.

    Attributes
    ----------
    reach_mm : standard deviation of the displacement of a node along each axis
    nodes_mm : distance of the nodes between which it is smooth
    sizes : organs become at most so many times as large, or as small
    """

    reach_mm: float = 8.0
    nodes_mm: float = 60.0
    sizes: float = 1.15

    def __post_init__(self) -> None:
        if not (0 <= self.reach_mm and 0 < self.nodes_mm and 1 <= self.sizes <= LARGEST_SIZE):
            raise UsageError(
                "a deformation has a reach of 0 mm or more, nodes apart, and sizes of 1 to "
                f"{LARGEST_SIZE:g}"
            )


USUAL = Deformation()


def deformed(
    labels: Volume, deformation: Deformation = USUAL, *, seed: int, index: int = 0
) -> Volume:
    """Another label map like this one, on the same grid, with every label of it.

    Parameters
    ----------
    labels : whole numbers in the place of HU; 0 is background and has no size of its own
    seed, index : which series, and which map of it

    Returns
    -------
    Volume
        Its metadata says how it came about; `strength` is below 1 where the deformation had to be
        halved so that no organ is lost.
    """
    drawn = labels.voxels_hu
    there = np.unique(drawn)
    spacing = np.array(labels.spacing_mm)
    places: Array = np.moveaxis(np.indices(drawn.shape, dtype=np.float64), 0, -1) * spacing
    displacement = _displacement(drawn.shape, spacing, deformation, seed, index)
    for halving in range(HALVINGS + 1):
        strength = 0.5**halving
        moved = places + strength * displacement
        for label in there[there > 0]:
            _scale(moved, places[drawn == label], deformation.sizes, strength, seed, index, label)
        deformed = _nearest(drawn, moved / spacing)
        if np.array_equal(np.unique(deformed), there):
            break
    else:
        deformed, strength = drawn, 0.0
    about = {**asdict(deformation), "strength": strength, "seed": seed, "index": index}
    return Volume(deformed, labels.affine, {**labels.metadata, "deformation": about})


def _scale(
    moved: Array, organ: Array, sizes: float, strength: float, seed: int, index: int, label: int
) -> None:
    """Move places towards the middle of an organ, which so becomes larger, or away from it."""
    rng = numpy_generator(Draw.ORGAN_SIZES, seed, index, int(label))
    size = sizes ** (strength * rng.uniform(-1, 1))
    away = moved - organ.mean(0)
    width = WIDTH * np.maximum(organ.std(0), 1.0)
    weight = np.exp(-0.5 * np.square(away / width).sum(-1, keepdims=True))
    moved += (1 / size - 1) * weight * away


def _displacement(
    shape: tuple[int, ...], spacing: Array, deformation: Deformation, seed: int, index: int
) -> Array:
    """Millimetres (D, H, W, 3) along z, y and x."""
    bases = [
        _basis(edge, mm / deformation.nodes_mm) for edge, mm in zip(shape, spacing, strict=True)
    ]
    nodes = tuple(basis.shape[1] for basis in bases)
    rng = numpy_generator(Draw.DEFORMATION, seed, index)
    most = ONE_TO_ONE * deformation.nodes_mm
    drawn = np.clip(deformation.reach_mm * rng.standard_normal((*nodes, 3)), -most, most)
    for axis, basis in enumerate(bases):
        drawn = np.moveaxis(np.tensordot(basis, drawn, (1, axis)), 0, axis)
    return drawn


def _basis(edge: int, step: float) -> Array:
    """Cubic B-splines of nodes at whole numbers, at voxels a step apart: (edge, nodes)."""
    at = np.arange(edge) * step + 1
    away = np.abs(at[:, None] - np.arange(int(at[-1]) + 3))
    near = 2 / 3 - away**2 + away**3 / 2
    far = np.clip(2 - away, 0, None) ** 3 / 6
    basis: Array = np.where(away < 1, near, far)
    return basis


def _nearest(labels: NDArray[np.generic], at: Array) -> NDArray[np.generic]:
    """The label of the voxel nearest to each place; beyond the border that of the border."""
    last = np.array(labels.shape) - 1
    z, y, x = np.moveaxis(np.clip(np.rint(at), 0, last).astype(np.intp), -1, 0)
    nearest: NDArray[np.generic] = labels[z, y, x]
    return nearest

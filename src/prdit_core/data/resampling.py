"""Axial grids, resampling onto them, and pooling."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk

from prdit_core.volume import axial_affine

if TYPE_CHECKING:
    from numpy.typing import NDArray

LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0])  # and back: it is its own inverse


@dataclass(frozen=True, eq=False)
class Grid:
    """A cube of axial voxels: z to superior, y to posterior, x to left.

    Attributes
    ----------
    edge : voxels along each side
    spacing_mm : distance of neighbouring voxels
    centre_mm : RAS+ position of its middle, (x, y, z)
    """

    edge: int
    spacing_mm: float
    centre_mm: NDArray[np.float64]

    @property
    def affine(self) -> NDArray[np.float64]:
        """Voxel index (x, y, z, 1) to RAS+ mm."""
        x, y, z = (float(value) for value in self.centre_mm)
        return axial_affine((self.spacing_mm,) * 3, (self.edge,) * 3, (x, y, z))

    def pooled(self, factor: int) -> Grid:
        """The grid after joining `factor` voxels along each axis; its middle stays."""
        return Grid(self.edge // factor, self.spacing_mm * factor, self.centre_mm)

    def on_lattice(self, affine: NDArray[np.float64]) -> Grid:
        """Shift by less than a source voxel, so that the first voxel lies on one of the source.

        A source of the same spacing is then copied instead of interpolated.
        """
        first = self.affine[:3, 3]
        index = np.linalg.solve(affine[:3, :3], first - affine[:3, 3])
        nearest = affine[:3, :3] @ np.rint(index) + affine[:3, 3]
        return Grid(self.edge, self.spacing_mm, self.centre_mm + nearest - first)


def image_of(array: NDArray[Any], affine: NDArray[np.float64]) -> sitk.Image:
    """A (D, H, W) array with its RAS+ affine as a SimpleITK image, which counts in LPS."""
    columns = LPS_FROM_RAS @ affine[:3, :3]
    spacing = np.linalg.norm(columns, axis=0)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((columns / spacing).ravel().tolist())
    image.SetOrigin((LPS_FROM_RAS @ affine[:3, 3]).tolist())
    return image


def averaged(image: sitk.Image, spacing_mm: float) -> sitk.Image:
    """Join neighbouring voxels by whole factors as far as they stay within `spacing_mm`."""
    factors = [int(spacing_mm / spacing + 1e-6) for spacing in image.GetSpacing()]
    limited = np.clip(factors, 1, image.GetSize()).tolist()
    return image if max(limited) == 1 else sitk.BinShrink(image, limited)


def resample(image: sitk.Image, grid: Grid, outside: float) -> NDArray[np.float32]:
    """Interpolate linearly on `grid`; voxels the image does not cover become `outside`."""
    return _on_grid(image, grid, sitk.sitkLinear, outside, sitk.sitkFloat32)


def resample_labels(image: sitk.Image, grid: Grid) -> NDArray[np.uint8]:
    """Nearest labels on `grid`, 0 outside."""
    return _on_grid(image, grid, sitk.sitkNearestNeighbor, 0, sitk.sitkUInt8)


def pool_mean(x: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Average blocks of factor^3 voxels; (D, H, W) divisible by `factor`."""
    pooled: NDArray[np.float32] = np.divide(_pool_sum(x, factor), factor**3, dtype=np.float32)
    return pooled


def pool_majority(labels: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Most frequent label of each block of factor^3 voxels, the lowest where several are."""
    if factor == 1:
        return labels
    present = np.unique(labels)
    counts = [_pool_sum((labels == label).astype(np.uint16), factor) for label in present]
    winner: NDArray[np.uint8] = present[np.argmax(np.stack(counts), axis=0)]
    return winner


def _pool_sum(x: NDArray[Any], factor: int) -> NDArray[Any]:
    for axis in range(3):
        before = (slice(None),) * axis
        x = reduce(np.add, [x[(*before, slice(k, None, factor))] for k in range(factor)])
    return x


def _on_grid(
    image: sitk.Image, grid: Grid, interpolator: int, outside: float, pixel_type: int
) -> NDArray[Any]:
    resampled = sitk.Resample(
        image,
        [grid.edge] * 3,
        interpolator=interpolator,
        outputOrigin=(LPS_FROM_RAS @ grid.affine[:3, 3]).tolist(),
        outputSpacing=[grid.spacing_mm] * 3,
        defaultPixelValue=outside,
        outputPixelType=pixel_type,
    )
    array: NDArray[Any] = sitk.GetArrayFromImage(resampled)
    return array

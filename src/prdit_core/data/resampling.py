"""Axial grids, resampling onto them, and pooling."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from prdit_core.data.grid import LPS_TO_RAS, nearest_right_angles, shear_degrees, shear_mm
from prdit_core.volume import Volume, axial_affine

if TYPE_CHECKING:
    import SimpleITK as sitk
    from numpy.typing import NDArray

SHEAR_LEFT_MM = 0.1  # readers of DICOM expect positions rounded as much
LPS_FROM_RAS = np.diag(LPS_TO_RAS)  # which is its own inverse


@dataclass(frozen=True, eq=False)
class WorkingGrid:
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

    def pooled(self, factor: int) -> WorkingGrid:
        """The grid after joining `factor` voxels along each axis; its middle stays."""
        return WorkingGrid(self.edge // factor, self.spacing_mm * factor, self.centre_mm)

    def on_lattice(self, affine: NDArray[np.float64]) -> WorkingGrid:
        """Shift by less than a source voxel, so that the first voxel lies on one of the source.

        A source of the same spacing is then copied instead of interpolated.
        """
        first = self.affine[:3, 3]
        index = np.linalg.solve(affine[:3, :3], first - affine[:3, 3])
        nearest = affine[:3, :3] @ np.rint(index) + affine[:3, 3]
        return WorkingGrid(self.edge, self.spacing_mm, self.centre_mm + nearest - first)


def image_of(array: NDArray[Any], affine: NDArray[np.float64]) -> sitk.Image:
    """A (D, H, W) array with its RAS+ affine as a SimpleITK image, which counts in LPS."""
    import SimpleITK as sitk

    columns = LPS_FROM_RAS @ affine[:3, :3]
    spacing = np.linalg.norm(columns, axis=0)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((columns / spacing).ravel().tolist())
    image.SetOrigin((LPS_FROM_RAS @ affine[:3, 3]).tolist())
    return image


def right_angled(volume: Volume, outside: float) -> Volume:
    """The volume with axes at right angles, interpolated linearly; as it is if they are already.

    The new grid has the same spacing, the closest directions, and covers all of the old one; what
    the old one did not cover becomes `outside`. A note in `metadata` says so.
    """
    if shear_mm(volume.affine, volume.shape) <= SHEAR_LEFT_MM:
        return volume
    import SimpleITK as sitk

    affine = nearest_right_angles(volume.affine)
    corners = np.array([(x, y, z, 1) for x in (0, 1) for y in (0, 1) for z in (0, 1)])
    corners = corners * [*(n - 1 for n in reversed(volume.shape)), 1]
    placed = np.linalg.solve(affine, volume.affine @ corners.T)[:3]
    low = np.floor(placed.min(axis=1) + 1e-3)
    size = (np.ceil(placed.max(axis=1) - 1e-3) - low).astype(int) + 1
    affine[:3, 3] += affine[:3, :3] @ low
    hu = np.asarray(volume.voxels_hu, np.float32)
    voxels = on_grid(
        hu, volume.affine, tuple(reversed(size.tolist())), affine, sitk.sitkLinear, outside
    )
    if volume.voxels_hu.dtype.kind in "iu":
        voxels = np.rint(voxels).astype(volume.voxels_hu.dtype)
    note = f"sheared by {shear_degrees(volume.affine):.3g} degrees, resampled to right angles"
    notes = [*volume.metadata.get("notes", []), note]
    return Volume(voxels, affine, {**volume.metadata, "notes": notes})


def on_grid(
    voxels: NDArray[Any],
    affine: NDArray[np.float64],
    shape: tuple[int, ...],
    place: NDArray[np.float64],
    interpolator: int,
    outside: float,
) -> NDArray[Any]:
    """Voxels of one grid on another of any axes, in their own number format.

    Parameters
    ----------
    affine : of the voxels, RAS+ mm
    shape, place : (D, H, W) and affine of the other grid
    outside : what they do not cover becomes
    """
    import SimpleITK as sitk

    image, corner = image_of(voxels, affine), image_of(np.zeros((1, 1, 1), np.uint8), place)
    resampled = sitk.Resample(
        image,
        list(reversed(shape)),
        interpolator=interpolator,
        outputOrigin=corner.GetOrigin(),
        outputSpacing=corner.GetSpacing(),
        outputDirection=corner.GetDirection(),
        defaultPixelValue=outside,
        outputPixelType=image.GetPixelID(),
    )
    array: NDArray[Any] = sitk.GetArrayFromImage(resampled)
    return array


def averaged(image: sitk.Image, spacing_mm: float) -> sitk.Image:
    """Join neighbouring voxels by whole factors as far as they stay within `spacing_mm`."""
    import SimpleITK as sitk

    factors = [int(spacing_mm / spacing + 1e-6) for spacing in image.GetSpacing()]
    limited = np.clip(factors, 1, image.GetSize()).tolist()
    return image if max(limited) == 1 else sitk.BinShrink(image, limited)


def resample(image: sitk.Image, grid: WorkingGrid, outside: float) -> NDArray[np.float32]:
    """Interpolate linearly on `grid`; voxels the image does not cover become `outside`."""
    import SimpleITK as sitk

    return _on_grid(image, grid, sitk.sitkLinear, outside, sitk.sitkFloat32)


def resample_labels(image: sitk.Image, grid: WorkingGrid) -> NDArray[np.uint8]:
    """Nearest labels on `grid`, 0 outside."""
    import SimpleITK as sitk

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
    image: sitk.Image, grid: WorkingGrid, interpolator: int, outside: float, pixel_type: int
) -> NDArray[Any]:
    import SimpleITK as sitk

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

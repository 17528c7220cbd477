"""A CT volume: Hounsfield units on a grid with a place in the patient."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from prdit_core.errors import InputRejected
from prdit_core.intensity import HU

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Volume:
    """CT voxels in HU with their geometry.

    Attributes
    ----------
    voxels_hu : (D, H, W) array
        Hounsfield units, or `units`, axes (z, y, x). Volumes read by `read_volume` always run
        towards the patient's head, back and left: z superior, y posterior, x left.
    affine : (4, 4) float64 array
        Maps the voxel index (x, y, z, 1) to RAS+ millimetres, as nibabel does for the
        transposed array.
    metadata : mapping
        JSON-serialisable provenance, never patient data.
    """

    voxels_hu: NDArray[Any]
    affine: NDArray[np.float64]
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.voxels_hu.ndim != 3:
            raise InputRejected(f"a volume has 3 axes, this array has {self.voxels_hu.ndim}")
        if self.affine.shape != (4, 4) or not np.all(np.isfinite(self.affine)):
            raise InputRejected("the affine of a volume is a finite 4 x 4 matrix")

    @property
    def units(self) -> str:
        """Of the voxels; what is no CT states them in its metadata."""
        return str(self.metadata.get("units", HU))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels (D, H, W)."""
        depth, height, width = self.voxels_hu.shape
        return depth, height, width

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance of neighbouring voxels in mm, (z, y, x)."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(z), float(y), float(x)

    @property
    def origin_mm(self) -> tuple[float, float, float]:
        """RAS+ position of voxel (0, 0, 0) in mm, (x, y, z)."""
        x, y, z = self.affine[:3, 3]
        return float(x), float(y), float(z)


def axial_affine(
    spacing_mm: tuple[float, float, float],
    shape: tuple[int, int, int],
    centre_mm: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> NDArray[np.float64]:
    """Affine of an axial volume (z superior, y posterior, x left) around a centre.

    Parameters
    ----------
    spacing_mm, shape
        (z, y, x) spacing in mm and number of voxels.
    centre_mm
        RAS+ position of the middle of the volume, (x, y, z).
    """
    step = np.array([-spacing_mm[2], -spacing_mm[1], spacing_mm[0]])
    middle = (np.array([shape[2], shape[1], shape[0]]) - 1) / 2
    affine = np.diag([*step, 1.0])
    affine[:3, 3] = np.asarray(centre_mm) - step * middle
    return affine

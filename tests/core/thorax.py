"""A crude chest of known place, sampled on any grid."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np

from prdit_core.volume import Volume, axial_affine

if TYPE_CHECKING:
    from pathlib import Path


def positions(shape, affine):
    """RAS+ mm of every voxel, (3, D, H, W)."""
    z, y, x = np.indices(shape)
    return np.einsum("ij,jdhw->idhw", affine[:3, :3], np.stack([x, y, z])) + affine[:3, 3].reshape(
        3, 1, 1, 1
    )


def chest(
    shape=(32, 32, 32), spacing=10.0, *, affine=None, body=(0, 0), lungs=0.0, noise=0, table=False
) -> Volume:
    """Soft tissue around `body` (x, y) with two lungs at height `lungs`, all RAS+ mm."""
    affine = axial_affine((spacing,) * 3, shape) if affine is None else affine
    x, y, z = positions(shape, affine)
    x, y, z = x - body[0], y - body[1], z - lungs
    hu = np.full(shape, -1000.0)
    hu[(x / 130) ** 2 + (y / 90) ** 2 < 1] = 40
    for side in (-1, 1):
        hu[((x - side * 60) / 45) ** 2 + (y / 60) ** 2 + (z / 100) ** 2 < 1] = -850
    if table:
        hu[(np.abs(y + 95) < 4) & (np.abs(x) < 200)] = 100
    hu += noise * np.random.default_rng(noise).standard_normal(shape)
    return Volume(np.rint(hu).astype(np.int16), affine)


def save(volume: Volume, path: Path) -> Path:
    """Write it with nibabel, so that these tests do not lean on the project's writer."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(volume.voxels_hu.T, volume.affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    return path

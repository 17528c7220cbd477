"""Invented chest scans: a thorax of simple shapes that looks like a CT and belongs to nobody."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from prdit_core.data.phantoms.anatomy import LABELS, Patient
from prdit_core.data.phantoms.canvas import FLAT, Canvas
from prdit_core.data.phantoms.organs import (
    paint_belly,
    paint_lungs,
    paint_mediastinum,
    paint_table,
    paint_wall,
)
from prdit_core.data.phantoms.skeleton import paint_skeleton
from prdit_core.errors import UsageError
from prdit_core.noise import Draw, numpy_generator
from prdit_core.provenance import SYNTHETIC
from prdit_core.volume import Volume, axial_affine

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from prdit_core.data.phantoms.shapes import Array

__all__ = ["LABELS", "Phantom", "make_phantom"]


@dataclass(frozen=True, eq=False)
class Phantom:
    """An invented scan and what every voxel of it shows.

    Attributes
    ----------
    volume : Volume
        int16 HU, (D, H, W) over a cube of 320 mm.
    labels : (D, H, W) uint8 array
        The numbers of `LABELS`.
    """

    volume: Volume
    labels: NDArray[np.uint8]


def make_phantom(seed: int, index: int, *, spacing_mm: float) -> Phantom:
    """Make the chest scan of one invented patient.

    The anatomy depends on `seed` and `index` alone, so that one patient can be had at
    several spacings; only the noise belongs to the grid.

    Parameters
    ----------
    seed, index
        Which series, and which patient of it; not negative.
    spacing_mm
        Edge of the cubic voxels; the field is 320 mm wide along all axes.

    Raises
    ------
    UsageError
        For a negative seed or index, or voxels that are not between 0.5 and 40 mm.
    """
    if seed < 0 or index < 0:
        raise UsageError(f"seed and index are 0 or more, not {seed} and {index}")
    if not 0.5 <= spacing_mm <= 40:
        raise UsageError(f"phantoms have voxels of 0.5 to 40 mm, not {spacing_mm}")
    patient = Patient.draw(numpy_generator(Draw.PATIENT, seed, index))
    canvas = Canvas(FLAT, spacing_mm)
    paint_table(canvas, patient)
    canvas.pose = patient.pose
    paint_wall(canvas, patient)
    paint_lungs(canvas, patient, numpy_generator(Draw.LUNGS, seed, index))
    paint_belly(canvas, patient)
    paint_mediastinum(canvas, patient)
    paint_skeleton(canvas, patient)
    voxels = _scan(
        canvas.hu, patient.noise * 1.25 / spacing_mm, numpy_generator(Draw.SCAN, seed, index)
    )
    affine = axial_affine((spacing_mm, spacing_mm, spacing_mm), canvas.labels.shape)
    note = {"notice": SYNTHETIC, "source": "phantom", "seed": seed, "index": index}
    return Phantom(Volume(voxels, affine, note), canvas.labels)


def _scan(hu: Array, noise: float, rng: np.random.Generator) -> NDArray[np.int16]:
    """Add slightly correlated noise and round to whole HU."""
    grain = rng.standard_normal(hu.shape, np.float32)
    for axis in range(3):
        grain += np.float32(0.5) * np.roll(grain, 1, axis)
    hu = hu + grain * np.float32(noise / 1.4)
    return np.clip(np.rint(hu), -1024, 3071).astype(np.int16)

"""Invented scans: simple shapes that look like a CT of a region and belong to nobody."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from prdit_core.data.phantoms.anatomy import LABELS
from prdit_core.data.phantoms.mr import SEQUENCES, TISSUES, mr_scan
from prdit_core.data.phantoms.regions import REGIONS, Region, region_of
from prdit_core.errors import UsageError
from prdit_core.intensity import ARBITRARY
from prdit_core.noise import Draw, numpy_generator
from prdit_core.provenance import SYNTHETIC, UNITS
from prdit_core.volume import Volume, axial_affine

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from prdit_core.data.phantoms.shapes import Array

__all__ = [
    "CT",
    "LABELS",
    "MODALITIES",
    "REGIONS",
    "Phantom",
    "Region",
    "check_modality",
    "make_phantom",
    "region_of",
]

CT = "ct"
MODALITIES = (CT, *SEQUENCES)


@dataclass(frozen=True, eq=False)
class Phantom:
    """An invented scan and what every voxel of it shows.

    Attributes
    ----------
    volume : Volume
        int16 HU, or arbitrary units of MR, (D, H, W) over a cube as wide as the field of its
        region.
    labels : (D, H, W) uint8 array
        The numbers of `Region.labels`; those of the chest are `LABELS`.
    """

    volume: Volume
    labels: NDArray[np.uint8]


def make_phantom(
    seed: int, index: int, *, spacing_mm: float, region: str = "chest", modality: str = CT
) -> Phantom:
    """Make the scan of one invented patient.

    The anatomy depends on `region`, `seed` and `index` alone, so that one patient can be had at
    several spacings and in several modalities; only the noise belongs to the grid.

    Parameters
    ----------
    seed, index
        Which series, and which patient of it; not negative.
    spacing_mm
        Edge of the cubic voxels; the field of the chest is 320 mm wide along all axes.
    region
        A name of `REGIONS`.
    modality
        One of `MODALITIES`: ct, or t1 or t2 for an MR scan of the head, in arbitrary units.

    Raises
    ------
    UsageError
        For a region or modality that is not known, a negative seed or index, or voxels that are
        not between 0.5 and 40 mm.
    """
    place = region_of(region)
    check_modality(region, modality)
    if seed < 0 or index < 0:
        raise UsageError(f"seed and index are 0 or more, not {seed} and {index}")
    if not 0.5 <= spacing_mm <= 40:
        raise UsageError(f"phantoms have voxels of 0.5 to 40 mm, not {spacing_mm}")
    canvas, noise = place.paint(seed, index, spacing_mm)
    affine = axial_affine((spacing_mm, spacing_mm, spacing_mm), canvas.labels.shape)
    note = {"notice": SYNTHETIC, "source": "phantom", "seed": seed, "index": index}
    if region != "chest":
        note["region"] = region
    if modality == CT:
        number = list(REGIONS).index(region)
        own = (number,) if number else ()  # chests were first
        rng = numpy_generator(Draw.SCAN, seed, index, *own)
        voxels = _scan(canvas.hu, noise * 1.25 / spacing_mm, rng)
    else:
        voxels = mr_scan(
            canvas.labels, place.labels, modality, seed=seed, index=index, spacing_mm=spacing_mm
        )
        note |= {"modality": modality, UNITS: ARBITRARY}
    return Phantom(Volume(voxels, affine, note), canvas.labels)


def check_modality(region: str, modality: str) -> None:
    """Raise `UsageError` unless phantoms of the region can be had in this modality."""
    if modality not in MODALITIES:
        raise UsageError(
            f"modality {modality!r} is not known; choose one of {', '.join(MODALITIES)}"
        )
    if modality != CT and not TISSUES.keys() >= region_of(region).labels.keys():
        raise UsageError(f"phantoms of the {region} have no MR signal; choose --region head")


def _scan(hu: Array, noise: float, rng: np.random.Generator) -> NDArray[np.int16]:
    """Add slightly correlated noise and round to whole HU."""
    grain = rng.standard_normal(hu.shape, np.float32)
    for axis in range(3):
        grain += np.float32(0.5) * np.roll(grain, 1, axis)
    hu = hu + grain * np.float32(noise / 1.4)
    return np.clip(np.rint(hu), -1024, 3071).astype(np.int16)

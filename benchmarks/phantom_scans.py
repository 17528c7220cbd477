"""Held-out phantoms, what a scanner sees of them, and what spoils that: the cases of a table."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np

from prdit_core.data.phantoms import make_phantom
from prdit_core.inverse import scanners
from prdit_core.verbs.simulate import coarser, simulate
from prdit_core.volume import Volume, axial_affine

if TYPE_CHECKING:
    from prdit_core.inverse.measurement import Measurement

Family = Literal["plain", "metal", "small bodies", "rings", "truncated"]
FIELD_MM, METAL_HU, AIR_HU = 320.0, 8000.0, -1000.0
# Of a small body's edges to those of a usual one; of truncated bins to all; of gains of bins.
SMALL, SEEN, GAINS = 0.75, 0.7, 0.02


@dataclass(frozen=True)
class Case:
    """What is measured, and of which phantoms.

    Attributes
    ----------
    family : "plain" is what priors know; the others shift anatomy (metal, small bodies) or data
        (rings, truncated)
    """

    views: int
    arc: float = 180.0
    photons: float | None = 1e5
    family: Family = "plain"


_GEOMETRIES = {"8 views": (8, 180.0), "120 degrees": (40, 120.0)}
_GEOMETRIES |= {"20 views": (20, 180.0), "60 views": (60, 180.0)}
_DOSES = {"": 1e5, ", no noise": None, ", 1e4": 1e4}
_SHIFTED: tuple[Family, ...] = ("metal", "small bodies", "rings", "truncated")
# What tells most comes first.
CASES: dict[str, Case] = {
    f"{name}{dose}": Case(*geometry, photons)
    for dose, photons in _DOSES.items()
    for name, geometry in _GEOMETRIES.items()
} | {
    f"{views} views, {family}": Case(views, family=family)
    for family in _SHIFTED
    for views in (20, 8)
}


@dataclass(frozen=True)
class Scale:
    """How large all is; tests take it small."""

    size: int = 64
    steps: int = 20
    training: int = 24
    iterations: int = 560


@dataclass(frozen=True, eq=False)
class Scan:
    """A phantom, what is known of it, and a measurement."""

    truth: np.ndarray
    labels: np.ndarray
    measurement: Measurement


@lru_cache(maxsize=64)
def scan(case: Case, seed: int, index: int, scale: Scale) -> Scan:
    """Data from twice finer voxels, two rays a bin."""
    fine, labels = _phantom(seed, index, scale.size, case.family)
    truth = coarser(fine)
    spec = scanners.parallel_scan(truth.shape, truth.spacing_mm, case.views, case.arc)
    if case.family == "truncated":
        spec = spec.model_copy(update={"bins": round(SEEN * scale.size)})
    measurement = simulate(fine, spec, photons=case.photons, seed=seed, index=index)
    if case.family == "rings":  # bins that were calibrated badly, the same in all views
        rows, _, bins = measurement.values.shape
        gains = np.random.default_rng((seed, index)).normal(0, GAINS, (rows, 1, bins))
        spoilt = (measurement.values + gains).astype(np.float32)
        measurement = replace(measurement, values=spoilt)
    return Scan(truth.voxels_hu.astype(np.float64), labels, measurement)


@lru_cache(maxsize=40)
def _phantom(seed: int, index: int, size: int, family: Family) -> tuple[Volume, np.ndarray]:
    """On a twice finer grid than `size`."""
    edge, mm = 2 * size, FIELD_MM / (2 * size)
    made = make_phantom(seed, index, spacing_mm=mm / SMALL if family == "small bodies" else mm)
    hu, labels = made.volume.voxels_hu.astype(np.float32), made.labels
    if family == "metal":  # two rods beside the spine, which no prior has seen
        z, y, x = (np.arange(n) / n for n in hu.shape)
        rods = np.hypot(y[:, None] - 0.62, np.abs(x[None] - 0.5) - 0.08) < 0.012
        hu = np.where(rods[None] & (np.abs(z - 0.5) < 0.3)[:, None, None], METAL_HU, hu)
    if len(hu) < edge:  # its voxels are taken for smaller ones, amid air
        around = ((edge - len(hu)) // 2, edge - len(hu) - (edge - len(hu)) // 2)
        hu = np.pad(hu, (around,) * 3, constant_values=AIR_HU)
        labels = np.pad(labels, (around,) * 3)
    return Volume(hu, axial_affine((mm,) * 3, hu.shape), made.volume.metadata), labels

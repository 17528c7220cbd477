"""How far halves of the real set are from each other: no model can be told to be better."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prdit_core.metrics.confidence import half_samples, measured_splits
from prdit_core.metrics.evaluation import Floor
from prdit_core.metrics.frechet import (
    FEWEST_FOR_CORRECTION,
    distance_of_halves,
    frechet_distance,
    not_below_zero,
)
from prdit_core.metrics.mmd import mmd_squared, rooted, weights_on
from prdit_core.noise import Draw

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from prdit_core.metrics.confidence import Measured

    Features = NDArray[np.float64]
    Splits = list[tuple[NDArray[np.intp], NDArray[np.intp]]]


def floor_of(real: Features, gamma: float, seed: int) -> Floor:
    """Distances between random halves of real features (N, F).

    The halves have half as many volumes as the sets that models are judged by, so the biased
    distances come out larger here; the corrected ones may be compared.
    """
    halves = [members for (members,) in half_samples(Draw.FLOOR, seed, len(real))]
    splits = list(zip(halves[::2], halves[1::2], strict=True))
    if not splits:
        return Floor(fid=None, fid_unbiased=None, mmd=None, mmd_unbiased=None)
    distances = [frechet_distance(real[i], real[j]) for i, j in splits]
    discrepancy = rooted(*(measured_splits(list(m), len(real)) for m in _mmd(real, gamma, splits)))
    return Floor(
        fid=not_below_zero(measured_splits(distances, len(real))),
        fid_unbiased=_corrected(real, splits, distances),
        mmd=discrepancy.biased,
        mmd_unbiased=discrepancy.unbiased,
    )


def _mmd(real: Features, gamma: float, splits: Splits) -> tuple[Features, Features]:
    """Squared discrepancies of the halves of each split, biased and unbiased."""
    first, second = (weights_on(len(real), [split[side] for split in splits]) for side in (0, 1))
    return mmd_squared(real, real, gamma, first, second)


def _corrected(real: Features, splits: Splits, distances: list[float]) -> Measured | None:
    if len(real) < 2 * FEWEST_FOR_CORRECTION:
        return None
    values = [
        2 * distance - distance_of_halves(real[i], real[j])
        for (i, j), distance in zip(splits, distances, strict=True)
    ]
    return measured_splits(values, len(real))

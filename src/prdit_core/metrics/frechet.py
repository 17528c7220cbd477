"""Frechet distance of two clouds of features, taken as Gaussian: the FID of an encoder.

FID = |mu1 - mu2|^2 + tr(S1 + S2 - 2 sqrt(S1 S2)), float64. The root is never taken: with S = R^T R
the trace of sqrt(S1 S2) is the sum of the singular values of R1 R2^T. That is exact, needs no more
rows than there are volumes or features, and does not mind fewer volumes than features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from prdit_core.metrics.confidence import Measured, measured, paired_halves

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Features = NDArray[np.float64]

# Halves of halves must still have a covariance.
FEWEST_FOR_CORRECTION = 8


@dataclass(frozen=True)
class Frechet:
    """Frechet distance of two sets.

    Attributes
    ----------
    biased : as papers compute it; the fewer volumes, the larger
    unbiased : extrapolated to infinitely many volumes, and below 0 by chance where the sets are
        alike; None where there are fewer than `FEWEST_FOR_CORRECTION` volumes
    """

    biased: Measured
    unbiased: Measured | None


def frechet_distance(real: Features, fake: Features) -> float:
    """Frechet distance of two sets of features (N, F) and (M, F), covariances with N - 1."""
    mean = np.square(real.mean(0) - fake.mean(0)).sum()
    root, other = _root(real), _root(fake)
    spread = np.square(root).sum() + np.square(other).sum()
    shared = np.linalg.svd(root @ other.T, compute_uv=False).sum()
    return max(0.0, float(mean + spread - 2 * shared))


def frechet(real: Features, fake: Features, seed: int) -> Frechet:
    """Frechet distance with confidence, as it is and corrected for the numbers of volumes.

    To first order the distance of N volumes is that of infinitely many plus c / N ("FID infinity",
    Chong and Forsyth 2020). Half as many double the excess, so what halves have more is taken off.

    Parameters
    ----------
    real, fake : (N, F) and (M, F), at least two volumes each
    seed : of the random halves
    """
    whole, fewest = frechet_distance(real, fake), min(len(real), len(fake))
    halves, corrected = [], []
    for i, j in paired_halves(seed, len(real), len(fake)):
        half = frechet_distance(real[i], fake[j])
        halves.append(half)
        if fewest >= FEWEST_FOR_CORRECTION:
            corrected.append(2 * half - distance_of_halves(real[i], fake[j]))
    biased = not_below_zero(measured(whole, halves, fewest))
    if not corrected:
        return Frechet(biased, None)
    return Frechet(biased, measured(2 * whole - float(np.mean(halves)), corrected, fewest))


def distance_of_halves(real: Features, fake: Features) -> float:
    """Mean distance of the first halves and of the second; the order is random already."""
    i, j = len(real) // 2, len(fake) // 2
    return (frechet_distance(real[:i], fake[:j]) + frechet_distance(real[i:], fake[j:])) / 2


def not_below_zero(number: Measured) -> Measured:
    """The same with an interval of what distances can be."""
    low = None if number.low is None else max(0.0, number.low)
    return number.model_copy(update={"low": low})


def _root(features: Features) -> Features:
    """R with R^T R the covariance, of min(N, F) rows."""
    centred: Features = (features - features.mean(0)) / np.sqrt(len(features) - 1)
    if len(features) <= features.shape[1]:
        return centred
    return np.asarray(np.linalg.qr(centred, mode="r"))

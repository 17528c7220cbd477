"""How sure a number is: what it does when only half of the volumes are looked at.

A random half without replacement varies about the whole as the whole varies about the truth, for
every measure that is nearly a mean over volumes. The bootstrap is not used: it takes volumes twice,
and a covariance of 64 features from 100 volumes of which a third are repeats is another number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict, FiniteFloat

from prdit_core.noise import Draw, numpy_generator

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    Index = NDArray[np.intp]

HALVES = 100
FEWEST = 4  # volumes of which a half still has a variance
SIGMAS = 1.959964  # of a normal distribution, 95 % within


class Measured(BaseModel):
    """A number, the interval it lies in with 95 % confidence, and where that comes from.

    Attributes
    ----------
    low, high : None where there are too few volumes to say
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: FiniteFloat
    low: FiniteFloat | None
    high: FiniteFloat | None
    how: str

    @property
    def interval(self) -> tuple[float, float] | None:
        """(low, high); None where there are too few volumes to say."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    def overlaps(self, other: Measured) -> bool:
        """Whether the difference of both may be chance."""
        if self.interval is None or other.interval is None:
            return True
        return self.interval[0] <= other.interval[1] and other.interval[0] <= self.interval[1]


def half_samples(draw: Draw, seed: int, *counts: int) -> Iterator[tuple[Index, ...]]:
    """Random halves of several sets: `HALVES` times one half of each, every second the others.

    Parameters
    ----------
    draw, seed : what the halves depend on
    counts : sizes of the sets

    Yields
    ------
    tuple
        Numbers of the members, one array for each set; nothing if a set is smaller than `FEWEST`.
    """
    if min(counts) < FEWEST:
        return
    random = numpy_generator(draw, seed, 0, *counts)
    for _ in range(HALVES // 2):
        orders = [random.permutation(count) for count in counts]
        yield tuple(order[: len(order) // 2] for order in orders)
        yield tuple(order[len(order) // 2 :] for order in orders)


def paired_halves(seed: int, *counts: int) -> Iterator[tuple[Index, ...]]:
    """Halves that all distances between two sets are measured on, so that they compare."""
    return half_samples(Draw.HALVES, seed, *counts)


def measured(value: float, halves: Sequence[float], volumes: int) -> Measured:
    """A number with the interval that its values on half samples say.

    Parameters
    ----------
    halves : the same measure of random halves; none where there were too few volumes
    volumes : of the smallest set it was measured on
    """
    if len(halves) < 2:
        how = f"{volumes} volumes: too few for an interval, {FEWEST} are needed"
        return Measured(value=value, low=None, high=None, how=how)
    reach = SIGMAS * float(np.std(halves))
    how = f"{len(halves)} half samples of {volumes} volumes, 95 %"
    return Measured(value=value, low=value - reach, high=value + reach, how=how)


def measured_splits(values: Sequence[float], volumes: int) -> Measured:
    """Mean over splits of one set into halves, and where 95 % of such splits lie."""
    mean, reach = float(np.mean(values)), SIGMAS * float(np.std(values))
    how = f"{len(values)} splits of {volumes} volumes into halves, 95 %"
    return Measured(value=mean, low=mean - reach, high=mean + reach, how=how)


def measured_median(values: NDArray[np.float64], seed: int) -> Measured:
    """Median over volumes, with the interval from random halves of them."""
    halves = [
        float(np.median(values[half])) for (half,) in half_samples(Draw.MEDIANS, seed, len(values))
    ]
    return measured(float(np.median(values)), halves, len(values))


def measured_mean(values: NDArray[np.float64]) -> Measured:
    """Mean over volumes, with the interval that half samples have in the limit of many draws."""
    count = len(values)
    mean = float(values.mean())
    if count < FEWEST:
        return measured(mean, [], count)
    reach = SIGMAS * float(values.std(ddof=1)) / count**0.5
    how = f"spread of {count} volumes, 95 %"
    return Measured(value=mean, low=mean - reach, high=mean + reach, how=how)

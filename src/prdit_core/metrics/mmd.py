"""Maximum mean discrepancy of two clouds of features, with a Gaussian kernel, tile by tile.

The kernel is exp(-gamma |u - v|^2) with gamma = 1 / (2 median), the median that of all N^2 squared
distances of the real features, the N zeros included, the lower one where there are two. Nothing of
the size N^2 is ever held: distances are made in tiles, as often as they are needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from prdit_core.errors import InputRejected
from prdit_core.metrics.confidence import Measured, measured, paired_halves

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

TILE = 1024
KEPT = TILE**2  # distances that may be sorted at once
BINS = 4096
# Distances that differ by less, relative to the largest, are the same.
RESOLUTION = 1e-14


@dataclass(frozen=True)
class Mmd:
    """Maximum mean discrepancy of two sets.

    Attributes
    ----------
    biased : root of the V-statistic, as papers compute it; never quite 0
    unbiased : signed root of the U-statistic, below 0 by chance where the sets are alike
    """

    biased: Measured
    unbiased: Measured


def kernel_width(real: Array) -> float:
    """Gamma of the kernel, by the median of the squared distances of real features (N, F).

    Raises
    ------
    InputRejected
        If the median is 0: two volumes only, or most of them equal.
    """
    median = _median_distance(real)
    if not median > 0:
        raise InputRejected(
            f"the features of {len(real)} real volumes give no scale (median distance 0); "
            "give at least three volumes that differ"
        )
    return 1 / (2 * median)


def mmd(real: Array, fake: Array, gamma: float, seed: int) -> Mmd:
    """Discrepancy with confidence, biased and unbiased.

    Parameters
    ----------
    real, fake : (N, F) and (M, F), at least two volumes each
    gamma : of the kernel; see `kernel_width`
    seed : of the random halves
    """
    fewest = min(len(real), len(fake))
    draws = list(paired_halves(seed, len(real), len(fake)))
    on_real = weights_on(len(real), [np.arange(len(real)), *(i for i, _ in draws)])
    on_fake = weights_on(len(fake), [np.arange(len(fake)), *(j for _, j in draws)])
    biased, unbiased = mmd_squared(real, fake, gamma, on_real, on_fake)
    squares = (
        measured(float(values[0]), list(values[1:]), fewest) for values in (biased, unbiased)
    )
    return rooted(*squares)


def weights_on(count: int, parts: Sequence[NDArray[np.intp]]) -> Array:
    """Equal weights on the members of each part of `count` volumes, one column for each."""
    weights = np.zeros((count, len(parts)))
    for column, members in enumerate(parts):
        weights[members, column] = 1 / len(members)
    return weights


def rooted(biased: Measured, unbiased: Measured) -> Mmd:
    """Discrepancy of its squares and their intervals: roots with the signs kept."""
    return Mmd(_root(biased, lowest=0.0), _root(unbiased, lowest=-np.inf))


def mmd_squared(
    real: Array, fake: Array, gamma: float, on_real: Array, on_fake: Array
) -> tuple[Array, Array]:
    """V- and U-statistics of MMD^2 for several weightings of the volumes at once, (K,) each.

    Parameters
    ----------
    on_real, on_fake : (N, K) and (M, K), each column sums to 1; more than one volume has weight
    """
    centre = real.mean(0)  # keeps the differences of large numbers small
    real, fake = real - centre, fake - centre
    across = _kernel_sum(real, fake, gamma, on_real, on_fake)
    biased, unbiased = -2 * across, -2 * across
    for x, weights in ((real, on_real), (fake, on_fake)):
        within, itself = _kernel_sum(x, x, gamma, weights, weights), np.square(weights).sum(0)
        biased += within
        unbiased += (within - itself) / (1 - itself)
    return biased, unbiased


def _root(square: Measured, lowest: float) -> Measured:
    ends = {
        name: None if value is None else _signed_root(max(lowest, value))
        for name, value in (("value", square.value), ("low", square.low), ("high", square.high))
    }
    return square.model_copy(update=ends)


def _signed_root(value: float) -> float:
    return float(np.sign(value) * np.sqrt(abs(value)))


def _kernel_sum(x: Array, y: Array, gamma: float, on_x: Array, on_y: Array) -> Array:
    """Sum over i and j of w_i k(x_i, y_j) v_j, for each column of the weights."""
    total = np.zeros(on_x.shape[1])
    for rows, columns, distances in _tiles(x, y):
        total += np.einsum("ik,ik->k", on_x[rows], np.exp(-gamma * distances) @ on_y[columns])
    return total


def _tiles(x: Array, y: Array) -> Iterator[tuple[slice, slice, Array]]:
    """Squared distances of all rows of `x` to all of `y`, a tile at a time."""
    for top in range(0, len(x), TILE):
        for left in range(0, len(y), TILE):
            a, b = x[top : top + TILE], y[left : left + TILE]
            squares = np.square(a).sum(1)[:, None] + np.square(b).sum(1)
            distances = np.maximum(squares - 2 * (a @ b.T), 0)
            if x is y and top == left:
                np.fill_diagonal(distances, 0)
            yield slice(top, top + TILE), slice(left, left + TILE), distances


def _median_distance(real: Array) -> float:
    """Lower median of all N^2 squared distances, found by narrowing down where it lies."""
    x = real - real.mean(0)
    rank, inside = (len(x) ** 2 - 1) // 2, len(x) ** 2
    largest = max(float(tile.max()) for _, _, tile in _tiles(x, x))
    low, high = 0.0, largest
    while inside > KEPT:
        edges = np.linspace(low, high, BINS + 1)
        below, counts = _counted(x, edges)
        place = int(np.searchsorted(below + np.cumsum(counts), rank, side="right"))
        low, high, inside = float(edges[place]), float(edges[place + 1]), int(counts[place])
        if high - low <= RESOLUTION * largest:
            return low
    return _picked(x, rank, low, high)


def _counted(x: Array, edges: Array) -> tuple[int, NDArray[np.intp]]:
    """How many distances lie below the first edge, and between each two."""
    below, counts = 0, np.zeros(len(edges) - 1, np.intp)
    for _, _, distances in _tiles(x, x):
        below += int(np.count_nonzero(distances < edges[0]))
        counts += np.histogram(distances, edges)[0]
    return below, counts


def _picked(x: Array, rank: int, low: float, high: float) -> float:
    """The distance of that rank, which lies from `low` to `high`."""
    below, inside = 0, []
    for _, _, distances in _tiles(x, x):
        below += int(np.count_nonzero(distances < low))
        inside.append(distances[(distances >= low) & (distances <= high)])
    return float(np.partition(np.concatenate(inside), rank - below)[rank - below])

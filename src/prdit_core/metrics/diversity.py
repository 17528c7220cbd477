"""How much the volumes of one set resemble each other: MS-SSIM of pairs, lower is more diverse."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from prdit_core.metrics.confidence import Measured, half_samples, measured
from prdit_core.metrics.similarity import ms_ssim
from prdit_core.noise import Draw, numpy_generator

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from prdit_core.metrics.similarity import Voxels


@dataclass(frozen=True)
class Pair:
    """Similarity of volumes number `first` and `second` of a set."""

    first: int
    second: int
    similarity: float


def viewing_order(count: int, seed: int) -> list[int]:
    """The order in which volumes are to be seen, so that files beside each other are no pairs."""
    return [
        int(number) for number in numpy_generator(Draw.PAIRS, seed, 0, count).permutation(count)
    ]


def similar_pairs(
    volumes: Iterable[tuple[int, Voxels]], neighbours: int, peak: float
) -> Iterator[Pair]:
    """MS-SSIM of each volume with the `neighbours` seen before it, which are all that is kept.

    Parameters
    ----------
    volumes : number and voxels (D, H, W) of each, from 0 to `peak`, in `viewing_order`
    """
    before: deque[tuple[int, Voxels]] = deque(maxlen=neighbours)
    for number, voxels in volumes:
        for other, seen in before:
            yield Pair(other, number, ms_ssim(seen, voxels, peak))
        before.append((number, voxels))


def mean_similarity(pairs: Sequence[Pair], count: int, scales: int, seed: int) -> Measured:
    """Mean over pairs, with the interval from random halves of the `count` volumes.

    A half has the pairs of which it has both volumes, a quarter of all, so the interval is
    rather too wide than too narrow.

    Parameters
    ----------
    scales : of MS-SSIM, see `similarity.scales_of`; recorded, since others give other numbers
    seed : of the random halves
    """
    ends = np.array([(pair.first, pair.second) for pair in pairs])
    values = np.array([pair.similarity for pair in pairs])
    halves = [
        _of(values, ends, members, count)
        for (members,) in half_samples(Draw.SIMILARITY, seed, count)
    ]
    similarity = measured(
        float(values.mean()), [half for half in halves if half is not None], count
    )
    return similarity.model_copy(
        update={"how": f"{scales} scales, {len(pairs)} pairs, {similarity.how}"}
    )


def _of(
    values: NDArray[np.float64], ends: NDArray[np.intp], members: NDArray[np.intp], count: int
) -> float | None:
    """Mean of the pairs whose volumes are both members; None where there is no such pair."""
    inside = np.zeros(count, bool)
    inside[members] = True
    both = inside[ends].all(1)
    return float(values[both].mean()) if both.any() else None

"""Batches as pure functions of (seed, iteration): which cases, which times, which noise."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch

from prdit_core.noise import generator
from prdit_core.schedule import T

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

# Second word of the key, so that no two kinds of draw share a stream.
_ORDER, _NOISE = 1, 2


@dataclass(frozen=True)
class Batch:
    """Clean volumes (B, 1, D, H, W), unit noise of the same shape, times (B,), case numbers."""

    x0: Tensor
    unit_noise: Tensor
    t: Tensor
    cases: tuple[int, ...]


def draw_batch(
    read: Callable[[int], NDArray[np.float32]], count: int, *, seed: int, iteration: int, size: int
) -> Batch:
    """Batch number `iteration` of a run.

    Parameters
    ----------
    read : volume number -> (D, H, W) in model units
    count : number of training volumes; all are seen once before any is seen again
    size : volumes in the batch

    Every volume's time and noise depend on (seed, iteration, place in the batch) only.
    """
    cases = tuple(_case(seed, count, iteration * size + place) for place in range(size))
    x0 = torch.from_numpy(np.stack([read(case) for case in cases]))[:, None]
    times, noises = zip(
        *(_draws(x0.shape[1:], seed, iteration, p) for p in range(size)), strict=True
    )
    return Batch(x0, torch.stack(noises), torch.cat(times), cases)


def _draws(shape: Sequence[int], seed: int, iteration: int, place: int) -> tuple[Tensor, Tensor]:
    """A time, uniform in (0, T], and unit noise."""
    stream = generator(seed, _NOISE, iteration, place)
    t = T * (1 - torch.rand(1, generator=stream))
    return t, torch.randn(tuple(shape), generator=stream)


def _case(seed: int, count: int, position: int) -> int:
    epoch, place = divmod(position, count)
    return int(_order(seed, count, epoch)[place])


@lru_cache(maxsize=4)
def _order(seed: int, count: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, _ORDER, epoch]).permutation(count)

"""Batches as pure functions of (seed, iteration): which cases, which times, which noise.

A process's share of a batch does not depend on how many processes, workers or restarts there are.
"""

from __future__ import annotations

import signal
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from prdit_core.errors import MemoryLimit, PrditError
from prdit_core.noise import Draw, generator, numpy_generator
from prdit_core.schedule import T

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

Shape = tuple[int, int, int]


class Batch(NamedTuple):
    """Volumes of one iteration, or a part of them.

    Attributes
    ----------
    x0 : (B, C, D, H, W) clean
    unit_noise : of the same shape
    t : (B,) times
    cases : names of the volumes
    iteration : counted from 0
    places : of the volumes in the batch of all processes; with the iteration a key to draw by
    labels : numbers of their classes
    conditions : (B, D, H, W) label maps that the volumes belong to, where they are learnt with such
    """

    x0: Tensor
    unit_noise: Tensor
    t: Tensor
    cases: tuple[str, ...]
    iteration: int
    places: tuple[int, ...]
    labels: tuple[int, ...] = ()
    conditions: Tensor | None = None


class Source(Protocol):
    """Volumes to train on; it travels to data workers, so it must be picklable."""

    @property
    def names(self) -> Sequence[str]:
        """What to call each volume."""

    @property
    def labels(self) -> Sequence[int]:
        """Number of the class of each volume."""

    @property
    def shapes(self) -> Sequence[Shape]:
        """Grid of each volume; those of one grid make a batch."""

    def read(self, number: int) -> NDArray[np.float32]:
        """Volume (C, D, H, W) in model units."""

    def condition(self, number: int) -> NDArray[np.uint8] | None:
        """Label map (D, H, W) that it is learnt with, of all volumes or of none."""


@dataclass(frozen=True)
class Batches(Dataset[Batch | PrditError]):
    """Batch number i of a run is item i.

    Attributes
    ----------
    size : volumes in a batch of all processes together
    rank, world : which process this is, of how many; each takes every `world`-th place
    """

    source: Source
    seed: int
    size: int
    rank: int = 0
    world: int = 1

    def __getitem__(self, iteration: int) -> Batch | PrditError:
        """Share of this process; an error is handed over whole, for workers would wrap it."""
        places = range(self.rank, self.size, self.world)
        try:
            return self._drawn(iteration, places)
        except PrditError as error:
            return error

    def _drawn(self, iteration: int, places: range) -> Batch:
        """All cases of a grid are seen once before any is seen again."""
        bucket, turn = _turn(self.seed, tuple(self.source.shapes), self.size, iteration)
        order = partial(_case, self.seed, bucket.number, len(bucket.cases))
        cases = [bucket.cases[order(turn * self.size + place)] for place in places]
        x0 = torch.from_numpy(np.stack([self.source.read(case) for case in cases]))
        draws = [_draws(x0.shape[1:], self.seed, iteration, place) for place in places]
        times, noises = zip(*draws, strict=True)
        maps = [found for case in cases if (found := self.source.condition(case)) is not None]
        names, labels = self.source.names, self.source.labels  # made of all cases each time
        return Batch(
            x0,
            torch.stack(noises),
            torch.cat(times),
            tuple(names[case] for case in cases),
            iteration,
            tuple(places),
            tuple(labels[case] for case in cases),
            torch.from_numpy(np.stack(maps)) if maps else None,
        )

    def between(self, start: int, total: int, workers: int) -> Iterator[Batch]:
        """Batches `start` to `total` - 1, prepared ahead by `workers` processes if there are any.

        Raises
        ------
        PrditError
            What reading a volume raised; `MemoryLimit` if a worker was killed.
        """
        loader = DataLoader(
            self,
            batch_size=None,
            sampler=range(start, total),
            num_workers=workers,
            multiprocessing_context="spawn" if workers else None,
        )
        with _apart():
            drawn = iter(loader)
        while True:
            try:
                item = next(drawn, None)
            except Exception as error:  # of many kinds, where a worker died in mid-sentence
                if not workers or "Caught" in str(error):  # an error of ours, in a worker
                    raise
                raise MemoryLimit(
                    "a process that prepares batches was killed, perhaps for want of memory; "
                    "go on with --resume, and fewer --workers"
                ) from error
            if isinstance(item, PrditError):
                raise item
            if item is None:
                return
            yield item


@contextmanager
def _apart() -> Iterator[None]:
    """Workers started within hear no Ctrl-C; `next` tells of their death, not a signal handler.

    That of torch would raise in the middle of whatever this process is doing.
    """
    if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
        yield
        return
    on_death = signal.getsignal(signal.SIGCHLD)
    on_ctrl_c = signal.signal(signal.SIGINT, signal.SIG_IGN)  # which processes inherit
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, on_ctrl_c)
        signal.signal(signal.SIGCHLD, on_death)


def split(batch: Batch, volumes: int) -> Iterator[Batch]:
    """The batch in parts of at most `volumes`."""
    for first in range(0, len(batch.cases), volumes):
        part = slice(first, first + volumes)
        yield batch._replace(
            x0=batch.x0[part],
            unit_noise=batch.unit_noise[part],
            t=batch.t[part],
            cases=batch.cases[part],
            places=batch.places[part],
            labels=batch.labels[part],
            conditions=None if batch.conditions is None else batch.conditions[part],
        )


def _draws(shape: Sequence[int], seed: int, iteration: int, place: int) -> tuple[Tensor, Tensor]:
    """A time, uniform in (0, T], and unit noise."""
    stream = generator(Draw.BATCH, seed, 0, iteration, place)
    t = T * (1 - torch.rand(1, generator=stream))
    return t, torch.randn(tuple(shape), generator=stream)


class Bucket(NamedTuple):
    """Cases of one grid, of which batches are made.

    Attributes
    ----------
    number : of the bucket; with the epoch a key to draw by
    cases : numbers in the source
    """

    number: int
    cases: tuple[int, ...]


@lru_cache(maxsize=4)
def _buckets(shapes: tuple[Shape, ...]) -> tuple[Bucket, ...]:
    """One for each grid, in the order of its first case."""
    buckets: dict[Shape, list[int]] = {}
    for case, shape in enumerate(shapes):
        buckets.setdefault(shape, []).append(case)
    return tuple(Bucket(number, tuple(cases)) for number, cases in enumerate(buckets.values()))


def _turn(seed: int, shapes: tuple[Shape, ...], size: int, iteration: int) -> tuple[Bucket, int]:
    """Whose turn it is at an iteration, and how many turns the bucket had before.

    In an epoch every bucket has as many turns as its cases fill batches, at least one, in random
    order.
    """
    buckets = _buckets(shapes)
    turns = [max(1, round(len(bucket.cases) / size)) for bucket in buckets]
    rota = [bucket for bucket, count in zip(buckets, turns, strict=True) for _ in range(count)]
    epoch, place = divmod(iteration, len(rota))
    order = _rota(seed, len(rota), epoch)
    bucket = rota[order[place]]
    earlier = sum(rota[other] is bucket for other in order[:place])
    return bucket, epoch * turns[bucket.number] + earlier


@lru_cache(maxsize=4)
def _rota(seed: int, count: int, epoch: int) -> NDArray[np.int64]:
    return numpy_generator(Draw.ROTA, seed, 0, epoch).permutation(count)


def _case(seed: int, bucket: int, count: int, position: int) -> int:
    epoch, place = divmod(position, count)
    return int(_order(seed, bucket, count, epoch)[place])


@lru_cache(maxsize=64)
def _order(seed: int, bucket: int, count: int, epoch: int) -> NDArray[np.int64]:
    return numpy_generator(Draw.ORDER, seed, bucket, epoch).permutation(count)

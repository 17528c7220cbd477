"""The steps of the last run, kept small, for going back in time."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Moment:
    """A step of a walk: its number, its time, the state there and the x0 predicted from it.

    Attributes
    ----------
    x_t, x0 : (1, C, D, H, W) float32 in model units
    """

    index: int
    t: float
    x_t: NDArray[np.float32]
    x0: NDArray[np.float32]


@dataclass(frozen=True)
class _Packed:
    t: float
    shape: tuple[int, ...]
    x_t: bytes
    x0: bytes

    @property
    def size(self) -> int:
        return len(self.x_t) + len(self.x0)


class Recording:
    """States and predictions as compressed half floats within a budget.

    Where the budget is reached every second step is forgotten, and from then on only every second
    is kept; the first and the newest always stay.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._steps: dict[int, _Packed] = {}
        self._every = 1

    @property
    def indices(self) -> list[int]:
        """Steps that are kept, in order."""
        return sorted(self._steps)

    @property
    def size(self) -> int:
        """Bytes in use."""
        return sum(step.size for step in self._steps.values())

    def add(self, moment: Moment) -> None:
        """Keep a step; a step that was there before, and all after it, are replaced."""
        self.forget_from(moment.index)
        newest = max(self._steps, default=None)
        if newest is not None and newest % self._every:
            del self._steps[newest]
        packed = _Packed(moment.t, moment.x0.shape, _packed(moment.x_t), _packed(moment.x0))
        self._steps[moment.index] = packed
        while self.size > self.budget and len(self._steps) > 2:
            self._thin(moment.index)

    def forget_from(self, index: int) -> None:
        """Forget a step and all after it; everything with 0."""
        for later in [step for step in self._steps if step >= index]:
            del self._steps[later]
        if not self._steps:
            self._every = 1

    def nearest(self, index: int) -> int:
        """The kept step nearest to `index`."""
        return min(self._steps, key=lambda kept: (abs(kept - index), kept))

    def at(self, index: int) -> Moment:
        """What was kept of the step nearest to `index`."""
        nearest = self.nearest(index)
        step = self._steps[nearest]
        return Moment(
            nearest, step.t, _unpacked(step.x_t, step.shape), _unpacked(step.x0, step.shape)
        )

    def _thin(self, newest: int) -> None:
        self._every *= 2
        for index in list(self._steps):
            if index % self._every and index != newest:
                del self._steps[index]


def _packed(x: NDArray[np.float32]) -> bytes:
    return zlib.compress(x.astype(np.float16).tobytes(), level=1)


def _unpacked(content: bytes, shape: tuple[int, ...]) -> NDArray[np.float32]:
    half: NDArray[Any] = np.frombuffer(zlib.decompress(content), np.float16)
    return half.reshape(shape).astype(np.float32)

"""What a training run tells, one small frozen event at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

# Mean of x0, eps and total error; and the same by span of t, None where there was nothing.
Loss = dict[str, float]
Levels = dict[str, list[float | None]]


@dataclass(frozen=True)
class Started:
    """The run begins at iteration `index` of `total`; `notes` say what was decided."""

    index: int
    total: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class TrainStep:
    """One iteration, counted from 1 to `total`, over all processes.

    Attributes
    ----------
    losses : mean "x0", "eps" and "total" error of the batch
    levels : the same in equal spans of t
    asked_to_stop : whether any process was asked to stop; then this is the last step
    """

    index: int
    total: int
    losses: Loss
    levels: Levels
    grad_norm: float
    lr: float
    seconds: float
    asked_to_stop: bool = False


@dataclass(frozen=True)
class Validated:
    """Losses of the averaged weights on held-out patients after iteration `index`."""

    index: int
    losses: Loss
    levels: Levels


@dataclass(frozen=True)
class Previewed:
    """A picture was written after iteration `index`."""

    index: int
    path: Path


@dataclass(frozen=True)
class Saved:
    """A checkpoint was written after iteration `index`."""

    index: int
    path: Path


@dataclass(frozen=True)
class Stopped:
    """The run was asked to stop, and did after iteration `index`, with all of it saved."""

    index: int


Event = Started | TrainStep | Validated | Previewed | Saved | Stopped

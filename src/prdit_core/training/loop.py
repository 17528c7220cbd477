"""The training loop: one for all stages of all families, an iterator of events."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch

from prdit_core.errors import NumericalError
from prdit_core.runs.metrics import LEVELS
from prdit_core.schedule import T
from prdit_core.training.batches import split
from prdit_core.training.ema import Ema
from prdit_core.training.engine import of_all, whole
from prdit_core.training.events import TrainStep
from prdit_core.training.turn import Terms, Turn, take_up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from lightning_fabric import Fabric
    from torch import Tensor

    from prdit_core.training.batches import Batch
    from prdit_core.training.contracts import Task
    from prdit_core.training.events import Levels, Loss
    from prdit_core.training.rate import Rate


@dataclass(frozen=True)
class Tally:
    """Sums of losses by span of t, over all volumes and processes, and what else must be shared.

    Attributes
    ----------
    kinds : names of the losses
    sums : (kinds + 1, LEVELS) float64: each loss, and the number of volumes
    stop_requests : how many processes were asked to stop
    """

    kinds: tuple[str, ...]
    sums: Tensor
    stop_requests: int

    def loss(self) -> Loss:
        """Means over everything."""
        *parts, count = self.sums.sum(1).tolist()
        return {kind: part / count for kind, part in zip(self.kinds, parts, strict=True)}

    def levels(self) -> Levels:
        """Means by span of t; None where there was no volume."""
        *parts, counts = self.sums.tolist()
        return {
            kind: [total / n if n else None for total, n in zip(part, counts, strict=True)]
            for kind, part in zip(self.kinds, parts, strict=True)
        }


def sums_by_level(terms: Terms, t: Tensor) -> Tensor:
    """Sums as in `Tally`, from losses (B,) and times (B,)."""
    level = (t.double() / T * LEVELS).ceil().long().clamp(1, LEVELS) - 1
    values = torch.stack([*terms.values(), torch.ones_like(t)])
    empty = torch.zeros(len(values), LEVELS, dtype=torch.float64, device=t.device)
    return empty.index_add_(1, level, values.double())


def joined(parts: Sequence[Terms]) -> Terms:
    """Losses of the parts of a batch as those of the whole."""
    return {kind: torch.cat([part[kind] for part in parts]) for kind in parts[0]}


class Trainer:
    """A task on a device, with the average of its network, advanced one iteration at a time."""

    def __init__(
        self,
        task: Task,
        fabric: Fabric,
        *,
        rate: Rate,
        clip: float,
        decay: float,
        micro_batch: int,
    ) -> None:
        self.task = task
        self.fabric = fabric
        self.rate = rate
        self.clip = clip
        self.micro_batch = micro_batch
        self.turns = [Turn(player, fabric, rate.peak) for player in task.players]
        self.ema = Ema(task.network, decay, task.pace)

    def advance(self, batch: Batch, stop_requested: bool = False) -> tuple[Tally, float]:
        """One step of every player that plays, on this process's share of a batch.

        All gradients are taken at the same weights.

        Parameters
        ----------
        stop_requested : whether this process was asked to stop, which all get to know

        Returns
        -------
        Losses over all processes, and the norm of the first player's gradient before it was
        clipped.

        Raises
        ------
        NumericalError
            If a loss or gradient is not finite; weights and average are left as they were.
        """
        terms: Terms = {}
        turns = [turn for turn in self.turns if batch.iteration >= turn.player.begins]
        for turn in turns:
            with turn.alone(self.turns):
                terms |= self._backward(turn, batch)
        tally = self._shared(terms, batch, stop_requested)
        norms = torch.stack([turn.clipped_norm(self.clip) for turn in turns])
        if not (torch.isfinite(tally.sums).all() and torch.isfinite(norms).all()):
            for turn in turns:
                turn.optimiser.zero_grad()
            raise NumericalError(self._not_finite(terms, batch))
        for turn in turns:
            turn.step(self.rate.at(batch.iteration))
        self.task.after_step(batch.iteration)
        self.ema.update(self.task.network, batch.iteration)
        return tally, float(norms[0])

    def weights(self) -> dict[str, Tensor]:
        """Weights as the optimisers left them, whole."""
        return {name: whole(w) for turn in self.turns for name, w in turn.weights().items()}

    def averaged(self) -> dict[str, Tensor]:
        """Averaged weights of the network, whole."""
        return {name: whole(weight) for name, weight in self.ema.weights.items()}

    def moments(self) -> dict[str, Tensor]:
        """Moments of the optimisers by weight name, whole."""
        return {name: m for turn in self.turns for name, m in turn.moments().items()}

    @torch.no_grad()
    def restore(
        self, raw: dict[str, Tensor], ema: dict[str, Tensor], moments: dict[str, Tensor]
    ) -> None:
        """Take up weights, average and moments that a checkpoint kept."""
        take_up(self.ema.weights, ema)
        for turn in self.turns:
            turn.restore(raw, moments)

    def _backward(self, turn: Turn, batch: Batch) -> Terms:
        parts = list(split(batch, self.micro_batch))
        return joined(
            [
                turn.backward(
                    self.fabric.to_device(part),
                    len(part.cases) / len(batch.cases),
                    last=part is parts[-1],
                )
                for part in parts
            ]
        )

    def _shared(self, terms: Terms, batch: Batch, stop_requested: bool) -> Tally:
        """What all processes must know of the iteration, in one exchange."""
        own = sums_by_level(terms, self.fabric.to_device(batch.t))
        flag = torch.full((1,), float(stop_requested), dtype=own.dtype, device=own.device)
        numbers = torch.cat([own.flatten(), flag])
        if self.fabric.world_size > 1:
            numbers = cast("Tensor", self.fabric.all_reduce(numbers, reduce_op="sum"))
        return Tally(tuple(terms), numbers[:-1].reshape(own.shape).cpu(), int(numbers[-1]))

    def _not_finite(self, terms: Terms, batch: Batch) -> str:
        """Names the cases whose own loss is not finite, else the whole batch."""
        sound = torch.isfinite(torch.stack(list(terms.values()))).all(dim=0).tolist()
        bad = [case for case, good in zip(batch.cases, sound, strict=True) if not good]
        cases = of_all(self.fabric, bad) or of_all(self.fabric, list(batch.cases))
        return (
            f"iteration {batch.iteration + 1}: the loss or its gradient is not finite "
            f"(training cases {', '.join(cases)}); nothing was updated; "
            "try a lower --lr or --precision 32-true"
        )


def run_loop(
    trainer: Trainer,
    batches: Iterator[Batch],
    *,
    start: int,
    total: int,
    stop_requested: Callable[[], bool],
) -> Iterator[TrainStep]:
    """Iterations `start` to `total` - 1; each is yielded once its weights are updated.

    Parameters
    ----------
    batches : from batch number `start` on
    stop_requested : the loop ends after the iteration in which it is true in any process
    """
    for iteration in range(start, total):
        begun = time.monotonic()
        tally, norm = trainer.advance(next(batches), stop_requested())
        yield TrainStep(
            index=iteration + 1,
            total=total,
            losses=tally.loss(),
            levels=tally.levels(),
            grad_norm=norm,
            lr=trainer.rate.at(iteration),
            seconds=time.monotonic() - begun,
            asked_to_stop=tally.stop_requests > 0,
        )
        if tally.stop_requests:
            return

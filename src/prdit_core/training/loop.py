"""The training loop: one for all stages, an iterator of events."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from prdit_core.errors import NumericalError
from prdit_core.models.prdit.highres_refiner import below
from prdit_core.runs.metrics import LEVELS
from prdit_core.schedule import T
from prdit_core.training.batches import split
from prdit_core.training.ema import Ema
from prdit_core.training.engine import of_all, split_like, whole
from prdit_core.training.events import TrainStep
from prdit_core.training.objective import Losses, add_noise, inconsistency, losses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lightning_fabric import Fabric
    from torch import Tensor

    from prdit_core.models.prdit.network import PRDiT
    from prdit_core.patches import Box
    from prdit_core.schedule import Schedule
    from prdit_core.training.batches import Batch
    from prdit_core.training.crop import Crop
    from prdit_core.training.events import Levels, Loss
    from prdit_core.training.rate import Rate

KINDS = ("x0", "eps", "total")


@dataclass(frozen=True)
class Tally:
    """Sums of losses by span of t, over all volumes and processes, and what else must be shared.

    Attributes
    ----------
    sums : (4, LEVELS) float64: x0, eps, total, and the number of volumes
    asked : how many processes were asked to stop
    """

    sums: Tensor
    asked: int

    def loss(self) -> Loss:
        """Means over everything."""
        *parts, count = self.sums.sum(1).tolist()
        return {kind: part / count for kind, part in zip(KINDS, parts, strict=True)}

    def levels(self) -> Levels:
        """Means by span of t; None where there was no volume."""
        *parts, counts = self.sums.tolist()
        return {
            kind: [total / n if n else None for total, n in zip(part, counts, strict=True)]
            for kind, part in zip(KINDS, parts, strict=True)
        }


def sums_by_level(found: Losses, t: Tensor) -> Tensor:
    """(4, LEVELS) float64 as in `Tally`, from losses (B,) and times (B,)."""
    level = (t.double() / T * LEVELS).ceil().long().clamp(1, LEVELS) - 1
    values = torch.stack([found.x0, found.eps, found.total, torch.ones_like(found.total)])
    empty = torch.zeros(4, LEVELS, dtype=torch.float64, device=t.device)
    return empty.index_add_(1, level, values.double())


def joined(parts: list[Losses]) -> Losses:
    """Losses of the parts of a batch as those of the whole."""
    return Losses(
        x0=torch.cat([part.x0 for part in parts]),
        eps=torch.cat([part.eps for part in parts]),
        total=torch.cat([part.total for part in parts]),
    )


class _Pyramid(nn.Module):
    """A network seen from all its resolutions.

    Engines set precision and exchange gradients around `forward` only; a call of another method
    passes them by, in silence.
    """

    def __init__(self, network: PRDiT) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, t: Tensor, box: Box | None) -> list[Tensor]:
        """As `PRDiT.pyramid`."""
        return self.network.pyramid(x, t, box)


class Trainer:
    """A network, its optimiser and its average on a device, advanced one iteration at a time.

    Parameters
    ----------
    consistency : weight of `inconsistency` of a chain. It is minimised, but the losses that are
        told are those of Eq. 3 alone, so that runs with other weights compare.
    lower_sizes : weight of Eq. 3 at every lower resolution of a chain, likewise not told
    crop : where the last refiner is trained; None: everywhere
    """

    def __init__(
        self,
        model: PRDiT,
        schedule: Schedule,
        fabric: Fabric,
        *,
        rate: Rate,
        clip: float,
        decay: float,
        micro_batch: int,
        consistency: float = 0.0,
        lower_sizes: float = 0.0,
        crop: Crop | None = None,
    ) -> None:
        self.fabric = fabric
        self.schedule = schedule
        self.rate = rate
        self.clip = clip
        self.micro_batch = micro_batch
        self.consistency = consistency
        self.lower_sizes = lower_sizes
        self.crop = crop
        self.network = model
        self.model = fabric.setup_module(_Pyramid(model))
        trained = [weight for weight in self.model.parameters() if weight.requires_grad]
        self.optimiser: Any = fabric.setup_optimizers(
            torch.optim.AdamW(trained, lr=rate.peak, betas=(0.9, 0.999), weight_decay=0.0)
        )
        self.ema = Ema(model, decay)
        self.model.train()

    def advance(self, batch: Batch, iteration: int, asked: bool = False) -> tuple[Tally, float]:
        """One optimiser step on this process's share of a batch.

        Parameters
        ----------
        iteration : counted from 0
        asked : whether this process was asked to stop, which all get to know

        Returns
        -------
        Losses over all processes, and the norm of the gradient before it was clipped.

        Raises
        ------
        NumericalError
            If loss or gradient is not finite; weights and average are left as they were.
        """
        parts = list(split(batch, self.micro_batch))
        shares = [len(part.cases) / len(batch.cases) for part in parts]
        box = self._box(iteration, batch)
        found = [
            self._backward(part, share, box, last=part is parts[-1])
            for part, share in zip(parts, shares, strict=True)
        ]
        tally = self._shared(found, batch, asked)
        norm = self._clipped_norm()
        if not (torch.isfinite(tally.sums).all() and torch.isfinite(norm)):
            self.optimiser.zero_grad()
            raise NumericalError(self._not_finite(found, batch, iteration))
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate.at(iteration)
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.ema.update(self.network, iteration)
        return tally, float(norm)

    def weights(self) -> dict[str, Tensor]:
        """Weights as the optimiser left them, whole."""
        return {name: whole(weight) for name, weight in self.network.state_dict().items()}

    def averaged(self) -> dict[str, Tensor]:
        """Averaged weights, whole."""
        return {name: whole(weight) for name, weight in self.ema.weights.items()}

    def moments(self) -> dict[str, Tensor]:
        """Moments of the optimiser by weight name, whole."""
        state = self.optimiser.state_dict()["state"]
        return {
            f"{name}.{moment}": whole(value.detach()).cpu()
            for number, (name, _) in enumerate(self._trained())
            for moment, value in state.get(number, {}).items()
        }

    @torch.no_grad()
    def restore(
        self, raw: dict[str, Tensor], ema: dict[str, Tensor], moments: dict[str, Tensor]
    ) -> None:
        """Take up weights, average and moments that a checkpoint kept."""
        for there, kept in ((self.network.state_dict(), raw), (self.ema.weights, ema)):
            for name, weight in there.items():
                weight.copy_(split_like(kept[name], weight))
        state: dict[int, dict[str, Any]] = {}
        for number, (name, weight) in enumerate(self._trained()):
            kinds = [key for key in moments if key.rpartition(".")[0] == name]
            state[number] = {
                key.rpartition(".")[2]: split_like(moments[key], weight)
                if moments[key].shape == weight.shape
                else moments[key]
                for key in kinds
            }
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": state, "param_groups": groups})

    def _box(self, iteration: int, batch: Batch) -> Box | None:
        return None if self.crop is None else self.crop.box(iteration, tuple(batch.x0.shape[-3:]))

    def _backward(self, part: Batch, share: float, box: Box | None, *, last: bool) -> Losses:
        """Add a part's gradient; processes exchange theirs after the last part only."""
        x0 = self.fabric.to_device(part.x0)
        eps = self.fabric.to_device(part.unit_noise) * self.schedule.noise_std
        t = self.fabric.to_device(part.t)
        asked = torch.tensor([self.schedule.network_time(float(v)) for v in part.t])
        with self.fabric.no_backward_sync(self.model, enabled=not last):
            x_t = add_noise(self.schedule, x0, eps, t)
            outputs = self.model(x_t, self.fabric.to_device(asked), box)
            kind = self.network.config.output
            found = losses(outputs[-1], _within(x0, box), _within(eps, box), t, self.schedule, kind)
            objective = found.total
            if self.consistency and len(outputs) > 1:
                lower = _within(outputs[-2], _halved(box))
                objective = objective + self.consistency * inconsistency(outputs[-1], lower)
            if self.lower_sizes:
                refiners = self.network.config.refiners
                for output, refiner in zip(outputs[-2::-1], reversed(refiners), strict=True):
                    x0, eps = below(x0, eps, refiner.shows)
                    further = losses(output, x0, eps, t, self.schedule, kind)
                    objective = objective + self.lower_sizes * further.total
            self.fabric.backward(objective.mean() * share)
        return Losses(found.x0.detach(), found.eps.detach(), found.total.detach())

    def _shared(self, found: list[Losses], batch: Batch, asked: bool) -> Tally:
        """What all processes must know of the iteration, in one exchange."""
        own = sums_by_level(joined(found), batch.t.to(found[0].total.device))
        flag = torch.full((1,), float(asked), dtype=own.dtype, device=own.device)
        numbers = torch.cat([own.flatten(), flag])
        if self.fabric.world_size > 1:
            numbers = cast("Tensor", self.fabric.all_reduce(numbers, reduce_op="sum"))
        return Tally(numbers[:-1].reshape(4, LEVELS).cpu(), int(numbers[-1]))

    def _trained(self) -> list[tuple[str, Tensor]]:
        return [(n, w) for n, w in self.network.named_parameters() if w.requires_grad]

    def _clipped_norm(self) -> Tensor:
        norm = self.fabric.clip_gradients(
            self.model, self.optimiser, max_norm=self.clip, error_if_nonfinite=False
        )
        assert norm is not None  # Fabric returns the norm whenever max_norm is given
        return whole(norm)

    def _not_finite(self, found: list[Losses], batch: Batch, iteration: int) -> str:
        """Names the cases whose own loss is not finite, else the whole batch."""
        sound = torch.isfinite(joined(found).total).tolist()
        bad = [case for case, good in zip(batch.cases, sound, strict=True) if not good]
        cases = of_all(self.fabric, bad) or of_all(self.fabric, list(batch.cases))
        return (
            f"iteration {iteration + 1}: the loss or its gradient is not finite "
            f"(training cases {', '.join(cases)}); nothing was updated; "
            "try a lower --lr or --precision 32-true"
        )


def _within(x: Tensor, box: Box | None) -> Tensor:
    return x if box is None else x[(..., *box)]


def _halved(box: Box | None) -> Box | None:
    """The same box at half the resolution."""
    if box is None:
        return None
    depth, height, width = (slice(part.start // 2, part.stop // 2) for part in box)
    return depth, height, width


def run_loop(
    trainer: Trainer,
    batches: Iterator[Batch],
    *,
    start: int,
    total: int,
    asked: Callable[[], bool],
) -> Iterator[TrainStep]:
    """Iterations `start` to `total` - 1; each is yielded once its weights are updated.

    Parameters
    ----------
    batches : from batch number `start` on
    asked : whether to stop; the loop ends after the iteration in which any process says so
    """
    for iteration in range(start, total):
        begun = time.monotonic()
        tally, norm = trainer.advance(next(batches), iteration, asked())
        yield TrainStep(
            index=iteration + 1,
            total=total,
            losses=tally.loss(),
            levels=tally.levels(),
            grad_norm=norm,
            lr=trainer.rate.at(iteration),
            seconds=time.monotonic() - begun,
            asked_to_stop=tally.asked > 0,
        )
        if tally.asked:
            return

"""The training loop: one for all stages, an iterator of events."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from prdit_core.errors import NumericalError
from prdit_core.training.batches import draw_batch
from prdit_core.training.ema import Ema
from prdit_core.training.objective import Losses, add_noise, losses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    from lightning_fabric import Fabric
    from numpy.typing import NDArray
    from torch import Tensor

    from prdit_core.models.prdit import PRDiT
    from prdit_core.schedule import Schedule
    from prdit_core.training.batches import Batch


@dataclass(frozen=True)
class TrainStep:
    """One iteration: counted from 1 to `total`, with its mean losses and gradient norm."""

    index: int
    total: int
    losses: dict[str, float]
    grad_norm: float
    lr: float
    seconds: float


class Trainer:
    """A network, its optimiser and its average on a device, advanced one iteration at a time."""

    def __init__(
        self,
        model: PRDiT,
        schedule: Schedule,
        fabric: Fabric,
        *,
        lr: float,
        clip: float,
        decay: float,
    ) -> None:
        self.fabric = fabric
        self.schedule = schedule
        self.clip = clip
        self.network = model
        self.ema = Ema(fabric.to_device(model), decay)
        trained = [weight for weight in model.parameters() if weight.requires_grad]
        optimiser = torch.optim.AdamW(trained, lr=lr, betas=(0.9, 0.999), weight_decay=0.0)
        self.model, self.optimiser = fabric.setup(model, optimiser)
        self.model.train()

    def advance(self, batch: Batch, iteration: int) -> tuple[Losses, float]:
        """One optimiser step on a batch; `iteration` counts from 0.

        Raises
        ------
        NumericalError
            If loss or gradient is not finite; weights and average are left as they were.
        """
        x0 = self.fabric.to_device(batch.x0)
        eps = self.fabric.to_device(batch.unit_noise) * self.schedule.noise_std
        t = self.fabric.to_device(batch.t)
        asked = torch.tensor([self.schedule.network_time(float(v)) for v in batch.t])
        output = self.model(add_noise(self.schedule, x0, eps, t), self.fabric.to_device(asked))
        found = losses(output, x0, eps, t, self.schedule, self.network.config.output)
        loss = found.total.mean()
        self.fabric.backward(loss)
        norm = self._clipped_norm()
        if not (torch.isfinite(loss) and torch.isfinite(norm)):
            self.optimiser.zero_grad()
            raise NumericalError(
                f"iteration {iteration + 1}: the loss or its gradient is not finite "
                f"(training cases {', '.join(str(case) for case in batch.cases)}); "
                "nothing was updated; try a lower --lr or --precision 32-true"
            )
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.ema.update(self.network, iteration)
        return found, float(norm)

    def state(self) -> dict[str, Tensor]:
        """Moments of the optimiser by weight name."""
        named = self._trained()
        state = self.optimiser.state_dict()["state"]
        return {
            f"{name}.{moment}": value.detach().cpu().reshape(value.shape)
            for number, (name, _) in enumerate(named)
            for moment, value in state.get(number, {}).items()
        }

    def restore(
        self, raw: dict[str, Tensor], ema: dict[str, Tensor], state: dict[str, Tensor]
    ) -> None:
        """Take up weights, average and moments that a checkpoint kept."""
        self.network.load_state_dict(raw, strict=True)
        for name, weight in ema.items():
            self.ema.weights[name].copy_(weight)
        moments: dict[int, dict[str, Any]] = {}
        for number, (name, _) in enumerate(self._trained()):
            moments[number] = {
                key.removeprefix(f"{name}."): value
                for key, value in state.items()
                if key.rpartition(".")[0] == name
            }
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": moments, "param_groups": groups})

    def _trained(self) -> list[tuple[str, Tensor]]:
        return [(n, w) for n, w in self.network.named_parameters() if w.requires_grad]

    def _clipped_norm(self) -> Tensor:
        norm = self.fabric.clip_gradients(
            self.model, self.optimiser, max_norm=self.clip, error_if_nonfinite=False
        )
        assert norm is not None  # Fabric returns the norm whenever max_norm is given
        return norm


def run_loop(
    trainer: Trainer,
    read: Callable[[int], NDArray[np.float32]],
    count: int,
    *,
    seed: int,
    batch_size: int,
    start: int,
    total: int,
) -> Iterator[TrainStep]:
    """Iterations `start` to `total` - 1; each is yielded once its weights are updated."""
    lr = float(trainer.optimiser.param_groups[0]["lr"])
    for iteration in range(start, total):
        begun = time.monotonic()
        batch = draw_batch(read, count, seed=seed, iteration=iteration, size=batch_size)
        found, norm = trainer.advance(batch, iteration)
        means = {
            "x0": float(found.x0.detach().mean()),
            "eps": float(found.eps.detach().mean()),
            "total": float(found.total.detach().mean()),
        }
        yield TrainStep(iteration + 1, total, means, norm, lr, time.monotonic() - begun)

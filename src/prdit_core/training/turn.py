"""A player's part of an iteration: its gradient, its step, and what is saved of it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from prdit_core.training.engine import split_like, whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from lightning_fabric import Fabric
    from torch import Tensor

    from prdit_core.training.batches import Batch
    from prdit_core.training.contracts import Losses, Player

Terms = dict[str, torch.Tensor]  # losses by kind, each (B,)


class _Unrounded(nn.Module):
    """An objective that gets its batch as it is.

    Engines round all floats that they see on the way into a forward to bf16, times among them.
    """

    def __init__(self, objective: nn.Module) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, batch: Callable[[], Batch]) -> Losses:
        """Losses of what `batch` gives."""
        losses: Losses = self.objective(batch())
        return losses


class Turn:
    """A player on a device: its optimiser, and its share of an iteration."""

    def __init__(self, player: Player, fabric: Fabric, peak: float) -> None:
        self.player = player
        self.fabric = fabric
        self.objective = fabric.setup_module(_Unrounded(player.objective))
        trained = [weight for weight in self.objective.parameters() if weight.requires_grad]
        self.optimiser: Any = fabric.setup_optimizers(player.optimiser(trained, peak))
        self.objective.train()
        self._trained = [(n, w) for n, w in player.network.named_parameters() if w.requires_grad]

    @contextmanager
    def alone(self, turns: list[Turn]) -> Iterator[None]:
        """Only this player's weights take gradients."""
        others = [weight for turn in turns if turn is not self for _, weight in turn._trained]
        for weight in others:
            weight.requires_grad_(False)
        try:
            yield
        finally:
            for weight in others:
                weight.requires_grad_(True)

    def backward(self, part: Batch, share: float, *, last: bool) -> Terms:
        """Add a part's gradient; processes exchange theirs after the last part only."""
        with self.fabric.no_backward_sync(self.objective, enabled=not last):
            losses = self.objective(lambda: part)
            self.fabric.backward(losses.objective.mean() * share)
        return {kind: losses.terms[kind].detach() for kind in self.player.kinds}

    def clipped_norm(self, clip: float) -> Tensor:
        """Norm of the gradient before it is clipped."""
        norm = self.fabric.clip_gradients(
            self.objective, self.optimiser, max_norm=clip, error_if_nonfinite=False
        )
        assert norm is not None  # Fabric returns the norm whenever max_norm is given
        return whole(norm)

    def step(self, lr: float) -> None:
        """Move the weights."""
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        self.optimiser.step()
        self.optimiser.zero_grad()

    def weights(self) -> dict[str, Tensor]:
        """All that the player's network is, by the names under which it is saved."""
        return {self._saved(name): w for name, w in self.player.network.state_dict().items()}

    def moments(self) -> dict[str, Tensor]:
        """Moments of the optimiser by weight name."""
        state = self.optimiser.state_dict()["state"]
        return {
            f"{self._saved(name)}.{moment}": whole(value.detach()).cpu()
            for number, (name, _) in enumerate(self._trained)
            for moment, value in state.get(number, {}).items()
        }

    def restore(self, raw: Mapping[str, Tensor], moments: Mapping[str, Tensor]) -> None:
        """Take up weights and moments that a checkpoint kept."""
        take_up(self.weights(), raw)
        state: dict[int, dict[str, Any]] = {}
        for number, (name, weight) in enumerate(self._trained):
            kinds = [key for key in moments if key.rpartition(".")[0] == self._saved(name)]
            state[number] = {
                key.rpartition(".")[2]: split_like(moments[key], weight)
                if moments[key].shape == weight.shape
                else moments[key]
                for key in kinds
            }
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": state, "param_groups": groups})

    def _saved(self, name: str) -> str:
        return f"{self.player.name}.{name}" if self.player.name else name


def take_up(weights: Mapping[str, Tensor], kept: Mapping[str, Tensor]) -> None:
    """Copy what was kept into weights, which "fsdp" may have split."""
    for name, weight in weights.items():
        weight.copy_(split_like(kept[name], weight))

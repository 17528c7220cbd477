"""Averaged weights: what samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Pace:
    """When an average moves.

    Attributes
    ----------
    every : steps from one move to the next
    begins : step from which it averages; until then it is a copy
    """

    every: int = 1
    begins: int = 0


EVERY_STEP = Pace()


class Ema:
    """Exponential moving average of all weights, with a warm-up; buffers are taken as they are.

    Without it, after 5,000 iterations at 0.9999 more than half of the average is still the start.

    Parameters
    ----------
    pace : how often it moves, and from when on it averages
    """

    def __init__(self, model: nn.Module, decay: float, pace: Pace = EVERY_STEP) -> None:
        self.decay = decay
        self.pace = pace
        self.weights: dict[str, Tensor] = {
            name: weight.detach().clone() for name, weight in model.state_dict().items()
        }

    @torch.no_grad()
    def update(self, model: nn.Module, iteration: int) -> None:
        """Move towards the model after `iteration` (counted from 0)."""
        steps = iteration + 1
        if steps % self.pace.every:
            return
        kept = min(self.decay, (1 + iteration) / (10 + iteration))
        share = 1 - kept if steps >= self.pace.begins else 1.0
        trained = [(n, w.detach()) for n, w in model.named_parameters() if w.requires_grad]
        averages = [self.weights[name] for name, _ in trained]
        torch._foreach_lerp_(averages, [weight for _, weight in trained], share)
        for name, buffer in model.named_buffers():
            if name in self.weights:  # not those that are no part of the state
                self.weights[name].copy_(buffer)

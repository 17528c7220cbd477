"""Small chains: a tiny base with refiners above it, at random."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import torch
from toys import TINY

from prdit_core.models.prdit.network import PRDiT
from prdit_core.prdit_config import ModelConfig, RefinerConfig

if TYPE_CHECKING:
    from torch import Tensor

# Two ways to cut, so that the stages of a chain are not alike.
CUTS = (
    RefinerConfig(patch=4, stride=2, padding=1, width=12),
    RefinerConfig(patch=6, stride=4, padding=1, width=18),
)
# Ours: what lies below is shown averages; the upper stage also sees what is predicted below it,
# and its heads agree with the state.
OURS = (
    CUTS[0].model_copy(update={"shows": "averages"}),
    CUTS[1].model_copy(update={"shows": "averages", "sees": "below", "heads": "agree"}),
)


def chain(refiners: int) -> ModelConfig:
    """A tiny base with this many refiners, cut in turn in both ways."""
    return TINY.refined_by(*itertools.islice(itertools.cycle(CUTS), refiners))


def network(config: ModelConfig, seed: int = 0) -> PRDiT:
    """Random weights, none of them zero, ready to predict."""
    stream = torch.Generator().manual_seed(seed)
    model = PRDiT(config).eval().requires_grad_(False)
    for weight in model.parameters():
        weight.copy_(0.1 * torch.randn(weight.shape, generator=stream))
    return model


def states(*shape: int, batch: int = 2, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Noisy volumes and their times."""
    stream = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, 1, *shape, generator=stream)
    return x, torch.linspace(300, 900, batch)

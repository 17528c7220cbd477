"""First weights of convolutional networks: a function of a key, never of torch's hidden state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from prdit_core.noise import Draw, generator

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def draw_weights(model: nn.Module, draw: Draw, seed: int, index: int = 0, *place: int) -> None:
    """Fill convolutions and linear maps: normal weights (He et al., 2015) and zero biases.

    Norms keep their ones and zeros.
    """
    for number, (name, weight) in enumerate(model.named_parameters()):
        _fill(name, weight, generator(draw, seed, index, *place, number))


def _fill(name: str, weight: Tensor, stream: torch.Generator) -> None:
    if weight.ndim > 1:
        nn.init.kaiming_normal_(weight, generator=stream)
    elif name.endswith("bias"):
        nn.init.zeros_(weight)

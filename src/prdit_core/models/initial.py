"""First weights of convolutional networks: a function of a key, never of torch's hidden state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from prdit_core.noise import generator

if TYPE_CHECKING:
    from torch import Tensor


def draw_weights(model: nn.Module, *key: int) -> None:
    """Fill convolutions and linear maps: normal weights (He et al., 2015) and zero biases.

    Norms keep their ones and zeros.
    """
    for number, (name, weight) in enumerate(model.named_parameters()):
        _draw(name, weight, (*key, number))


def _draw(name: str, weight: Tensor, key: tuple[int, ...]) -> None:
    if weight.ndim > 1:
        nn.init.kaiming_normal_(weight, generator=generator(*key))
    elif name.endswith("bias"):
        nn.init.zeros_(weight)

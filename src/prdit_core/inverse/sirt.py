"""SIRT: simultaneous algebraic reconstruction.

x <- max(lower, x + C A* R (y - A x)) with the inverse row sums R and column sums C of A
(P. Gilbert, J. Theor. Biol. 36, 105 (1972)).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from prdit_core.inverse.cg import Iterate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from prdit_core.inverse.operators.contract import LinearOperator


@torch.no_grad()
def sirt_steps(
    operator: LinearOperator,
    y: Tensor,
    x0: Tensor,
    *,
    iterations: int,
    lower: float = 0.0,
) -> Iterator[Iterate]:
    """Iterate by iterate; fewer of them are smoother.

    Parameters
    ----------
    operator : one without negative entries, as all projectors are
    y, x0 : (B, C, *range_shape) measurement and (B, C, D, H, W) start
    lower : bound of x; 0 for attenuation
    """
    x = x0
    rows = _inverse(operator(torch.ones_like(x0[:1, :1])))
    columns = _inverse(operator.adjoint(torch.ones_like(y[:1, :1])))
    left = y - operator(x)
    for index in range(iterations):
        x = (x + columns * operator.adjoint(rows * left)).clamp(min=lower)
        left = y - operator(x)
        yield Iterate(index, iterations, x, left.double().flatten(1).norm(dim=1))


def _inverse(sums: Tensor) -> Tensor:
    """1 / sums; 0 where nothing is summed."""
    return torch.where(sums > 0, 1 / sums, 0)

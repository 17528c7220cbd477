"""Conjugate gradients on the normal equations, warm-started, with a penalty where one is wanted.

Minimises (|W^(1/2) (A x - y)|^2 + weight |L x - target|^2) / 2 from x0; with L = 1 and target = x0
that is (A*WA + weight) x = A*Wy + weight x0. The residual of the data is carried along, so that it
can be compared with the noise (M. R. Hestenes and E. Stiefel, J. Res. Natl. Bur. Stand. 49, 409
(1952)).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from prdit_core.errors import NumericalError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from prdit_core.inverse.operators.contract import LinearOperator

    Map = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Iterate:
    """What one iteration of a solver came to.

    Attributes
    ----------
    index, total : number of the iteration from 0, and how many there will be at most
    x : (B, C, D, H, W)
    residual : (B,) float64, |W^(1/2) (A x - y)| of every volume
    """

    index: int
    total: int
    x: Tensor
    residual: Tensor


def weighted_norm(y: Tensor, weights: Tensor | None) -> Tensor:
    """|W^(1/2) y| of every measurement, float64, (B,)."""
    return dot(y, y if weights is None else weights * y).sqrt()


def _same(x: Tensor) -> Tensor:
    return x


@dataclass(frozen=True)
class Penalty:
    """`weight` / 2 |L x - target|^2; by itself it keeps x close to a target.

    Attributes
    ----------
    forward, adjoint : L and its transpose
    """

    weight: float
    target: Tensor
    forward: Map = _same
    adjoint: Map = _same


def cg(
    operator: LinearOperator,
    y: Tensor,
    x0: Tensor,
    *,
    iterations: int,
    weights: Tensor | None = None,
    penalty: Penalty | None = None,
    sigma: float | None = None,
) -> Tensor:
    """The last iterate of `cg_steps`; `x0` itself where it needs no step."""
    x = x0
    for step in cg_steps(
        operator, y, x0, iterations=iterations, weights=weights, penalty=penalty, sigma=sigma
    ):
        x = step.x
    return x


@torch.no_grad()
def cg_steps(
    operator: LinearOperator,
    y: Tensor,
    x0: Tensor,
    *,
    iterations: int,
    weights: Tensor | None = None,
    penalty: Penalty | None = None,
    sigma: float | None = None,
    tolerance: float = 1e-6,
) -> Iterator[Iterate]:
    """Iterate by iterate, until all volumes of the batch are done; each goes its own way.

    Parameters
    ----------
    y : (B, C, *range_shape)
    x0 : (B, C, D, H, W) to start from
    weights : W, spreads over `y`, not negative; None: 1
    sigma : standard deviation of the noise of W^(1/2) y; stops where the residual is no larger than
        it explains (discrepancy principle). None: goes on
    tolerance : stops where the gradient has fallen to this part of that at `x0`; at once where it
        is 0

    Raises
    ------
    NumericalError
        If the measurement, the start or an iterate is not finite.
    """
    x = x0
    left = y - operator(x0)
    gradient = _gradient(operator, left, x, weights, penalty)
    along, squared = gradient, dot(gradient, gradient)
    first = squared
    goal = -1.0 if sigma is None else sigma * _measured(y, weights).sqrt()
    _check_finite(squared)
    for index in range(iterations):
        running = (squared > tolerance**2 * first) & (weighted_norm(left, weights) > goal)
        if not bool(running.any()):
            return
        ahead = operator(along)
        curvature = weighted_norm(ahead, weights).square()
        if penalty is not None:
            pull = penalty.forward(along)
            curvature = curvature + penalty.weight * dot(pull, pull)
        # Where nothing more can be gained along this direction, no step is taken.
        running = running & (curvature > 0)
        step = torch.where(running, squared / curvature.where(running, 1), 0)
        x = x + each(step, along)
        left = left - each(step, ahead)
        gradient = _gradient(operator, left, x, weights, penalty)
        before, squared = squared, torch.where(running, dot(gradient, gradient), 0)
        along = gradient + each(squared / before.where(running, 1), along)
        _check_finite(squared)
        yield Iterate(index, iterations, x, weighted_norm(left, weights))


def _gradient(
    operator: LinearOperator,
    left: Tensor,
    x: Tensor,
    weights: Tensor | None,
    penalty: Penalty | None,
) -> Tensor:
    """Steepest descent at x: A* W (y - A x) and the pull of the penalty."""
    downhill = operator.adjoint(left if weights is None else weights * left)
    if penalty is None:
        return downhill
    off = penalty.target - penalty.forward(x)
    return downhill + penalty.weight * penalty.adjoint(off)


def _check_finite(squared: Tensor) -> None:
    """Comparisons with NaN are false: unnoticed, it would look like convergence."""
    if not bool(squared.isfinite().all()):
        raise NumericalError(
            "conjugate gradients met NaN or infinity; look for it in the measurement, its weights "
            "and the start"
        )


def each(factor: Tensor, x: Tensor) -> Tensor:
    """Every volume, or measurement, of a batch times its own factor, (B,)."""
    return factor.to(x).view((-1,) + (1,) * (x.dim() - 1)) * x


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Dot product of every volume, float64, (B,)."""
    return (a.double() * b).flatten(1).sum(1)


def _measured(y: Tensor, weights: Tensor | None) -> Tensor:
    """How many numbers of every measurement count, float64, (B,)."""
    counting = torch.ones_like(y) if weights is None else (weights > 0).expand_as(y)
    return counting.flatten(1).sum(1, dtype=torch.float64)

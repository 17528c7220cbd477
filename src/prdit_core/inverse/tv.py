"""Total variation: edges may be sharp, the rest is smooth.

Minimises |A x - y|^2 / (2 |A|^2) + strength TV(x) with x >= lower, and near a volume where one is
given, by ADMM (S. Boyd et al., Found.
Trends Mach. Learn. 3, 1 (2011), 3.1 and 3.4.1); TV is isotropic, of differences between neighbours
along all three axes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from prdit_core.errors import UsageError
from prdit_core.inverse.cg import Iterate, Penalty, cg, weighted_norm

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from prdit_core.inverse.operators.contract import LinearOperator

AXES = (2, 3, 4)
ITERATIONS = 50
# Steps of CG for the quadratic part of an iteration. With 4 a limited angle was 1 dB worse.
INNER = 8
THRESHOLD = 0.05


@torch.no_grad()
def tv_steps(
    operator: LinearOperator,
    y: Tensor,
    x0: Tensor,
    *,
    strength: float,
    weights: Tensor | None = None,
    near: Penalty | None = None,
    lower: float = 0.0,
    iterations: int = ITERATIONS,
) -> Iterator[Iterate]:
    """Iterate by iterate.

    Parameters
    ----------
    y, x0 : (B, C, *range_shape) measurement and (B, C, D, H, W) start
    strength : of TV, in the unit of x; see `tuning.tuning_steps`
    weights : of the measurement, not negative, spread over `y`; they count relative to their mean.
        None: 1
    near : adds weight / 2 |x - target|^2
    lower : bound of x; 0 for attenuation

    Raises
    ------
    UsageError
        If the strength is not above 0.
    """
    if not strength > 0:
        raise UsageError(f"total variation needs a strength above 0, not {strength}")
    x = x0
    penalty = strength * operator.norm() ** 2
    if weights is not None:
        penalty *= float(weights.mean())
    # Differences below a share of the contrast are smoothed away at first; then the two residuals
    # are kept in balance.
    rho = penalty / (THRESHOLD * contrast(operator, y) or 1.0)
    split = _parts(x)
    dual = torch.zeros_like(split)
    for index in range(iterations):
        pull = _joined(Penalty(rho, split - dual, _parts, _parts_adjoint), near, operator.norm())
        x = cg(operator, y, x, iterations=INNER, weights=weights, penalty=pull)
        parts = _parts(x)
        before, split = split, _proximal(parts + dual, penalty / rho, lower)
        dual = dual + parts - split
        primal, moved = float((parts - split).norm()), float((split - before).norm())
        if primal > 10 * moved:
            rho, dual = 2 * rho, dual / 2
        elif moved > 10 * primal:
            rho, dual = rho / 2, 2 * dual
        bounded = x.clamp(min=lower)
        yield Iterate(index, iterations, bounded, weighted_norm(y - operator(bounded), weights))


def _joined(pull: Penalty, near: Penalty | None, norm: float) -> Penalty:
    """Both as one: the target of `near` is a fifth part."""
    if near is None:
        return pull
    root = norm * math.sqrt(near.weight / pull.weight)

    def forward(x: Tensor) -> Tensor:
        return torch.cat([pull.forward(x), root * x[:, :, None]], dim=2)

    def adjoint(parts: Tensor) -> Tensor:
        return pull.adjoint(parts[:, :, :4]) + root * parts[:, :, 4]

    target = torch.cat([pull.target, root * near.target[:, :, None]], dim=2)
    return Penalty(pull.weight, target, forward, adjoint)


def contrast(operator: LinearOperator, y: Tensor) -> float:
    """How large the numbers of a volume are that leads to `y`, roughly."""
    return float(operator.adjoint(y).abs().amax()) / operator.norm() ** 2


def _parts(x: Tensor) -> Tensor:
    """Differences to the next voxel along z, y and x, 0 at the end, and x: (B, C, 4, D, H, W)."""
    parts = x.new_zeros(*x.shape[:2], 4, *x.shape[2:])
    for number, axis in enumerate(AXES):
        ahead, here = _ends(x, axis)
        parts[:, :, number].narrow(axis, 0, here.shape[axis]).copy_(ahead - here)
    parts[:, :, 3] = x
    return parts


def _parts_adjoint(parts: Tensor) -> Tensor:
    x = parts[:, :, 3].clone()
    for number, axis in enumerate(AXES):
        ahead, here = _ends(x, axis)
        difference = parts[:, :, number].narrow(axis, 0, here.shape[axis])
        ahead += difference
        here -= difference
    return x


def _ends(x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """All but the first, and all but the last along an axis, as views."""
    inner = x.shape[axis] - 1
    return x.narrow(axis, 1, inner), x.narrow(axis, 0, inner)


def _proximal(parts: Tensor, threshold: float, lower: float) -> Tensor:
    """Shorten differences by `threshold`, lift values to `lower`."""
    slopes, values = parts[:, :, :3], parts[:, :, 3:]
    length = slopes.norm(dim=2, keepdim=True)
    kept = (1 - threshold / length.clamp(min=threshold)) * slopes
    return torch.cat([kept, values.clamp(min=lower)], dim=2)

"""How strong total variation should be: tuned on volumes that are not those to reconstruct."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from prdit_core.inverse.tv import contrast, tv_steps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from prdit_core.inverse.operators.contract import LinearOperator

# Strengths are powers of 2 of the middle one: these first, then closer to the best.
FIRST, CLOSER = range(-12, 13, 4), (2, 1)
MIDDLE = 0.01


def tuned_strength(
    operator: LinearOperator,
    pairs: Sequence[tuple[Tensor, Tensor]],
    weights: Sequence[Tensor] | None = None,
) -> float:
    """The strength of TV with the least squared error over pairs of volume and measurement.

    Tries strengths over seven decades, then closer to the best, and ends at the vertex of the
    parabola through the last three (log strength, log error).

    Parameters
    ----------
    pairs : (B, C, D, H, W) volumes and (B, C, *range_shape) measurements of them
    weights : of the measurements, one each
    """
    known: dict[int, float] = {}
    weighing: Sequence[Tensor | None] = weights or [None] * len(pairs)
    middle = MIDDLE * contrast(operator, pairs[0][1])

    def error(power: int) -> float:
        if power not in known:
            known[power] = sum(
                _squared_error(operator, x, y, w, middle * 2.0**power)
                for (x, y), w in zip(pairs, weighing, strict=True)
            )
        return known[power]

    best = min(FIRST, key=error)
    for step in CLOSER:
        best = min((best - step, best, best + step), key=error)
    below, here, above = (math.log(error(best + side)) for side in (-1, 0, 1))
    bend = below - 2 * here + above
    aside = 0.5 * (below - above) / bend if bend > 0 else 0.0
    return float(middle * 2.0 ** (best + min(max(aside, -1.0), 1.0)))


def _squared_error(
    operator: LinearOperator, x: Tensor, y: Tensor, weights: Tensor | None, strength: float
) -> float:
    found = torch.zeros_like(x)
    for step in tv_steps(operator, y, found, strength=strength, weights=weights):
        found = step.x
    return float((found - x).double().square().sum())

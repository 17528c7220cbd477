"""How strong total variation should be: tuned on volumes that are not those to reconstruct."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from prdit_core.inverse.tv import tv_steps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from prdit_core.inverse.operators.contract import LinearOperator

# Strengths are tried in these steps, and no more often than this in either direction.
FACTOR, TRIES = 2.0, 12


def tuned_strength(
    operator: LinearOperator,
    pairs: Sequence[tuple[Tensor, Tensor]],
    *,
    start: float,
    weights: Sequence[Tensor] | None = None,
) -> float:
    """The strength of TV with the least squared error over pairs of volume and measurement.

    Goes up and down by factors of 2 from `start` until the error rises on both sides, and ends at
    the vertex of the parabola through the three best (log strength, log error).

    Parameters
    ----------
    pairs : (B, C, D, H, W) volumes and (B, C, *range_shape) measurements of them
    weights : of the measurements, one each
    """
    known: dict[int, float] = {}
    weighing: Sequence[Tensor | None] = weights or [None] * len(pairs)

    def error(power: int) -> float:
        if power not in known:
            strength = start * FACTOR**power
            known[power] = sum(
                _squared_error(operator, x, y, w, strength)
                for (x, y), w in zip(pairs, weighing, strict=True)
            )
        return known[power]

    best = 0
    while abs(best) < TRIES and min(error(best - 1), error(best + 1)) < error(best):
        best += 1 if error(best + 1) < error(best - 1) else -1
    below, here, above = (math.log(error(best + side)) for side in (-1, 0, 1))
    bend = below - 2 * here + above
    return float(start * FACTOR ** (best + (0.5 * (below - above) / bend if bend > 0 else 0.0)))


def _squared_error(
    operator: LinearOperator, x: Tensor, y: Tensor, weights: Tensor | None, strength: float
) -> float:
    found = torch.zeros_like(x)
    for step in tv_steps(operator, y, found, strength=strength, weights=weights):
        found = step.x
    return float((found - x).double().square().sum())

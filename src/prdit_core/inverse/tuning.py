"""How strong total variation should be: tuned on volumes that are not those to reconstruct."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from prdit_core.inverse.tv import contrast, tv_steps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from prdit_core.inverse.operators.contract import LinearOperator
    from prdit_core.inverse.operators.projector import Projector

# Strengths are powers of 2 of the middle one: these first, then closer to the best.
FIRST, CLOSER = range(-12, 13, 4), (2, 1)
MIDDLE = 0.01
# Strength by the contrast of a measurement for a number of views, tuned by `tuned_strength` on one
# phantom (seed 5, index 27, 64 pixels a row, parallel beam, 1e5 photons).
USUAL_WIDTH = 64
USUAL = {8: 1.9e-3, 20: 3.3e-4, 60: 2.6e-4}


def usual_strength(projector: Projector, y: Tensor) -> float:
    """What was best for a phantom at as many views, between those tried by interpolation of logs.

    A start where there is nothing to tune on; `tuned_strength` fits noise and object better.
    """
    views, shares = np.log(list(USUAL)), np.log(list(USUAL.values()))
    share = np.exp(np.interp(np.log(projector.geometry.views), views, shares))
    return float(share) * contrast(projector, y)


def tuned_strength(
    operator: LinearOperator,
    pairs: Sequence[tuple[Tensor, Tensor]],
    weights: Sequence[Tensor] | None = None,
    lower: float = 0.0,
) -> float:
    """The strength of TV with the least squared error over pairs of volume and measurement.

    Tries strengths over seven decades, then closer to the best, and ends at the vertex of the
    parabola through the last three (log strength, log error).

    Parameters
    ----------
    pairs : (B, C, D, H, W) volumes and (B, C, *range_shape) measurements of them
    weights : of the measurements, one each
    lower : bound of x, as of `tv_steps`
    """
    known: dict[int, float] = {}
    weighing: Sequence[Tensor | None] = weights or [None] * len(pairs)
    middle = MIDDLE * contrast(operator, pairs[0][1])

    def error(power: int) -> float:
        if power not in known:
            known[power] = sum(
                _squared_error(operator, x, y, w, middle * 2.0**power, lower)
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
    operator: LinearOperator,
    x: Tensor,
    y: Tensor,
    weights: Tensor | None,
    strength: float,
    lower: float,
) -> float:
    found = torch.zeros_like(x)
    for step in tv_steps(operator, y, found, strength=strength, weights=weights, lower=lower):
        found = step.x
    return float((found - x).double().square().sum())

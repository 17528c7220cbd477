"""How strong total variation should be: tuned on volumes that are not those to reconstruct."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from prdit_core.inverse.tv import contrast, tv_steps

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from prdit_core.inverse.operators.contract import LinearOperator
    from prdit_core.inverse.operators.projector import Projector

# Shares are powers of 2 of the middle one: these first, then closer to the best.
FIRST, CLOSER = range(-12, 13, 4), (2, 1)
MIDDLE = 0.01
# As many as the search takes at most.
TRIALS = len(FIRST) + 2 * len(CLOSER) + 2
# The share of a measurement's contrast by degrees of the arc and number of views: the best of
# those tried on two phantoms (seed 5, 26 and 27; 64 pixels a row, parallel beam, 1e5 photons).
USUAL_WIDTH = 64
USUAL = {180: {8: 1.25e-3, 20: 3.1e-4, 60: 2.6e-4}, 120: {40: 3.4e-4}}


@dataclass(frozen=True, eq=False)
class Known:
    """A measurement whose truth is known.

    Attributes
    ----------
    x, y : (1, 1, D, H, W) volume and (1, 1, *range_shape) measurement of it
    """

    x: Tensor
    y: Tensor


@dataclass(frozen=True)
class Trial:
    """What one strength came to.

    Attributes
    ----------
    index, total : number of the trial from 0, and how many there will be at most
    share : the strength that was tried, as a share of the contrast of each measurement
    error : root mean square over all voxels
    best : the share to take as far as is known
    """

    index: int
    total: int
    share: float
    error: float
    best: float


def usual_strength(projector: Projector, y: Tensor, arc: int = 180) -> float:
    """What was best for phantoms at as many views, between those tried by interpolation of logs.

    A start where there is nothing to tune on; `tuning_steps` fits noise and object better.
    """
    views, shares = np.log(list(USUAL[arc])), np.log(list(USUAL[arc].values()))
    share = np.exp(np.interp(np.log(projector.geometry.views), views, shares))
    return float(share) * contrast(projector, y)


def tuned_share(operator: LinearOperator, known: Sequence[Known], lower: float = 0.0) -> float:
    """The share to take in the end; see `tuning_steps`."""
    (last,) = deque(tuning_steps(operator, known, lower), maxlen=1)
    return last.best


def tuning_steps(
    operator: LinearOperator, known: Sequence[Known], lower: float = 0.0
) -> Iterator[Trial]:
    """Find the strength of TV with the least squared error over several volumes.

    Strengths are shares of the `contrast` of a measurement, so that they hold for brighter volumes
    and other units. Tries them over seven decades, then closer to the best, and ends at the vertex
    of the parabola through the last three (log share, log error).

    Parameters
    ----------
    known : at least one
    lower : bound of x, as of `tv_steps`
    """
    errors: dict[int, float] = {}
    best = FIRST[len(FIRST) // 2]

    def tried(powers: Sequence[int]) -> Iterator[Trial]:
        nonlocal best
        for power in powers:
            if power not in errors:
                share = _share(power)
                errors[power] = _error(operator, known, share, lower)
                best = min(errors, key=errors.__getitem__)
                yield Trial(len(errors) - 1, TRIALS, share, errors[power], _vertex(errors, best))

    yield from tried(FIRST)
    for step in CLOSER:
        yield from tried((best - step, best + step))
    yield from tried((best - 1, best + 1))


def _share(power: float) -> float:
    return float(MIDDLE * 2.0**power)


def _vertex(errors: dict[int, float], best: int) -> float:
    """Where the parabola through the best and its neighbours is least; the best without them."""
    if best - 1 not in errors or best + 1 not in errors:
        return _share(best)
    below, here, above = (math.log(errors[best + side]) for side in (-1, 0, 1))
    bend = below - 2 * here + above
    aside = 0.5 * (below - above) / bend if bend > 0 else 0.0
    return _share(best + min(max(aside, -1.0), 1.0))


def _error(operator: LinearOperator, known: Sequence[Known], share: float, lower: float) -> float:
    squared, voxels = 0.0, 0
    for one in known:
        steps = tv_steps(
            operator,
            one.y,
            torch.zeros_like(one.x),
            strength=share * contrast(operator, one.y),
            lower=lower,
        )
        (last,) = deque(steps, maxlen=1)
        squared += float((last.x - one.x).double().square().sum())
        voxels += one.x.numel()
    return math.sqrt(squared / voxels)

"""What is done to a walk's volume at last: grain that neither data nor edges need goes away.

The volume becomes the least of |A x - y|^2 / (2 |A|^2) + strength TV(x) + pull / 2 |x - x0|^2 with
x0 what the walk came to. `docs/decisions/0028-last-step.md` has what it gains.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from prdit_core.inverse.cg import Penalty
from prdit_core.inverse.tv import contrast, tv_steps

if TYPE_CHECKING:
    from torch import Tensor

    from prdit_core.inverse.problem import Problem

# Chosen on two phantoms (seed 5, 16 and 17) at 8 views and at 120 degrees, 64^3; the strength is a
# share of the measurement's contrast.
SHARE, PULL, ITERATIONS = 6e-4, 0.01, 10


def smoothed(problem: Problem, x0: Tensor) -> Tensor:
    """The volume between a walk's, the data and few edges; `x0` where no rays were measured.

    Parameters
    ----------
    problem : whose unit `x0` is in
    x0 : (1, 1, D, H, W)
    """
    if not problem.projected:
        return x0
    operator, unit = problem.operator, problem.unit
    measured, target = problem.measured_y(), unit.per_mm(x0)
    steps = tv_steps(
        operator,
        measured,
        target,
        strength=SHARE * contrast(operator, measured),
        weights=problem.counted,
        near=Penalty(PULL, target),
        lower=problem.lower,
        iterations=ITERATIONS,
    )
    (last,) = deque(steps, maxlen=1)
    return unit.unit(last.x)

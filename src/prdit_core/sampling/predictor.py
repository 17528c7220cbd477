"""Predictors: deterministic moves of the state from time t to an earlier time (Eq. 5, Alg. 1).

Each is a function of what the network said at t, what it said one step before, and the schedule.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from prdit_core.models.prior import Prediction
    from prdit_core.schedule import Schedule


@dataclass(frozen=True)
class Estimate:
    """The network's prediction at a time."""

    t: float
    prediction: Prediction


class Predictor(Protocol):
    """Moves `x` from `now.t` to `t_to`; `denoise` is there for those that look twice."""

    def __call__(
        self,
        x: Tensor,
        now: Estimate,
        before: Estimate | None,
        t_to: float,
        schedule: Schedule,
        denoise: Callable[[Tensor, float], Prediction],
    ) -> Tensor:
        """Return the moved state, shaped as `x`."""
        ...


# ---------------------------------------------------------------------------------------------
# Exact change of both shares, x + (alpha' - alpha) x0 + (sigma' - sigma) eps: keeps what the
# state knows beyond the two heads. For a straight-line process this is Euler's method.


def increment(
    x: Tensor,
    now: Estimate,
    before: Estimate | None,
    t_to: float,
    schedule: Schedule,
    denoise: Callable[[Tensor, float], Prediction],
) -> Tensor:
    """First order: x0 and eps are constant over the step."""
    grown_alpha, grown_sigma = schedule.increments(now.t, t_to)
    said = now.prediction
    return x + grown_alpha * said.x0 + grown_sigma * said.eps


# ---------------------------------------------------------------------------------------------
# Second order: x0 and eps go on changing as they did since the step before (multistep).


def increment_second_order(
    x: Tensor,
    now: Estimate,
    before: Estimate | None,
    t_to: float,
    schedule: Schedule,
    denoise: Callable[[Tensor, float], Prediction],
) -> Tensor:
    """Second order with one evaluation per step; the first step is of first order."""
    moved = increment(x, now, before, t_to, schedule, denoise)
    if before is None or before.t == now.t:
        return moved
    along_alpha, along_sigma = schedule.slopes(now.t, t_to)
    since = now.t - before.t
    said, earlier = now.prediction, before.prediction
    change_x0 = (along_alpha / since) * (said.x0 - earlier.x0)
    change_eps = (along_sigma / since) * (said.eps - earlier.eps)
    return moved + change_x0 + change_eps


# ---------------------------------------------------------------------------------------------
# Straight line along the drift, as Alg. 1 prints it: x - (theta' - theta)(sin x0 - cos eps).


def euler(
    x: Tensor,
    now: Estimate,
    before: Estimate | None,
    t_to: float,
    schedule: Schedule,
    denoise: Callable[[Tensor, float], Prediction],
) -> Tensor:
    """Euler step of the paper."""
    along_alpha, along_sigma = schedule.drift(now.t)
    step, said = t_to - now.t, now.prediction
    return x + (step * along_alpha) * said.x0 + (step * along_sigma) * said.eps


# ---------------------------------------------------------------------------------------------
# Heun: an Euler step, a second look at its end, and the mean of both drifts (two evaluations).


def heun(
    x: Tensor,
    now: Estimate,
    before: Estimate | None,
    t_to: float,
    schedule: Schedule,
    denoise: Callable[[Tensor, float], Prediction],
) -> Tensor:
    """Second order, two evaluations per step."""
    guess = euler(x, now, before, t_to, schedule, denoise)
    there = Estimate(t_to, denoise(guess, t_to))
    back = euler(guess, there, None, now.t, schedule, denoise)
    return 0.5 * (x + guess) + 0.5 * (guess - back)


# ---------------------------------------------------------------------------------------------
# Resynthesis (DDIM of this process): x' = alpha' x0 + sigma' eps. Needs heads that agree with
# the state; a trained network's do not quite, and it falls apart with many cold steps.


def resynthesis(
    x: Tensor,
    now: Estimate,
    before: Estimate | None,
    t_to: float,
    schedule: Schedule,
    denoise: Callable[[Tensor, float], Prediction],
) -> Tensor:
    """Forget the state; build the next one from both heads."""
    said = now.prediction
    return schedule.alpha(t_to) * said.x0 + schedule.sigma(t_to) * said.eps

"""Predictors: deterministic moves of the state from time t to an earlier time (Eq. 5, Alg. 1).

Each is a function of where the walk stands and of the time to reach, and returns the moved state.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from prdit_core.sampling.grid import LOG_SNR_ENDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from prdit_core.models.contracts import Prediction
    from prdit_core.schedule import Schedule


@dataclass(frozen=True)
class Estimate:
    """The network's prediction at a time."""

    t: float
    prediction: Prediction


@dataclass(frozen=True)
class Place:
    """Where a walk stands before it moves.

    Attributes
    ----------
    x : (B, C, D, H, W) state at time `now.t`
    now : what the network says there
    before : what it predicted one step earlier, None at the start
    schedule : noising process
    denoise : the network, for predictors that look twice
    """

    x: Tensor
    now: Estimate
    before: Estimate | None
    schedule: Schedule
    denoise: Callable[[Tensor, float], Prediction]


# ---------------------------------------------------------------------------------------------
# Exact change of both shares, x + (alpha' - alpha) x0 + (sigma' - sigma) eps: keeps what the
# state knows beyond the two heads. For a straight-line process this is Euler's method.


def increment(place: Place, t_to: float) -> Tensor:
    """First order: x0 and eps are constant over the step."""
    grown_alpha, grown_sigma = place.schedule.increments(place.now.t, t_to)
    prediction = place.now.prediction
    return place.x + grown_alpha * prediction.x0 + grown_sigma * prediction.eps


# ---------------------------------------------------------------------------------------------
# Second order: x0 and eps go on changing as they did since the step before (multistep).


def increment_second_order(place: Place, t_to: float) -> Tensor:
    """Second order with one evaluation per step; the first step is of first order."""
    moved, now, before = increment(place, t_to), place.now, place.before
    if before is None or before.t == now.t:
        return moved
    along_alpha, along_sigma = place.schedule.slopes(now.t, t_to)
    since = now.t - before.t
    prediction, earlier = now.prediction, before.prediction
    change_x0 = (along_alpha / since) * (prediction.x0 - earlier.x0)
    change_eps = (along_sigma / since) * (prediction.eps - earlier.eps)
    return moved + change_x0 + change_eps


# ---------------------------------------------------------------------------------------------
# DPM-Solver++(2M): x' = (sigma' / sigma) x + (alpha' - sigma' alpha / sigma) D, where D goes on
# from x0 half as far as x0 changed, by log-SNR. It uses the image head alone.


def dpm_second_order(place: Place, t_to: float) -> Tensor:
    """Second order with one evaluation per step; the first step is of first order."""
    now, before, schedule = place.now, place.before, place.schedule
    x0 = now.prediction.x0
    before_snr = _log_snr(now.t if before is None else before.t, schedule)
    since = _log_snr(now.t, schedule) - before_snr
    if before is not None and since:
        ratio = (_log_snr(t_to, schedule) - _log_snr(now.t, schedule)) / since
        x0 = x0 + (0.5 * ratio) * (x0 - before.prediction.x0)
    kept = schedule.sigma(t_to) / schedule.sigma(now.t)
    return kept * place.x + (schedule.alpha(t_to) - kept * schedule.alpha(now.t)) * x0


def _log_snr(t: float, schedule: Schedule) -> float:
    """log(alpha / sigma), with t where both are above 0."""
    last, first = LOG_SNR_ENDS
    inside = min(max(t, first), last)
    return schedule.log_snr(inside)


# ---------------------------------------------------------------------------------------------
# Straight line along the drift, as Alg. 1 prints it: x - (theta' - theta)(sin x0 - cos eps).


def euler(place: Place, t_to: float) -> Tensor:
    """Euler step of the paper."""
    along_alpha, along_sigma = place.schedule.drift(place.now.t)
    step, prediction = t_to - place.now.t, place.now.prediction
    return place.x + (step * along_alpha) * prediction.x0 + (step * along_sigma) * prediction.eps


# ---------------------------------------------------------------------------------------------
# Heun: an Euler step, a second look at its end, and the mean of both drifts (two evaluations).


def heun(place: Place, t_to: float) -> Tensor:
    """Second order, two evaluations per step."""
    guess = euler(place, t_to)
    there = Estimate(t_to, place.denoise(guess, t_to))
    back = euler(replace(place, x=guess, now=there), place.now.t)
    return 0.5 * (place.x + guess) + 0.5 * (guess - back)


# ---------------------------------------------------------------------------------------------
# Resynthesis (DDIM of this process): x' = alpha' x0 + sigma' eps. Needs heads that agree with
# the state; a trained network's do not quite, and it falls apart with many cold steps.


def resynthesis(place: Place, t_to: float) -> Tensor:
    """Forget the state; build the next one from both heads."""
    prediction = place.now.prediction
    return place.schedule.alpha(t_to) * prediction.x0 + place.schedule.sigma(t_to) * prediction.eps

"""The hot corrector: back to a noisier time by an exact Gaussian transition (Eq. 6, Alg. 1)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from prdit_core.schedule import Schedule


def correct(x: Tensor, t: float, t_to: float, noise: Tensor, schedule: Schedule) -> Tensor:
    """Noise the state from `t` up to `t_to` >= t.

    x' = gamma x + sqrt(sigma'^2 - gamma^2 sigma^2) noise_std z with gamma = alpha' / alpha, which
    for the quarter circle is Gamma_t^(k) of Eq. 6 and sqrt(1 - gamma^2).

    Parameters
    ----------
    noise : unit normal z, shaped as `x`
    """
    gamma = schedule.alpha(t_to) / schedule.alpha(t)
    added = schedule.sigma(t_to) ** 2 - (gamma * schedule.sigma(t)) ** 2
    return gamma * x + (math.sqrt(max(added, 0.0)) * schedule.noise_std) * noise


def ancestral_noise(t: float, t_to: float, schedule: Schedule) -> float:
    """Fresh noise of the conventional hot sampler, eta = 1, in units of noise_std.

    On the quarter circle it is sigma_t of Eq. 7, sqrt((1 - a') / (1 - a)) sqrt(1 - a / a') with
    a = alpha^2; the form here holds for any process.
    """
    sigma, sigma_to = schedule.sigma(t), schedule.sigma(t_to)
    if sigma == 0:
        return 0.0
    kept = (schedule.alpha(t) / schedule.alpha(t_to) * sigma_to) ** 2
    return (sigma_to / sigma) * math.sqrt(max(sigma**2 - kept, 0.0))


def even_noise(t: float, t_to: float, schedule: Schedule) -> float:
    """Fresh noise of the patch prior's paper, eta = 1: all of the noise at `t_to` (Alg. 1)."""
    del t
    return schedule.sigma(t_to)

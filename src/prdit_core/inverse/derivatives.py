"""Conditional means by the derivative of the network, which knows how its errors hang together.

For a perfect denoiser Cov[x0 | x_t] = sigma^2 noise_std^2 / alpha  d x0 / d x_t (Tweedie's formula,
second order): voxels that the prior knows to go together move together. A trained network's
derivative is only about that, so nothing here is exact for one.

Each is (x0, x_t, t) -> x0', the mean given the data too; `consistency.Posterior` makes it an edit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from prdit_core.inverse.cg import dot, each
from prdit_core.models.contracts import Prediction
from prdit_core.sampling.sampler import LAST_DIVISIBLE

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from prdit_core.inverse.consistency import Proximal
    from prdit_core.inverse.operators.contract import LinearOperator
    from prdit_core.models.prior import Prior
    from prdit_core.schedule import Schedule

    # (x_t, t) -> clean volume, decoded, with derivatives by x_t
    Clean = Callable[[Tensor, float], Tensor]


def clean_volumes(prior: Prior) -> Clean:
    """What a prior predicts as clean volumes in its units, with derivatives by the state."""
    denoise = prior.differentiable()
    return lambda x_t, t: prior.codec.decode(denoise(x_t, t).x0)


class Linearised:
    """A state as a network sees it: one evaluation, and one pass back for every product.

    Attributes
    ----------
    x0 : clean volume, without derivatives
    """

    @torch.enable_grad()
    def __init__(self, clean: Clean, x_t: Tensor, t: float, schedule: Schedule) -> None:
        # At T there is no signal, and its share 0 would be divided by.
        t = min(t, LAST_DIVISIBLE)
        self._state = x_t.detach().requires_grad_()
        self._x0 = clean(self._state, t)
        self._share = (schedule.sigma(t) * schedule.noise_std) ** 2 / schedule.alpha(t)
        self.x0 = self._x0.detach()

    def covariance(self, v: Tensor) -> Tensor:
        """Cov[x0 | x_t] v for v shaped as `x0`; of a codec, that of its states with `x0`."""
        (back,) = torch.autograd.grad(self._x0, self._state, v, retain_graph=True)
        return self._share * back


@dataclass(frozen=True, eq=False)
class PseudoinverseGuidance:
    """PiGDM: towards the data as if errors were equal and independent, then back by the network.

    x0' = x0 + Cov[x0 | x_t] A* (r^2 A A* + sigma^2)^-1 (y - A x0): of the two covariances of the
    exact mean the outer one is the network's, the inner one r^2. Exact where the prior's voxels are
    independent and equal. Elsewhere the outer one may be hundreds of times the inner one in the
    direction of the data, at early t: so x0 goes no further along it than where it fits the data
    best, which changes nothing where it is exact. J. Song et al., ICLR 2023.

    Attributes
    ----------
    proximal : operator, data, sigma and r
    decode : from the state's x0 to the volume that is measured
    """

    proximal: Proximal
    clean: Clean
    decode: Callable[[Tensor], Tensor]
    schedule: Schedule

    def __call__(self, x0: Tensor, x_t: Tensor, t: float) -> Tensor:
        """The mean given the data too."""
        near, seen = self.proximal, Linearised(self.clean, x_t, t, self.schedule)
        moved = near(Prediction(seen.x0, seen.x0), x_t, t).x0
        along = seen.covariance((moved - seen.x0) / near.error(t) ** 2)
        weights = 1.0 if near.weights is None else near.weights
        left = near.y - near.operator(seen.x0)
        ahead = near.operator(self.decode(x0 + along) - self.decode(x0))
        best = _ratio(dot(weights * ahead, left), dot(weights * ahead, ahead))
        return x0 + each(best.clamp(0.0, 1.0), along)


@dataclass(frozen=True, eq=False)
class MomentMatching:
    """The mean of a normal distribution with the network's own covariance.

    x0' = x0 + R A* (A R A* + sigma^2)^-1 (y - A x0) with R = Cov[x0 | x_t], by conjugate residuals
    among the data: a network's derivative need not be symmetric or positive, which conjugate
    gradients do not survive. With enough of them exact for a normal prior and its perfect denoiser;
    each costs a pass back through the network. F. Rozet et al., NeurIPS 2024.

    Attributes
    ----------
    y : (1, C, *range_shape)
    sigma : standard deviation of the noise of W^(1/2) y, above 0
    iterations : of conjugate residuals
    weights : W of the misfit, spreads over `y`
    """

    operator: LinearOperator
    y: Tensor
    sigma: float
    clean: Clean
    schedule: Schedule
    iterations: int = 3
    weights: Tensor | None = None

    def __call__(self, x0: Tensor, x_t: Tensor, t: float) -> Tensor:
        """The mean given the data too."""
        seen = Linearised(self.clean, x_t, t, self.schedule)
        root = 1.0 if self.weights is None else self.weights.sqrt()
        left = root * (self.y - self.operator(seen.x0))
        done: list[tuple[Tensor, Tensor]] = []
        for _ in range(self.iterations):
            step = seen.covariance(self.operator.adjoint(root * left))
            ahead = root * self.operator(step) + self.sigma**2 * left
            for earlier_ahead, earlier in done:
                share = _ratio(dot(ahead, earlier_ahead), dot(earlier_ahead, earlier_ahead))
                ahead, step = ahead - each(share, earlier_ahead), step - each(share, earlier)
            done.append((ahead, step))
            length = _ratio(dot(left, ahead), dot(ahead, ahead))
            x0, left = x0 + each(length, step), left - each(length, ahead)
        return x0


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    """a / b of every volume; 0 where b is."""
    return torch.where(b > 0, a / b.where(b > 0, 1), 0)

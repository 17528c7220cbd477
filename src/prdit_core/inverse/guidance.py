"""Guidance by the gradient of the misfit, as TF-PRDiT does: the state is pushed, not the volume."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from prdit_core.inverse.cg import weighted_norm
from prdit_core.models.contracts import Prediction
from prdit_core.sampling.predictor import Estimate, Place

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from prdit_core.inverse.operators.contract import LinearOperator
    from prdit_core.sampling.grid import TimeGrid
    from prdit_core.sampling.sampler import Sampler
    from prdit_core.schedule import Schedule


@dataclass(frozen=True, eq=False)
class Guidance:
    """Push every moved state down the gradient of |A x0 - y|, before noise is added again.

    The predicted volume stays. The push is handed to the predictor as a change of the noise, which
    it multiplies with `growth`. The length of the push has nothing to do with the size of a step
    or with what the data are worth, so this samples no posterior; the noise that follows forgives.

    Attributes
    ----------
    y : (1, C, *range_shape)
    strength : t -> length of the push for a gradient of length 1
    growth : t -> what the step from t multiplies the noise with, 0 where nothing is pushed; see
        `hot_growth`
    decode : from the state's x0 to the volume that is measured
    """

    operator: LinearOperator
    y: Tensor
    strength: Callable[[float], float]
    growth: Callable[[float], float]
    decode: Callable[[Tensor], Tensor]

    def __call__(self, prediction: Prediction, x_t: Tensor, t: float) -> Prediction:
        """The noise changed, the volume as it was."""
        growth = self.growth(t)
        if growth == 0:
            return prediction
        push = (self.strength(t) / growth) * self.gradient(prediction.x0)
        return Prediction(prediction.x0, prediction.eps - push)

    @torch.enable_grad()
    def gradient(self, x0: Tensor) -> Tensor:
        """Gradient of |A x0 - y| of every volume: A* e / |e| where there is no codec."""
        x0 = x0.detach().requires_grad_()
        misfit = weighted_norm(self.operator(self.decode(x0)) - self.y, None)
        (gradient,) = torch.autograd.grad(misfit.sum(), x0)
        return gradient


def hot_growth(
    sampler: Sampler, grid: TimeGrid, k: float, schedule: Schedule
) -> Callable[[float], float]:
    """What every hot step of a walk multiplies the noise with; 0 of cold steps.

    For predictors of first order. It is what they make of noise 1 where all else is 0.
    """
    nothing, one = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)

    def denoise(x: Tensor, t: float) -> Prediction:
        return Prediction(nothing, nothing)

    grown = {}
    for _, t, t_next in grid.steps():
        reached = grid.reach(t, t_next, k)
        if reached < t_next:
            now = Estimate(t, Prediction(nothing, one))
            grown[t] = float(sampler.predict(Place(nothing, now, None, schedule, denoise), reached))
    return lambda t: grown.get(t, 0.0)

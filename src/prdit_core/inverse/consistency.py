"""Data consistency: what a prior predicts at each step, brought to fit what was measured.

Each of these is an edit, (Prediction, x_t, t) -> Prediction, for `generate_steps` and any sampler.
`y` and noise are in the prior's units, see `attenuation.Attenuation.measurement`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from prdit_core.inverse.cg import Penalty, cg
from prdit_core.models.contracts import Prediction

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from prdit_core.inverse.operators.contract import LinearOperator
    from prdit_core.models.codec import Codec
    from prdit_core.sampling.sampler import Edit
    from prdit_core.schedule import Schedule


@dataclass(frozen=True, eq=False)
class LeastSquares:
    """A few steps of conjugate gradients from the predicted volume towards the data (Alg. 2).

    Few steps change what the data determine best and leave the rest to the prior; many fit the
    noise. The predicted noise stays. This is what the patch prior's paper and DDS do; it is not
    a sample of the posterior, see `Posterior`.

    Attributes
    ----------
    y : (1, C, *range_shape)
    iterations : M, at most
    weights : W of the misfit, spreads over `y`
    sigma : standard deviation of the noise of W^(1/2) y; stops where no more can be learnt from the
        data. None: goes on to the last iteration
    """

    operator: LinearOperator
    y: Tensor
    iterations: int = 5
    weights: Tensor | None = None
    sigma: float | None = None

    def __call__(self, prediction: Prediction, x_t: Tensor, t: float) -> Prediction:
        """The volume moved, the noise as it was."""
        x0 = cg(
            self.operator,
            self.y,
            prediction.x0,
            iterations=self.iterations,
            weights=self.weights,
            sigma=self.sigma,
        )
        return Prediction(x0, prediction.eps)


@dataclass(frozen=True, eq=False)
class Proximal:
    """The volume between what is predicted and what is measured, each by its own error.

    Minimises |A x - y|^2 / (2 sigma^2) + |x - x0|^2 / (2 r^2) with r the error of the network's x0
    at t: the posterior mean if that error were the same and independent in all voxels.

    Attributes
    ----------
    sigma : standard deviation of the noise of W^(1/2) y, above 0
    error : t -> r, as `calibrate` measures it
    """

    operator: LinearOperator
    y: Tensor
    sigma: float
    error: Callable[[float], float]
    iterations: int = 10
    weights: Tensor | None = None

    def __call__(self, prediction: Prediction, x_t: Tensor, t: float) -> Prediction:
        """The volume moved, the noise as it was."""
        x0 = cg(
            self.operator,
            self.y,
            prediction.x0,
            iterations=self.iterations,
            weights=self.weights,
            penalty=Penalty((self.sigma / self.error(t)) ** 2, prediction.x0),
        )
        return Prediction(x0, prediction.eps)


@dataclass(frozen=True, eq=False)
class Posterior:
    """The conditional mean, where the covariance of x0 given x_t is known: exact.

    x0' = x0 + R A* (A R A* + sigma^2)^-1 (y - A x0) and eps' = (x_t - alpha x0') / sigma_t, so that
    a deterministic walk samples the posterior of a Gaussian prior. A trained network gives no
    covariance, only a derivative that is about one, see `derivatives`; the exact one is the
    standard that the others are judged by.

    Attributes
    ----------
    mean : (x0, x_t, t) -> x0', given the data too
    """

    schedule: Schedule
    mean: Callable[[Tensor, Tensor, float], Tensor]

    def __call__(self, prediction: Prediction, x_t: Tensor, t: float) -> Prediction:
        """The volume moved, and the noise that goes with it."""
        if self.schedule.sigma(t) == 0:  # nothing is left to be learnt
            return prediction
        return _agreeing(self.mean(prediction.x0, x_t, t), x_t, t, self.schedule)


@dataclass(frozen=True, eq=False)
class Agreeing:
    """An edit of predictions whose noise is what their volume leaves of the state.

    As of a network of one head, for which DDS was made: x0 and eps are two words for one thing. The
    two heads of a PRDiT do not quite agree, and walks that forget the state suffer from it.
    """

    schedule: Schedule
    edit: Edit

    def __call__(self, prediction: Prediction, x_t: Tensor, t: float) -> Prediction:
        """As the edit makes it of the volume and the rest."""
        return self.edit(_agreeing(prediction.x0, x_t, t, self.schedule), x_t, t)


@dataclass(frozen=True, eq=False)
class Decoded:
    """An edit of clean volumes for a prior of latents: decoded, edited, and encoded again.

    For edits that leave the noise as it was. What the codec cannot express is lost: the data are
    fitted as well as it allows.
    """

    codec: Codec
    edit: Edit

    def __call__(self, prediction: Prediction, x_t: Tensor, t: float) -> Prediction:
        """The state of the edited volume, and the noise as it was."""
        volume = Prediction(self.codec.decode(prediction.x0), prediction.eps)
        x0 = self.codec.encode(self.edit(volume, x_t, t).x0)
        return Prediction(x0, prediction.eps)


def _agreeing(x0: Tensor, x_t: Tensor, t: float, schedule: Schedule) -> Prediction:
    """A clean volume, and the noise that goes with it; none where there is none in the state."""
    sigma = schedule.sigma(t)
    eps = (x_t - schedule.alpha(t) * x0) / sigma if sigma else torch.zeros_like(x_t)
    return Prediction(x0, eps)

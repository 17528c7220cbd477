"""The sampling loop: denoise, edit, predict, correct, yield (Alg. 1).

It knows neither PRDiT nor measurement operators: a denoiser is any function (x_t, t) -> Prediction.
Only the current state and the last prediction are kept, so memory does not grow with the steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from prdit_core.errors import NumericalError, UsageError
from prdit_core.models.contracts import Prediction
from prdit_core.sampling import predictor
from prdit_core.sampling.corrector import ancestral_noise, correct, even_noise
from prdit_core.sampling.predictor import Estimate, Place
from prdit_core.schedule import T

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from prdit_core.models.contracts import Denoiser
    from prdit_core.sampling.grid import TimeGrid
    from prdit_core.schedule import Schedule

    Edit = Callable[[Prediction, Tensor, float], Prediction]
    Noise = Callable[[int], Tensor]

# Samplers that divide by alpha start one step of the schedule below T, where alpha is 0.
LAST_DIVISIBLE = T - 1


@dataclass(frozen=True)
class SampleStep:
    """What one step of a walk did.

    Attributes
    ----------
    index, total : step number from 0, and number of steps
    t, t_next : times it went from and to
    x_t, x : (B, C, D, H, W) states at `t` and at `t_next`
    x0, eps : prediction at `t` that the step used
    """

    index: int
    total: int
    t: float
    t_next: float
    x_t: Tensor
    x: Tensor
    x0: Tensor
    eps: Tensor

    @property
    def finished(self) -> bool:
        """It is the last of its walk; of any other, x0 is an estimate."""
        return self.index + 1 == self.total


@dataclass(frozen=True)
class Sampler:
    """One row of the table of samplers.

    Attributes
    ----------
    predict : how the state moves
    noise_only : x0 is derived from the state and eps alone (Table 5), which divides by alpha
    image_only : eps is derived from the state and x0 alone, as DDPM's posterior does
    fresh : (t, t_to, schedule) -> share of fresh noise at eta = 1, for a stochastic step in place
        of predictor and corrector (Eq. 7)
    eta : what that share is multiplied by unless a walk says so
    evaluations : network evaluations per step
    """

    name: str
    description: str
    predict: Callable[[Place, float], Tensor]
    noise_only: bool = False
    image_only: bool = False
    fresh: Callable[[float, float, Schedule], float] | None = None
    eta: float = 1.0
    evaluations: int = 1

    @property
    def first_time(self) -> float:
        """Where a walk starts."""
        return LAST_DIVISIBLE if self.noise_only else T

    def result(self, step: SampleStep) -> Tensor:
        """Clean volume of a step: x0, but of a finished walk whose steps look twice the state."""
        return step.x if step.finished and self.evaluations > 1 else step.x0


SAMPLERS = {
    sampler.name: sampler
    for sampler in (
        Sampler("increment", "exact increments, order 1 (default)", predictor.increment),
        Sampler("increment-2", "exact increments, order 2", predictor.increment_second_order),
        Sampler("dpm-2m", "DPM-Solver++(2M), order 2, image head only", predictor.dpm_second_order),
        Sampler("euler", "Alg. 1 of the paper; Euler for flow matching", predictor.euler),
        Sampler("heun", "Heun, two evaluations per step", predictor.heun, evaluations=2),
        Sampler("resynthesis", "x0 and eps put together anew (DDIM)", predictor.resynthesis),
        Sampler(
            "noise-only", "uses the noise head alone (Table 5)", predictor.euler, noise_only=True
        ),
        Sampler(
            "conventional-hot",
            "ancestral sampling, eta = 1 (Eq. 7)",
            predictor.resynthesis,
            noise_only=True,
            fresh=ancestral_noise,
        ),
        Sampler(
            "ddim",
            "x0 and eps put together anew, with DDIM's eta (0)",
            predictor.resynthesis,
            fresh=ancestral_noise,
            eta=0.0,
        ),
        Sampler(
            "ddim-even",
            "the same with fresh noise eta sigma (0.4; the patch prior's paper)",
            predictor.resynthesis,
            fresh=even_noise,
            eta=0.4,
        ),
        Sampler(
            "ddpm",
            "ancestral from state and x0 alone, eta = 1 (3D MedDiffusion's paper)",
            predictor.resynthesis,
            image_only=True,
            fresh=ancestral_noise,
        ),
    )
}


def sample_steps(
    denoise: Denoiser,
    schedule: Schedule,
    x: Tensor,
    *,
    sampler: Sampler,
    grid: TimeGrid,
    k: float = 1.0,
    eta: float | None = None,
    noise: Noise,
    edit: Edit | None = None,
    data_range: tuple[float, float] = (-1.0, 1.0),
) -> Iterator[SampleStep]:
    """Walk from noise to data.

    Parameters
    ----------
    denoise : (x_t, t) -> Prediction
    x : (B, C, D, H, W) state at the grid's first time
    k : predictor multiplier, real, at least 1; 1 is cold, above it every step is noised back (hot)
    eta : of a stochastic sampler; None: its own
    noise : step number -> unit noise shaped as `x`; asked only where noise is needed
    edit : (Prediction, x_t, t) -> Prediction, for data consistency or guidance
    data_range : where noise-only samplers clip their x0

    Raises
    ------
    UsageError
        If k is below 1 or not finite, k or eta is given to a sampler that has none.
    NumericalError
        If a prediction is not finite.
    """
    if eta is not None and sampler.fresh is None:
        raise UsageError(f"eta is for stochastic samplers; {sampler.name} has k instead")
    if not 1.0 <= k < float("inf"):
        raise UsageError(f"k is {k}, but a predictor goes at least one step: choose k >= 1")
    if k != 1.0 and sampler.fresh is not None:
        raise UsageError(f"{sampler.name} takes its noise by eta and has no k; leave k out")
    before: Estimate | None = None

    def look(x: Tensor, t: float) -> Prediction:
        prediction = denoise(x, t)
        if sampler.noise_only:
            prediction = _noise_only(prediction, x, t, schedule, data_range)
        if sampler.image_only:
            prediction = _image_only(prediction, x, t, schedule)
        return prediction if edit is None else edit(prediction, x, t)

    for index, t, t_next in grid.steps():
        x_t, now = x, Estimate(t, look(x, t))
        if sampler.fresh is not None:
            fresh = (sampler.eta if eta is None else eta) * sampler.fresh(t, t_next, schedule)
            x = _stochastic(now, t_next, schedule, fresh, noise(index))
        else:
            reached = grid.reach(t, t_next, k)
            x = sampler.predict(Place(x, now, before, schedule, look), reached)
            if reached < t_next:
                x = correct(x, reached, t_next, noise(index), schedule)
        before = now
        prediction = now.prediction
        _check_finite((x, prediction.x0), t)
        yield SampleStep(index, grid.total, t, t_next, x_t, x, prediction.x0, prediction.eps)


def _noise_only(
    prediction: Prediction, x: Tensor, t: float, schedule: Schedule, data_range: tuple[float, float]
) -> Prediction:
    x0 = (x - schedule.sigma(t) * prediction.eps) / schedule.alpha(t)
    return Prediction(x0=x0.clamp(*data_range), eps=prediction.eps)


def _image_only(prediction: Prediction, x: Tensor, t: float, schedule: Schedule) -> Prediction:
    eps = (x - schedule.alpha(t) * prediction.x0) / schedule.sigma(t)
    return Prediction(x0=prediction.x0, eps=eps)


def _stochastic(now: Estimate, t_to: float, schedule: Schedule, fresh: float, z: Tensor) -> Tensor:
    """Eq. 7: alpha' x0 + sqrt(sigma'^2 - s^2) eps + s z."""
    kept = max(schedule.sigma(t_to) ** 2 - fresh**2, 0.0) ** 0.5
    mean: Tensor = schedule.alpha(t_to) * now.prediction.x0 + kept * now.prediction.eps
    return mean + (fresh * schedule.noise_std) * z


def _check_finite(tensors: tuple[Tensor, ...], t: float) -> None:
    if not all(bool(x.isfinite().all()) for x in tensors):
        raise NumericalError(
            f"the prediction at t = {t:g} is not finite; try more steps, another sampler or "
            "--device cpu"
        )

"""Data consistency against the posterior of a Gaussian prior, which is known in closed form."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
import recorded
import torch

from prdit_core.inverse.consistency import Agreeing, LeastSquares, Posterior, Proximal
from prdit_core.models.contracts import Prediction
from prdit_core.noise import Draw, unit_noise
from prdit_core.sampling.grid import time_grid
from prdit_core.sampling.sampler import SAMPLERS, SampleStep, sample_steps
from prdit_core.schedule import CosineSchedule

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

    from prdit_core.sampling.sampler import Edit

CIRCLE = CosineSchedule()
CASES = ("n16_sy0.02", "n16_sy0.2", "n64_sy0.1")
DRAWS = 20_000
# (|mean error| / sqrt(trace P), trace ratio, |covariance error| / |P|) that a sampler may reach.
EXACT = {"mean": 0.02, "trace": (0.95, 1.02), "covariance": 0.06}


class Dense:
    """A matrix as an operator on volumes (B, 1, 1, 1, n)."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix

    def __call__(self, x: Tensor) -> Tensor:
        return x @ self.matrix.T

    def adjoint(self, y: Tensor) -> Tensor:
        return y @ self.matrix


@dataclass(frozen=True)
class Toy:
    """A normal distribution, a measurement of it, and the posterior."""

    mean: Tensor
    covariance: Tensor
    matrix: Tensor
    y: Tensor
    noise: float
    posterior_mean: Tensor
    posterior: Tensor

    @property
    def data(self) -> Tensor:
        """The measurement with batch, channel and axes of a volume."""
        return self.y.view(1, 1, 1, 1, -1)

    def denoise(self, x: Tensor, t: float) -> Prediction:
        a, s = CIRCLE.alpha(t), CIRCLE.sigma(t)
        total = a**2 * self.covariance + s**2 * torch.eye(len(self.mean)).double()
        gain = a * torch.linalg.solve(total, self.covariance)  # both are symmetric, and commute
        x0 = self.mean + (x - a * self.mean) @ gain
        return Prediction(x0, (x - a * x0) / s)

    def conditioned(self, x0: Tensor, x_t: Tensor, t: float) -> Tensor:
        """Mean of x0 given x_t and the data."""
        a, s = CIRCLE.alpha(t), CIRCLE.sigma(t)
        n = len(self.mean)
        total = a**2 * self.covariance + s**2 * torch.eye(n).double()
        left = self.covariance - a**2 * self.covariance @ torch.linalg.solve(total, self.covariance)
        seen = self.matrix @ left @ self.matrix.T + self.noise**2 * torch.eye(len(self.y)).double()
        off = self.y - x0 @ self.matrix.T
        return x0 + off @ torch.linalg.solve(seen, self.matrix @ left)

    def ideal_error(self, t: float) -> float:
        """r of a prior of unit variance; not what a network's error is."""
        a, s = CIRCLE.alpha(t), CIRCLE.sigma(t)
        return s / float(np.hypot(a, s))

    def score(self, samples: Tensor) -> dict[str, float]:
        found, trace = samples.reshape(-1, len(self.mean)), torch.trace(self.posterior)
        away = torch.cov(found.T) - self.posterior
        return {
            "mean": float((found.mean(0) - self.posterior_mean).norm() / trace.sqrt()),
            "trace": float(torch.trace(torch.cov(found.T)) / trace),
            "covariance": float(away.norm() / self.posterior.norm()),
        }


def toy_of(numbers: dict[str, np.ndarray], case: str) -> Toy:
    keys = ("prior_mean", "prior_cov", "A", "y", "sigma_y", "post_mean", "post_cov")
    given = [torch.from_numpy(np.asarray(numbers[f"{case}/{key}"])).double() for key in keys]
    return Toy(*given[:4], float(given[4]), *given[5:])


@pytest.fixture(scope="module")
def numbers(parity: Path) -> dict[str, np.ndarray]:
    return recorded.load(parity / "gaussian_toy.npz")


def isotropic(toy: Toy) -> Proximal:
    return Proximal(Dense(toy.matrix), toy.data, toy.noise, toy.ideal_error, iterations=40)  # type: ignore[arg-type]


def walk(
    toy: Toy, edit: Edit, start: Tensor, steps: int, eta: float, noise: Callable[[int], Tensor]
) -> list[SampleStep]:
    stochastic = replace(SAMPLERS["resynthesis"], fresh=lambda _, t, s: eta * s.sigma(t))
    walk = sample_steps(
        toy.denoise,
        CIRCLE,
        start.view(len(start), 1, 1, 1, -1),
        sampler=stochastic if eta else SAMPLERS["resynthesis"],
        grid=time_grid("exact", steps, CIRCLE),
        noise=noise,
        edit=edit,
    )
    return list(walk)


@pytest.mark.parametrize(
    ("kind", "eta"), [("exact", 0.0), ("iso", 0.0), ("iso", 0.85)], ids=lambda value: str(value)
)
@pytest.mark.parametrize("case", CASES[:2])
def test_recorded_walks_are_replayed(
    numbers: dict[str, np.ndarray], case: str, kind: str, eta: float
) -> None:
    toy = toy_of(numbers, case)
    edit = Posterior(CIRCLE, toy.conditioned) if kind == "exact" else isotropic(toy)
    noise = torch.from_numpy(numbers[f"{case}/replay_noise"])
    start = torch.from_numpy(numbers[f"{case}/replay_z"])
    steps = walk(toy, edit, start, 20, eta, lambda i: noise[i].view(4, 1, 1, 1, -1))
    # CG stops at a relative gradient of 1e-6, the closed form of the recording does not.
    tolerance = 1e-10 if kind == "exact" else 1e-5
    for name in ("x", "x0"):
        found = torch.stack([getattr(step, name).flatten(1) for step in steps])
        expected = numbers[f"{case}/replay_{kind}_eta{eta}_{name}"]
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


def samples(toy: Toy, edit: Edit, eta: float, draws: int = DRAWS) -> Tensor:
    shape = (draws, 1, 1, 1, len(toy.mean))
    start = unit_noise(shape, Draw.START, 1).double()
    noise = lambda i: unit_noise(shape, Draw.CORRECTOR, 1, 0, i).double()  # noqa: E731
    return walk(toy, edit, start, 200, eta, noise)[-1].x


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_the_posterior_is_sampled(numbers: dict[str, np.ndarray], case: str) -> None:
    toy = toy_of(numbers, case)
    score = toy.score(samples(toy, Posterior(CIRCLE, toy.conditioned), 0.0))
    assert score["mean"] < EXACT["mean"] and score["covariance"] < EXACT["covariance"]
    assert EXACT["trace"][0] < score["trace"] < EXACT["trace"][1]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES[:2])
def test_an_isotropic_error_with_the_noise_kept_does_not_sample_it(
    numbers: dict[str, np.ndarray], case: str
) -> None:
    """What the paper and DDS do may serve, but nobody may call it exact."""
    toy = toy_of(numbers, case)
    score = toy.score(samples(toy, isotropic(toy), 0.85))
    recorded_score = numbers[f"{case}/score_iso_fixed_eta085"]
    assert score["mean"] > 2 * EXACT["mean"] and score["covariance"] > 2 * EXACT["covariance"]
    assert list(score.values()) == pytest.approx(recorded_score.tolist(), abs=0.05)


def test_least_squares_fit_better_with_every_iteration(numbers: dict[str, np.ndarray]) -> None:
    toy = toy_of(numbers, CASES[1])
    x = torch.zeros(2, 1, 1, 1, 16).double()
    before = Prediction(x, torch.ones_like(x))
    misfits = []
    for iterations in range(5):
        edit = LeastSquares(Dense(toy.matrix), toy.data, iterations=iterations)  # type: ignore[arg-type]
        after = edit(before, x, 500.0)
        assert after.eps is before.eps
        misfits.append(float((after.x0 @ toy.matrix.T - toy.y).norm()))
    assert all(later < earlier for earlier, later in pairwise(misfits))


def test_one_of_two_heads_that_disagree_is_believed(numbers: dict[str, np.ndarray]) -> None:
    """As DDS has it, the noise is what the volume leaves of the state; then the data move x0."""
    toy = toy_of(numbers, CASES[1])
    x_t, x0 = torch.full((2, 1, 1, 1, 16), 0.3).double(), torch.full((2, 1, 1, 1, 16), 0.1).double()
    plain = LeastSquares(Dense(toy.matrix), toy.data)  # type: ignore[arg-type]
    for t, eps in ((400.0, (0.3 - CIRCLE.alpha(400) * 0.1) / CIRCLE.sigma(400)), (0.0, 0.0)):
        found = Agreeing(CIRCLE, plain)(Prediction(x0, torch.full_like(x0, 9.0)), x_t, t)
        torch.testing.assert_close(found.eps, torch.full_like(x0, eps))
        torch.testing.assert_close(found.x0, plain(Prediction(x0, x0), x_t, t).x0)


def test_data_without_noise_win_and_data_of_nothing_but_noise_lose(
    numbers: dict[str, np.ndarray],
) -> None:
    toy = toy_of(numbers, CASES[1])
    x = torch.zeros(1, 1, 1, 1, 16).double()
    trusting = replace(isotropic(toy), sigma=1e-6)
    fitted = trusting(Prediction(x, x), x, 500.0).x0
    torch.testing.assert_close(fitted @ toy.matrix.T, toy.y.expand(1, 1, 1, 1, -1))
    doubting = replace(isotropic(toy), sigma=1e6)
    assert float(doubting(Prediction(x, x), x, 500.0).x0.norm()) < 1e-9

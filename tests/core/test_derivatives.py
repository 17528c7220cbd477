"""Conditional means by the network's derivative: where they are exact, where not; and codecs."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from test_consistency import CASES, CIRCLE, EXACT, Dense, Toy, isotropic, numbers, samples, toy_of
from toys import TINY, TINY_CHAIN, tiny_checkpoint

import prdit_core
from prdit_core.inverse.consistency import Decoded, LeastSquares, Posterior
from prdit_core.inverse.derivatives import (
    Linearised,
    MomentMatching,
    PseudoinverseGuidance,
    clean_volumes,
)
from prdit_core.models.contracts import Prediction

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from torch import Tensor

    from prdit_core.prdit_config import ModelConfig

__all__ = ["numbers"]  # a fixture


def left_of(toy: Toy, t: float) -> Tensor:
    """Cov[x0 | x_t]."""
    a, s = CIRCLE.alpha(t), CIRCLE.sigma(t)
    total = a**2 * toy.covariance + s**2 * torch.eye(len(toy.mean)).double()
    return toy.covariance - a**2 * toy.covariance @ torch.linalg.solve(total, toy.covariance)


def states(toy: Toy, count: int = 3) -> Tensor:
    shape = (count, 1, 1, 1, len(toy.mean))
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).double()


def clean(toy: Toy) -> Any:
    return lambda x_t, t: toy.denoise(x_t, t).x0


def pigdm(toy: Toy) -> PseudoinverseGuidance:
    return PseudoinverseGuidance(isotropic(toy), clean(toy), lambda x: x, CIRCLE)


def matching(toy: Toy, iterations: int) -> MomentMatching:
    return MomentMatching(Dense(toy.matrix), toy.data, toy.noise, clean(toy), CIRCLE, iterations)  # type: ignore[arg-type]


@pytest.fixture
def toy(numbers: dict[str, np.ndarray]) -> Toy:
    return toy_of(numbers, CASES[1])


@pytest.mark.parametrize("t", [10.0, 500.0, 990.0])
def test_the_derivative_of_a_perfect_denoiser_is_its_covariance(toy: Toy, t: float) -> None:
    x_t, v = states(toy), states(toy).flip(0)
    seen = Linearised(clean(toy), x_t, t, CIRCLE)
    torch.testing.assert_close(seen.covariance(v), v @ left_of(toy, t))
    torch.testing.assert_close(seen.x0, toy.denoise(x_t, t).x0)


@pytest.mark.parametrize("t", [10.0, 500.0, 990.0])
def test_moment_matching_is_the_conditional_mean(toy: Toy, t: float) -> None:
    x_t = states(toy)
    x0 = toy.denoise(x_t, t).x0
    exact = toy.conditioned(x0, x_t, t)
    torch.testing.assert_close(matching(toy, 12)(x0, x_t, t), exact, atol=1e-6, rtol=0)
    away = [float((matching(toy, n)(x0, x_t, t) - exact).norm()) for n in (0, 1, 2, 3)]
    assert all(later < earlier for earlier, later in itertools.pairwise(away))


def test_counted_data_weigh_as_repeated_ones(toy: Toy) -> None:
    """A weight of 2 is two equal measurements."""
    x_t = states(toy)
    x0 = toy.denoise(x_t, 400.0).x0
    rows = torch.tensor([0, 1, 1, 2, 3, 4, 5])
    weights = torch.tensor([1.0, 2, 1, 1, 1, 1]).double()
    twice = replace(toy, matrix=toy.matrix[rows], y=toy.y[rows])
    weighed = replace(matching(toy, 12), weights=weights)
    torch.testing.assert_close(weighed(x0, x_t, 400.0), matching(twice, 12)(x0, x_t, 400.0))


def pigdm_by_matrices(toy: Toy, voxels: Tensor, x0: Tensor, t: float) -> tuple[Tensor, Tensor]:
    """x0' of the formula, and how far along its way the data are fitted best; states in rows.

    `voxels` measures volumes, the toy's own matrix its states.
    """
    inner = toy.ideal_error(t) ** 2 * voxels @ voxels.T
    inner = inner + toy.noise**2 * torch.eye(len(voxels)).double()
    off = toy.y - x0 @ toy.matrix.T
    along = torch.linalg.solve(inner, off[..., None])[..., 0] @ toy.matrix @ left_of(toy, t)
    ahead = along @ toy.matrix.T
    best = (ahead * off).sum(-1, keepdim=True) / ahead.square().sum(-1, keepdim=True)
    return x0 + best.clamp(0, 1) * along, best


def test_pigdm_is_what_its_formula_says_but_goes_no_further_than_the_data(toy: Toy) -> None:
    x_t, held = states(toy, 8), []
    for t in (10.0, 100.0, 400.0, 900.0):
        x0 = toy.denoise(x_t, t).x0
        expected, best = pigdm_by_matrices(toy, toy.matrix, x0, t)
        torch.testing.assert_close(pigdm(toy)(x0, x_t, t), expected, atol=1e-5, rtol=1e-5)
        held += (best < 1).flatten().tolist()
    assert any(held) and not all(held)


def test_pigdm_is_exact_where_voxels_are_independent_and_equal_and_nowhere_else(toy: Toy) -> None:
    x_t, t = states(toy), 400.0
    alike = replace(toy, covariance=torch.eye(len(toy.mean)).double())
    for prior, exact in ((alike, True), (toy, False)):
        x0 = prior.denoise(x_t, t).x0
        away = (pigdm(prior)(x0, x_t, t) - prior.conditioned(x0, x_t, t)).norm() / x0.norm()
        assert (float(away) < 1e-5) == exact


def test_where_no_noise_is_left_nothing_is_conditioned(toy: Toy) -> None:
    """Heun's method looks at t = 0 too, where eps would be 0 / 0."""
    x = states(toy)
    before = Prediction(x, x.flip(0))
    assert Posterior(CIRCLE, matching(toy, 3))(before, x, 0.0) is before


@pytest.mark.slow
def test_moment_matching_samples_the_posterior(toy: Toy) -> None:
    score = toy.score(samples(toy, Posterior(CIRCLE, matching(toy, 6)), 0.0, draws=8_000))
    assert score["mean"] < EXACT["mean"] and score["covariance"] < EXACT["covariance"]
    assert EXACT["trace"][0] < score["trace"] < EXACT["trace"][1]


@pytest.mark.slow
def test_pigdm_does_not_sample_it(toy: Toy) -> None:
    score = toy.score(samples(toy, Posterior(CIRCLE, pigdm(toy)), 0.0, draws=1_000))
    assert score["mean"] > 10 * EXACT["mean"] and score["trace"] > 1.2


# ---------------------------------------------------------------------------------------------
# Networks.


@pytest.mark.parametrize(
    "model",
    [TINY, TINY_CHAIN, TINY.model_copy(update={"output": "velocity"})],
    ids=["image-and-noise", "chain", "velocity"],
)
def test_a_network_s_derivative_is_that_of_differences(model: ModelConfig, tmp_path: Path) -> None:
    prior = prdit_core.load(tiny_checkpoint(tmp_path / "tiny", model=model))
    x_t, u, v = torch.randn((3, *prior.shape), generator=torch.Generator().manual_seed(1))
    for t in (150.0, 700.0):
        seen = Linearised(clean_volumes(prior), x_t, t, prior.schedule)
        share = (prior.schedule.sigma(t) * prior.schedule.noise_std) ** 2 / prior.schedule.alpha(t)
        ahead, behind = (prior.denoise(x_t + h * u, t).x0 for h in (0.01, -0.01))
        expected = float((v * (ahead - behind)).sum()) / 0.02
        assert float((u * seen.covariance(v)).sum()) == pytest.approx(share * expected, rel=0.02)
        torch.testing.assert_close(seen.x0, prior.denoise(x_t, t).x0, atol=1e-4, rtol=1e-4)
    assert all(weight.grad is None for weight in prior.network.module.parameters())  # type: ignore[attr-defined]
    assert not prior.denoise(x_t, t).x0.requires_grad


# ---------------------------------------------------------------------------------------------
# Codecs.


@dataclass(frozen=True)
class Rotated:
    """A linear codec that loses nothing: latents are the voxels turned and three times as large."""

    rotation: Tensor

    def grid(self, shape: Any) -> Any:
        return shape

    def encode(self, x: Tensor) -> Tensor:
        return 3 * x @ self.rotation

    def decode(self, z: Tensor) -> Tensor:
        return z @ self.rotation.T / 3

    preview = decode


def rotated(toy: Toy) -> Rotated:
    n = len(toy.mean)
    drawn = torch.randn(n, n, generator=torch.Generator().manual_seed(2))
    return Rotated(torch.linalg.qr(drawn.double()).Q)


def test_an_edit_of_latents_is_that_of_their_volume(toy: Toy) -> None:
    codec, edit = rotated(toy), LeastSquares(Dense(toy.matrix), toy.data, iterations=2)  # type: ignore[arg-type]
    x, eps = states(toy), states(toy).flip(0)
    found = Decoded(codec, edit)(Prediction(codec.encode(x), eps), x, 300.0)
    torch.testing.assert_close(codec.decode(found.x0), edit(Prediction(x, eps), x, 300.0).x0)
    assert found.eps is eps


def test_pigdm_of_latents_goes_through_the_decoder(toy: Toy) -> None:
    """The latents of a normal prior are normal, and conditioning commutes with a rotation."""
    codec, t = rotated(toy), 400.0
    size = 3 * codec.rotation
    latent = replace(
        toy,
        mean=toy.mean @ size,
        covariance=size.T @ toy.covariance @ size,
        matrix=toy.matrix @ codec.rotation / 3,
    )
    z_t = states(toy)
    z0 = latent.denoise(z_t, t).x0
    guided = PseudoinverseGuidance(
        isotropic(toy), lambda z, t: codec.decode(latent.denoise(z, t).x0), codec.decode, CIRCLE
    )
    expected, _ = pigdm_by_matrices(latent, toy.matrix, z0, t)
    torch.testing.assert_close(guided(z0, z_t, t), expected, atol=1e-5, rtol=1e-5)

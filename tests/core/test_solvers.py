"""Solvers: gold iterates, discrepancy, weights and batches; TV and SIRT where they are known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from operators import SPECS, Matrix, matrix_of, measurement_of, volume_of

from prdit_core.errors import NumericalError, UsageError
from prdit_core.intensity import Intensity
from prdit_core.inverse.attenuation import of_hu, of_model
from prdit_core.inverse.cg import Iterate, Penalty, cg, cg_steps
from prdit_core.inverse.dose import integrals_of, photon_counts
from prdit_core.inverse.fbp import fbp
from prdit_core.inverse.operators.parallel import ParallelSpec
from prdit_core.inverse.operators.projector import spread_angles
from prdit_core.inverse.operators.table import build
from prdit_core.inverse.sirt import sirt_steps
from prdit_core.inverse.tuning import Known, tuned_share, tuning_steps
from prdit_core.inverse.tv import contrast, tv_steps

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from conftest import Recordings
    from prdit_core.inverse.operators.contract import LinearOperator


# --- conjugate gradients ----------------------------------------------------------------------


class Gold:
    """The recorded system as tensors with batch and channel."""

    def __init__(self, recorded: Mapping[str, NDArray]) -> None:
        self.recorded = recorded
        self.operator = Matrix(torch.from_numpy(recorded["A"]))
        self.y = torch.from_numpy(recorded["b"])[None, None]
        self.x0 = torch.from_numpy(recorded["x0"])[None, None, None, None]
        self.prox = Penalty(float(recorded["lam"]), self.x0)


@pytest.fixture(scope="module")
def gold(parity: Recordings) -> Gold:
    return Gold(dict(np.load(parity / "cg.npz")))


def vectors(steps: Iterator[Iterate]) -> NDArray:
    return np.array([step.x[0, 0, 0, 0].numpy() for step in steps])


def test_the_iterates_are_the_recorded_ones(gold: Gold) -> None:
    steps = list(cg_steps(gold.operator, gold.y, gold.x0, iterations=10, tolerance=0))
    np.testing.assert_allclose(vectors(iter(steps)), gold.recorded["iterates"], rtol=1e-8)
    residuals = [float(step.residual[0]) for step in steps]
    np.testing.assert_allclose(residuals, gold.recorded["data_residual_norm"], rtol=1e-8)
    assert [(step.index, step.total) for step in steps] == [(i, 10) for i in range(10)]


def test_the_proximal_iterates_are_the_recorded_ones(gold: Gold) -> None:
    steps = cg_steps(gold.operator, gold.y, gold.x0, iterations=10, penalty=gold.prox, tolerance=0)
    np.testing.assert_allclose(vectors(steps), gold.recorded["iterates_prox"], rtol=1e-8)


def test_the_gradients_fall_as_recorded(gold: Gold) -> None:
    operator, y, x0, pull = gold.operator, gold.y, gold.x0, gold.prox
    plain = list(cg_steps(operator, y, x0, iterations=10, tolerance=0))
    prox = list(cg_steps(operator, y, x0, iterations=10, penalty=pull, tolerance=0))
    downhill = [operator.adjoint(y - operator(step.x)) for step in plain]
    kept = [operator.adjoint(y - operator(step.x)) + pull.weight * (x0 - step.x) for step in prox]
    for gradients, key in ((downhill, "normal"), (kept, "prox")):
        norms = [float(gradient.norm()) for gradient in gradients]
        np.testing.assert_allclose(
            norms, gold.recorded[f"{key}_residual_norm"], rtol=1e-6, atol=1e-12
        )
    *_, last = cg_steps(operator, y, x0, iterations=200, penalty=pull)
    np.testing.assert_allclose(last.x.flatten(), gold.recorded["solution_prox"], rtol=1e-5)
    assert operator.norm() == pytest.approx(1, rel=1e-3)


def test_it_stops_where_the_noise_explains_the_residual(gold: Gold) -> None:
    sigma = float(gold.recorded["sigma"])
    assert sigma * gold.y.numel() ** 0.5 == pytest.approx(float(gold.recorded["noise_level"]))
    steps = list(cg_steps(gold.operator, gold.y, gold.x0, iterations=10, sigma=sigma))
    assert len(steps) == gold.recorded["stop_after"]
    # At a start that fits well enough nothing is done.
    assert not list(cg_steps(gold.operator, gold.y, steps[-1].x, iterations=10, sigma=sigma))


def test_it_returns_at_once_where_nothing_is_left(gold: Gold) -> None:
    y = gold.operator(gold.x0)
    assert not list(cg_steps(gold.operator, y, gold.x0, iterations=5))
    assert cg(gold.operator, y, gold.x0, iterations=5) is gold.x0
    nothing = torch.zeros_like(gold.x0)
    assert not list(cg_steps(gold.operator, torch.zeros_like(y), nothing, iterations=5))


def test_it_stops_when_it_has_converged(gold: Gold) -> None:
    steps = list(cg_steps(gold.operator, gold.y, gold.x0, iterations=200))
    assert len(steps) < 30
    np.testing.assert_allclose(steps[-1].x.flatten(), gold.recorded["solution"], rtol=1e-5)


def test_every_volume_of_a_batch_goes_its_own_way(gold: Gold) -> None:
    """One is done at once, one by the noise, one goes on; each as if it were alone."""
    y, x0, sigma = gold.y, gold.x0, 0.05
    ys = torch.cat([gold.operator(x0), y, 10 * y])
    found = cg(gold.operator, ys, x0.expand(3, -1, -1, -1, -1), iterations=6, sigma=sigma)
    for number in range(3):
        alone = cg(gold.operator, ys[number, None], x0, iterations=6, sigma=sigma)
        torch.testing.assert_close(found[number, None], alone)


def test_weights_and_penalty_solve_their_normal_equations(gold: Gold) -> None:
    matrix, y, x0 = gold.recorded["A"], gold.recorded["b"], gold.recorded["x0"]
    weights = np.linspace(0, 2, len(y))
    system = matrix.T @ (weights[:, None] * matrix) + 0.3 * np.eye(16)
    expected = np.linalg.solve(system, matrix.T @ (weights * y) + 0.3 * x0)
    w = torch.from_numpy(weights)
    steps = list(
        cg_steps(
            gold.operator, gold.y, gold.x0, iterations=60, weights=w, penalty=Penalty(0.3, gold.x0)
        )
    )
    np.testing.assert_allclose(steps[-1].x.flatten(), expected, rtol=1e-5)
    residual = np.sqrt(weights @ (matrix @ expected - y) ** 2)
    assert float(steps[-1].residual[0]) == pytest.approx(residual, rel=1e-6)


def test_measurements_without_weight_do_not_count_as_noise(gold: Gold) -> None:
    """Half of them unknown: the residual is held against the other half."""
    w = torch.ones(24, dtype=torch.float64)
    w[::2] = 0
    steps = list(cg_steps(gold.operator, gold.y, gold.x0, iterations=20, weights=w, sigma=0.04))
    bound = 0.04 * 12**0.5
    assert float(steps[-1].residual[0]) <= bound < float(steps[-2].residual[0])


def test_dots_are_summed_in_float64() -> None:
    """2^28 + 1 = 2^28 in float32: the ones would be lost."""
    y = torch.ones(1, 1, 1025)
    y[0, 0, 0] = 2.0**14
    start = torch.zeros(1, 1, 1, 1, 1025)
    walk = cg_steps(Matrix(torch.eye(1025)), y, start, iterations=1, penalty=Penalty(1.0, start))
    (step,) = walk
    assert float(step.residual[0]) ** 2 == pytest.approx((2.0**28 + 1024) / 4, rel=1e-12)


def test_nan_is_noticed(gold: Gold) -> None:
    y = gold.y.clone()
    y[0, 0, 3] = torch.nan
    with pytest.raises(NumericalError, match="met NaN"):
        cg(gold.operator, y, gold.x0, iterations=3)


@pytest.mark.slow
@pytest.mark.parametrize("name", SPECS)
def test_it_fits_what_any_operator_measured(name: str) -> None:
    operator = build(SPECS[name])
    y = operator(volume_of(operator))
    x = cg(operator, y, torch.zeros_like(volume_of(operator)), iterations=100)
    assert float((operator(x) - y).norm()) < 1e-2 * float(y.norm())


def test_no_solver_keeps_a_graph() -> None:
    operator = build(SPECS["sparse view"])
    y = measurement_of(operator).requires_grad_()
    x0 = torch.zeros_like(volume_of(operator)).requires_grad_()
    walks = (
        cg_steps(operator, y, x0, iterations=2),
        sirt_steps(operator, y, x0, iterations=2),
        tv_steps(operator, y, x0, strength=0.1, iterations=2),
    )
    for walk in walks:
        for step in walk:
            assert not step.x.requires_grad
    assert torch.is_grad_enabled()


# --- SIRT and TV ------------------------------------------------------------------------------


def test_sirt_is_its_formula_and_stays_positive() -> None:
    operator = build(SPECS["fan"], dtype=torch.float64)
    matrix, y = matrix_of(operator), measurement_of(operator)
    rows, columns = matrix.sum(1), matrix.sum(0)
    rows, columns = (np.where(s > 0, 1 / np.where(s > 0, s, 1), 0) for s in (rows, columns))
    x = np.zeros(columns.shape)
    for step in sirt_steps(operator, y, torch.zeros_like(volume_of(operator)), iterations=3):
        left = y[1, 1].flatten().numpy() - matrix @ x
        x = np.maximum(x + columns * (matrix.T @ (rows * left)), 0)
        np.testing.assert_allclose(step.x[1, 1].flatten(), x, atol=1e-12)
    left = torch.from_numpy(matrix @ x) - y[1, 1].flatten()
    assert step.x.min() == 0 and float(step.residual[1]) >= float(left.norm())


# With the lower strength the penalty is changed often, which must not move where it goes.
@pytest.mark.slow
@pytest.mark.parametrize("strength", [0.5, 0.005])
def test_tv_denoises_a_step_as_the_closed_form_says(strength: float) -> None:
    """Two plateaus of n voxels each: TV moves both by strength / n towards each other."""
    x = torch.cat([torch.full((5,), 1.0), torch.full((5,), 3.0)]).double()
    operator = Matrix(2 * torch.eye(10, dtype=torch.float64))
    y = 2 * x[None, None]
    start = torch.zeros(1, 1, 1, 1, 10, dtype=torch.float64)
    for step in tv_steps(operator, y, start, strength=strength, iterations=150):
        found = step.x.flatten()
    moved = strength / 5
    torch.testing.assert_close(found, x + moved * torch.sign(2 - x), rtol=0, atol=0.01 * moved)
    assert float(step.residual[0]) == pytest.approx(2 * moved * 10**0.5, rel=0.02)


@pytest.mark.slow
def test_tv_is_isotropic_and_three_dimensional() -> None:
    """It is lower at its result than at any small change of it."""
    operator = build(SPECS["blur, edge"], dtype=torch.float64)
    y = operator(volume_of(operator, 1, 1)).clone()
    strength, squared = 0.05, operator.norm() ** 2

    def cost(x: torch.Tensor) -> float:
        slopes = torch.zeros(3, *x.shape[2:], dtype=x.dtype)
        for axis in range(3):
            difference = x[0, 0].diff(dim=axis)
            slopes[axis].narrow(axis, 0, difference.shape[axis]).copy_(difference)
        misfit = (operator(x) - y).square().sum() / (2 * squared)
        return float(misfit + strength * slopes.norm(dim=0).sum())

    start = torch.zeros_like(volume_of(operator, 1, 1))
    for step in tv_steps(operator, y, start, strength=strength, lower=-100, iterations=150):
        best = step.x
    lowest = cost(best)
    for key in range(30):
        change = volume_of(operator, 1, 1, key=100 + key)
        assert cost(best + 1e-2 * change) > lowest
    assert cost(0.99 * best) > lowest < cost(1.01 * best)


def test_tv_of_nothing_is_nothing_and_needs_a_strength() -> None:
    operator = build(SPECS["sparse view"])
    y, start = torch.zeros(1, 1, *operator.range_shape), torch.zeros(1, 1, *operator.domain_shape)
    *_, last = tv_steps(operator, y, start, strength=0.1, iterations=3)
    assert not last.x.any() and float(last.residual[0]) == 0
    with pytest.raises(UsageError, match="a strength above 0"):
        next(tv_steps(operator, y, start, strength=0.0))


def test_tv_does_not_depend_on_the_scale_of_its_numbers() -> None:
    operator = build(SPECS["sparse view"], dtype=torch.float64)
    y, start = operator(volume_of(operator).abs()), torch.zeros_like(volume_of(operator))
    *_, one = tv_steps(operator, y, start, strength=0.02, iterations=9)
    *_, large = tv_steps(operator, 1000 * y, start, strength=20.0, iterations=9)
    torch.testing.assert_close(large.x, 1000 * one.x)
    heavy = torch.full_like(y, 1e4)
    *_, weighed = tv_steps(operator, y, start, strength=0.02, iterations=9, weights=heavy)
    torch.testing.assert_close(weighed.x, one.x)
    torch.testing.assert_close(weighed.residual, 100 * one.residual)


# --- the lot on discs ---------------------------------------------------------------------------


def discs(seed: int, edge: int = 24) -> torch.Tensor:
    """Random discs on air, (1, 1, D, H, W) in 0..1."""
    random = np.random.default_rng(seed)
    places = np.arange(edge) - (edge - 1) / 2
    image = np.zeros((1, edge, edge))
    image[:, np.hypot(places[:, None], places[None]) < 0.45 * edge] = 0.5
    for _ in range(6):
        (y, x), radius = random.uniform(-edge / 4, edge / 4, 2), random.uniform(1.5, edge / 6)
        image[:, np.hypot(places[:, None] - y, places[None] - x) < radius] = random.uniform(0, 1)
    return torch.from_numpy(image).float()[None, None]


def few_views(edge: int = 24) -> LinearOperator:
    spec = ParallelSpec(
        shape=(1, edge, edge),
        spacing_mm=(1.0, 1.0, 1.0),
        angles_deg=spread_angles(10),
        bins=edge + 12,
        bin_mm=1.0,
    )
    return build(spec)


def error(found: torch.Tensor, truth: torch.Tensor) -> float:
    return float((found - truth).square().mean().sqrt())


@pytest.mark.slow
def test_tuned_on_others_tv_is_better_than_sirt_than_cg_than_fbp() -> None:
    operator = few_views(16)

    def noisy(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        x = discs(seed, 16)
        return x, operator(x) + 0.1 * measurement_of(operator, seed)[:1, :1]

    def tv_error(x: torch.Tensor, y: torch.Tensor, strength: float) -> float:
        *_, last = tv_steps(operator, y, torch.zeros_like(x), strength=strength)
        return error(last.x, x)

    strength = tuned_share(operator, [Known(*noisy(1))]) * contrast(operator, noisy(1)[1])
    least, *others = (tv_error(*noisy(1), factor * strength) for factor in (1, 0.4, 2.5))
    assert least < min(others)
    truth, y = noisy(2)
    start = torch.zeros_like(truth)
    *_, sirt = sirt_steps(operator, y, start, iterations=60)
    found = (sirt.x, cg(operator, y, start, iterations=20), fbp(operator, y))
    errors = [tv_error(truth, y, strength), *(error(x, truth) for x in found)]
    assert errors == sorted(errors)
    assert errors[0] < 0.8 * errors[1]


@pytest.mark.slow
def test_tuning_ends_near_the_least_error_and_counts_its_trials() -> None:
    operator = few_views(12)
    known = []
    for seed in (1, 2):
        x = discs(seed, 12)
        known.append(Known(x, operator(x) + 0.1 * measurement_of(operator, seed)[:1, :1]))
    trials = list(tuning_steps(operator, known))
    assert [one.index for one in trials] == list(range(len(trials)))
    assert len(trials) <= trials[0].total
    best = min(trials, key=lambda one: one.error)
    assert best.share / 2 <= trials[-1].best <= best.share * 2
    # In other units the share is the same.
    brighter = [Known(7 * one.x, 7 * one.y) for one in known]
    assert tuned_share(operator, brighter) == pytest.approx(trials[-1].best, rel=0.02)


@pytest.mark.slow
def test_total_variation_near_a_volume_goes_there_as_the_pull_grows() -> None:
    operator, truth, target = few_views(12), discs(1, 12), discs(2, 12)
    y = operator(truth)

    def off(weight: float | None) -> float:
        near = None if weight is None else Penalty(weight, target)
        *_, last = tv_steps(operator, y, torch.zeros_like(truth), strength=1e-4, near=near)
        return error(last.x, target)

    free, some, much = off(None), off(0.3), off(1e3)
    assert much < 0.02 < some < free


# --- dose and units ---------------------------------------------------------------------------


def test_photons_follow_beer_and_lambert_and_their_noise_the_weights() -> None:
    integrals = torch.linspace(0, 4, 5)[:, None].expand(5, 20_000)
    counts = photon_counts(integrals, 1e4, seed=3)
    torch.testing.assert_close(counts.mean(1), 1e4 * torch.exp(-integrals[:, 0]), rtol=2e-2, atol=0)
    y, weights = integrals_of(counts, 1e4)
    assert torch.equal(weights, counts)
    scaled = weights.sqrt() * (y - integrals)
    torch.testing.assert_close(scaled.std(1), torch.ones(5), rtol=0.03, atol=0)


def test_photons_depend_on_seed_and_index_alone() -> None:
    integrals = torch.ones(3, 4)
    drawn = [photon_counts(integrals, 1e3, seed=s, index=i) for s, i in ((0, 0), (0, 1), (1, 0))]
    assert torch.equal(drawn[0], photon_counts(integrals, 1e3, seed=0))
    assert not torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_where_nothing_arrived_nothing_is_believed() -> None:
    y, weights = integrals_of(torch.tensor([0.0, 1.0]), 100)
    assert y.tolist() == [pytest.approx(np.log(100))] * 2 and weights.tolist() == [0, 1]


@pytest.mark.parametrize(
    "intensity", [Intensity(), Intensity(window_hu=(-1024, 3000), model_range=(0, 1))]
)
def test_data_of_air_and_water_give_air_and_water(intensity: Intensity) -> None:
    units, operator = of_model(intensity), few_views(12)
    for hu, per_mm in ((-1000.0, 0.0), (0.0, 0.02)):
        x = float(intensity.to_model(np.array([hu]))[0])
        volume = torch.full((1, 1, *operator.domain_shape), x)
        torch.testing.assert_close(units.per_mm(volume), torch.full_like(volume, per_mm))
        torch.testing.assert_close(units.unit(units.per_mm(volume)), volume)
        y = operator(torch.full_like(volume, per_mm))
        torch.testing.assert_close(
            units.measurement(operator, y), operator(volume), rtol=1e-5, atol=1e-4
        )
    assert of_hu().per_mm(torch.tensor(-1000.0)) == 0


def test_air_is_found_from_zeros() -> None:
    operator, units = few_views(12), of_model(Intensity())
    y = units.measurement(operator, torch.zeros(1, 1, *operator.range_shape))
    x = cg(operator, y, torch.zeros(1, 1, *operator.domain_shape), iterations=50)
    torch.testing.assert_close(x, torch.full_like(x, -1.0), rtol=0, atol=1e-2)

"""Samplers against exact denoisers, and against the trajectories of the official releases."""

from __future__ import annotations

import gc
import itertools
import math
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pytest
import recorded
import torch
from toys import Mixture

from prdit_core.config import WITHOUT_K, SamplerName
from prdit_core.errors import NumericalError, UsageError
from prdit_core.geometry import cubic
from prdit_core.intensity import Intensity
from prdit_core.models.contracts import Prediction
from prdit_core.models.prdit.evaluation import PRDiTNetwork
from prdit_core.models.prior import Prior
from prdit_core.noise import Draw, unit_noise
from prdit_core.presets import sampling_preset
from prdit_core.sampling.corrector import ancestral_noise
from prdit_core.sampling.grid import TimeGrid, time_grid
from prdit_core.sampling.sampler import SAMPLERS, SampleStep, sample_steps
from prdit_core.schedule import (
    CosineSchedule,
    LinearSchedule,
    Schedule,
    VPCosineSchedule,
    VPLinearSchedule,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

    from prdit_core.config import GridName

CIRCLE = CosineSchedule()
SCHEDULES = {
    "cosine": CosineSchedule(noise_std=1.0),
    "cosine-half-noise": CosineSchedule(noise_std=0.5),
    "linear": LinearSchedule(),
    "vp-linear": VPLinearSchedule(),
    "vp-cosine": VPCosineSchedule(),
}
SHAPE = (1, 1, 16, 16, 16)
HOT = [name for name in SAMPLERS if name not in WITHOUT_K]
# DPM-Solver++ extrapolates by log-SNR, which on another grid hot noise throws off its way.
OWN_GRID: dict[str, GridName] = {"dpm-2m": "log-snr"}


def own_grid(sampler: str, steps: int, schedule: Schedule) -> TimeGrid:
    return time_grid(OWN_GRID.get(sampler, "exact"), steps, schedule, SAMPLERS[sampler].first_time)


def inner_grid(name: GridName, steps: int, schedule: Schedule) -> TimeGrid:
    """Steps between two times where log-SNR is moderate, the same for any number of steps."""
    if name == "exact":
        return TimeGrid(tuple(np.linspace(950, 50, steps + 1)))
    levels = np.linspace(schedule.log_snr(950), schedule.log_snr(50), steps + 1)
    return TimeGrid(tuple(schedule.time_at(level) for level in levels))


def walk(toy: Mixture, sampler: str, grid: TimeGrid, k: float = 1.0) -> SampleStep:
    start = unit_noise(SHAPE, Draw.START, 1, 2).double() * toy.schedule.noise_std
    events = sample_steps(
        toy.denoise,
        toy.schedule,
        start,
        sampler=SAMPLERS[sampler],
        grid=grid,
        k=k,
        noise=lambda index: unit_noise(SHAPE, Draw.START, 3, index).double(),
    )
    (last,) = deque(events, maxlen=1)
    return last


def two_modes(schedule: Schedule) -> Mixture:
    return Mixture(schedule, weights=(0.3, 0.7), means=(-0.6, 0.5), stds=(0.12, 0.15))


@pytest.mark.parametrize("process", SCHEDULES)
@pytest.mark.parametrize(
    ("sampler", "k"),
    [
        *itertools.product(SAMPLERS, (1.0,)),
        *itertools.product(HOT, (2.0,)),
        *(pytest.param(name, 3.5, marks=pytest.mark.slow) for name in HOT),
    ],
)
def test_every_sampler_finds_the_distribution(sampler: str, k: float, process: str) -> None:
    toy = two_modes(SCHEDULES[process])
    last = walk(toy, sampler, own_grid(sampler, 300 if k <= 2 else 600, toy.schedule), k)
    assert toy.distance(SAMPLERS[sampler].result(last)) < 0.03


@pytest.mark.parametrize("sampler", WITHOUT_K)
def test_a_k_is_refused_where_there_is_none_and_a_usual_one_does_not_go_along(sampler: str) -> None:
    toy = two_modes(CIRCLE)
    with pytest.raises(UsageError, match=f"{sampler} .* has no k; leave k out"):
        walk(toy, sampler, own_grid(sampler, 3, CIRCLE), 2.0)
    hot = sampling_preset("paper")
    assert hot.k == hot.but({"sampler": "increment"}).k == 2
    assert hot.but({"sampler": sampler}).k == 1
    assert hot.but({"sampler": sampler, "k": 3.0}).k == 3  # to be refused by its name


@pytest.mark.parametrize("process", SCHEDULES)
def test_the_default_settings_find_the_distribution(process: str) -> None:
    toy, config = two_modes(SCHEDULES[process]), sampling_preset("balanced")
    grid = time_grid(config.grid, config.steps, toy.schedule)
    last = walk(toy, config.sampler, grid, config.k)
    assert toy.distance(last.x0) < 0.03


@pytest.mark.parametrize(("t", "t_to"), [(900.0, 850.0), (500.0, 100.0), (3.0, 1.0)])
def test_ancestral_noise_is_that_of_equation_7(t: float, t_to: float) -> None:
    """Any smaller amount would give the right distribution too, but another sampler."""
    schedule = CosineSchedule()
    a, a_to = schedule.alpha(t) ** 2, schedule.alpha(t_to) ** 2
    expected = math.sqrt((1 - a_to) / (1 - a)) * math.sqrt(1 - a / a_to)
    assert ancestral_noise(t, t_to, schedule) == pytest.approx(expected, rel=1e-6)
    assert ancestral_noise(0.0, 0.0, schedule) == 0.0


@pytest.mark.slow
@pytest.mark.parametrize("process", SCHEDULES)
@pytest.mark.parametrize(
    ("sampler", "order"),
    [
        ("increment", 1),
        ("euler", 1),
        ("resynthesis", 1),
        ("increment-2", 2),
        ("dpm-2m", 2),
        ("heun", 2),
    ],
)
@pytest.mark.parametrize("grid", ["exact", "log-snr"])
def test_every_sampler_has_the_order_it_claims(
    sampler: str, order: int, grid: GridName, process: str
) -> None:
    """For one normal distribution the cold trajectory is known: it keeps its standard score."""
    schedule = SCHEDULES[process]
    toy = Mixture(schedule, weights=(1.0,), means=(0.3,), stds=(0.4,))
    z = unit_noise((1, 1, 8, 8, 8), Draw.START, 1, 2).double()

    def exact(t: float) -> Tensor:
        signal, noise = schedule.alpha(t), schedule.sigma(t) * schedule.noise_std
        return signal * 0.3 + ((0.4 * signal) ** 2 + noise**2) ** 0.5 * z

    errors = []
    for steps in (160, 320):
        times = inner_grid(grid, steps, schedule)
        events = sample_steps(
            toy.denoise,
            schedule,
            exact(times.times[0]),
            sampler=SAMPLERS[sampler],
            grid=times,
            noise=lambda _: pytest.fail("a cold walk draws no noise"),
        )
        (last,) = deque(events, maxlen=1)
        errors.append((last.x - exact(last.t_next)).abs().max().item())
    rates = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    assert rates.min() > order - 0.25, errors


def test_with_heads_that_agree_resynthesis_is_the_increment() -> None:
    toy = two_modes(SCHEDULES["cosine"])
    grid = time_grid("exact", 30, CIRCLE)
    a, b = (walk(toy, name, grid).x for name in ("increment", "resynthesis"))
    torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("process", ["vp", "cosine"])
def test_ddim_has_its_own_rule_of_fresh_noise_and_the_patch_priors(process: str) -> None:
    """One step in numbers: x = a x0 + sqrt(s^2 - f^2) eps + f z at the next time."""
    schedule = VPLinearSchedule() if process == "vp" else SCHEDULES["cosine"]
    x0, eps, z = (unit_noise(SHAPE, Draw.START, 5, number).double() for number in range(3))
    t, t_next, eta = 600.0, 400.0, 0.7
    a, s, a_next, s_next = (
        part(time) for time in (t, t_next) for part in (schedule.alpha, schedule.sigma)
    )
    if process == "vp":  # DDIM, eq. 16, in its own words
        own = (1 - a_next**2) / (1 - a**2) * (1 - a**2 / a_next**2)
    else:
        own = (s_next / s) ** 2 * (s**2 - (a / a_next * s_next) ** 2)
    for name, given, fresh in (
        ("ddim", None, 0.0),
        ("ddim", eta, eta * own**0.5),
        ("ddim-even", None, 0.4 * s_next),
        ("ddim-even", eta, eta * s_next),
    ):
        (step,) = sample_steps(
            lambda x, t: Prediction(x0, eps),
            schedule,
            a * x0 + s * eps,
            sampler=SAMPLERS[name],
            grid=TimeGrid((t, t_next)),
            eta=given,
            noise=lambda _: z,
        )
        std = schedule.noise_std
        expected = a_next * x0 + (s_next**2 - fresh**2) ** 0.5 * eps + fresh * std * z
        torch.testing.assert_close(step.x, expected, rtol=0, atol=1e-6)


def test_without_fresh_noise_ddim_is_resynthesis_and_eta_is_for_samplers_that_have_it() -> None:
    toy, grid = two_modes(SCHEDULES["cosine"]), time_grid("exact", 30, CIRCLE)
    a, b = (walk(toy, name, grid).x for name in ("ddim", "resynthesis"))
    torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    steps = sample_steps(
        toy.denoise,
        toy.schedule,
        a,
        sampler=SAMPLERS["heun"],
        grid=grid,
        eta=0.0,
        noise=lambda _: a,
    )
    with pytest.raises(UsageError, match="eta is for stochastic samplers; heun"):
        next(steps)


def test_k_is_real_and_at_least_one() -> None:
    toy = two_modes(SCHEDULES["cosine"])
    for k in (0.5, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="k >= 1"):
            walk(toy, "increment", time_grid("exact", 2, CIRCLE), k)


@pytest.mark.parametrize("steps", [1, 2, 7, 300, 999])
@pytest.mark.parametrize(("name", "first"), [("exact", 1000), ("log-snr", 999)])
def test_a_grid_starts_at_the_noise_and_takes_the_steps_asked_for(
    name: GridName, first: float, steps: int
) -> None:
    grid = time_grid(name, steps, CIRCLE)
    times = np.array(grid.times)
    assert grid.total == steps and times[0] == pytest.approx(first) and times[-1] == 0
    assert np.all(np.diff(times) < 0)


@pytest.mark.parametrize("name", SCHEDULES)
def test_steps_of_the_log_snr_grid_are_equal(name: str) -> None:
    schedule = SCHEDULES[name]
    times = time_grid("log-snr", 20, schedule).times[:-1]
    levels = [np.log(schedule.alpha(t) / schedule.sigma(t)) for t in times]
    steps = np.diff(levels)
    assert steps == pytest.approx(np.full(19, steps[0])) and steps[0] > 0
    assert [schedule.time_at(level) for level in levels] == pytest.approx(times)


def test_the_release_grid_visits_what_the_release_visits() -> None:
    assert time_grid("release", 300, CIRCLE).total == 334
    assert time_grid("release", 8, CIRCLE).times == (875, 750, 625, 500, 375, 250, 125, 0, 0)
    with pytest.raises(UsageError, match="1000"):
        time_grid("release", 1001, CIRCLE)


def test_hot_steps_end_where_the_predictor_would_leave_the_data() -> None:
    exact, release = time_grid("exact", 4, CIRCLE), time_grid("release", 4, CIRCLE)
    assert [exact.reach(t, n, 2) for _, t, n in exact.steps()] == [500, 250, 0, 0]
    assert [release.reach(t, n, 2) for _, t, n in release.steps()] == [250, 250, 0, 0]
    for k in (2, 3, 4):  # landing on 0 is hot, whatever the rounding of the times
        for steps in range(k + 1, 200):
            grid = time_grid("exact", steps, CIRCLE)
            assert grid.reach(grid.times[-k - 1], grid.times[-k], k) == 0.0


def test_an_edit_changes_every_prediction_the_sampler_uses() -> None:
    toy = two_modes(SCHEDULES["cosine"])
    target = torch.full(SHAPE, 0.25, dtype=torch.float64)
    seen = []

    def edit(prediction: Prediction, x: Tensor, t: float) -> Prediction:
        seen.append(t)
        return Prediction(target, prediction.eps)

    events = list(
        sample_steps(
            toy.denoise,
            toy.schedule,
            unit_noise(SHAPE, Draw.START, 0).double(),
            sampler=SAMPLERS["increment"],
            grid=time_grid("exact", 5, CIRCLE),
            noise=lambda _: torch.zeros(SHAPE),
            edit=edit,
        )
    )
    assert seen == [1000, 800, 600, 400, 200]
    assert all(torch.equal(event.x0, target) for event in events)


def test_a_walk_keeps_no_old_states() -> None:
    toy = two_modes(SCHEDULES["cosine"])
    alive: list[weakref.ref[Tensor]] = []
    steps = sample_steps(
        toy.denoise,
        toy.schedule,
        unit_noise(SHAPE, Draw.START, 0).double(),
        sampler=SAMPLERS["increment-2"],
        grid=time_grid("exact", 30, CIRCLE),
        k=2.0,
        noise=lambda index: unit_noise(SHAPE, Draw.START, index).double(),
    )
    for event in steps:
        alive += [weakref.ref(event.x), weakref.ref(event.x0), weakref.ref(event.eps)]
    del event
    gc.collect()
    assert sum(ref() is not None for ref in alive) <= 3


def test_a_prediction_that_is_not_finite_stops_the_walk() -> None:
    def broken(x: Tensor, t: float) -> Prediction:
        return Prediction(torch.full_like(x, torch.nan), x)

    with pytest.raises(NumericalError, match="t = 1000"):
        next(
            sample_steps(
                broken,
                SCHEDULES["cosine"],
                torch.zeros(SHAPE),
                sampler=SAMPLERS["increment"],
                grid=time_grid("exact", 2, CIRCLE),
                noise=lambda _: torch.zeros(SHAPE),
            )
        )


def recorded_prior(parity: Path, family: str, file: str, schedule: Schedule) -> Prior:
    module = recorded.network(recorded.load(parity / file), family)
    return Prior(PRDiTNetwork(module), schedule, Intensity(), cubic(16, 320), "recorded", "")


def recorded_noise(numbers: dict[str, Any], grid: TimeGrid) -> Callable[[int], Tensor]:
    """The release's own draws, one for each time at which it drew."""
    drawn = list(numbers["pc_noise_t"])
    return lambda index: recorded.tensor(numbers["pc_unit_noise"][drawn.index(grid.times[index])])


RELEASE = CosineSchedule(noise_std=0.5, last_t=999)


def test_the_release_s_cold_trajectory(parity: Path) -> None:
    numbers = recorded.load(parity / "prdit_sampler_8.npz")
    prior = recorded_prior(parity, "prdit", "prdit_model_p4s2d2.npz", RELEASE)
    grid = time_grid("release", 8, CIRCLE)
    assert [t for _, t, _ in grid.steps()] == list(numbers["visit_t"])
    assert [n for _, _, n in grid.steps()] == list(numbers["visit_next"])
    for step in sample_steps(
        prior.denoise,
        RELEASE,
        recorded.tensor(numbers["z"]),
        sampler=SAMPLERS["euler"],
        grid=grid,
        noise=lambda _: pytest.fail("a cold walk draws no noise"),
    ):
        np.testing.assert_allclose(step.x.numpy(), numbers["gen_xs"][step.index + 1], atol=2e-4)
        np.testing.assert_allclose(step.x0.numpy(), numbers["gen_x0"][step.index], atol=2e-4)
    np.testing.assert_allclose(step.x0.numpy(), numbers["gen_x0_final"], atol=2e-4)


def test_the_release_s_hot_trajectory(parity: Path) -> None:
    numbers = recorded.load(parity / "prdit_sampler_8.npz")
    prior = recorded_prior(parity, "prdit", "prdit_model_p4s2d2.npz", RELEASE)
    grid = time_grid("release", 8, CIRCLE)
    for step in sample_steps(
        prior.denoise,
        RELEASE,
        recorded.tensor(numbers["z"]),
        sampler=SAMPLERS["euler"],
        grid=grid,
        k=2.0,
        noise=recorded_noise(numbers, grid),
    ):
        np.testing.assert_allclose(step.x.numpy(), numbers["pc_xs"][step.index + 1], atol=2e-4)
        np.testing.assert_allclose(step.eps.numpy(), numbers["pc_eps"][step.index], atol=2e-4)


def test_stored_predictions_replay_to_rounding(parity: Path) -> None:
    numbers = recorded.load(parity / "prdit_sampler_8.npz")
    grid = time_grid("release", 8, CIRCLE)
    predictions = iter(
        Prediction(recorded.tensor(x0), recorded.tensor(eps))
        for x0, eps in zip(numbers["pc_x0"], numbers["pc_eps"], strict=True)
    )
    for step in sample_steps(
        lambda x, t: next(predictions),
        RELEASE,
        recorded.tensor(numbers["z"]),
        sampler=SAMPLERS["euler"],
        grid=grid,
        k=2.0,
        noise=recorded_noise(numbers, grid),
    ):
        np.testing.assert_allclose(step.x.numpy(), numbers["pc_xs"][step.index + 1], atol=1e-5)


@pytest.mark.parametrize("solver", ["euler", "heun"])
def test_flow_matching_trajectories(solver: str, parity: Path) -> None:
    numbers = recorded.load(parity / "fm_sampler_8.npz")
    prior = recorded_prior(parity, "fm", "fm_model_p4s2d2.npz", LinearSchedule())
    grid = time_grid("exact", 8, CIRCLE)
    times = [prior.schedule.network_time(t) for _, t, _ in grid.steps()]
    np.testing.assert_allclose(times, numbers["model_t_euler"])
    for step in sample_steps(
        prior.denoise,
        prior.schedule,
        recorded.tensor(numbers["z"]),
        sampler=SAMPLERS[solver],
        grid=grid,
        noise=lambda _: pytest.fail("a cold walk draws no noise"),
    ):
        np.testing.assert_allclose(
            step.x.numpy(), numbers[f"{solver}_xs"][step.index + 1], atol=2e-4
        )
    found = SAMPLERS[solver].result(step)
    np.testing.assert_allclose(found.numpy(), numbers[f"{solver}_final"], atol=2e-4)


def test_the_names_of_the_settings_are_those_of_the_table() -> None:
    assert get_args(SamplerName) == tuple(SAMPLERS)
    assert {name for name, row in SAMPLERS.items() if row.fresh is not None} == set(WITHOUT_K)

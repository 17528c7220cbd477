"""Training: batches as pure functions, the average, and what must not be poisoned."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from toys import TINY

from prdit_core.errors import NumericalError
from prdit_core.schedule import CosineSchedule
from prdit_core.training.batches import Batch, draw_batch
from prdit_core.training.ema import Ema
from prdit_core.training.loop import Trainer, run_loop
from prdit_core.training.stages import STAGES, prepare

if TYPE_CHECKING:
    from numpy.typing import NDArray

VOLUMES = np.random.default_rng(0).uniform(-1, 1, (5, 8, 8, 8)).astype(np.float32)


def read(number: int) -> NDArray[np.float32]:
    return VOLUMES[number]


def batch(iteration: int, seed: int = 0, size: int = 2) -> Batch:
    return draw_batch(read, len(VOLUMES), seed=seed, iteration=iteration, size=size)


def trainer(lr: float = 1e-3) -> Trainer:
    torch.set_num_threads(1)
    stage = STAGES["local"]
    network = prepare(stage.model_config(TINY), stage, 0, None)
    fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
    return Trainer(network, CosineSchedule(noise_std=0.5), fabric, lr=lr, clip=1.0, decay=0.99)


def test_a_batch_depends_on_seed_and_iteration_only() -> None:
    torch.manual_seed(5)
    a = batch(3)
    torch.randn(100)
    b = batch(3)
    assert torch.equal(a.x0, b.x0) and torch.equal(a.unit_noise, b.unit_noise)
    assert torch.equal(a.t, b.t) and a.cases == b.cases
    for other in (batch(4), batch(3, seed=1)):
        assert not torch.equal(a.unit_noise, other.unit_noise)
        assert not torch.equal(a.t, other.t)


def test_all_cases_are_seen_before_any_is_seen_again() -> None:
    seen = [case for iteration in range(10) for case in batch(iteration).cases]
    for epoch in range(4):
        assert sorted(seen[5 * epoch : 5 * epoch + 5]) == list(range(5))


def test_times_are_uniform_and_reach_neither_zero_nor_beyond_the_end() -> None:
    times = torch.cat([batch(iteration, size=5).t for iteration in range(400)])
    assert times.min() > 0 and times.max() <= 1000
    counts = torch.histc(times, 10, 0, 1000)
    assert counts.min() > 140 and counts.max() < 260  # 200 expected


def test_training_lowers_the_loss() -> None:
    steps = list(run_loop(trainer(3e-3), read, 5, seed=0, batch_size=4, start=0, total=150))
    totals = [step.losses["total"] for step in steps]
    assert np.mean(totals[-30:]) < 0.8 * np.mean(totals[:10])


def test_a_loss_that_is_not_finite_poisons_nothing() -> None:
    work = trainer()
    work.advance(batch(0), 0)
    before = {name: w.clone() for name, w in work.network.state_dict().items()}
    average = {name: w.clone() for name, w in work.ema.weights.items()}
    bad = batch(1)
    bad.x0[0, 0, 0, 0, 0] = torch.nan
    with pytest.raises(NumericalError, match=r"iteration 2.*cases \d, \d"):
        work.advance(bad, 1)
    assert all(torch.equal(w, before[name]) for name, w in work.network.state_dict().items())
    assert all(torch.equal(w, average[name]) for name, w in work.ema.weights.items())
    work.advance(batch(2), 2)


def test_the_average_warms_up_and_then_keeps_its_decay() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    ema = Ema(model, 0.9)
    torch.nn.init.ones_(model.weight)
    expected = 0.0
    for iteration in range(200):
        ema.update(model, iteration)
        decay = min(0.9, (1 + iteration) / (10 + iteration))
        expected = decay * expected + (1 - decay)
        assert ema.weights["weight"].item() == pytest.approx(expected, abs=1e-5)
    assert model.weight.item() == 1.0


def test_the_state_of_the_optimiser_survives_a_round_trip() -> None:
    one, two = trainer(), trainer()
    for iteration in range(3):
        one.advance(batch(iteration), iteration)
    raw = {name: w.clone() for name, w in one.network.state_dict().items()}
    ema = {name: w.clone() for name, w in one.ema.weights.items()}
    two.restore(raw, ema, {name: w.clone() for name, w in one.state().items()})
    for work in (one, two):
        work.advance(batch(3), 3)
    for name, weight in one.network.state_dict().items():
        assert torch.equal(weight, two.network.state_dict()[name]), name
    for name, moment in one.state().items():
        assert torch.equal(moment, two.state()[name]), name

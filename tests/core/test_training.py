"""Training: batches as pure functions, the average, and what must not be poisoned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from toys import TINY

from prdit_core.errors import NumericalError
from prdit_core.schedule import CosineSchedule
from prdit_core.training import contracts
from prdit_core.training.batches import Batch, Batches, split
from prdit_core.training.ema import Ema
from prdit_core.training.families.prdit.network import prepare
from prdit_core.training.families.prdit.recipe import task_of
from prdit_core.training.families.prdit.stages import PRDIT_STAGES
from prdit_core.training.loop import Trainer, run_loop, sums_by_level
from prdit_core.training.rate import Rate

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from prdit_core.training.events import TrainStep

VOLUMES = np.random.default_rng(0).uniform(-1, 1, (5, 8, 8, 8)).astype(np.float32)


@dataclass(frozen=True)
class Source:
    names: tuple[str, ...] = ("a", "b", "c", "d", "e")
    labels: tuple[int, ...] = (0,) * 5
    shapes: tuple[tuple[int, int, int], ...] = ((8, 8, 8),) * 5

    def read(self, number: int) -> NDArray[np.float32]:
        return VOLUMES[number][None]

    def condition(self, number: int) -> None:
        del number


def batches(seed: int = 0, size: int = 2, rank: int = 0, world: int = 1) -> Batches:
    return Batches(Source(), seed, size, rank, world)


def batch(iteration: int, seed: int = 0, size: int = 2) -> Batch:
    drawn = batches(seed, size)[iteration]
    assert isinstance(drawn, Batch)
    return drawn


def trainer(lr: float = 1e-3, micro_batch: int = 4, clip: float = 1.0) -> Trainer:
    torch.set_num_threads(1)
    stage = PRDIT_STAGES["local"]
    network = prepare(stage.model_config(TINY), stage, 0, None)
    fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
    return Trainer(
        task_of(network, CosineSchedule(noise_std=0.5)),
        fabric,
        rate=Rate("constant", lr, 1),
        clip=clip,
        decay=0.99,
        micro_batch=micro_batch,
    )


def run(
    work: Trainer, total: int, size: int = 4, stop_requested: Callable[[], bool] = lambda: False
) -> list[TrainStep]:
    drawn = batches(size=size).between(0, total, workers=0)
    return list(run_loop(work, drawn, start=0, total=total, stop_requested=stop_requested))


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
        assert sorted(seen[5 * epoch : 5 * epoch + 5]) == list("abcde")


def test_times_are_uniform_and_reach_neither_zero_nor_beyond_the_end() -> None:
    times = torch.cat([batch(iteration, size=5).t for iteration in range(400)])
    assert times.min() > 0 and times.max() <= 1000
    counts = torch.histc(times, 10, 0, 1000)
    assert counts.min() > 140 and counts.max() < 260  # 200 expected


@pytest.mark.parametrize("clip", [1e-3, 1e3])
def test_the_gradient_is_clipped_to_its_norm(clip: float) -> None:
    """Adam's first moment after one step is a tenth of the gradient that it was given."""
    work = trainer(clip=clip)
    (step,) = run(work, 1)
    moments = [m for name, m in work.moments().items() if name.endswith(".exp_avg")]
    given = 10 * float(torch.cat([m.flatten() for m in moments]).norm())
    assert 1e-3 < step.grad_norm < 1e3
    assert given == pytest.approx(min(clip, step.grad_norm), rel=1e-4)


def test_the_average_warms_up_and_then_keeps_its_decay() -> None:
    """min(decay, (1 + i) / (10 + i)): a tenth stays at first, half of it at a decay of 0.5."""
    model = torch.nn.Linear(1, 1, bias=False)
    for iteration, kept in ((0, 0.1), (2, 0.25), (8, 0.5), (5000, 0.5)):
        torch.nn.init.zeros_(model.weight)
        average = Ema(model, decay=0.5)
        torch.nn.init.ones_(model.weight)
        average.update(model, iteration)
        assert float(average.weights["weight"]) == pytest.approx(1 - kept)


@pytest.mark.slow
def test_training_lowers_the_loss() -> None:
    steps = run(trainer(3e-3), 150)
    totals = [step.losses["total"] for step in steps]
    assert np.mean(totals[-30:]) < 0.8 * np.mean(totals[:10])


def test_a_rate_stays_or_falls_along_half_a_cosine() -> None:
    assert [Rate("constant", 0.3, 4).at(n) for n in (0, 3)] == [0.3, 0.3]
    falling = [Rate("cosine", 0.3, 4).at(n) for n in range(5)]
    expected = [0.3, 0.15 * (1 + 0.5**0.5), 0.15, 0.15 * (1 - 0.5**0.5), 0.0]
    assert falling == pytest.approx(expected, abs=1e-12)


def test_a_falling_rate_is_that_of_each_step() -> None:
    """Of the first steps of Adam each moves a weight by about the rate."""
    work = trainer()
    work.rate = Rate("cosine", 1e-3, 4)
    moved = []
    for number in range(4):
        before = work.task.network.local.out.weight.detach().clone()
        work.advance(batch(0)._replace(iteration=number))
        moved.append(float((work.task.network.local.out.weight.detach() - before).abs().median()))
    steps = run(trainer(), 2)
    assert [step.lr for step in steps] == [1e-3, 1e-3]
    rates = [work.rate.at(number) for number in range(4)]
    assert np.array(moved) / moved[0] == pytest.approx(np.array(rates) / rates[0], rel=0.2)


def test_a_loss_that_is_not_finite_poisons_nothing() -> None:
    work = trainer()
    work.advance(batch(0))
    before = {name: w.clone() for name, w in work.task.network.state_dict().items()}
    average = {name: w.clone() for name, w in work.ema.weights.items()}
    bad = batch(1)
    bad.x0[0, 0, 0, 0, 0] = torch.nan
    with pytest.raises(NumericalError, match=rf"iteration 2.*cases {bad.cases[0]}\)"):
        work.advance(bad)
    assert all(torch.equal(w, before[name]) for name, w in work.task.network.state_dict().items())
    assert all(torch.equal(w, average[name]) for name, w in work.ema.weights.items())
    work.advance(batch(2))


def test_the_state_of_the_optimiser_survives_a_round_trip() -> None:
    one, two = trainer(), trainer()
    for iteration in range(3):
        one.advance(batch(iteration))
    raw = {name: w.clone() for name, w in one.task.network.state_dict().items()}
    ema = {name: w.clone() for name, w in one.ema.weights.items()}
    two.restore(raw, ema, {name: w.clone() for name, w in one.moments().items()})
    for work in (one, two):
        work.advance(batch(3))
    for name, weight in one.task.network.state_dict().items():
        assert torch.equal(weight, two.task.network.state_dict()[name]), name
    for name, moment in one.moments().items():
        assert torch.equal(moment, two.moments()[name]), name


def test_processes_share_a_batch_without_changing_it() -> None:
    whole = batch(3, size=4)
    shares = [batches(size=4, rank=rank, world=2)[3] for rank in range(2)]
    assert [share.cases for share in shares] == [whole.cases[::2], whole.cases[1::2]]
    for rank, share in enumerate(shares):
        assert torch.equal(share.x0, whole.x0[rank::2])
        assert torch.equal(share.unit_noise, whole.unit_noise[rank::2])
        assert torch.equal(share.t, whole.t[rank::2])


def test_a_batch_held_in_parts_gives_the_gradient_of_the_whole() -> None:
    parts = list(split(batch(0, size=5), 2))
    assert [len(part.cases) for part in parts] == [2, 2, 1]
    one, two = trainer(micro_batch=5), trainer(micro_batch=2)
    results = [work.advance(batch(0, size=5)) for work in (one, two)]
    assert results[0][1] == pytest.approx(results[1][1], rel=1e-5)
    assert results[0][0].loss() == pytest.approx(results[1][0].loss(), rel=1e-5)
    for name, weight in one.weights().items():
        torch.testing.assert_close(two.weights()[name], weight, rtol=1e-4, atol=1e-6)


def test_losses_are_told_by_noise_level() -> None:
    t = torch.tensor([0.1, 200.0, 200.1, 1000.0])
    terms = {"x0": torch.tensor([1.0, 3, 5, 7]), "eps": torch.ones(4), "total": torch.zeros(4)}
    sums = sums_by_level(terms, t)
    assert sums[0].tolist() == [4, 5, 0, 0, 7] and sums[3].tolist() == [2, 1, 0, 0, 1]


def test_a_step_tells_its_losses_in_all_and_by_level() -> None:
    (step,) = run(trainer(), 1)
    level = step.levels["total"]
    assert len(level) == 5 and any(value is not None for value in level)
    assert step.losses["total"] == pytest.approx(step.losses["x0"] + step.losses["eps"])


def test_the_loop_ends_after_the_iteration_in_which_it_is_asked_to() -> None:
    answers = iter([False, False, True])
    steps = run(trainer(), 10, stop_requested=lambda: next(answers))
    assert [step.asked_to_stop for step in steps] == [False, False, True]


def test_computing_activations_twice_changes_no_gradient() -> None:
    found = []
    for activations in ("keep", "recompute"):
        model = prepare(TINY, PRDIT_STAGES["global"], 0, None)
        assert model.global_residual is not None
        model.global_residual.activations = activations
        torch.manual_seed(0)
        for weight in model.parameters():  # zero at the start, so all gradients inside would be
            torch.nn.init.normal_(weight)
        model(torch.ones(1, 1, 8, 8, 8), torch.tensor([500.0])).square().sum().backward()
        found.append({n: w.grad for n, w in model.named_parameters() if w.grad is not None})
    assert found[0].keys() == found[1].keys()
    assert any(gradient.any() for gradient in found[0].values())
    assert all(torch.equal(gradient, found[1][name]) for name, gradient in found[0].items())


# ------------------------------------------------------------------------- two players


class Number(torch.nn.Module):
    """One weight."""

    def __init__(self) -> None:
        super().__init__()
        self.value = torch.nn.Parameter(torch.zeros(1))
        self.register_buffer("seen", torch.zeros(1))


class Chases(torch.nn.Module):
    """Error of one number against another, which gets no gradient of it."""

    def __init__(self, own: Number, other: Number, sign: float, kind: str) -> None:
        super().__init__()
        self.own, self.hidden, self.sign, self.kind = own, (other,), sign, kind

    def forward(self, batch: Batch) -> contracts.Losses:
        self.own.seen += len(batch.cases)
        gap = batch.x0.flatten(1).mean(1) + self.own.value - self.sign * self.hidden[0].value
        return contracts.Losses({self.kind: gap.square()}, gap.square() + 0 * self.hidden[0].value)


def duel(lr: float = 0.1) -> Trainer:
    one, two = Number(), Number()
    players = (
        contracts.Player("", one, Chases(one, two, 1.0, "total"), ("total",), torch.optim.SGD),
        contracts.Player("rival", two, Chases(two, one, -1.0, "own"), ("own",), torch.optim.SGD),
    )
    fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
    rate = Rate("constant", lr, 1)
    task = contracts.Task(players, lambda network: network)
    return Trainer(task, fabric, rate=rate, clip=1e9, decay=0.0, micro_batch=1)


def test_two_players_step_once_each_at_the_same_weights() -> None:
    """Gradients of both are those at the old weights, in closed form, and none leaks across."""
    work, given = duel(), batch(0, size=2)
    mean = float(given.x0.flatten(1).mean(1).mean())
    a = b = 0.0
    for iteration in range(3):
        tally, _ = work.advance(given._replace(iteration=iteration))
        assert set(tally.loss()) == {"total", "own"}
        a, b = a - 0.2 * (mean + a - b), b - 0.2 * (mean + b + a)
        assert float(work.weights()["value"]) == pytest.approx(a, rel=1e-5)
        assert float(work.weights()["rival.value"]) == pytest.approx(b, rel=1e-5)
    assert float(work.averaged()["seen"]) == 6  # buffers are taken as they are
    assert set(work.averaged()) == {"value", "seen"}


def test_neither_player_steps_where_one_of_them_cannot() -> None:
    work = duel()
    work.advance(batch(0))
    before = {name: weight.clone() for name, weight in work.weights().items()}
    with torch.no_grad():
        work.turns[1].player.network.value.fill_(torch.nan)
    with pytest.raises(NumericalError, match=r"iteration 2.*nothing was updated"):
        work.advance(batch(1))
    assert torch.equal(work.weights()["value"], before["value"])


def test_both_players_survive_a_round_trip() -> None:
    one, two = duel(), duel()
    for iteration in range(3):
        one.advance(batch(iteration))
    raw = {name: weight.clone() for name, weight in one.weights().items()}
    two.restore(raw, one.averaged(), one.moments())
    for work in (one, two):
        work.advance(batch(3))
    for name, weight in one.weights().items():
        assert torch.equal(weight, two.weights()[name]), name


def test_bf16_rounds_neither_times_nor_volumes_on_their_way_in() -> None:
    """Engines round all floats that a forward is called with: 437.2 would become 438."""
    seen: list[Batch] = []

    class Looks(Chases):
        def forward(self, batch: Batch) -> contracts.Losses:
            seen.append(batch)
            return super().forward(batch)

    one, two = Number(), Number()
    player = contracts.Player("", one, Looks(one, two, 1, "total"), ("total",), torch.optim.SGD)
    fabric = Fabric(accelerator="cpu", devices=1, precision="bf16-mixed")
    task, rate = contracts.Task((player,), lambda network: network), Rate("constant", 1e-3, 1)
    work = Trainer(task, fabric, rate=rate, clip=1.0, decay=0.9, micro_batch=4)
    given = batch(0)
    work.advance(given)
    assert torch.equal(seen[0].t, given.t) and torch.equal(seen[0].x0, given.x0)

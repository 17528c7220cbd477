"""Going on from the middle of a walk with other noise."""

from __future__ import annotations

from collections import deque
from threading import Thread
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from toys import tiny_checkpoint

from prdit_core import Branch, SamplingConfig, branch_steps, generate, generate_steps, load
from prdit_core.errors import UsageError
from prdit_core.machine import interruptible

if TYPE_CHECKING:
    from pathlib import Path

    from prdit_core import Prior, SampleStep

STEPS = 12
WAY = SamplingConfig(steps=STEPS)


@pytest.fixture(scope="module")
def prior() -> Prior:
    return load("demo").at_size(32)


@pytest.fixture(scope="module")
def walk(prior: Prior) -> list[SampleStep]:
    return list(generate_steps(prior, WAY, seed=3))


def ending(prior: Prior, walk: list[SampleStep], step: int, seed: int) -> SampleStep:
    steps = branch_steps(prior, walk[step].x0, step, WAY, seed=seed)
    (last,) = deque(steps, maxlen=1)
    return last


def away(a: SampleStep, b: SampleStep) -> float:
    return float((a.x0 - b.x0).square().mean().sqrt())


def test_a_branch_visits_the_steps_that_are_left(prior: Prior, walk: list[SampleStep]) -> None:
    branch = list(branch_steps(prior, walk[7].x0, 7, WAY, seed=9))
    assert [(s.index, s.total, s.t, s.t_next) for s in branch] == [
        (s.index, s.total, s.t, s.t_next) for s in walk[7:]
    ]


@pytest.mark.slow
def test_later_branches_keep_more_of_the_volume(prior: Prior, walk: list[SampleStep]) -> None:
    found = [
        sum(away(ending(prior, walk, step, seed), walk[-1]) for seed in (1, 2, 4))
        for step in (0, 5, 9)
    ]
    assert found[0] > 1.3 * found[1] > 1.3 * 1.3 * found[2] > 0


@pytest.mark.slow
def test_a_branch_depends_on_its_seed_only(prior: Prior, walk: list[SampleStep]) -> None:
    one, again, other = (ending(prior, walk, 4, seed) for seed in (1, 1, 2))
    assert torch.equal(one.x0, again.x0) and away(one, other) > 0.01


@pytest.mark.parametrize(("step", "seed"), [(-1, 0), (STEPS, 0), (3, -1)])
def test_what_cannot_be_is_refused(
    prior: Prior, walk: list[SampleStep], step: int, seed: int
) -> None:
    with pytest.raises(UsageError):
        ending_of = branch_steps(prior, walk[3].x0, step, WAY, seed=seed)
        next(ending_of)


def test_a_walk_with_branches_is_what_its_recorded_steps_lead_to(tmp_path: Path) -> None:
    """A recording keeps half floats; the same bytes come out, also for a branch of a branch."""
    prior, way = load(tiny_checkpoint(tmp_path / "tiny")), SamplingConfig(steps=6, k=2.0)
    index, first, second = 3, Branch(2, 8), Branch(4, 9)
    parent = list(generate_steps(prior, way, seed=1, index=index))
    half = [step.x0.half().float() for step in parent]
    (*_, ending) = branch_steps(prior, half[2], 2, way, seed=8, index=index)
    volume = generate(prior, way, seed=1, index=index, branches=[first])
    np.testing.assert_array_equal(volume.voxels_hu, prior.to_volume(ending.x0, {}).voxels_hu)

    whole = list(generate_steps(prior, way, seed=1, index=index, branches=[first, second]))
    assert [step.index for step in whole] == [0, 1, 2, 2, 3, 4, 4, 5]
    (*_, ending) = branch_steps(prior, whole[5].x0.half(), 4, way, seed=9, index=index)
    assert torch.equal(whole[-1].x0, ending.x0)


def test_a_record_names_branches_and_whether_it_is_an_estimate(tmp_path: Path) -> None:
    from prdit_core.verbs.step_volume import step_volume

    prior, way = load(tiny_checkpoint(tmp_path / "tiny")), SamplingConfig(steps=4)
    branches = [Branch(2, 8)]
    *_, before_last, last = generate_steps(prior, way, seed=1, branches=branches)
    done = step_volume(prior, way, last, seed=1, index=0, branches=branches).metadata
    assert done["branches"] == ["3:8"] and "branch 3:8" in done["description"]
    assert "estimate_at_step" not in done and "estimate" not in done["description"]
    on_the_way = step_volume(prior, way, before_last, seed=1, index=0, branches=branches).metadata
    assert on_the_way["estimate_at_step"] == 3 and "branch 3:8" in on_the_way["description"]
    assert "estimate at step 3 of 4" in on_the_way["description"][:79]
    early = next(generate_steps(prior, way, seed=1, branches=branches))
    parent = step_volume(prior, way, early, seed=1, index=0, branches=branches).metadata
    assert parent["estimate_at_step"] == 1 and "branch" not in str(parent)


@pytest.mark.parametrize(
    "branches", [[Branch(4, 0)], [Branch(2, -1)], [Branch(3, 0), Branch(2, 0)]]
)
def test_branches_that_cannot_be_are_refused(tmp_path: Path, branches: list[Branch]) -> None:
    prior = load(tiny_checkpoint(tmp_path / "tiny"))
    with pytest.raises(UsageError):
        next(generate_steps(prior, SamplingConfig(steps=4), branches=branches))


def test_a_branch_as_text_counts_steps_from_one() -> None:
    assert str(Branch(6, 4)) == "7:4" and Branch.parse("7:4") == Branch(6, 4)
    for text in ("7", "0:4", "7:-4", "7:4:5", "seven:4", ""):
        with pytest.raises(UsageError, match="STEP:SEED"):
            Branch.parse(text)


def test_a_walk_can_be_ended_in_the_middle_of_a_step_by_its_own_thread_alone(
    tmp_path: Path,
) -> None:
    prior, way = load(tiny_checkpoint(tmp_path / "tiny")), SamplingConfig(steps=4)
    calls: list[None] = []

    def ask() -> None:
        calls.append(None)
        if len(calls) == 5:
            raise InterruptedError

    with pytest.raises(InterruptedError), interruptible(ask):
        list(generate_steps(prior, way))
    assert len(calls) == 5
    list(generate_steps(prior, way))  # nobody asks any more
    with interruptible(ask):
        other = Thread(target=lambda: list(generate_steps(prior, way)))
        other.start()
        other.join()
    assert len(calls) == 5

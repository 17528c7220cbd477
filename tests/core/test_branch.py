"""Going on from the middle of a walk with other noise."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import pytest
import torch

from prdit_core import SamplingConfig, branch_steps, generate_steps, load
from prdit_core.errors import UsageError

if TYPE_CHECKING:
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


def test_later_branches_keep_more_of_the_volume(prior: Prior, walk: list[SampleStep]) -> None:
    found = [
        sum(away(ending(prior, walk, step, seed), walk[-1]) for seed in (1, 2, 4))
        for step in (0, 5, 9)
    ]
    assert found[0] > 1.3 * found[1] > 1.3 * 1.3 * found[2] > 0


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

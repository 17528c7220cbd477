"""The global residual reused: what is evaluated when, and what comes out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import torch
from pydantic import ValidationError
from toys import TINY, TINY_CHAIN, tiny_checkpoint

import prdit_core
from prdit_core import SAMPLERS, SamplingConfig
from prdit_core.models.prdit.evaluation import PRDiTDenoiser
from prdit_core.models.prdit.reuse import Reusing
from prdit_core.noise import Draw, unit_noise

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

    from prdit_core import Prior, SampleStep

STEPS = 12


@pytest.fixture(scope="module")
def priors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Prior]:
    folder = tmp_path_factory.mktemp("reuse")
    models = {
        "base": TINY,
        "chain": TINY_CHAIN,
        "local only": TINY.model_copy(update={"depth": 0}),
    }
    return {
        name: prdit_core.load(tiny_checkpoint(folder / name, size=16, model=model))
        for name, model in models.items()
    }


def configuration(**settings: object) -> SamplingConfig:
    plain = {"steps": STEPS, "refresh_change": None}
    return SamplingConfig.model_validate({**plain, **settings})


def walk(prior: Prior, **settings: object) -> list[SampleStep]:
    return list(prdit_core.generate_steps(prior, configuration(**settings), seed=1))


def refreshed(prior: Prior, **settings: object) -> list[int]:
    """Steps of a walk at which the global residual was evaluated; all else is at every step."""
    module = prior.network.module
    parts = [module.local, *module.refiners]
    parts += [] if module.global_residual is None else [module.global_residual]
    calls: list[nn.Module] = []
    hooks = [part.register_forward_hook(lambda part, *_: calls.append(part)) for part in parts]
    found = []
    for step in prdit_core.generate_steps(prior, configuration(**settings), seed=1):
        assert set(calls) | {module.global_residual} >= set(parts)
        if module.global_residual is not None and module.global_residual in calls:
            found.append(step.index)
        calls.clear()
    for hook in hooks:
        hook.remove()
    return found


def reusing(prior: Prior, **settings: object) -> Reusing:
    evaluation = PRDiTDenoiser(prior.network.module, prior.schedule)
    return Reusing(evaluation, configuration(**settings))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["base", "chain"])
@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "heun"])
def test_every_sampler_refreshes_at_every_nth_step(
    priors: dict[str, Prior], name: str, sampler: str
) -> None:
    assert refreshed(priors[name], sampler=sampler, refresh_every=4) == [0, 4, 8]
    assert refreshed(priors[name], sampler=sampler) == list(range(STEPS))


@pytest.mark.parametrize("name", ["base", "chain", "local only"])
def test_refreshed_at_every_step_it_is_the_network(priors: dict[str, Prior], name: str) -> None:
    prior = priors[name]
    denoiser = reusing(prior, refresh_every=1)
    for t in (900.0, 500.0, 3.0):
        x = unit_noise(prior.shape, Draw.START, int(t))
        ours, whole = denoiser(x, t), prior.denoise(x, t)
        torch.testing.assert_close(ours.x0, whole.x0)
        torch.testing.assert_close(ours.eps, whole.eps)


def test_a_held_residual_is_that_of_the_last_refresh(priors: dict[str, Prior]) -> None:
    prior = priors["chain"]
    denoiser = reusing(prior, refresh_every=2)
    evaluation = denoiser.evaluation
    first, second = unit_noise(prior.shape, Draw.START, 1), unit_noise(prior.shape, Draw.START, 2)
    denoiser(first, 800.0)
    held = evaluation.residual(first, 800.0)
    assert held is not None
    expected = evaluation.completed(evaluation.local(second, 700.0) + held, second, 700.0)
    assert torch.equal(denoiser(second, 700.0).x0, expected.x0)


def test_by_change_it_refreshes_while_the_image_changes(priors: dict[str, Prior]) -> None:
    prior = priors["base"]
    denoiser = reusing(prior, refresh_change=0.5)
    x = unit_noise(prior.shape, Draw.START, 1)

    def says(x: torch.Tensor) -> bool:
        before = denoiser.refreshes
        denoiser(x, 500.0)
        return denoiser.refreshes > before

    still = [says(x) for _ in range(5)]
    assert still == [True, False, False, False, False]
    assert says(-x) and not says(-x)
    nudged = [says(-x + 0.05 * step * unit_noise(prior.shape, Draw.START, 2)) for step in range(40)]
    assert 0 < sum(nudged) < 40 and not nudged[0]  # small changes add up


class Noisy:
    """An evaluation whose image stays while its noise head changes all the time."""

    def __init__(self) -> None:
        self.module = SimpleNamespace(config=SimpleNamespace(channels=1))
        self.image, self.calls = 1.0, 0

    def local(self, x: torch.Tensor, t: float) -> torch.Tensor:
        self.calls += 1
        return torch.cat([torch.full_like(x, 10.0 * self.calls), torch.full_like(x, self.image)], 1)

    def residual(self, x: torch.Tensor, t: float) -> None:
        return None

    def completed(self, base: torch.Tensor, x: torch.Tensor, t: float) -> torch.Tensor:
        return base


def test_a_change_is_one_of_the_image_head_alone() -> None:
    """The noise head follows every corrector's noise, so it says nothing of the residual."""
    evaluation = Noisy()
    denoiser = Reusing(evaluation, configuration(refresh_change=0.5))  # type: ignore[arg-type]
    for _ in range(5):
        denoiser(torch.zeros(1, 1, 2, 2, 2), 500.0)
    assert denoiser.refreshes == 1
    evaluation.image = 3.0
    denoiser(torch.zeros(1, 1, 2, 2, 2), 500.0)
    assert denoiser.refreshes == 2


def test_a_larger_threshold_refreshes_less(priors: dict[str, Prior]) -> None:
    counts = [len(refreshed(priors["base"], refresh_change=c)) for c in (1e-6, 2.0, 1e6)]
    assert counts[0] == STEPS and counts[0] > counts[1] > counts[2] == 1
    both = refreshed(priors["base"], refresh_change=1e6, refresh_every=5)
    assert both == [0, 5, 10]


def test_the_same_seed_gives_the_same_volume_with_reuse(priors: dict[str, Prior]) -> None:
    for name, prior in priors.items():
        one, again = (walk(prior, refresh_change=0.3, k=2.0)[-1].x0 for _ in range(2))
        assert torch.equal(one, again), name


def test_a_walk_s_residual_is_not_the_last_walk_s(priors: dict[str, Prior]) -> None:
    """Two walks in turn are the same as one after the other."""
    config = SamplingConfig(steps=STEPS, refresh_every=3, refresh_change=None)

    def begun(seed: int) -> Iterator[SampleStep]:
        return prdit_core.generate_steps(priors["base"], config, seed=seed)

    apart = [list(begun(seed))[-1].x0 for seed in (1, 2)]
    *_, in_turn = zip(begun(1), begun(2), strict=True)
    assert all(torch.equal(step.x0, x0) for step, x0 in zip(in_turn, apart, strict=True))


def test_a_model_without_global_part_has_nothing_to_refresh(priors: dict[str, Prior]) -> None:
    assert refreshed(priors["local only"], refresh_every=2) == []


def test_what_cannot_be_reused_is_refused() -> None:
    for wrong in ({"refresh_every": 0}, {"refresh_change": 0.0}, {"refresh_change": float("nan")}):
        with pytest.raises(ValidationError):
            SamplingConfig.model_validate(wrong)


def test_bf16_is_near_and_reuse_works_with_it(priors: dict[str, Prior]) -> None:
    prior = priors["chain"]
    x = unit_noise(prior.shape, Draw.START, 1)
    exact = prior.denoise(x, 500.0).x0
    rough = prior.denoiser(SamplingConfig(precision="bf16-mixed"))(x, 500.0).x0
    assert rough.dtype == torch.float32
    away = float((rough - exact).norm() / exact.norm())
    assert 0 < away < 0.05
    assert refreshed(prior, precision="bf16-mixed", refresh_every=6) == [0, 6]

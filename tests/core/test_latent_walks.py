"""DDPM and corrected DDIM of 3D MedDiffusion are rows that the samplers already have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import recorded_latent
import torch
from recorded import load, tensor

from prdit_core.models.contracts import Prediction
from prdit_core.models.latent.biflownet import resolution_of
from prdit_core.models.latent.denoiser import LatentDenoiser
from prdit_core.sampling.grid import TimeGrid, time_grid
from prdit_core.sampling.sampler import SAMPLERS, sample_steps
from prdit_core.schedule import Schedule, VPCosineSchedule
from prdit_core.training.objective import add_noise, shares

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor


def denoiser(parity: Path, numbers: dict[str, Any], schedule: Schedule) -> LatentDenoiser:
    """The family's own, of the recorded class."""
    model = recorded_latent.biflownet(load(parity / "med_biflow_mini.npz"))
    assert torch.equal(resolution_of(tensor(numbers["traj/z"])), tensor(numbers["res"]))
    return LatentDenoiser(model, schedule, int(numbers["y"][0]))


def free(denoise: LatentDenoiser) -> Callable[[Tensor, float], Prediction]:
    """The same without a clamp."""

    def without(x: Tensor, t: float) -> Prediction:
        alpha, sigma = denoise.schedule.alpha(t), denoise.schedule.sigma(t)
        eps = denoise(x, t).eps
        return Prediction((x - sigma * eps) / alpha, eps)

    return without


def states(
    numbers: dict[str, Any],
    denoise: Callable[[Tensor, float], Prediction],
    schedule: Schedule,
    grid: TimeGrid,
    sampler: str,
    eta: float | None,
) -> list[np.ndarray]:
    noise = tensor(numbers["traj/noise"])
    steps = sample_steps(
        denoise,
        schedule,
        tensor(numbers["traj/z"]),
        sampler=SAMPLERS[sampler],
        grid=grid,
        eta=eta,
        noise=lambda index: noise[index],
    )
    return [step.x.numpy() for step in steps]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["clamp", "free"])
def test_ddpm_is_a_sampler_on_every_entry(name: str, parity: Path) -> None:
    """Its posterior mean takes the noise that the clamped x0 leaves, not what was predicted."""
    numbers, schedule = load(parity / "med_diffusion.npz"), VPCosineSchedule(entries=8)
    own = denoiser(parity, numbers, schedule)
    denoise = own if name == "clamp" else free(own)
    grid = time_grid("exact", 8, schedule)
    found = states(numbers, denoise, schedule, grid, "ddpm", None)
    expected = numbers[f"traj/ddpm8_{name}_xs"][1:]
    for state, right in zip(found, expected, strict=True):
        largest = 5e-4 if name == "clamp" else 1e-5 * np.abs(right).max()
        np.testing.assert_allclose(state, right, rtol=0, atol=largest)
    if name == "clamp":  # ancestral steps that take the predicted noise beside a clamped x0
        naive = states(numbers, denoise, schedule, grid, "ddim", 1.0)
        assert np.abs(naive[3] - expected[3]).max() > 0.1


@pytest.mark.parametrize("eta", [0.0, 0.5])
def test_ddim_ends_at_the_data(eta: float, parity: Path) -> None:
    """Defect 4: the release's last call changes nothing, and its noise has too great a variance."""
    numbers, schedule = load(parity / "med_diffusion.npz"), VPCosineSchedule()
    grid = TimeGrid((*(float(t) + 1 for t in numbers["traj/ddim8_times"]), 0.0))
    found = states(numbers, denoiser(parity, numbers, schedule), schedule, grid, "ddim", eta)
    expected = numbers[f"traj/ddim8_eta{eta}_formula_clamp_xs"][1:]
    for state, right in zip(found, expected, strict=True):
        np.testing.assert_allclose(state, right, rtol=0, atol=5e-4)
    wrong = numbers[f"traj/ddim8_eta{eta}_clamp_xs"][-1]
    assert np.abs(found[-1] - wrong).max() > 5e-3


@pytest.mark.parametrize("batch", [2, 8])
def test_states_of_a_batch_walk_as_they_would_alone(batch: int, parity: Path) -> None:
    """Defect 4: the release raises for any batch but 1, and that of as many as channels, 8."""
    numbers, schedule = load(parity / "med_diffusion.npz"), VPCosineSchedule()
    own, grid = denoiser(parity, numbers, schedule), time_grid("exact", 3, schedule)
    start = torch.randn(batch, 8, 4, 4, 8, generator=torch.Generator().manual_seed(0))

    way: dict[str, Any] = {"sampler": SAMPLERS["ddim"], "grid": grid, "eta": 0.0}

    def walked(x: Tensor) -> list[Tensor]:
        steps = sample_steps(own, schedule, x, **way, noise=lambda _: torch.zeros_like(x))
        return [step.x for step in steps]

    together, alone = walked(start), walked(start[1:2])
    assert len(together) == 3  # the release never looks at how many steps are wanted
    torch.testing.assert_close(together[-1][1:2], alone[-1], atol=1e-5, rtol=0)


def test_every_volume_of_a_batch_has_its_own_time() -> None:
    """Defect 4: shaped (B, 1, 1, 1), times of a batch go to the channels, if it does not raise."""
    schedule, stream = VPCosineSchedule(), torch.Generator().manual_seed(0)
    x0, eps = torch.randn(2, 8, 8, 4, 4, 8, generator=stream)
    t = torch.linspace(100, 900, 8)
    found = add_noise(schedule, x0, eps, t)
    for number, at in enumerate(t.tolist()):
        right = schedule.alpha(at) * x0[number] + schedule.sigma(at) * eps[number]
        torch.testing.assert_close(found[number], right)
    alpha, sigma = (share[..., 0] for share in shares(schedule, t))
    assert float((alpha * x0 + sigma * eps - found).abs().max()) > 1
    with pytest.raises(RuntimeError, match="must match"):
        alpha[:2] * x0[:2]

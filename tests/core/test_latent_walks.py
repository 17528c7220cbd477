"""DDPM and corrected DDIM of 3D MedDiffusion are rows that the samplers already have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import recorded_latent
import torch
from recorded import load, tensor

from prdit_core.models.contracts import Prediction
from prdit_core.sampling.grid import TimeGrid, time_grid
from prdit_core.sampling.sampler import SAMPLERS, sample_steps
from prdit_core.schedule import Schedule, VPCosineSchedule

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor


def denoiser(
    parity: Path, numbers: dict[str, Any], schedule: Schedule, clamp: bool, rederived: bool
) -> Callable[[Tensor, float], Prediction]:
    model = recorded_latent.biflownet(load(parity / "med_biflow_mini.npz"))
    label, resolution = tensor(numbers["y"]), tensor(numbers["res"])

    @torch.no_grad()
    def denoise(x: Tensor, t: float) -> Prediction:
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        time = torch.full((len(x),), schedule.network_time(t))
        eps = model(x, time, label, resolution)
        x0 = (x - sigma * eps) / alpha
        if clamp:
            x0 = x0.clamp(-1, 1)
        return Prediction(x0, (x - alpha * x0) / sigma if rederived else eps)

    return denoise


def states(
    numbers: dict[str, Any],
    denoise: Callable[[Tensor, float], Prediction],
    schedule: Schedule,
    grid: TimeGrid,
    eta: float,
) -> list[np.ndarray]:
    noise = tensor(numbers["traj/noise"])
    steps = sample_steps(
        denoise,
        schedule,
        tensor(numbers["traj/z"]),
        sampler=SAMPLERS["ddim"],
        grid=grid,
        eta=eta,
        noise=lambda index: noise[index],
    )
    return [step.x.numpy() for step in steps]


@pytest.mark.parametrize(("name", "clamp"), [("clamp", True), ("free", False)])
def test_ddpm_is_ddim_of_eta_1_on_every_entry(name: str, clamp: bool, parity: Path) -> None:
    """Its posterior mean takes the noise that the clamped x0 leaves, not what was predicted."""
    numbers, schedule = load(parity / "med_diffusion.npz"), VPCosineSchedule(entries=8)
    denoise = denoiser(parity, numbers, schedule, clamp, rederived=True)
    found = states(numbers, denoise, schedule, time_grid("exact", 8, schedule), 1.0)
    for state, expected in zip(found, numbers[f"traj/ddpm8_{name}_xs"][1:], strict=True):
        largest = 5e-4 if clamp else 1e-5 * np.abs(expected).max()
        np.testing.assert_allclose(state, expected, rtol=0, atol=largest)


@pytest.mark.parametrize("eta", [0.0, 0.5])
def test_ddim_ends_at_the_data(eta: float, parity: Path) -> None:
    """Defect 4: the release's last call changes nothing, and its noise has too great a variance."""
    numbers, schedule = load(parity / "med_diffusion.npz"), VPCosineSchedule()
    grid = TimeGrid((*(float(t) + 1 for t in numbers["traj/ddim8_times"]), 0.0))
    denoise = denoiser(parity, numbers, schedule, clamp=True, rederived=False)
    found = states(numbers, denoise, schedule, grid, eta)
    expected = numbers[f"traj/ddim8_eta{eta}_formula_clamp_xs"][1:]
    for state, right in zip(found, expected, strict=True):
        np.testing.assert_allclose(state, right, rtol=0, atol=5e-4)
    wrong = numbers[f"traj/ddim8_eta{eta}_clamp_xs"][-1]
    assert np.abs(found[-1] - wrong).max() > 5e-3

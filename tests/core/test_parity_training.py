"""Forward process, losses and gradients of the official releases."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import recorded
import torch

from prdit_core.checkpoints.releases.prdit.names import renamed
from prdit_core.schedule import CosineSchedule, LinearSchedule, T
from prdit_core.training.families.prdit.network import freeze
from prdit_core.training.families.prdit.stages import PRDIT_STAGES
from prdit_core.training.objective import add_noise, losses

if TYPE_CHECKING:
    from pathlib import Path

RELEASE = CosineSchedule(noise_std=0.5, last_t=999)


def test_forward_process_and_losses(parity: Path) -> None:
    numbers = recorded.load(parity / "prdit_forward_loss.npz")
    x0, eps, t = (recorded.tensor(numbers[name]) for name in ("x0", "noise", "t"))
    np.testing.assert_allclose(RELEASE.noise_std * numbers["unit_noise"], numbers["noise"])
    x_t = add_noise(RELEASE, x0, eps, t)
    np.testing.assert_allclose(x_t.numpy(), numbers["x_t"], atol=1e-6)
    model = recorded.network(recorded.load(parity / f"{numbers['model']}.npz"), "prdit")
    found = losses(model(x_t, t), x0, eps, t, RELEASE, "image-and-noise")
    np.testing.assert_allclose(found["x0"].detach().numpy(), numbers["img_loss"], rtol=1e-5)
    np.testing.assert_allclose(found["eps"].detach().numpy(), numbers["noise_loss"], rtol=1e-5)


def test_gradients_of_stage_two(parity: Path) -> None:
    batch = recorded.load(parity / "prdit_forward_loss.npz")
    numbers = recorded.load(parity / "prdit_train_grad.npz")
    x0, eps, t = (recorded.tensor(batch[name]) for name in ("x0", "noise", "t"))
    model = recorded.network(recorded.load(parity / f"{batch['model']}.npz"), "prdit").train()
    freeze(model, PRDIT_STAGES["global"])
    output = model(add_noise(RELEASE, x0, eps, t), t)
    total = losses(output, x0, eps, t, RELEASE, "image-and-noise")["total"].mean()
    total.backward()
    np.testing.assert_allclose(total.item(), numbers["total_loss"], rtol=1e-5)
    found = {name: weight.grad for name, weight in model.named_parameters()}
    for name in numbers["no_grad_keys"]:
        assert found.pop(renamed(str(name))) is None
    expected = {k.removeprefix("grad/"): v for k, v in numbers.items() if k.startswith("grad/")}
    assert {renamed(name) for name in expected} == set(found)
    for name, gradient in expected.items():
        np.testing.assert_allclose(found[renamed(name)].numpy(), gradient, atol=2e-5)
    norm = torch.nn.utils.get_total_norm([g for g in found.values() if g is not None])
    np.testing.assert_allclose(norm.item(), numbers["grad_norm_all"], rtol=1e-4)


def test_what_stage_three_trains(parity: Path) -> None:
    """Base frozen, the refiner's time embedding and local part trained (A.8)."""
    numbers = recorded.load(parity / "sr_model.npz")
    model = recorded.network(numbers, "prdit").train()
    freeze(model, PRDIT_STAGES["refine"])
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert trained == {renamed(str(name)) for name in numbers["trainable_keys"]}


def test_flow_matching_process_and_loss(parity: Path) -> None:
    numbers = recorded.load(parity / "fm_forward_loss.npz")
    schedule = LinearSchedule()
    x0, eps = recorded.tensor(numbers["x_data"]), recorded.tensor(numbers["x_noise"])
    theirs = recorded.tensor(numbers["t"])
    ours = T * (1 - theirs)  # their time runs from noise to data
    x_t = add_noise(schedule, x0, eps, ours)
    np.testing.assert_allclose(x_t.numpy(), numbers["x_t"], atol=1e-6)
    model = recorded.network(recorded.load(parity / f"{numbers['model']}.npz"), "fm")
    times = torch.tensor([schedule.network_time(float(t)) for t in ours])
    found = losses(model(x_t, times), x0, eps, ours, schedule, "velocity")
    np.testing.assert_allclose(found["total"].detach().numpy(), numbers["loss"], rtol=2e-5)

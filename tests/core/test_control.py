"""ControlNet on BiFlowNet: its size, where it begins, what it leaves alone, its conditions."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import torch
from recorded_latent import named
from torch import Tensor

from prdit_core.checkpoints.catalog import load
from prdit_core.checkpoints.header import CONTROL_WEIGHTS, HEADER, ControlPart, Header
from prdit_core.checkpoints.store import read_control, read_header, read_weights, save_checkpoint
from prdit_core.errors import CheckpointError, InputRejected
from prdit_core.intensity import Intensity
from prdit_core.models.families import configuration, expected_shapes, parameter_count
from prdit_core.models.initial import draw_weights
from prdit_core.models.latent.biflownet import BiFlowNet
from prdit_core.models.latent.config import BiFlowConfig, ControlConfig
from prdit_core.models.latent.control import ControlledNet, ControlNet, control_of, label_hint
from prdit_core.models.latent.denoiser import LatentDenoiser
from prdit_core.noise import Draw, generator, unit_noise
from prdit_core.schedule import CosineSchedule, VPCosineSchedule

if TYPE_CHECKING:
    from pathlib import Path

BASE = BiFlowConfig(
    channels=4,
    width=12,
    multipliers=(1, 1, 2),
    sub_volume=4,
    attention=(2,),
    heads=2,
    intra_heads=2,
    groups=4,
    classes=named("chest", "head"),
)
LABELS = ("heart", "lung", "bone")
VARIANTS: dict[str, dict[str, Any]] = {
    "A, labels": {"labels": LABELS},
    "A, image": {"images": ("sparse",)},
    "A, both": {"labels": LABELS, "images": ("sparse", "zero-filled")},
    "B, labels": {"labels": LABELS, "dual": True},
}
EVERY = pytest.mark.parametrize("variant", VARIANTS)


def control_config(variant: str) -> ControlConfig:
    return ControlConfig(channels=4, base=BASE, **VARIANTS[variant])


def base_net() -> BiFlowNet:
    """With weights that are all of them at work, those that begin at 0 too."""
    net = BiFlowNet(BASE)
    draw_weights(net, Draw.WEIGHTS, 1)
    return net.eval().requires_grad_(requires_grad=False)


def state(key: int = 0, batch: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """Noisy latents, times and classes."""
    x = unit_noise((batch, 4, 4, 8, 4), Draw.START, key)
    return x, torch.arange(batch) * 300 + 100, torch.arange(batch) % 2


def hint_of(config: ControlConfig, key: int = 9) -> Tensor:
    return unit_noise((1, config.hint_channels, 4, 8, 4), Draw.START, key)


def trained(control: ControlNet) -> ControlNet:
    """As if it had been: nothing of it is 0."""
    for number, weight in enumerate(control.parameters()):
        stream = generator(Draw.WEIGHTS, 5, 0, number)
        weight.data += 0.05 * torch.randn(weight.shape, generator=stream)
    return control


def test_the_full_control_has_the_published_size() -> None:
    """59 % of the base, with one channel of hint."""
    base = BiFlowConfig(classes=named(*"abcdefg"), null=False)
    assert parameter_count(ControlConfig(base=base, labels=("mask",))) == 92_649_096


@EVERY
def test_it_begins_at_the_base_bit_for_bit(variant: str) -> None:
    base, config = base_net(), control_config(variant)
    x, t, label = state()
    controlled = ControlledNet(base, control_of(base, config), hint_of(config))
    assert torch.equal(controlled(x, t, label), base(x, t, label))


@pytest.mark.slow
@EVERY
def test_scales_weigh_each_output_and_0_is_the_base(variant: str) -> None:
    base, config = base_net(), control_config(variant)
    control, hint = trained(control_of(base, config)), hint_of(config)
    x, t, label = state()
    plain = base(x, t, label)
    assert torch.equal(ControlledNet(base, control, hint, [0.0] * 4)(x, t, label), plain)
    whole = ControlledNet(base, control, hint)(x, t, label).detach()
    torch.testing.assert_close(ControlledNet(base, control, hint, [1.0] * 4)(x, t, label), whole)
    assert float((whole - plain).abs().max()) > 1e-3
    for number in range(4):
        scales = [float(number == one) for one in range(4)]
        assert not torch.equal(ControlledNet(base, control, hint, scales)(x, t, label), plain)


@pytest.mark.slow
@EVERY
def test_training_moves_the_control_alone_and_every_part_of_it(variant: str) -> None:
    base, config = base_net(), control_config(variant)
    before = {name: weight.clone() for name, weight in base.state_dict().items()}
    control = control_of(base, config)
    begun = {name: weight.clone() for name, weight in control.named_parameters()}
    optimiser = torch.optim.Adam(control.parameters(), 1e-2)
    losses = []
    for _ in range(4):
        x, t, label = state(3)
        noise = ControlledNet(base, control, hint_of(config))(x, t, label)
        loss = (noise - unit_noise(tuple(x.shape), Draw.START, 4)).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    assert all(torch.equal(weight, before[name]) for name, weight in base.state_dict().items())
    still = [n for n, weight in control.named_parameters() if torch.equal(weight, begun[n])]
    assert still == []


@EVERY
def test_the_hint_is_seen(variant: str) -> None:
    base, config = base_net(), control_config(variant)
    control = trained(control_of(base, config))
    x, t, label = state()
    one, other = (ControlledNet(base, control, hint_of(config, key)) for key in (1, 2))
    assert float((one(x, t, label) - other(x, t, label)).detach().abs().max()) > 1e-3


def test_a_denoiser_takes_a_controlled_network_as_it_takes_a_base() -> None:
    base, config = base_net(), control_config("A, labels")
    x, _, _ = state(batch=1)
    controlled = ControlledNet(base, control_of(base, config), hint_of(config))
    schedule = CosineSchedule()
    plain = LatentDenoiser(base, schedule, 1)(x, 0.5)
    found = LatentDenoiser(controlled, schedule, 1)(x, 0.5)
    assert torch.equal(found.eps, plain.eps) and torch.equal(found.x0, plain.x0)


def test_a_label_map_becomes_a_channel_for_each_label_nearest_down() -> None:
    config = control_config("A, labels")
    labels = torch.zeros(1, 16, 32, 16, dtype=torch.uint8)
    labels[:, 4:12, :16] = 2
    labels[:, 2, 2, 2] = 1  # the middle of the first latent voxel of 4^3
    hint = label_hint(labels, config, (4, 8, 4))
    assert hint.shape == (1, 3, 4, 8, 4)
    assert hint[0, 1, 1:3, :4].eq(1).all() and hint[0, 1].sum() == 2 * 4 * 4
    assert hint[0, 0].sum() == 1 and hint[0, 0, 0, 0, 0] == 1
    assert not hint[0, 2].any()
    labels[0, 0, 0, 0] = 7
    with pytest.raises(InputRejected, match=r"label 7 is none .* 1 heart, 2 lung, 3 bone"):
        label_hint(labels, config, (4, 8, 4))


def test_a_configuration_survives_its_header_and_says_what_it_is() -> None:
    config = control_config("B, labels")
    again = configuration(config.model_dump(mode="json"))
    assert again == config and "dual ControlNet by heart, lung, bone" in again.summary
    assert expected_shapes(config)["first.weight"] == (12, 7, 3, 3, 3)
    for wrong, message in (
        ({"labels": (), "images": ()}, "needs a condition"),
        ({"channels": 8}, "has no 8"),
        ({"labels": ("a", "a")}, "one name"),
        ({"base": BASE.model_copy(update={"intra": False})}, "needs a base with"),
    ):
        with pytest.raises(ValueError, match=message):
            ControlConfig(**{**dict(config), **wrong})
    with pytest.raises(ValueError, match="one of its base"):
        control_of(
            base_net(), config.model_copy(update={"base": BASE.model_copy(update={"null": False})})
        )


# --- beside its base ----------------------------------------------------------------------------


def header_of(base: str = "", **changes: Any) -> Header:
    part = ControlPart(config=control_config("A, both"), base=base) if base else None
    grid = BASE.classes[0].geometries[0]
    given: dict[str, Any] = {"model": BASE, "schedule": VPCosineSchedule(), "geometry": grid}
    return Header(**given | {"intensity": Intensity(), "control": part} | changes)


def saved(folder: Path, base: str, seed: int = 1) -> Path:
    net = BiFlowNet(BASE)
    draw_weights(net, Draw.WEIGHTS, seed)
    control = None
    if base:
        control = trained(control_of(net, control_config("A, both"))).state_dict()
    return save_checkpoint(folder, header_of(base), net.state_dict(), control=control)


def test_a_control_lies_beside_its_base_and_names_it(tmp_path: Path) -> None:
    alone = read_header(saved(tmp_path / "base", ""))
    both = saved(tmp_path / "both", alone.digest)
    header = read_header(both)
    assert (both / CONTROL_WEIGHTS).is_file() and header.control is not None
    assert header.control.config == control_config("A, both")
    # The base generates as before; what the control takes part in is something else.
    assert header.base_digest == alone.digest == alone.base_digest != header.digest
    assert "control" not in json.loads((tmp_path / "base" / HEADER).read_text())
    weights = read_control(both, header)
    assert weights is not None and read_control(tmp_path / "base", alone) is None
    net = ControlNet(control_config("A, both"))
    net.load_state_dict(weights, strict=True)
    x, t, label = state()
    base = BiFlowNet(BASE)
    base.load_state_dict(read_weights(both, header))
    hint = hint_of(control_config("A, both"))
    again = ControlledNet(base, net, hint)(x, t, label)
    first = ControlledNet(base_net(), trained(control_of(base_net(), net.config)), hint)
    assert torch.equal(again, first(x, t, label))
    assert load(both).digest == alone.digest


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["another base", "no file", "damaged", "names none", "no base's"])
def test_a_control_that_is_not_its_base_s_is_refused(fault: str, tmp_path: Path) -> None:
    folder = saved(tmp_path / "both", read_header(saved(tmp_path / "base", "")).digest)
    file = folder / CONTROL_WEIGHTS
    content = json.loads((folder / HEADER).read_text())
    match fault:
        case "another base":
            shutil.copytree(saved(tmp_path / "other", "", seed=2), folder, dirs_exist_ok=True)
            other = json.loads((folder / HEADER).read_text())
            content["files"]["weights.safetensors"] = other["files"]["weights.safetensors"]
            words = "its control was trained on the base .*, which is not the one here"
        case "no file":
            file.unlink()
            words = "control.safetensors"
        case "damaged":
            file.write_bytes(file.read_bytes()[:-4] + b"abcd")
            words = "damaged"
        case "names none":
            del content["files"][CONTROL_WEIGHTS]
            words = "names no control.safetensors"
        case _:
            content["control"]["config"]["base"]["width"] = 24
            words = "its control is none of its model"
    (folder / HEADER).write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=words) as refusal:
        read_control(folder, read_header(folder))
    assert "\n" not in str(refusal.value)

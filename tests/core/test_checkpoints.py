"""Checkpoints: what was saved is what is loaded, and nothing else is believed."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from toys import TINY, tiny_checkpoint

import prdit_core
from prdit_core.checkpoints.catalog import CATALOGUE, find
from prdit_core.checkpoints.header import HEADER, WEIGHTS
from prdit_core.checkpoints.publish import publish
from prdit_core.checkpoints.store import read_header
from prdit_core.errors import CheckpointError, NumericalError, UsageError
from prdit_core.files import sha256_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return tiny_checkpoint(tmp_path / "checkpoint")


def rewrite_header(checkpoint: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads((checkpoint / HEADER).read_text())
    change(content)
    (checkpoint / HEADER).write_text(json.dumps(content))


def reseal(checkpoint: Path) -> None:
    """Record the hash of whatever the weights file holds now."""
    digest = sha256_of(checkpoint / WEIGHTS)
    rewrite_header(checkpoint, lambda content: content["files"].update({WEIGHTS: digest}))


def rewrite_weights(checkpoint: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    state = load_file(checkpoint / WEIGHTS)
    change(state)
    save_file(state, checkpoint / WEIGHTS)
    reseal(checkpoint)


def refused(checkpoint: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        prdit_core.load(checkpoint)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_round_trip_keeps_everything(checkpoint: Path) -> None:
    prior = prdit_core.load(checkpoint)
    stored = load_file(checkpoint / WEIGHTS)
    assert prior.network.config == TINY
    assert prior.schedule.noise_std == 0.5
    assert prior.shape == (1, 1, 8, 8, 8)
    for name, weight in prior.network.module.state_dict().items():
        assert torch.equal(weight, stored[name])


def test_the_digest_follows_what_generates(checkpoint: Path, tmp_path: Path) -> None:
    digest = read_header(checkpoint).digest
    assert read_header(tiny_checkpoint(tmp_path / "same")).digest == digest
    assert read_header(tiny_checkpoint(tmp_path / "other", seed=1)).digest != digest
    rewrite_header(checkpoint, lambda content: content["schedule"].update(noise_std=1.0))
    assert read_header(checkpoint).digest != digest


def test_a_flipped_bit_in_the_weights_is_seen(checkpoint: Path) -> None:
    raw = bytearray((checkpoint / WEIGHTS).read_bytes())
    raw[-5] ^= 0x10
    (checkpoint / WEIGHTS).write_bytes(raw)
    assert "damaged" in refused(checkpoint)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
@pytest.mark.parametrize("name", [WEIGHTS, HEADER])
def test_a_truncated_file_is_refused(checkpoint: Path, name: str, share: float) -> None:
    raw = (checkpoint / name).read_bytes()
    (checkpoint / name).write_bytes(raw[: int(len(raw) * share)])
    assert refused(checkpoint)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(checkpoint: Path, value: float) -> None:
    rewrite_weights(checkpoint, lambda state: state["local.out.bias"].fill_(value))
    assert "local.out.bias" in refused(checkpoint)


def test_missing_and_unexpected_weights_are_named(checkpoint: Path) -> None:
    def change(state: dict[str, torch.Tensor]) -> None:
        state["surplus"] = state.pop("local.out.bias")

    rewrite_weights(checkpoint, change)
    message = refused(checkpoint)
    assert "missing local.out.bias" in message and "unexpected surplus" in message


def test_a_wrong_shape_is_named(checkpoint: Path) -> None:
    def change(state: dict[str, torch.Tensor]) -> None:
        state["local.out.bias"] = torch.zeros(3)

    rewrite_weights(checkpoint, change)
    assert "local.out.bias" in refused(checkpoint)


def test_a_header_with_a_huge_length_is_refused_at_once(checkpoint: Path) -> None:
    raw = (checkpoint / WEIGHTS).read_bytes()
    (checkpoint / WEIGHTS).write_bytes(struct.pack("<Q", 2**60) + raw[8:])
    reseal(checkpoint)
    assert "header claims" in refused(checkpoint)


def test_a_huge_model_is_refused_without_allocating_it(checkpoint: Path) -> None:
    rewrite_header(checkpoint, lambda content: content["model"].update(width=10**9))
    assert "width" in refused(checkpoint)
    rewrite_header(checkpoint, lambda content: content["model"].update(width=8190, depth=128))
    assert "does not fit" in refused(checkpoint)


def test_a_file_outside_the_folder_is_refused(checkpoint: Path) -> None:
    rewrite_header(checkpoint, lambda content: content["files"].update({"../escape": "0" * 64}))
    assert "outside" in refused(checkpoint)


def test_another_format_version_asks_for_an_upgrade(checkpoint: Path) -> None:
    rewrite_header(checkpoint, lambda content: content.update(version=2))
    assert "upgrade" in refused(checkpoint)


@pytest.mark.parametrize(
    "text", ["", "[]", "null", '{"a": 1, "a": 2}', "[" * 20_000, '{"version": 1, "x": NaN}']
)
def test_a_header_that_is_no_header_is_refused(checkpoint: Path, text: str) -> None:
    (checkpoint / HEADER).write_text(text)
    assert refused(checkpoint)


def test_an_unknown_field_is_named(checkpoint: Path) -> None:
    rewrite_header(checkpoint, lambda content: content["model"].update(widht=3))
    assert "widht" in refused(checkpoint)


def test_what_is_no_checkpoint_says_what_would_be(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="demo"):
        prdit_core.load(tmp_path / "nothing")


def test_known_weights_that_are_not_bundled_say_where_to_get_them() -> None:
    elsewhere = [entry for entry in CATALOGUE.values() if entry.where != "bundled"]
    assert elsewhere
    for entry in elsewhere:
        with pytest.raises(UsageError, match=r"prdit-core import [A-Z]+\.pt"):
            find(entry.name)


def test_publishing_halves_the_size_and_hardly_moves_the_prediction(
    checkpoint: Path, tmp_path: Path
) -> None:
    small = publish(checkpoint, tmp_path / "small")
    sizes = [(folder / WEIGHTS).stat().st_size for folder in (checkpoint, small)]
    assert sizes[1] < 0.6 * sizes[0]
    x = torch.randn(1, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    a, b = (prdit_core.load(folder).denoise(x, 500.0).x0 for folder in (checkpoint, small))
    assert (a - b).abs().max() < 0.02 * a.abs().max()


def test_a_velocity_model_splits_like_any_other(tmp_path: Path) -> None:
    """x_t = alpha x0 + sigma eps holds exactly for a velocity network's two estimates."""
    from prdit_core.models.prdit.evaluation import PRDiTNetwork
    from prdit_core.models.prdit.network import PRDiT
    from prdit_core.models.prior import Prior
    from prdit_core.schedule import LinearSchedule

    base = prdit_core.load(tiny_checkpoint(tmp_path / "c"))
    config = TINY.model_copy(update={"output": "velocity"})
    network = PRDiTNetwork(PRDiT(config).eval())
    prior = Prior(network, LinearSchedule(), base.intensity, base.geometry, "v", "")
    x = torch.randn(1, 1, 8, 8, 8)
    prediction = prior.denoise(x, 300.0)
    torch.testing.assert_close(0.7 * prediction.x0 + 0.3 * prediction.eps, x)
    parts = prior.decompose(x, 300.0)
    torch.testing.assert_close(parts.local.x0 + parts.global_residual.x0, parts.total.x0)
    torch.testing.assert_close(parts.total.eps, prediction.eps)


def test_training_may_follow_generating_in_one_process(checkpoint: Path) -> None:
    """Tables made while sampling can be used where gradients are taken."""
    prior = prdit_core.load(checkpoint)
    prdit_core.generate(prior, prdit_core.SamplingConfig(steps=1))
    model = prior.network.module.requires_grad_(True)
    model(torch.randn(prior.shape), torch.tensor([5.0])).sum().backward()


def test_a_geometry_that_cannot_be_is_refused(checkpoint: Path) -> None:
    for change in ({"shape": [9, 8, 8]}, {"spacing_mm": [0, 1, 1]}, {"shape": [0, 8, 8]}):
        rewrite_header(checkpoint, lambda content, c=change: content["geometry"].update(c))
        assert refused(checkpoint)


def test_a_header_without_files_is_refused(checkpoint: Path) -> None:
    rewrite_header(checkpoint, lambda content: content.update(files={}))
    assert WEIGHTS in refused(checkpoint)


def test_publishing_what_half_precision_cannot_hold_is_refused(
    checkpoint: Path, tmp_path: Path
) -> None:
    rewrite_weights(checkpoint, lambda state: state["local.out.bias"].fill_(1e6))
    with pytest.raises(NumericalError, match="half precision"):
        publish(checkpoint, tmp_path / "small")
    assert not (tmp_path / "small").exists()

"""Another family moves in: a row in two tables is all that the house needs to know of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest
import torch
import toy_family
from test_command import run
from toy_family import GaussianConfig
from trainings import closed_after, content, flip, resumed, unlike

import prdit_core
from prdit_core.checkpoints.catalog import newest
from prdit_core.checkpoints.header import Header
from prdit_core.checkpoints.publish import publish
from prdit_core.checkpoints.store import read_header, save_checkpoint
from prdit_core.config import NetworkConfig, SamplingConfig, TrainingConfig
from prdit_core.data.datasets import PreparedData
from prdit_core.errors import CheckpointError, UsageError
from prdit_core.geometry import cubic
from prdit_core.intensity import Intensity
from prdit_core.models.codec import Identity
from prdit_core.models.families import FAMILIES, Family
from prdit_core.runs.folder import RunFolder
from prdit_core.runs.plot import plot_run
from prdit_core.schedule import CosineSchedule
from prdit_core.training.stages import STAGES
from prdit_core.training.volumes import Volumes
from prdit_core.verbs.phantoms import phantoms

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor


@pytest.fixture(autouse=True)
def _moves_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, "gaussian", toy_family.FAMILY)
    monkeypatch.setitem(STAGES, "mean", toy_family.STAGE)


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    header = Header(
        model=GaussianConfig(std=0.1),
        schedule=CosineSchedule(),
        intensity=Intensity(),
        geometry=cubic(16, 160.0),
    )
    return save_checkpoint(tmp_path / "toy", header, {"mean": torch.tensor([0.25])})


def test_it_is_loaded_and_generates_what_it_says(toy: Path) -> None:
    prior = prdit_core.load(toy)
    assert prior.sizes == (16,) and prior.shape == (1, 1, 16, 16, 16)
    x0 = list(prdit_core.generate_steps(prior, SamplingConfig(steps=50), seed=1))[-1].x0
    assert float(x0.mean()) == pytest.approx(0.25, abs=0.01)
    assert float(x0.std()) == pytest.approx(0.1, rel=0.05)


@pytest.mark.slow
def test_the_commands_know_it(toy: Path, tmp_path: Path) -> None:
    content: dict[str, Any] = json.loads(run("info", toy, "--json").stdout)
    assert content["model"] == {"family": "gaussian", "channels": 1, "std": 0.1}
    assert content["parameters"] == 1
    run("generate", "--checkpoint", toy, "--seed", 3, "--out", tmp_path / "v.nii.gz")
    record = json.loads((tmp_path / "v.json").read_text())
    assert record["checkpoint_sha256"] == prdit_core.load(toy).digest
    bench = json.loads(run("bench", "--checkpoint", toy, "--json").stdout)
    assert bench["sizes"][0]["residual"] is None


def test_what_only_some_families_have_is_refused_in_one_line(toy: Path, tmp_path: Path) -> None:
    prior = prdit_core.load(toy)
    assert prior.parts is None
    with pytest.raises(UsageError, match="no local and global part"):
        prior.decompose(torch.zeros(prior.shape), 500.0)


def test_a_family_that_is_not_known_is_named(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(FAMILIES, "gaussian")
    with pytest.raises(CheckpointError, match="family 'gaussian' is none of prdit"):
        read_header(toy)


@pytest.mark.slow
def test_it_trains_goes_on_exactly_and_generates_what_it_learnt(tmp_path: Path) -> None:
    phantoms(4, size=8, seed=0, out=tmp_path / "data", validation_fraction=0.25)
    words = ("train", "--stage", "mean", "--data", tmp_path / "data", "--batch-size", 2)
    lengths = ("--iterations", 60, "--save-every", 30, "--preview-every", 30, "--ema-decay", 0.5)
    run(*words, *lengths, "--run", tmp_path / "once")
    config = TrainingConfig(
        stage="mean",
        data=tmp_path / "data",
        run=tmp_path / "run",
        batch_size=2,
        iterations=60,
        save_every=30,
        preview_every=30,
        ema_decay=0.5,
    )
    closed_after(config, 40)
    assert unlike(resumed(config), content(tmp_path / "once")) == []
    assert plot_run(RunFolder(tmp_path / "run"), tmp_path / "run.png").exists()
    assert len(list((tmp_path / "run" / "previews").iterdir())) == 2

    prior = prdit_core.load(tmp_path / "once")
    data = PreparedData.open(tmp_path / "data")
    learnt = Volumes(data, data.train, prior.intensity)
    mean = np.mean([learnt.read(number) for number in range(len(learnt.names))])
    volume = prdit_core.generate(prior, seed=1)
    assert prior.intensity.to_model(volume.voxels_hu).mean() == pytest.approx(mean, abs=0.05)
    header = read_header(newest(tmp_path / "once"))
    assert header.record["training"]["stage"] == "mean"


def test_a_setting_of_another_family_is_refused(tmp_path: Path) -> None:
    words = ("train", "--stage", "mean", "--data", tmp_path, "--run", tmp_path / "run")
    refused = run(*words, "--crop", 8, code=2)
    assert "stage mean has no --crop" in refused.stderr
    refused = run("train", "--stage", "men", *words[3:], code=2)
    assert f"stage 'men' is none of {', '.join(STAGES)}" in refused.stderr


# ------------------------------------------------------------------------- a codec beside it


class HalvingConfig(NetworkConfig):
    """A codec of one number: means over 2^3 voxels, times a scale that it holds."""

    family: Literal["halving"] = "halving"
    channels: int = 1
    edge_multiple = property(lambda self: 2)
    least_parameters = property(lambda self: 1)
    summary = property(lambda self: "half the edge")

    def grid(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        return (shape[0] // 2, shape[1] // 2, shape[2] // 2)


class Scale(torch.nn.Module):
    def __init__(self, config: HalvingConfig) -> None:
        super().__init__()
        self.config, self.scale = config, torch.nn.Parameter(torch.ones(1))


@dataclass(frozen=True)
class Halving(Identity):
    module: Scale

    def grid(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        return self.module.config.grid(shape)

    def encode(self, x: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool3d(x, 2) * self.module.scale

    def decode(self, z: Tensor) -> Tensor:
        return torch.nn.functional.interpolate(z / self.module.scale, scale_factor=2)

    preview = decode


HALVING = Family("halving", "Halving", HalvingConfig, Scale, face=None, codec=Halving)


@pytest.fixture
def with_codec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(FAMILIES, "halving", HALVING)
    return save_checkpoint(
        tmp_path / "both", BOTH, {"mean": torch.tensor([0.5])}, codec={"scale": torch.tensor([2.0])}
    )


BOTH = Header(
    model=GaussianConfig(std=0.1),
    codec=HalvingConfig(),
    schedule=CosineSchedule(),
    intensity=Intensity(),
    geometry=cubic(16, 160.0),
)


def test_states_are_decoded_by_the_codec_beside_the_network(
    with_codec: Path, tmp_path: Path
) -> None:
    """States are normal about 0.5 and eight times as few; their volumes about 0.25."""
    prior = prdit_core.load(with_codec)
    assert prior.shape == (1, 1, 8, 8, 8)
    volume = prdit_core.generate(prior, SamplingConfig(steps=30), seed=1)
    assert volume.voxels_hu.shape == (16, 16, 16)
    assert prior.intensity.to_model(volume.voxels_hu).mean() == pytest.approx(0.25, abs=0.02)
    assert torch.allclose(
        prior.codec.decode(prior.encode(volume.voxels_hu))[0, 0],
        torch.from_numpy(prior.intensity.to_model(volume.voxels_hu)),
        atol=1e-5,
    )
    run("generate", "--checkpoint", with_codec, "--out", tmp_path / "v.nii.gz")
    assert prdit_core.read_volume(tmp_path / "v.nii.gz").voxels_hu.shape == (16, 16, 16)


def test_both_components_are_part_of_what_a_checkpoint_is(with_codec: Path, tmp_path: Path) -> None:
    header = read_header(with_codec)
    mean = {"mean": torch.tensor([0.5])}
    other = save_checkpoint(tmp_path / "other", BOTH, mean, codec={"scale": torch.tensor([3.0])})
    assert read_header(other).digest != header.digest
    small = prdit_core.load(publish(with_codec, tmp_path / "small"))
    assert prdit_core.generate(small, seed=1).voxels_hu.shape == (16, 16, 16)
    flip(with_codec / "codec.safetensors")
    with pytest.raises(CheckpointError, match=r"codec.safetensors is damaged"):
        prdit_core.load(with_codec)
    (with_codec / "codec.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"codec.safetensors is missing"):
        prdit_core.load(with_codec)


def test_a_header_without_a_codec_says_nothing_of_one(toy: Path) -> None:
    """So that digests of older checkpoints stay valid."""
    assert "codec" not in json.loads((toy / "checkpoint.json").read_text())


def test_a_codec_alone_makes_no_volumes(with_codec: Path, tmp_path: Path) -> None:
    header = BOTH.model_copy(update={"model": HalvingConfig(), "codec": None})
    alone = save_checkpoint(tmp_path / "alone", header, {"scale": torch.ones(1)})
    with pytest.raises(UsageError, match=r"alone is a codec .* no volumes of its own"):
        prdit_core.load(alone)
    run("info", alone)

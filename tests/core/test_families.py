"""Another family moves in: a row in two tables is all that the house needs to know of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import toy_family
from test_command import run
from toy_family import GaussianConfig
from trainings import closed_after, content, resumed, unlike

import prdit_core
from prdit_core.checkpoints.catalog import newest
from prdit_core.checkpoints.store import Header, read_header, save_checkpoint
from prdit_core.config import SamplingConfig, TrainingConfig
from prdit_core.data.datasets import PreparedData
from prdit_core.errors import CheckpointError, UsageError
from prdit_core.geometry import cubic
from prdit_core.intensity import Intensity
from prdit_core.models.families import FAMILIES
from prdit_core.runs.folder import RunFolder
from prdit_core.runs.plot import plot_run
from prdit_core.schedule import CosineSchedule
from prdit_core.training.stages import STAGES
from prdit_core.training.volumes import Volumes
from prdit_core.verbs.preprocess import phantoms

if TYPE_CHECKING:
    from pathlib import Path


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
    assert "stage 'men' is none of local, global, refine, finetune, mean" in refused.stderr

"""Another family moves in: a row in the table is all that the house needs to know of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pytest
import torch
from test_command import run
from torch import nn

import prdit_core
from prdit_core.checkpoints.store import Header, read_header, save_checkpoint
from prdit_core.config import NetworkConfig, SamplingConfig
from prdit_core.errors import CheckpointError, UsageError
from prdit_core.geometry import cubic
from prdit_core.intensity import Intensity
from prdit_core.models.contracts import Denoiser, Key, Network, Prediction, Shape
from prdit_core.models.families import FAMILIES, Family
from prdit_core.schedule import CosineSchedule, Schedule

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor


class GaussianConfig(NetworkConfig):
    """Voxels that are normal about a mean, with this standard deviation."""

    family: Literal["gaussian"] = "gaussian"
    channels: int = 1
    std: float

    edge_multiple = property(lambda self: 1)
    least_parameters = property(lambda self: 1)
    summary = property(lambda self: "one number")


class Gaussian(nn.Module):
    def __init__(self, config: GaussianConfig) -> None:
        super().__init__()
        self.config = config
        self.mean = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x


@dataclass(frozen=True)
class GaussianNetwork(Network):
    module: Gaussian

    @property
    def config(self) -> GaussianConfig:
        return self.module.config

    @property
    def device(self) -> torch.device:
        return self.module.mean.device

    def to(self, device: str) -> Network:
        return self

    def denoiser(self, schedule: Schedule, config: SamplingConfig, key: Key) -> Denoiser:
        mean, std = float(self.module.mean), self.config.std

        def denoise(x_t: Tensor, t: float) -> Prediction:
            alpha, sigma = schedule.alpha(t), schedule.sigma(t)
            gain = alpha * std**2 / (alpha**2 * std**2 + (sigma * schedule.noise_std) ** 2)
            x0 = mean + gain * (x_t - alpha * mean)
            return Prediction(x0, (x_t - alpha * x0) / max(sigma, 1e-9))

        return denoise

    def parts(self, schedule: Schedule) -> None:
        return None

    def stopped_at(self, number: int) -> Network:
        return self

    def memory(self, shape: Shape) -> int:
        return 4


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    row = Family("gaussian", "Gaussian", GaussianConfig, Gaussian, GaussianNetwork)
    monkeypatch.setitem(FAMILIES, "gaussian", row)
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

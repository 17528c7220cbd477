"""What a graphics card must give: the CPU's volume, exact resumption, errors that are told.

They run where CUDA is; `PRDIT_TEST_GPU=cpu` tries them on the CPU.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from test_distributed import alone, together
from trainings import closed_after, content, settings, train, unlike, without_metrics
from typer.testing import CliRunner

import prdit_core
from prdit_core.checkpoints.catalog import newest
from prdit_core.checkpoints.store import read_header, read_weights
from prdit_core.cli.app import app
from prdit_core.errors import MemoryLimit
from prdit_core.machine import choose_device
from prdit_core.models.prdit.network import PRDiT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.gpu

# float32 sums in another order; over a walk that is less than the rounding to whole HU, nearly.
SAME_RMS_HU, SAME_WORST_HU = 0.5, 20.0
# bf16 has 8 bits; what a walk makes of it is still the same chest.
BF16_RMS_HU = 40.0
RTOL = 1e-4
# Wheels that are only unpacked bring no commands.
MODULES = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
MODULES += ("--no-python", "--", sys.executable, "-m", "prdit_core.cli")


def volume(device: str, **more: object) -> np.ndarray:
    """HU of the bundled base at its lowest size."""
    prior = prdit_core.load("demo").at_size(32)
    config = prdit_core.SamplingConfig(**({"steps": 8} | more))
    return prdit_core.generate(prior, config, seed=3, device=device).voxels_hu.astype(np.float64)


def rms(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(np.mean((a - b) ** 2)))


def test_a_volume_is_that_of_the_cpu(gpu: str) -> None:
    there, here = volume(gpu), volume("cpu")
    assert rms(there, here) < SAME_RMS_HU
    assert np.abs(there - here).max() < SAME_WORST_HU


def test_a_volume_in_bf16_is_nearly_that_in_float32(gpu: str) -> None:
    coarse, fine = volume(gpu, precision="bf16-mixed"), volume(gpu)
    assert 0 < rms(coarse, fine) < BF16_RMS_HU


def test_a_run_goes_on_exactly(gpu: str, data: Path, tmp_path: Path) -> None:
    """Stage 1: fused attention adds up its gradients in any order."""
    whole, parted = (settings(data, tmp_path / name, device=gpu) for name in ("whole", "parted"))
    train(whole)
    closed_after(parted, 3)
    train(parted, "resume")
    assert not unlike(*(without_metrics(content(run.run)) for run in (parted, whole)))


def test_a_run_is_nearly_that_of_the_cpu(gpu: str, data: Path, tmp_path: Path) -> None:
    """Both stages of a network, in float32."""
    weights = []
    for name, device in (("there", gpu), ("here", "cpu")):
        start = None
        for stage in ("local", "global"):
            run = tmp_path / name / stage
            train(settings(data, run, device=device, stage=stage, start=start))
            start = str(run)
        folder = newest(run)
        weights.append(read_weights(folder, read_header(folder)))
    for name, there in weights[0].items():
        torch.testing.assert_close(there, weights[1][name], rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_both_precisions_learn(gpu: str, data: Path, tmp_path: Path, precision: str) -> None:
    run = tmp_path / precision
    more = {"precision": precision, "iterations": 20, "save_every": 20, "lr": 1e-3}
    events = train(settings(data, run, device=gpu, **more))
    totals = [event.losses["total"] for event in events if isinstance(event, prdit_core.TrainStep)]
    assert np.mean(totals[-5:]) < np.mean(totals[:5])


@contextmanager
def little_memory(device: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A card that is all but full; elsewhere a network that says that it is."""
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(1e-5)
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        return

    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("full")

    with monkeypatch.context() as patch:
        patch.setattr(PRDiT, "local_part", full)
        yield


def test_a_card_that_is_full_is_told(gpu: str, monkeypatch: pytest.MonkeyPatch) -> None:
    prior = prdit_core.load("demo").at_size(64).to(choose_device(gpu))
    with little_memory(gpu, monkeypatch), pytest.raises(MemoryLimit, match="ran out of memory"):
        prdit_core.generate(prior, prdit_core.SamplingConfig(steps=1))


def test_training_on_a_full_card_leaves_with_7(
    gpu: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["train", "--stage", "local", "--data", data, "--run", tmp_path / "run"]
    words += ["--iterations", "2", "--batch-size", "4", "--device", gpu]
    with little_memory(gpu, monkeypatch):
        done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 7, done.output
    assert "out of memory" in done.output


@pytest.mark.slow
def test_two_cards_train_what_one_does(gpu: str, data: Path, tmp_path: Path) -> None:
    if gpu.startswith("cuda") and torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    one = alone(data, tmp_path / "one", "local")
    words = ["--stage", "local", "--data", data, "--run", tmp_path / "two", "--device", gpu]
    words += ["--iterations", "4", "--batch-size", "4", "--save-every", "2"]
    together("train", *words, "--precision", "32-true", by=MODULES)
    two = newest(tmp_path / "two")
    expected = read_weights(one, read_header(one))
    for name, weight in read_weights(two, read_header(two)).items():
        torch.testing.assert_close(weight, expected[name], rtol=RTOL, atol=1e-6)

"""What does not change the bytes of a run: workers, pictures, where things lie, what is kept."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file
from trainings import SETTINGS, last, settings, train, trained, unlike, without_metrics

from prdit_core.checkpoints.header import WEIGHTS
from prdit_core.runs.folder import RunFolder
from prdit_core.runs.metrics import read_lines

if TYPE_CHECKING:
    from pathlib import Path

RTOL = 1e-4


@pytest.mark.slow
def test_workers_change_no_byte(data: Path, tmp_path: Path, expected: dict[str, bytes]) -> None:
    assert unlike(trained(settings(data, tmp_path / "run", workers=2)), expected) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "more", [{"preview_every": 1}, {"save_every": 1}, {"save_every": 5, "preview_every": 2}]
)
def test_neither_pictures_nor_validations_change_the_weights(
    data: Path, tmp_path: Path, expected: dict[str, bytes], more: dict[str, int]
) -> None:
    config = settings(data, tmp_path / "run", **more)
    assert unlike(without_metrics(trained(config)), without_metrics(expected)) == []
    validated = [
        line["iteration"]
        for line in read_lines(RunFolder(config.run).metrics)
        if line["kind"] == "validation"
    ]
    every = config.save_every
    assert validated == sorted({*range(every, 7, every), 6})


def test_what_happens_around_a_run_does_not_change_it(
    data: Path, tmp_path: Path, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the global generator, the folder it is called from, nor where the data lie."""
    shutil.copytree(data, tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(12345)
    torch.randn(3)
    config = settings(tmp_path / "elsewhere", tmp_path / "run")
    assert unlike(trained(config), expected) == []


@pytest.mark.slow
def test_stage_two_rests_on_the_content_of_stage_one_alone(
    data: Path, once: Path, tmp_path: Path
) -> None:
    moved = shutil.copytree(last(once), tmp_path / "moved")
    found = [
        trained(settings(data, tmp_path / name, stage="global", start=str(start)))
        for name, start in (("run", once), ("checkpoint", last(once)), ("copy", moved))
    ]
    assert unlike(found[0], found[1]) == [] and unlike(found[0], found[2]) == []


@pytest.mark.slow
def test_computing_activations_twice_changes_no_byte(
    data: Path, once: Path, tmp_path: Path
) -> None:
    found = [
        trained(settings(data, tmp_path / way, stage="global", start=str(once), activations=way))
        for way in ("keep", "recompute")
    ]
    assert unlike(*found) == []


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["local", "global"])
def test_a_batch_held_in_parts_gives_nearly_the_same(
    data: Path, once: Path, tmp_path: Path, stage: str
) -> None:
    """The same sums in another order."""
    start = None if stage == "local" else str(once)
    more: dict[str, Any] = {"stage": stage, "start": start, "batch_size": 5}
    runs = [settings(data, tmp_path / str(m), micro_batch=m, **more) for m in (5, 2, 1)]
    for config in runs:
        train(config)
    losses = [
        [line["loss"]["total"] for line in read_lines(RunFolder(config.run).metrics)]
        for config in runs
    ]
    assert len(losses[0]) == SETTINGS["iterations"] + 3
    whole, *parts = [load_file(last(config.run) / WEIGHTS) for config in runs]
    for number, part in enumerate(parts, 1):
        assert losses[number] == pytest.approx(losses[0], rel=RTOL)
        for name, weight in whole.items():
            torch.testing.assert_close(part[name], weight, rtol=RTOL, atol=1e-6)

"""What can be trained besides the two stages, and what a run says about it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from toys import TINY, tiny_checkpoint
from typer.testing import CliRunner

from prdit_core import machine
from prdit_core.checkpoints.catalog import load, newest
from prdit_core.checkpoints.header import Header
from prdit_core.checkpoints.store import read_header, save_checkpoint
from prdit_core.cli.app import app
from prdit_core.config import SamplingConfig
from prdit_core.errors import MemoryLimit, UsageError
from prdit_core.geometry import cubic
from prdit_core.intensity import Intensity
from prdit_core.models.prdit.memory import training_memory
from prdit_core.models.prdit.zoo import model_config
from prdit_core.models.tensor_files import load_tensors
from prdit_core.prdit_config import TrainConfig
from prdit_core.runs.metrics import read_lines
from prdit_core.schedule import CosineSchedule, LinearSchedule
from prdit_core.training.families.prdit.stages import PRDIT_STAGES
from prdit_core.verbs.generate import generate
from prdit_core.verbs.phantoms import phantoms
from prdit_core.verbs.train import train


def config(data: Path, run: Path, stage: str = "local", **more: object) -> TrainConfig:
    settings = {"iterations": 4, "batch_size": 4, "save_every": 2, "threads": 1}
    return TrainConfig.model_validate(
        {"stage": stage, "data": data, "run": run, **settings, **more}
    )


@pytest.mark.slow
def test_flow_matching_trains_both_stages_and_generates(data: Path, tmp_path: Path) -> None:
    train(config(data, tmp_path / "local", objective="velocity"))
    train(config(data, tmp_path / "global", "global", start=str(tmp_path / "local")))
    prior = load(tmp_path / "global")
    assert prior.network.config.output == "velocity" and prior.network.config.depth > 0
    assert prior.schedule == LinearSchedule(noise_std=1.0)
    for sampler in ("increment", "euler", "heun"):
        volume = generate(prior, SamplingConfig(steps=3, sampler=sampler, k=1.0))
        assert np.isfinite(volume.voxels_hu).all() and np.ptp(volume.voxels_hu) > 0


@pytest.mark.slow
def test_flow_matching_learns(data: Path, tmp_path: Path) -> None:
    more = {"objective": "velocity", "iterations": 150, "lr": 3e-3, "save_every": 150}
    train(config(data, tmp_path / "run", **more))
    lines = read_lines(tmp_path / "run" / "metrics.jsonl")
    totals = [line["loss"]["total"] for line in lines if line["kind"] == "train"]
    assert np.mean(totals[-30:]) < 0.6 * np.mean(totals[:5])


def test_an_objective_is_not_changed_on_the_way(data: Path, tmp_path: Path) -> None:
    train(config(data, tmp_path / "local"))
    words = {"start": str(tmp_path / "local"), "objective": "velocity"}
    with pytest.raises(UsageError, match="velocity"):
        train(config(data, tmp_path / "global", "global", **words))


@pytest.mark.slow
def test_heads_of_a_base_agree_once_a_stage_says_so(data: Path, tmp_path: Path) -> None:
    start = str(tmp_path / "local")
    train(config(data, tmp_path / "local"))
    train(config(data, tmp_path / "global", "global", start=start, heads="agree"))
    train(config(data, tmp_path / "same", "finetune", start=str(tmp_path / "global")))
    for name in ("global", "same"):
        prior = load(tmp_path / name)
        x = torch.randn(1, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
        guess = prior.denoise(x, 400.0)
        alpha, sigma = prior.schedule.alpha(400.0), prior.schedule.sigma(400.0)
        torch.testing.assert_close(alpha * guess.x0 + sigma * guess.eps, x)
    assert read_header(newest(tmp_path / "local")).model.model_dump().get("base_heads") is None
    words = {"objective": "velocity", "heads": "agree"}
    with pytest.raises(UsageError, match="a velocity has none"):
        train(config(data, tmp_path / "never", **words))


def imported(path: Path) -> Path:
    """A checkpoint as the importer makes them: other model units, its own noise, HU not exact."""
    generator = torch.Generator().manual_seed(0)
    weights = load_tensors(tiny_checkpoint(path.with_name("tiny")) / "weights.safetensors")
    header = Header(
        model=TINY,
        schedule=CosineSchedule(noise_std=0.5, last_t=999),
        intensity=Intensity(model_range=(-1.007, 3.977), exact=False),
        geometry=cubic(8, 256.0).model_copy(update={"exact": False}),
    )
    state = {n: 0.1 * torch.randn(w.shape, generator=generator) for n, w in weights.items()}
    return save_checkpoint(path, header, state)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["finetune", "global"])
def test_a_whole_model_goes_on_in_its_own_units(data: Path, tmp_path: Path, stage: str) -> None:
    start = imported(tmp_path / "imported")
    run = tmp_path / "run"
    train(config(data, run, stage, start=str(start), lr=1e-3))
    before, after = read_header(start), read_header(newest(run))
    assert (after.model, after.schedule) == (before.model, before.schedule)
    assert after.intensity == before.intensity
    old = load_tensors(start / "weights.safetensors")
    new = load_tensors(newest(run) / "raw.safetensors")
    changed = {name for name, weight in old.items() if not torch.equal(weight, new[name])}
    assert any(name.startswith("global_residual.") for name in changed)
    assert any(name.startswith("local.") for name in changed) == (stage == "finetune")


@pytest.mark.slow
def test_fine_tuning_the_bundled_model_keeps_what_it_knows(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    phantoms(6, size=32, seed=9, out=mine, validation_fraction=0.2)
    run = tmp_path / "run"
    train(config(mine, run, "finetune", start="demo", iterations=2, batch_size=2))
    lines = [line for line in read_lines(run / "metrics.jsonl") if line["kind"] == "validation"]
    fresh = tmp_path / "fresh"
    train(config(mine, fresh, iterations=2, batch_size=2))
    untrained = [line for line in read_lines(fresh / "metrics.jsonl") if "grad_norm" not in line]
    assert lines[-1]["loss"]["total"] < 0.2 * untrained[-1]["loss"]["total"]


def test_the_paper_s_settings_of_fine_tuning_are_the_defaults(data: Path, tmp_path: Path) -> None:
    start = imported(tmp_path / "imported")
    train(config(data, tmp_path / "run", "finetune", start=str(start)))
    settings = json.loads((tmp_path / "run" / "config.json").read_text())["settings"]
    assert (settings["lr"], settings["clip"]) == (1e-6, 0.4)


def test_another_window_is_refused_with_the_way_out(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "wide"
    source = tiny_checkpoint(tmp_path / "tiny")
    wide = Intensity(window_hu=(-1000, 1000))
    header = read_header(source).model_copy(update={"intensity": wide})
    save_checkpoint(path, header, load_tensors(source / "weights.safetensors"))
    with pytest.raises(UsageError, match=r"--like .*wide"):
        train(config(data, tmp_path / "run", "finetune", start=str(path)))


def test_the_best_checkpoint_is_kept_besides_the_newest_two(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prdit_core.training.events import Validated
    from prdit_core.verbs import train as verb

    losses = iter([0.5, 0.1, 0.4, 0.3, 0.2])

    def scripted(judge: object, held_out: object, iteration: int, **_: object) -> Validated:
        return Validated(iteration, dict.fromkeys(("x0", "eps", "total"), next(losses)), {})

    monkeypatch.setattr(verb, "validate", scripted)
    train(config(data, tmp_path / "run", iterations=5, save_every=1, preview_every=99))
    kept = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert kept == ["iteration-00000002", "iteration-00000004", "iteration-00000005"]


def test_validation_measures_the_averaged_weights_on_held_out_cases(
    data: Path, tmp_path: Path
) -> None:
    from prdit_core.data.datasets import PreparedData
    from prdit_core.training.families.prdit.objective import JointError
    from prdit_core.training.validation import validate
    from prdit_core.training.volumes import Volumes

    train(config(data, tmp_path / "run"))
    (line, *_) = [n for n in read_lines(tmp_path / "run/metrics.jsonl") if n["kind"] != "train"]
    assert line["iteration"] == 2 and len(line["levels"]["x0"]) == 5
    prepared, prior = PreparedData.open(data), load(newest(tmp_path / "run"))
    module = prior.network.module
    judge = JointError(module, prior.schedule)
    again = validate(
        judge, Volumes(prepared, prepared.validation, prior.intensity), 4, seed=0, levels=5
    )
    recorded = read_header(newest(tmp_path / "run")).record
    assert again.losses["total"] == pytest.approx(recorded["validation_loss"], rel=1e-6)
    assert recorded["preset"]["window_hu"] == [-1000, 400]


def test_training_that_cannot_fit_is_refused_with_what_would(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def needed(volumes: int) -> int:
        model = PRDIT_STAGES["local"].model_config(model_config("small"))
        size = (8, 8, 8)
        return training_memory(model, size, trains=("",), volumes=volumes, activations="keep")

    monkeypatch.setattr(machine, "_physical_memory", lambda: needed(2))
    with pytest.raises(MemoryLimit, match="--micro-batch 2 would fit"):
        train(config(data, tmp_path / "run"))
    assert not (tmp_path / "run").exists()
    train(config(data, tmp_path / "run", micro_batch=2))
    monkeypatch.setattr(machine, "_physical_memory", lambda: 10_000)
    with pytest.raises(MemoryLimit, match="smaller --model"):
        train(config(data, tmp_path / "other"))


def test_memory_grows_with_what_is_held() -> None:
    model = model_config("PRDiT-B/12/4")

    def bytes_for(volumes: int, activations: str, stage: str = "global") -> int:
        return training_memory(
            model,
            (128, 128, 128),
            trains=PRDIT_STAGES[stage].trains,
            volumes=volumes,
            activations=activations,
        )

    assert bytes_for(4, "keep") > 2 * bytes_for(1, "keep")
    assert bytes_for(4, "recompute") < 0.7 * bytes_for(4, "keep")
    assert bytes_for(1, "keep", "finetune") > 1.2 * bytes_for(1, "keep")


def test_a_container_s_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    free = machine.memory_of("cpu")
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.memory_of("cpu") == free
    (tmp_path / "memory.max").write_text("1048576\n")
    assert machine.memory_of("cpu") == 1048576


def command(*words: object) -> str:
    result = CliRunner().invoke(app, ["train", *map(str, words)])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.slow
def test_tensorboard_shows_the_same_numbers(data: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = tmp_path / "run"
    words = ("--stage", "local", "--data", data, "--run", run, "--batch-size", 2, "--save-every", 2)
    command(*words, "--iterations", 3, "--tensorboard")
    command(*words, "--iterations", 5, "--tensorboard", "--resume")
    board = EventAccumulator(str(run / "tensorboard"))
    board.Reload()
    shown = {event.step: event.value for event in board.Scalars("train/total")}
    lines = [line for line in read_lines(run / "metrics.jsonl") if line["kind"] == "train"]
    assert shown == pytest.approx({n["iteration"]: n["loss"]["total"] for n in lines})
    assert [event.step for event in board.Scalars("validation/total")] == [2, 3, 4, 5]


def test_events_are_json_for_machines(data: Path, tmp_path: Path) -> None:
    words = ("--stage", "local", "--data", data, "--run", tmp_path / "run", "--json")
    text = command(*words, "--iterations", 2, "--batch-size", 2)
    events = [json.loads(line) for line in text.splitlines()]
    names = [event["event"] for event in events]
    assert names == ["started", "train-step", "train-step", "validated", "previewed", "saved"]
    assert Path(events[-1]["path"]).is_dir() and events[1]["losses"]["total"] > 0

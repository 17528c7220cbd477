"""Faults 51 to 74 of the catalogue: what the user is told, and what is never lost."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from datetime import datetime, timedelta
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file
from toys import TINY, tiny_checkpoint
from trainings import (
    ONE_THREAD,
    child,
    content,
    flip,
    history,
    iterating,
    iterations,
    last,
    leftovers,
    resumed,
    settings,
    train,
    trained,
    unlike,
    until,
    without_metrics,
    words,
)
from typer.testing import CliRunner

from prdit_core.checkpoints.catalog import saved
from prdit_core.checkpoints.header import HEADER, WEIGHTS
from prdit_core.checkpoints.store import read_header
from prdit_core.cli.app import app
from prdit_core.data.datasets import VOLUMES, case_path, read_manifest, write_manifest
from prdit_core.errors import (
    InputRejected,
    NumericalError,
    OutputError,
    UsageError,
)
from prdit_core.files import sha256_of
from prdit_core.models.prdit.zoo import model_config
from prdit_core.models.tensor_files import load_tensors
from prdit_core.runs.folder import RunFolder
from prdit_core.runs.status import read_status
from prdit_core.training import recorder
from prdit_core.training.checkpointing import MOMENTS, RAW
from prdit_core.training.events import Saved, Started, TrainStep, Validated
from prdit_core.training.volumes import Volumes
from prdit_core.verbs.phantoms import phantoms
from prdit_core.verbs.train import train_steps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from prdit_core.prdit_config import TrainConfig

HERE = Path(__file__)
SURVIVES = "test_training_survives.py"
CHECKPOINTS, COMMAND = "test_checkpoints.py", "test_command.py"
# Row of the catalogue: where it is tested, and by what.
ROWS = {
    51: [(HERE.name, "test_a_damaged_newest_checkpoint_is_named_and_passed_over"),
         (HERE.name, "test_a_damaged_checkpoint_that_was_asked_for_is_refused")],
    52: [(HERE.name, "test_a_damaged_newest_checkpoint_is_named_and_passed_over"),
         (CHECKPOINTS, "test_a_flipped_bit_in_the_weights_is_seen")],
    53: [(SURVIVES, "test_a_kill_while_saving_leaves_whole_checkpoints_only")],
    54: [(HERE.name, "test_a_disk_that_fills_up_loses_nothing_that_was_saved"),
         (COMMAND, "test_a_full_disk_stops_training_with_its_code")],
    55: [(HERE.name, "test_a_run_folder_that_cannot_be_is_refused_before_anything_is_computed")],
    56: [(HERE.name, "test_a_checkpoint_of_another_kind_is_refused_by_what_differs")],
    57: [(HERE.name, "test_a_checkpoint_of_another_kind_is_refused_by_what_differs"),
         (CHECKPOINTS, "test_missing_and_unexpected_weights_are_named")],
    58: [(HERE.name, "test_a_newer_format_is_left_as_it_is"),
         (CHECKPOINTS, "test_another_format_version_asks_for_an_upgrade")],
    59: [(HERE.name, "test_a_checkpoint_without_averaged_weights_is_none")],
    60: [(HERE.name, "test_state_that_is_not_finite_is_passed_over"),
         (CHECKPOINTS, "test_weights_that_are_not_finite_are_refused")],
    61: [(HERE.name, "test_a_configuration_that_makes_no_sense_is_refused"),
         (COMMAND, "test_settings_come_from_a_file_and_are_checked")],
    62: [(HERE.name, "test_a_configuration_that_makes_no_sense_is_refused"),
         (HERE.name, "test_a_number_written_as_text_is_that_number")],
    63: [(HERE.name, "test_a_configuration_that_makes_no_sense_is_refused"),
         (HERE.name, "test_volumes_that_patches_do_not_fill_are_refused")],
    64: [(HERE.name, "test_other_settings_are_refused_or_recorded"),
         (HERE.name, "test_what_a_checkpoint_is_made_of_cannot_change"),
         (HERE.name, "test_other_data_are_refused")],
    65: [(HERE.name, "test_what_is_not_finite_is_named_and_poisons_nothing")],
    66: [(SURVIVES, "test_a_signal_saves_and_stops"),
         (SURVIVES, "test_a_second_ctrl_c_stops_at_once")],
    67: [(SURVIVES, "test_six_kills_leave_the_bytes_of_one_go"),
         (SURVIVES, "test_a_run_killed_after_any_event_ends_with_the_same_bytes"),
         (SURVIVES, "test_what_a_checkpoint_rests_on_is_on_disk_before_it")],
    68: [(SURVIVES, "test_a_second_run_in_the_folder_is_refused_and_harms_nothing")],
    69: [(SURVIVES, "test_a_killed_run_starts_again_at_once_while_its_data_workers_still_live")],
    70: [(HERE.name, "test_a_volume_lost_or_changed_on_the_way_stops_the_run_by_name")],
    71: [(HERE.name, "test_a_killed_data_worker_ends_the_run_with_its_code"),
         (HERE.name, "test_memory_that_runs_out_ends_the_run_with_its_code")],
    72: [(HERE.name, "test_a_data_set_without_training_cases_is_refused"),
         (HERE.name, "test_few_cases_are_trained_on_and_what_is_missing_is_said")],
    73: [(HERE.name, "test_a_cut_line_is_done_again")],
    74: [(HERE.name, "test_a_clock_that_jumps_changes_nothing")],
}  # fmt: skip

posix = pytest.mark.skipif(os.name == "nt", reason="Windows limits nothing this way")


def test_every_row_of_the_catalogue_is_tested() -> None:
    assert list(ROWS) == list(range(51, 75))
    for name in {file for tests in ROWS.values() for file, _ in tests}:
        tree = ast.parse((HERE.parent / name).read_text("utf-8"))
        there = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert {test for tests in ROWS.values() for file, test in tests if file == name} <= there


@pytest.fixture(scope="module")
def killed_in_five(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run as a kill leaves it after iteration 5."""
    run = tmp_path_factory.mktemp("killed")
    with contextlib.closing(train_steps(settings(data, run / "going"))) as events:
        until(events, TrainStep, 5)
        return Path(shutil.copytree(run / "going", run / "killed"))


@pytest.fixture
def config(data: Path, killed_in_five: Path, tmp_path: Path) -> TrainConfig:
    """That run, to go on with."""
    return settings(data, Path(shutil.copytree(killed_in_five, tmp_path / "run")))


@pytest.fixture
def own_data(data: Path, tmp_path: Path) -> Path:
    """A data set that may be damaged."""
    return Path(shutil.copytree(data, tmp_path / "data"))


def refused(*options: object, code: int) -> str:
    """The one line that a refused command says."""
    done = CliRunner().invoke(app, [str(word) for word in options])
    assert done.exit_code == code, (done.output, done.exception)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("prdit-core: ")]
    assert "unexpected" not in line
    return line


def reseal(checkpoint: Path) -> None:
    """Record the hashes of whatever the files hold now."""
    header = json.loads((checkpoint / HEADER).read_text())
    header["files"] = {name: sha256_of(checkpoint / name) for name in header["files"]}
    (checkpoint / HEADER).write_text(json.dumps(header))


# --- checkpoints --------------------------------------------------------------------------------

DAMAGES: dict[str, Callable[[Path], object]] = {
    "truncated": lambda file: os.truncate(file, file.stat().st_size // 2),
    "emptied": lambda file: os.truncate(file, 0),
    "flipped": flip,
    "removed": Path.unlink,
}


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", [WEIGHTS, RAW, MOMENTS])
def test_a_damaged_newest_checkpoint_is_named_and_passed_over(
    config: TrainConfig, expected: dict[str, bytes], name: str, damage: str
) -> None:
    DAMAGES[damage](last(config.run) / name)
    (started, *_) = train(config, "resume")
    assert isinstance(started, Started) and started.index == 2
    notes = " | ".join(started.notes)
    assert "iteration-00000004" in notes and name in notes and "resumed from iteration 2" in notes
    assert (config.run / "checkpoints" / "damaged-iteration-00000004").is_dir()
    assert unlike(content(config.run), expected) == []


def test_a_header_that_was_emptied_makes_no_checkpoint(
    config: TrainConfig, expected: dict[str, bytes]
) -> None:
    os.truncate(last(config.run) / HEADER, 0)
    assert unlike(resumed(config), expected) == []


def test_one_checkpoint_may_be_damaged_twice(
    config: TrainConfig, expected: dict[str, bytes]
) -> None:
    """As a failing disk does it."""
    for _ in range(2):
        flip(last(config.run) / WEIGHTS)
        with contextlib.closing(train_steps(config, "resume")) as events:
            until(events, Saved, 4)
    assert unlike(resumed(config), expected) == []


def test_where_every_checkpoint_is_damaged_all_are_named(
    config: TrainConfig, expected: dict[str, bytes]
) -> None:
    for folder in saved(config.run):
        flip(folder / RAW)
    (started, *_) = train(config, "resume")
    assert isinstance(started, Started) and started.index == 0
    notes = " | ".join(started.notes)
    assert "iteration-00000002" in notes and "iteration-00000004" in notes
    assert unlike(content(config.run), expected) == []


@pytest.mark.parametrize("name", [WEIGHTS, RAW, MOMENTS])
def test_a_damaged_checkpoint_that_was_asked_for_is_refused(
    config: TrainConfig, data: Path, tmp_path: Path, name: str
) -> None:
    flip(last(config.run) / name)
    for start in (config.run, last(config.run)):
        wanted = settings(data, tmp_path / "new", stage="finetune", start=str(start))
        assert name in refused(*words(wanted), code=5)
    assert not (tmp_path / "new").exists()


def test_a_newer_format_is_left_as_it_is(config: TrainConfig, data: Path, tmp_path: Path) -> None:
    """Whether to start from it or to go on with it: an older program touches nothing."""
    for folder in saved(config.run):
        header = json.loads((folder / HEADER).read_text())
        (folder / HEADER).write_text(json.dumps(header | {"version": 99}))
    before = {p: p.read_bytes() for p in config.run.rglob("*.json*") if p.name != "status.json"}
    wanted = settings(data, tmp_path / "new", stage="finetune", start=str(config.run))
    assert "upgrade napari-prdit" in refused(*words(wanted), code=5)
    assert "upgrade napari-prdit" in refused(*words(config), "--resume", code=5)
    assert {p: p.read_bytes() for p in before} == before


def test_a_checkpoint_without_averaged_weights_is_none(
    config: TrainConfig, data: Path, tmp_path: Path
) -> None:
    """Raw weights lie beside them, but are never taken in their stead."""
    (last(config.run) / WEIGHTS).unlink()
    wanted = settings(data, tmp_path / "new", stage="finetune", start=str(config.run))
    assert WEIGHTS in refused(*words(wanted), code=5)


@pytest.mark.slow
@pytest.mark.parametrize("name", [WEIGHTS, RAW, MOMENTS])
def test_state_that_is_not_finite_is_passed_over(
    config: TrainConfig, expected: dict[str, bytes], name: str
) -> None:
    state = load_file(last(config.run) / name)
    next(iter(state.values())).view(-1)[0] = torch.nan
    save_file(state, last(config.run) / name)
    reseal(last(config.run))
    (started, *_) = train(config, "resume")
    assert isinstance(started, Started) and started.index == 2
    assert any(name in note for note in started.notes)
    assert unlike(content(config.run), expected) == []


@pytest.mark.slow
def test_a_checkpoint_of_another_kind_is_refused_by_what_differs(
    data: Path, once: Path, tmp_path: Path
) -> None:
    whole = settings(data, tmp_path / "global", stage="global", start=str(once), iterations=1)
    train(whole)
    narrow = tiny_checkpoint(tmp_path / "narrow", model=TINY.model_copy(update={"depth": 0}))
    new = tmp_path / "new"
    for wanted, differs in (
        (settings(data, new, start=str(whole.run)), "depth 4 instead of 0"),
        (settings(data, new, stage="global", start=str(narrow), model="small"), "width 24 instead"),
    ):
        assert differs in refused(*words(wanted), code=2)
    other_stage = whole.model_copy(update={"stage": "finetune"})
    assert 'stage: "global" -> "finetune"' in refused(*words(other_stage), "--resume", code=2)
    assert not new.exists()


# --- the disk -----------------------------------------------------------------------------------


@contextlib.contextmanager
def longest_file(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond `size`, as a full disk would."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.slow
@posix
@pytest.mark.parametrize("what", ["checkpoint", "metrics"])
def test_a_disk_that_fills_up_loses_nothing_that_was_saved(
    config: TrainConfig, expected: dict[str, bytes], what: str
) -> None:
    """In the middle of a checkpoint, or of a line of metrics."""
    with contextlib.closing(train_steps(config, "resume")) as events:
        until(events, TrainStep, 5)
        room = (config.run / "metrics.jsonl").stat().st_size + 20 if what == "metrics" else 50_000
        with longest_file(room), pytest.raises((OSError, OutputError)):
            list(events)
    assert [folder.name[-1] for folder in saved(config.run)] == ["2", "4"]
    assert leftovers(config.run) == []
    assert unlike(resumed(config), expected) == []


def test_a_run_folder_that_cannot_be_is_refused_before_anything_is_computed(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("a file, not a folder")
    config = settings(data, tmp_path / "file" / "run")
    monkeypatch.setattr("prdit_core.training.loop.Trainer.advance", None)
    assert str(config.run) in refused(*words(config), code=6)


# --- settings -----------------------------------------------------------------------------------

NONSENSE = {
    "learing_rate = 1": "'learing_rate' is not known",
    "save_evry = 1": "did you mean save_every",
    "lr = 1e-4\nlr = 1e-3": "line 2",
    "workers = no": "line 1",
    "iterations = 010": "line 1",
    "lr = 1e-4x": "line 1",
    'lr = "fast"': "lr: must be a number, not 'fast'",
    'iterations = "many"': "iterations: must be a whole number, not 'many'",
    "iterations = 2.5": "iterations: must be a whole number, not 2.5",
    "iterations = [1]": "iterations",
    'batch_size = "no"': "batch_size",
    "lr = 0": "lr: must be above 0",
    "lr = -1e-4": "lr: must be above 0",
    "lr = 2": "lr: must be 1 or less",
    "lr = nan": "lr",
    "clip = inf": "clip: must be a finite number",
    "clip = 0": "clip",
    "noise_std = -0.5": "noise_std",
    "ema_decay = 1": "ema_decay: must be below 1",
    "iterations = 0": "iterations",
    "batch_size = 0": "batch_size",
    "micro_batch = 0": "micro_batch",
    "save_every = 0": "save_every",
    "preview_every = -1": "preview_every",
    "seed = -1": "seed",
    f"seed = {2**63}": "seed",
    "threads = 0": "threads",
    "workers = -1": "workers",
    'stage = "both"': "stage 'both' is none of local, global, refine, finetune",
    'model = "PRDiT-B/12"': "PRDiT-B/12",
    'device = "cuda:9"': "cuda:9",
}


@pytest.mark.slow
@pytest.mark.parametrize("text", NONSENSE)
def test_a_configuration_that_makes_no_sense_is_refused(
    data: Path, tmp_path: Path, text: str
) -> None:
    file = tmp_path / "run.toml"
    file.write_text(text + "\n")
    options = ["--data", data, "--run", tmp_path / "run", "--config", file]
    options += [] if text.startswith("stage") else ["--stage", "local"]
    assert NONSENSE[text] in refused("train", *options, code=2)
    assert not (tmp_path / "run").exists()


def test_a_number_written_as_text_is_that_number(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('lr = "2e-4"\n')
    config = settings(data, tmp_path / "run", iterations=1)
    done = CliRunner().invoke(app, [*words(config), "--config", str(file)])
    assert done.exit_code == 0, done.output
    assert json.loads((config.run / "config.json").read_text())["settings"]["lr"] == 2e-4


def test_volumes_that_patches_do_not_fill_are_refused(data: Path, tmp_path: Path) -> None:
    thirds = TINY.model_copy(update={"patch": 3, "stride": 3, "padding": 0, "depth": 0})
    start = tiny_checkpoint(tmp_path / "start", size=9, model=thirds)
    config = settings(data, tmp_path / "run", start=str(start))
    assert "edges must be multiples of 3" in refused(*words(config), code=2)


CHANGES: dict[str, dict[str, Any]] = {
    "lr: 0.0001 -> 0.0005": {"lr": 5e-4},
    "seed: 0 -> 1": {"seed": 1},
    "batch_size: 2 -> 3": {"batch_size": 3},
    "ema_decay: 0.9999 -> 0.5": {"ema_decay": 0.5},
    "clip: 1.0 -> 0.1": {"clip": 0.1},
}


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_other_settings_are_refused_or_recorded(config: TrainConfig, change: str) -> None:
    before = {p: p.read_bytes() for p in config.run.rglob("*") if p.is_file() and p.name != "lock"}
    other = config.model_copy(update=CHANGES[change])
    with pytest.raises(UsageError, match="--allow-change") as caught:
        train(other, "resume")
    assert change in str(caught.value)
    assert {p: p.read_bytes() for p in before} == before
    train(other, "change")
    assert change in history(config.run)[-1]["changed"]
    (recorded,) = read_header(last(config.run)).record["changes"]
    assert recorded["iteration"] == 4 and change in recorded["changed"]


def test_a_change_is_recorded_even_if_the_run_is_killed_before_it_goes_on(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    other = config.model_copy(update={"lr": 5e-4})
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("prdit_core.verbs.train.restore", killed)
        train(other, "change")
    with contextlib.suppress(UsageError):
        train(other, "resume")
    train(other, "change")
    assert any("lr: 0.0001 -> 0.0005" in line["changed"] for line in history(config.run))
    assert read_header(last(config.run)).record["changes"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"stage": "finetune"}, 'stage: "local" -> "finetune"'),
        ({"model": "PRDiT-XS/12/4"}, '"width": 192'),
        ({"objective": "velocity"}, 'objective: "image-and-noise" -> "velocity"'),
        ({"noise_std": 0.75}, "noise_std: 0.5 -> 0.75"),
    ],
)
def test_what_a_checkpoint_is_made_of_cannot_change(
    config: TrainConfig, once: Path, change: dict[str, Any], named: str
) -> None:
    start = str(once) if change.get("stage") == "finetune" else None
    other = config.model_copy(update={**change, "start": start})
    before = (config.run / "config.json").read_bytes()
    for begin in ("resume", "change"):
        with pytest.raises(UsageError, match="cannot change") as caught:
            train(other, begin)
        assert named in str(caught.value)
    assert (config.run / "config.json").read_bytes() == before


@pytest.mark.slow
def test_other_data_are_refused(config: TrainConfig, own_data: Path, tmp_path: Path) -> None:
    """Other scans as well as another split; the same data elsewhere are the same."""
    phantoms(8, size=8, seed=1, out=tmp_path / "others")
    split = Path(shutil.copytree(own_data, tmp_path / "split"))
    manifest = read_manifest(split)
    moved = {"train": manifest.train[1:], "validation": manifest.validation + manifest.train[:1]}
    write_manifest(split, manifest.model_copy(update=moved))
    for folder in (tmp_path / "others", split):
        other = config.model_copy(update={"data": folder})
        with pytest.raises(UsageError, match="data_sha256"):
            train(other, "resume")
    train(config.model_copy(update={"data": own_data}), "resume")


@pytest.mark.slow
def test_another_number_of_threads_is_said_to_change_the_bytes(config: TrainConfig) -> None:
    (started, *_) = train(config.model_copy(update={"threads": 2}), "resume")
    assert isinstance(started, Started)
    assert any("threads: 1 -> 2, so not bit-identical" in note for note in started.notes)
    assert read_header(last(config.run)).record["changes"]


# --- numbers, data, memory ----------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_what_is_not_finite_is_named_and_poisons_nothing(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    once = settings(data, tmp_path / "once", iterations=9, save_every=100)
    expected = trained(once)
    config = once.model_copy(update={"run": tmp_path / "run"})
    bad, read = read_manifest(data).train[3].id, Volumes.read

    def poisoned(self: Volumes, number: int) -> NDArray[Any]:
        x0 = read(self, number).copy()
        x0[0, 0, 0] = value if self.names[number] == bad else x0[0, 0, 0]
        return x0

    with contextlib.closing(train_steps(config)) as events:
        until(events, TrainStep, 3)
        with monkeypatch.context() as patch, pytest.raises(NumericalError) as caught:
            patch.setattr(Volumes, "read", poisoned)
            list(events)
    done = iterations(config.run)[-1]
    assert caught.value.exit_code == 8
    assert f"iteration {done + 1}:" in str(caught.value) and f"cases {bad})" in str(caught.value)
    assert last(config.run).name == f"iteration-{done:08d}"
    for name in (WEIGHTS, RAW, MOMENTS):
        load_tensors(last(config.run) / name)  # refuses what is not finite
    status = read_status(RunFolder(config.run))
    assert status is not None and status.state == "failed" and bad in status.message
    assert unlike(resumed(config), expected) == []


@pytest.mark.slow
@pytest.mark.parametrize("part", ["train", "validation"])
@pytest.mark.parametrize("damage", ["removed", "flipped", "truncated"])
def test_a_volume_lost_or_changed_on_the_way_stops_the_run_by_name(
    own_data: Path, tmp_path: Path, expected: dict[str, bytes], damage: str, part: str
) -> None:
    config = settings(own_data, tmp_path / "run")
    case = getattr(read_manifest(own_data), part)[0]
    file = case_path(own_data, VOLUMES, case.id)
    kept = file.read_bytes()
    with contextlib.closing(train_steps(config)) as events:
        until(events, TrainStep, 1)
        DAMAGES[damage](file)
        with pytest.raises(InputRejected, match=case.id) as caught:
            list(events)
    assert caught.value.exit_code == 3
    assert last(config.run).name == f"iteration-{iterations(config.run)[-1]:08d}"
    with pytest.raises(InputRejected, match=case.id):
        train(config, "resume")
    file.write_bytes(kept)
    assert unlike(resumed(config), expected) == []


@posix
@pytest.mark.slow
def test_a_killed_data_worker_ends_the_run_with_its_code(data: Path, tmp_path: Path) -> None:
    config = settings(data, tmp_path / "run", iterations=10_000, save_every=10, workers=1)
    with child(config) as process:
        iterating(process, config.run, 25)
        parts = psutil.Process(process.pid).children(recursive=True)
        (worker,) = [part for part in parts if "spawn_main" in " ".join(part.cmdline())]
        worker.kill()
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 7 and "Traceback" not in stderr, stderr
    assert "go on with --resume" in stderr.splitlines()[-1]
    status = read_status(RunFolder(config.run))
    assert status is not None and status.state == "failed"
    done = iterations(config.run)[-1]
    shorter = config.model_copy(update={"iterations": done + 5, "save_every": 1000, "workers": 0})
    once = trained(shorter.model_copy(update={"run": tmp_path / "once"}))
    assert unlike(without_metrics(resumed(shorter)), without_metrics(once)) == []


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits another process")
def test_memory_that_runs_out_ends_the_run_with_its_code(data: Path, tmp_path: Path) -> None:
    import resource

    config = settings(data, tmp_path / "run", iterations=100_000, save_every=10)
    with child(config) as process:
        iterating(process, config.run, 25)
        used = psutil.Process(process.pid).memory_info().vms
        resource.prlimit(process.pid, resource.RLIMIT_AS, (used // 2, used // 2))
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 7 and "Traceback" not in stderr, stderr
    assert saved(config.run)
    with contextlib.closing(train_steps(config, "resume")) as events:
        until(events, TrainStep, iterations(config.run)[-1] + 1)


@posix
@pytest.mark.slow
def test_memory_that_cannot_do_is_refused_before_the_start(data: Path, tmp_path: Path) -> None:
    header = tiny_checkpoint(tmp_path / "local", model=model_config("PRDiT-XL/12/0"))
    config = settings(
        data, tmp_path / "run", stage="global", start=str(header), model="PRDiT-XL/12/28"
    )
    program = (
        "import resource, sys; from prdit_core.cli import main;"
        "resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30, 8 * 2**30)); main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *words(config)],
        capture_output=True, text=True, timeout=120, env={**os.environ, **ONE_THREAD},
    )  # fmt: skip
    assert done.returncode == 7 and "8.0 GiB" in done.stderr, done.stderr
    assert not config.run.exists()


# --- data sets ----------------------------------------------------------------------------------


def test_a_data_set_without_training_cases_is_refused(own_data: Path, tmp_path: Path) -> None:
    manifest = read_manifest(own_data)
    none = {"train": (), "validation": manifest.cases}
    write_manifest(own_data, manifest.model_copy(update=none))
    config = settings(own_data, tmp_path / "run")
    assert "no training case" in refused(*words(config), code=2)
    assert not config.run.exists()


def test_few_cases_are_trained_on_and_what_is_missing_is_said(tmp_path: Path) -> None:
    phantoms(1, size=8, seed=0, out=tmp_path / "data")
    started, *events = train(settings(tmp_path / "data", tmp_path / "run"))
    assert isinstance(started, Started)
    notes = " | ".join(started.notes)
    assert "batch size 1 instead of 2" in notes and "no validation" in notes
    assert not any(isinstance(event, Validated) for event in events)
    assert [event.index for event in events if isinstance(event, Saved)] == [2, 4, 6]


# --- files of the run, time ---------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["metrics.jsonl", "history.jsonl", "status.json", "log.txt"])
def test_a_cut_line_is_done_again(
    config: TrainConfig, expected: dict[str, bytes], name: str
) -> None:
    file = config.run / name
    os.truncate(file, file.stat().st_size - 15)
    assert unlike(resumed(config), expected) == []


def test_a_clock_that_jumps_changes_nothing(
    config: TrainConfig, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    hours, real = cycle([0, 10, -10, 3, -7]), time.time

    class Jumping(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz) + timedelta(hours=next(hours))

    monkeypatch.setattr(recorder, "datetime", Jumping)
    monkeypatch.setattr(recorder, "STATUS_EVERY_S", 0.0)
    monkeypatch.setattr(time, "time", lambda: real() + 3600 * next(hours))
    for event in train_steps(config, "resume"):
        status = read_status(RunFolder(config.run))
        assert status is not None
        if isinstance(event, TrainStep):
            assert event.seconds >= 0
            assert status.seconds_left is not None and 0 <= status.seconds_left < 600
    assert unlike(content(config.run), expected) == []

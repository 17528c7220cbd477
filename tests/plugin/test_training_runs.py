"""Training runs from outside, without a window: what is started, read and concluded."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest

from napari_prdit import run_tail
from napari_prdit.run_tail import LossHistory, Tail, add_metrics, running_mean
from napari_prdit.run_watch import CONSOLE, GRACE_S, LAUNCH, Launch, Seen, look, runs_below
from napari_prdit.training_runs import begin, end, resume, settings_of, train_words
from prdit_core.errors import OutputError, UsageError
from prdit_core.models.patch.config import PatchTraining
from prdit_core.prdit_config import TrainConfig
from prdit_core.runs.folder import RunFolder
from prdit_core.runs.lock import held
from prdit_core.runs.status import Status, write_status

if TYPE_CHECKING:
    from collections.abc import Iterator

EARLIER, LATER = "2025-01-01T08:00:00+00:00", "2025-01-01T09:00:00+00:00"


def metrics_line(iteration: int, total: float = 0.5, kind: str = "train") -> str:
    loss = {"total": total, "x0": 0.2, "eps": 0.3}
    return json.dumps({"kind": kind, "iteration": iteration, "loss": loss})


def add(file: Path, text: str) -> None:
    with file.open("a", encoding="utf-8") as stream:
        stream.write(text)


def replace(file: Path, text: str) -> None:
    """As a resumed run does with metrics that lie past its checkpoint."""
    other = file.with_name("other")
    other.write_text(text, encoding="utf-8")
    os.replace(other, file)


# --- the command line ---------------------------------------------------------------------------


def test_the_command_has_what_was_given_and_nothing_else() -> None:
    config = TrainConfig.model_validate(
        {
            "stage": "finetune",
            "data": Path("/data"),
            "run": Path("/runs/a b"),
            "start": "demo",
            "batch_size": 2,
            "lr": "1e-5",
            "micro_batch": None,
        }
    )
    words = train_words(config)
    pairs = dict(zip(words[1::2], words[2::2], strict=True))
    assert words[0] == "train"
    assert pairs == {
        "--stage": "finetune",
        "--data": "/data",
        "--run": "/runs/a b",
        "--from": "demo",
        "--batch-size": "2",
        "--lr": "1e-05",
    }


def test_a_run_does_not_begin_where_something_lies(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    config = TrainConfig(stage="local", data=tmp_path, run=tmp_path / "run")
    with pytest.raises(OutputError, match="choose another name"):
        begin(config)
    assert list((tmp_path / "run").iterdir()) == []


def test_a_run_without_settings_does_not_go_on(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no settings"):
        resume(RunFolder(tmp_path))


def test_damaged_settings_are_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"settings": {"stage": "lo')
    with pytest.raises(UsageError, match="is damaged; start a new run"):
        resume(RunFolder(tmp_path))


# --- files that grow ----------------------------------------------------------------------------


def test_a_line_counts_once_it_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    tail = Tail(file)
    assert tail.read() == (False, [], False)
    add(file, "one\ntw")
    assert tail.read() == (True, ["one"], False)
    assert tail.read() == (False, [], False)
    add(file, "o\nthree\n")
    assert tail.read() == (False, ["two", "three"], False)


@pytest.mark.parametrize("after", ["1\n", "1\n2\n3\n4\n5\n"], ids=["shorter", "longer"])
def test_a_file_that_was_replaced_is_read_anew(tmp_path: Path, after: str) -> None:
    file = tmp_path / "metrics.jsonl"
    add(file, "1\n2\n3\n")
    tail = Tail(file)
    tail.read()
    replace(file, after)
    news = tail.read()
    assert news.anew and news.lines == after.split()


def test_a_file_that_was_cut_in_place_is_read_anew(tmp_path: Path) -> None:
    file = tmp_path / "log.txt"
    add(file, "1\n2\n3\n")
    tail = Tail(file)
    tail.read()
    os.truncate(file, 2)
    assert tail.read() == (True, ["1"], False)


def test_a_file_that_is_gone_is_forgotten_and_may_come_back(tmp_path: Path) -> None:
    file = tmp_path / "log.txt"
    add(file, "1\n")
    tail = Tail(file)
    tail.read()
    file.unlink()
    assert tail.read() == (True, [], False)
    add(file, "2\n")
    assert tail.read() == (True, ["2"], False)


def test_a_long_file_comes_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_tail, "CHUNK", 25)
    file = tmp_path / "metrics.jsonl"
    lines = [f"line {number}" for number in range(20)]
    add(file, "\n".join(lines) + "\n")
    tail, found, pieces = Tail(file), [], 0
    while (news := tail.read()).more:
        found += news.lines
        pieces += 1
        assert news.anew == (pieces == 1)
    assert found + news.lines == lines
    assert pieces > 3


def test_a_line_longer_than_a_piece_does_not_hold_up_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_tail, "CHUNK", 25)
    file = tmp_path / "log.txt"
    add(file, "x" * 100 + "\nlast\n")
    tail, found = Tail(file), []
    while (news := tail.read()).more:
        found += news.lines
    assert [*found, *news.lines][-1] == "last"


def test_of_a_long_log_only_the_newest_whole_lines_are_read(tmp_path: Path) -> None:
    file = tmp_path / "log.txt"
    add(file, "".join(f"line {number}\n" for number in range(1000)))
    lines = Tail(file, newest=30).read().lines
    assert lines == ["line 997", "line 998", "line 999"]


# --- losses -------------------------------------------------------------------------------------


def test_cut_and_foreign_lines_of_metrics_are_left_out() -> None:
    train, validation = LossHistory(), LossHistory()
    lines = [metrics_line(1), '{"kind": "tra', "[]", '{"kind": "other"}', "", metrics_line(2)]
    add_metrics([*lines, metrics_line(2, 0.7, "validation")], train, validation)
    assert train.curve("total")[0].tolist() == [1, 2]
    assert [values.tolist() for values in validation.curve("total")] == [[2], [0.7]]


@pytest.mark.parametrize("width", [1, 2, 5, 50])
def test_a_running_mean_is_the_mean_of_its_neighbours(width: int) -> None:
    values = np.random.default_rng(0).random(40)
    means = running_mean(values, width)
    for index, mean in enumerate(means):
        first = index - width // 2
        assert mean == pytest.approx(values[max(0, first) : first + width].mean())


def test_a_short_run_is_shown_as_it_is_and_a_long_one_thinned() -> None:
    train = LossHistory()
    for iteration in range(1, 11):
        add_metrics([metrics_line(iteration, iteration)], train, LossHistory())
    at, means = train.smooth_curve("total")
    assert at.tolist() == means.tolist() == list(range(1, 11))
    add_metrics((metrics_line(i, 3.0) for i in range(11, 10_001)), train, LossHistory())
    at, means = train.smooth_curve("total")
    assert len(at) == run_tail.POINTS and at[0] == 1 and at[-1] == 10_000
    assert means[-1] == pytest.approx(3.0)


# --- states -------------------------------------------------------------------------------------


def said(state: str, *, started: str = EARLIER, message: str = "", **more: Any) -> Status:
    content = {
        "state": state,
        "stage": "local",
        "iteration": 3,
        "total": 10,
        "message": message,
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "started": started,
        "updated": started,
    }
    return Status.model_validate(content | more)


def launched(folder: RunFolder, process: psutil.Process, at: str = LATER, **more: Any) -> None:
    content = {
        "words": ["train"],
        "pid": process.pid,
        "born": process.create_time(),
        "host": socket.gethostname(),
        "at": at,
    }
    launch = Launch.model_validate(content | more)
    (folder.path / LAUNCH).write_text(launch.model_dump_json())


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    return run


@pytest.fixture
def sleeper() -> Iterator[psutil.Process]:
    """A process that lives, of which nothing is known yet."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as child:
        yield psutil.Process(child.pid)
        child.kill()


def test_a_run_whose_process_is_gone_is_dead_and_tells_its_last_words(folder: RunFolder) -> None:
    write_status(folder, said("running"))
    folder.log.write_text("2025-01-01T08:00:00+00:00  iteration 3: validation loss 0.5\n\n")
    run = look(folder)
    assert run.state == "dead" and run.may_resume
    assert run.message == "its process was killed; last it said: iteration 3: validation loss 0.5"


def test_a_run_that_is_worked_in_is_running_until_it_is_asked_to_stop(folder: RunFolder) -> None:
    write_status(folder, said("running"))
    with held(folder):
        assert look(folder).state == "running"
        folder.ask_to_stop()
        run = look(folder)
        assert run.state == "stopping" and not run.may_be_ended and not run.may_resume
        long_ago = time.time() - GRACE_S - 1
        os.utime(folder.stop, (long_ago, long_ago))
        assert look(folder).may_be_ended


def test_what_a_run_says_of_its_end_is_believed(folder: RunFolder) -> None:
    for state in ("stopped", "finished", "failed"):
        write_status(folder, said(state, message="why"))
        run = look(folder)
        assert run.state == state
        assert run.message == ("why" if state == "failed" else "")
        assert run.may_resume == (state != "finished")


def test_a_child_that_has_not_spoken_yet_is_starting(
    folder: RunFolder, sleeper: psutil.Process
) -> None:
    launched(folder, sleeper)
    assert look(folder).state == "starting"
    write_status(folder, said("stopped"))  # of the time before it was resumed
    assert look(folder).state == "starting"
    write_status(folder, said("finished", started=LATER))
    assert look(folder).state == "finished"


def test_a_child_that_never_spoke_failed_with_its_last_line(
    folder: RunFolder, sleeper: psutil.Process
) -> None:
    launched(folder, sleeper)
    sleeper.kill()
    sleeper.wait(10)
    assert look(folder).state == "failed"
    assert "killed before it began" in look(folder).message
    (folder.path / CONSOLE).write_text("note: something\nprdit-core: no such data\n")
    run = look(folder)
    assert (run.state, run.message) == ("failed", "no such data")
    folder.ask_to_stop()
    assert look(folder).state == "stopped"


def test_another_process_of_the_same_number_is_not_the_child(
    folder: RunFolder, sleeper: psutil.Process
) -> None:
    launched(folder, sleeper, born=sleeper.create_time() - 60)
    assert look(folder).state == "failed"


def test_runs_are_listed_newest_first_also_those_that_never_began(
    tmp_path: Path, sleeper: psutil.Process
) -> None:
    for name, begun in (("old", EARLIER), ("series/new", LATER)):
        folder = RunFolder(tmp_path / name)
        folder.path.mkdir(parents=True)
        write_status(folder, said("finished", started=begun))
    newest = RunFolder(tmp_path / "newest")
    newest.path.mkdir()
    launched(newest, sleeper, at="2025-01-01T10:00:00+00:00")
    (tmp_path / "no run").mkdir()
    names = [run.folder.path.relative_to(tmp_path).as_posix() for run in runs_below(tmp_path)]
    assert names == ["newest", "series/new", "old"]
    assert runs_below(tmp_path / "nowhere") == []


def test_damaged_files_of_a_run_do_not_keep_the_others_from_being_listed(tmp_path: Path) -> None:
    for name, content in (("bad", "{"), ("good", said("finished").model_dump_json())):
        (tmp_path / name).mkdir()
        (tmp_path / name / "status.json").write_text(content)
        (tmp_path / name / LAUNCH).write_text("no JSON")
    states = {run.folder.path.name: run.state for run in runs_below(tmp_path)}
    assert states == {"bad": "dead", "good": "finished"}


def test_a_run_of_another_machine_is_not_ended_from_here(folder: RunFolder) -> None:
    write_status(folder, said("running", host="elsewhere"))
    with held(folder), pytest.raises(UsageError, match="elsewhere; end it there"):
        end(folder)


def test_what_no_process_works_in_cannot_be_ended(folder: RunFolder) -> None:
    write_status(folder, said("finished"))
    with pytest.raises(UsageError, match="not being worked in"):
        end(folder)


def test_a_run_that_says_nothing_shows_no_process_to_end(folder: RunFolder) -> None:
    folder.config.write_text("{}")
    with held(folder):
        run = look(folder)
        assert run == Seen(folder, "running", None, "", "", None, None)
        with pytest.raises(UsageError, match="another process"):
            end(folder)


def test_a_run_of_another_family_is_begun_and_goes_on_with_its_own_settings(
    tmp_path: Path,
) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    config = PatchTraining(data=tmp_path, run=folder.path, tiles=3, target="v")
    words = train_words(config)
    assert "--tiles" in words and "--crop" not in words
    content = {"settings": config.model_dump(mode="json"), "facts": {}}
    folder.config.write_text(json.dumps(content), encoding="utf-8")
    assert settings_of(folder) == config

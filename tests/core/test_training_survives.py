"""Kills, signals and resuming: whatever stops a run, it goes on to the bytes of one go."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from toys import tiny_checkpoint
from trainings import (
    ONE_THREAD,
    assert_whole,
    child,
    closed_after,
    content,
    has_iterated,
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
    without_metrics,
    words,
)
from typer.testing import CliRunner

from prdit_core.checkpoints.catalog import saved
from prdit_core.cli.app import app
from prdit_core.runs.folder import RunFolder
from prdit_core.runs.listing import state_of
from prdit_core.runs.status import read_status
from prdit_core.training.events import Previewed, Saved, Started, TrainStep, Validated
from prdit_core.verbs.phantoms import phantoms
from prdit_core.verbs.train import train_steps

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prdit_core.prdit_config import TrainConfig

posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")

# Forks a process for each line it reads, which is what a start anew would be without its imports.
FORKS = """
import os, sys
{imports}
for line in sys.stdin:
    pid = os.fork()
    if not pid:
        {work}
        os._exit(0)
    print(pid, flush=True)
    os.waitpid(pid, 0)
    print("gone", flush=True)
"""
# Goes on with a run, its output apart from ours.
TRAINS = {
    "imports": "import lightning_fabric, torch._dynamo, prdit_core.verbs.train\n"
    "from prdit_core.cli.app import app",
    "work": "os.dup2(os.open(os.devnull, os.O_WRONLY), 1); app(line.split())",
}
# Saves for ever, over and over.
SAVES = {
    "imports": """
import itertools
from pathlib import Path
from prdit_core.checkpoints.store import read_header, read_weights, save_checkpoint
from prdit_core.models.tensor_files import save_tensors
model, checkpoints = map(Path, sys.argv[1:])
header = read_header(model)
weights = read_weights(model, header)
def save(number):
    path = checkpoints / f"iteration-{number % 5:08d}"
    save_checkpoint(path, header, weights, lambda part: save_tensors(weights, part / "raw"))
""",
    "work": "any(map(save, itertools.count()))",
}


@contextlib.contextmanager
def forking(code: dict[str, str], *arguments: Path) -> Iterator[Forks]:
    """What forks such processes, one after the other."""
    command = [sys.executable, "-c", FORKS.format(**code), *map(str, arguments)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, env={**os.environ, **ONE_THREAD}, **pipes) as parent:
        yield Forks(parent)
        assert parent.stdin is not None
        parent.stdin.close()


class Forks:
    """Begins processes that are killed."""

    def __init__(self, parent: subprocess.Popen[str]) -> None:
        assert parent.stdin is not None and parent.stdout is not None
        self._ask, self._answers = parent.stdin, parent.stdout

    def begin(self, line: str) -> int:
        """Its process id."""
        print(line, file=self._ask, flush=True)
        return int(self._answers.readline())

    def kill(self, pid: int) -> None:
        """Kill it, unless it ended before, and wait until it is gone."""
        os.kill(pid, signal.SIGKILL)
        assert self._answers.readline() == "gone\n"


@pytest.fixture(params=["local", "global"])
def config(request: pytest.FixtureRequest, data: Path, once: Path, tmp_path: Path) -> TrainConfig:
    """A short run of each stage, with a validation and a picture on the way."""
    start = None if request.param == "local" else str(once)
    return settings(
        data, tmp_path / "once", stage=request.param, start=start, iterations=4, preview_every=3
    )


def at(config: TrainConfig, name: str) -> TrainConfig:
    """The same run in another folder."""
    return config.model_copy(update={"run": config.run.with_name(name)})


# --- every moment between two events, in one process -------------------------------------------


@pytest.mark.slow
def test_a_run_killed_after_any_event_ends_with_the_same_bytes(config: TrainConfig) -> None:
    """A copy of the folder is what a kill would leave there."""
    copies = []
    for number, event in enumerate(train_steps(config)):
        copies.append((event, at(config, f"kill-{number}")))
        shutil.copytree(config.run, copies[-1][1].run)
    expected = content(config.run)
    assert {type(event) for event, _ in copies} == {
        Started, TrainStep, Validated, Previewed, Saved
    }  # fmt: skip
    for event, copy in copies[:-1]:
        assert unlike(resumed(copy), expected) == [], event
        assert sorted(p.name for p in (copy.run / "previews").iterdir()) == [
            "iteration-00000003.png",
            "iteration-00000004.png",
        ]


# Fails after a step whose validation was due: nobody validates it later.
@pytest.mark.slow
def test_a_closed_run_is_saved_and_ends_with_the_same_bytes(config: TrainConfig) -> None:
    """Wherever it was closed, even between an iteration and its validation."""
    events, expected = train(config), content(config.run)
    apart = 1 if config.stage == "local" else 3
    for number, event in list(enumerate(events))[::apart]:
        copy = at(config, f"closed-{number}")
        assert type(closed_after(copy, number)) is type(event)
        status = read_status(RunFolder(copy.run))
        assert status is not None and status.iteration == event.index
        assert status.state == "stopped"
        assert event.index == 0 or last(copy.run).name == f"iteration-{event.index:08d}"
        assert unlike(resumed(copy), expected) == [], event
        assert [line["dropped"] for line in history(copy.run)] == [0, 0]


# --- SIGKILL ------------------------------------------------------------------------------------


def kill_and_resume(config: TrainConfig, kills: int, longest: float, seed: int) -> None:
    """Kill at random moments of iterating, each time after a resume; then go on to the end."""
    moments, line = random.Random(seed), " ".join([*words(config), "--resume"])
    with forking(TRAINS) as forks:
        for _ in range(kills):
            pid = forks.begin(line)
            while not has_iterated(pid, config.run):
                assert psutil.pid_exists(pid)
                time.sleep(0.01)
            time.sleep(moments.uniform(0, longest))
            forks.kill(pid)
            assert state_of(RunFolder(config.run)) == "dead"
            assert_whole(config.run)
    train(config, "resume")
    dropped = [line["dropped"] for line in history(config.run)]
    assert len(dropped) == kills + 1 and max(dropped) <= config.save_every
    assert leftovers(config.run) == []


@posix
@pytest.mark.slow
def test_six_kills_leave_the_bytes_of_one_go(data: Path, tmp_path: Path) -> None:
    """A third of the time goes into saving, so some kills fall there."""
    once = settings(data, tmp_path / "once", iterations=200, save_every=5)
    expected = trained(once)
    killed = at(once, "killed")
    kill_and_resume(killed, kills=6, longest=0.2, seed=0)
    assert unlike(content(killed.run), expected) == []


@posix
@pytest.mark.slow
def test_kills_around_validations_and_previews_change_nothing(data: Path, tmp_path: Path) -> None:
    once = settings(data, tmp_path / "once", iterations=30, save_every=3, preview_every=2)
    expected = trained(once)
    killed = at(once, "killed")
    kill_and_resume(killed, kills=3, longest=0.3, seed=1)
    assert unlike(content(killed.run), expected) == []
    pictures = [{p.name: p.stat().st_size for p in (run / "previews").iterdir()} for run in
                (once.run, killed.run)]  # fmt: skip
    assert pictures[0] == pictures[1] and len(pictures[0]) == 15


@posix
@pytest.mark.slow
def test_a_kill_while_saving_leaves_whole_checkpoints_only(tmp_path: Path) -> None:
    """Thirty times; every checkpoint is written over again, which takes two renames."""
    model, folder = tiny_checkpoint(tmp_path / "model"), RunFolder(tmp_path / "run")
    moments = random.Random(0)
    interrupted = 0
    with forking(SAVES, model, folder.checkpoints) as forks:
        for number in range(30):
            saver = forks.begin("")
            while number == 0 and not saved(folder.path):
                assert psutil.pid_exists(saver)
                time.sleep(0.01)
            time.sleep(moments.uniform(0.02, 0.1))
            forks.kill(saver)
            interrupted += bool(leftovers(folder.path))
            assert_whole(folder.path)
            assert saved(folder.path)
            folder.sweep()
            assert leftovers(folder.path) == []
    assert interrupted >= 10


@pytest.mark.slow
@pytest.mark.parametrize("files", [1, 2, 3])
def test_a_checkpoint_that_is_half_removed_counts_no_longer(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: int
) -> None:
    """The oldest is removed when the third is there; a second Ctrl-C may fall into that."""
    config, unlink, removed = settings(data, tmp_path / "run"), os.unlink, []

    def interrupted(path: str, *, dir_fd: int | None = None) -> None:
        removed.extend([path] * (dir_fd is not None))  # as rmtree removes
        if len(removed) > files:
            raise KeyboardInterrupt
        unlink(path, dir_fd=dir_fd)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "unlink", interrupted)
        train(config)
    assert len(removed) == files + 1
    assert_whole(config.run)
    train(config, "resume")
    assert leftovers(config.run) == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="names of handles are in /proc")
def test_what_a_checkpoint_rests_on_is_on_disk_before_it(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut may lose what was not flushed: so flush, then rename, then flush the folder."""
    config, fsync, replace = settings(data, tmp_path / "run", iterations=2), os.fsync, os.replace
    done: list[tuple[str, str]] = []

    def flushed(handle: int) -> None:
        done.append(("flush", Path(f"/proc/self/fd/{handle}").resolve().name))
        fsync(handle)

    def renamed(old: Path, new: Path) -> None:
        done.append(("rename", Path(new).name))
        replace(old, new)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "replace", renamed)
    train(config)
    at = done.index(("rename", "iteration-00000002"))
    names = {"metrics.jsonl", "history.jsonl", *(p.name for p in last(config.run).iterdir())}
    assert {("flush", name) for name in names} <= set(done[:at])
    assert ("flush", "checkpoints") in done[at:]


# --- signals and STOP ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def long(data: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    """Long enough to be stopped on the way, and saved at the end only."""
    folder = tmp_path_factory.mktemp("long")
    return settings(data, folder / "once", iterations=150, save_every=1000)


@pytest.fixture(scope="module")
def in_one_go(long: TrainConfig) -> dict[str, bytes]:
    return trained(long)


def assert_stopped(config: TrainConfig, expected: dict[str, bytes]) -> None:
    """All that was done is saved, and the run ends with the bytes of one go."""
    status, done = read_status(RunFolder(config.run)), iterations(config.run)
    assert status is not None and status.state == "stopped"
    assert done and status.iteration == done[-1] < config.iterations
    assert last(config.run).name == f"iteration-{done[-1]:08d}"
    assert unlike(resumed(config), expected) == []
    assert sum(line["dropped"] for line in history(config.run)) == 0


@posix
@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_stops(
    long: TrainConfig, in_one_go: dict[str, bytes], number: signal.Signals, code: int
) -> None:
    config = at(long, number.name)
    with child(config) as process:
        iterating(process, config.run)
        process.send_signal(number)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == code and "Traceback" not in stderr, stderr
    assert_stopped(config, in_one_go)


@pytest.mark.slow
def test_the_file_stop_saves_and_stops(long: TrainConfig, in_one_go: dict[str, bytes]) -> None:
    config = at(long, "stop")
    with child(config) as process:
        iterating(process, config.run)
        CliRunner().invoke(app, ["runs", "stop", str(config.run)])
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 0 and "Traceback" not in stderr, stderr
    assert_stopped(config, in_one_go)


# Fails: data workers die of the Ctrl-C, so the run ends with code 6 or 7 and may save nothing.
@posix
@pytest.mark.slow
def test_ctrl_c_in_a_terminal_reaches_data_workers_too(
    long: TrainConfig, in_one_go: dict[str, bytes]
) -> None:
    config = at(long, "group").model_copy(update={"workers": 1})
    with child(config) as process:
        iterating(process, config.run)
        os.killpg(process.pid, signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in stderr, stderr
    assert_stopped(config.model_copy(update={"workers": 0}), in_one_go)


@posix
@pytest.mark.slow
def test_a_second_ctrl_c_stops_at_once(tmp_path: Path) -> None:
    """Whether it falls into an iteration or between two is the machine's, so it is tried again."""
    phantoms(8, size=32, seed=0, out=tmp_path / "data")
    once = settings(
        tmp_path / "data", tmp_path / "once", batch_size=7, micro_batch=1, save_every=20
    )
    for number in range(8):
        config = at(once, f"run-{number}")
        with child(config) as process:
            iterating(process, config.run)
            process.send_signal(signal.SIGINT)
            assert process.stderr is not None
            assert "press Ctrl-C again" in process.stderr.readline()
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=60)
        assert process.returncode == 130 and "Traceback" not in stderr, stderr
        status = read_status(RunFolder(config.run))
        assert status is not None and status.state == "stopped"
        if not saved(config.run):  # in the middle of an iteration: nothing was waited for
            break
    assert saved(config.run) == []
    assert unlike(resumed(config), trained(once)) == []


# --- the lock -----------------------------------------------------------------------------------


@posix
@pytest.mark.slow
def test_a_second_run_in_the_folder_is_refused_and_harms_nothing(
    long: TrainConfig, in_one_go: dict[str, bytes]
) -> None:
    config = at(long, "shared").model_copy(update={"iterations": 600})
    with child(config) as process:
        iterating(process, config.run)
        second = CliRunner().invoke(app, [*words(config), "--resume"])
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 143
    assert second.exit_code == 9, second.output
    assert f"process {process.pid} on " in second.stderr and second.stderr.count("\n") == 1
    lines = (config.run / "metrics.jsonl").read_bytes().splitlines()[:140]
    assert lines == in_one_go["metrics.jsonl"].splitlines()[: len(lines)]
    assert len(history(config.run)) == 1


@posix
@pytest.mark.slow
def test_a_killed_run_starts_again_at_once_while_its_data_workers_still_live(
    long: TrainConfig, in_one_go: dict[str, bytes]
) -> None:
    config = at(long, "orphans").model_copy(update={"save_every": 20, "workers": 1})
    with child(config) as process:
        iterating(process, config.run)
        workers = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait()
        assert len(workers) >= 1 and all(worker.is_running() for worker in workers)
        found = resumed(config.model_copy(update={"workers": 0}))
        _, alive = psutil.wait_procs(workers, timeout=30)
    assert alive == []
    assert unlike(without_metrics(found), without_metrics(in_one_go)) == []

"""Run folders as those see them who watch a training: states, lock, metrics, pictures, command."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image, ImageColor
from typer.testing import CliRunner, Result

from prdit_core.cli.app import app
from prdit_core.errors import RunBusy, UsageError
from prdit_core.runs import lock
from prdit_core.runs.folder import RunFolder
from prdit_core.runs.listing import list_runs, state_of
from prdit_core.runs.lock import held, is_held
from prdit_core.runs.metrics import LEVELS, append_line, keep_until, read_lines
from prdit_core.runs.plot import COLOURS, plot_run
from prdit_core.runs.status import Status, read_status, write_status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

# A process that works in the run folder until its standard input ends, or it is killed.
WORKER = """
import sys
from pathlib import Path
from prdit_core.runs.folder import RunFolder
from prdit_core.runs.lock import held
with held(RunFolder(Path(sys.argv[1]))):
    print("held", flush=True)
    sys.stdin.read()
"""
# One that is gone in the middle of writing, as if it were killed there.
KILLED_WRITER = """
import os, sys
from pathlib import Path
from prdit_core.files import write_atomically, write_folder_atomically
def begin(part):
    (part / "weights" if part.is_dir() else part).write_text("half")
    os._exit(9)
write = {"file": write_atomically, "folder": write_folder_atomically}[sys.argv[1]]
write(Path(sys.argv[2]), begin)
"""
TOLD: dict[str, Any] = {"stage": "local", "iteration": 40, "total": 100, "pid": 4321}
TIMES = {"host": "elsewhere", "started": "2026-01-01T08:00:00Z", "updated": "2026-01-01T09:00:00Z"}


def told(state: str, **more: Any) -> Status:
    return Status.model_validate({"state": state, **TOLD, **TIMES, **more})


def begun(path: Path, state: str, **more: Any) -> RunFolder:
    """A run folder as a process leaves it that last said `state`."""
    path.mkdir(parents=True)
    folder = RunFolder(path)
    folder.config.write_text("{}")
    folder.lock.touch()
    write_status(folder, told(state, **more))
    return folder


@contextmanager
def worker(folder: RunFolder) -> Iterator[subprocess.Popen[str]]:
    """Another process that works in the folder."""
    child = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(folder.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        assert child.stdout is not None and child.stdout.readline() == "held\n"
        try:
            yield child
        finally:
            child.kill()


def run(*words: object, code: int = 0) -> Result:
    """The command `runs` in this process."""
    done = CliRunner().invoke(app, ["runs", *map(str, words)])
    assert done.exit_code == code, (done.output, done.exception)
    assert "unexpected" not in done.stderr
    return done


# --- state and lock ---------------------------------------------------------------------------


def test_every_state_is_listed(tmp_path: Path) -> None:
    for name in ("stopped", "finished", "failed"):
        begun(tmp_path / name, name)
    begun(tmp_path / "killed", "running")
    (begun(tmp_path / "unreadable", "finished")).status.write_text('{"state": "fin')
    begun(tmp_path / "group" / "deeper", "finished")
    (tmp_path / "no run").mkdir()
    with worker(begun(tmp_path / "alive", "running")):
        runs = list_runs(tmp_path)
    found = {run.folder.path.relative_to(tmp_path).as_posix(): run.state for run in runs}
    assert list(found.items()) == [
        ("alive", "running"),
        ("failed", "failed"),
        ("finished", "finished"),
        ("group/deeper", "finished"),
        ("killed", "dead"),
        ("stopped", "stopped"),
        ("unreadable", "dead"),
    ]
    assert [run.folder.path.name for run in list_runs(tmp_path / "stopped")] == ["stopped"]
    with pytest.raises(UsageError, match="no folder"):
        list_runs(tmp_path / "nowhere")


def test_a_resumed_run_is_running_before_it_says_so(tmp_path: Path) -> None:
    folder = begun(tmp_path / "run", "failed")
    with held(folder):
        assert state_of(folder) == "running"
    assert state_of(folder) == "failed"


def test_a_killed_run_is_dead_at_once_and_can_be_taken_up(tmp_path: Path) -> None:
    folder = begun(tmp_path / "run", "running")
    with worker(folder) as child:
        assert state_of(folder) == "running"
        child.kill()
        child.wait()
        assert state_of(folder) == "dead"
        with held(folder):
            assert state_of(folder) == "running"


def test_a_second_process_is_refused_and_told_who_works_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "PATIENCE_S", 0.2)
    folder = begun(tmp_path / "run", "stopped")
    with worker(folder) as child:
        write_status(folder, told("running", pid=child.pid, host=socket.gethostname()))
        with pytest.raises(RunBusy) as caught, held(folder):
            pytest.fail("two processes work in one run folder")
    message = str(caught.value)
    assert f"process {child.pid} on {socket.gethostname()}" in message
    assert str(folder.path) in message and "\n" not in message
    assert caught.value.exit_code == 9


def test_an_error_inside_gives_the_folder_back(tmp_path: Path) -> None:
    folder = begun(tmp_path / "run", "running")
    with pytest.raises(ZeroDivisionError), held(folder):
        _ = 1 / 0
    assert not is_held(folder)


def test_a_folder_never_held_is_not_touched_by_a_glance(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert not is_held(folder)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_watching_never_makes_a_start_fail(tmp_path: Path) -> None:
    folder = begun(tmp_path / "run", "running")
    done, seen = Event(), set()

    def watch() -> None:
        while not done.is_set():
            seen.add(is_held(folder))

    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(watch)
        try:
            for _ in range(100):
                with held(folder):
                    time.sleep(0.005)
                time.sleep(0.005)
        finally:
            done.set()
        watching.result()
    assert seen == {True, False}


# --- files ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_status_is_whole_at_every_moment(tmp_path: Path) -> None:
    folder = begun(tmp_path / "run", "running", iteration=0)

    def write() -> None:
        for number in range(1, 201):
            write_status(folder, told("running", iteration=number, message="x" * 50 * number))

    found = []
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        while not writing.done():
            found.append(read_status(folder))
        writing.result()
    assert len(found) > 100 and None not in found
    assert all(len(status.message) == 50 * status.iteration for status in found if status)
    assert all(
        a.iteration <= b.iteration for a, b in pairwise(status for status in found if status)
    )
    assert state_of(folder) == "dead" and list_runs(folder.path)[0].status == read_status(folder)


def metric(iteration: int, loss: float = 0.5, kind: str = "train", hole: int | None = None) -> Any:
    """A line of metrics; no loss was found in the span of t numbered `hole`."""
    losses = {"x0": loss, "eps": loss / 4, "total": loss * 5 / 4}
    spans = [None if span == hole else 0.5 + span / LEVELS for span in range(LEVELS)]
    levels = {name: [s and s * value for s in spans] for name, value in losses.items()}
    line = {"kind": kind, "iteration": iteration, "loss": losses, "levels": levels}
    return line | ({"grad_norm": loss / 2, "lr": 1e-4} if kind == "train" else {})


def test_a_cut_line_of_metrics_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    assert read_lines(file) == []
    lines = [metric(1), metric(2), metric(2, kind="validation")]
    for line in lines:
        append_line(file, line)
    whole = file.read_bytes()
    for cut in (1, 20, len(json.dumps(lines[-1]))):
        file.write_bytes(whole[:-cut] if cut > 1 else whole + b"{")
        assert read_lines(file) == (lines if cut == 1 else lines[:2])
    file.write_bytes(whole + b"\xff\xfe\n[1]\n7\n")
    assert read_lines(file) == lines


def test_metrics_past_a_checkpoint_are_dropped_and_counted(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    assert keep_until(file, 5) == 0 and not file.exists()
    for number in range(1, 6):
        append_line(file, metric(number))
        if number == 3:
            once = file.read_bytes()
    append_line(file, metric(5, kind="validation"))
    with file.open("a") as stream:
        stream.write('{"kind": "train", "iterat')
    assert keep_until(file, 3) == 2
    assert file.read_bytes() == once
    assert keep_until(file, 3) == 0
    append_line(file, metric(4))
    assert [line["iteration"] for line in read_lines(file)] == [1, 2, 3, 4]


def test_sweeping_removes_what_a_killed_process_left_and_nothing_else(tmp_path: Path) -> None:
    folder = begun(tmp_path / "run", "running")
    append_line(folder.metrics, metric(1))
    for kept in ("previews/iteration-00000001.png", "checkpoints/iteration-00000001/weights"):
        (folder.path / kept).parent.mkdir(parents=True)
        (folder.path / kept).write_text("whole")
    (folder.path / ".notes").write_text("mine")
    (folder.path / "partial.txt").write_text("mine")
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    targets = {
        folder.status: "file",
        folder.previews / "iteration-00000002.png": "file",
        folder.checkpoints / "iteration-00000002": "folder",
    }
    for path, kind in targets.items():
        words = [sys.executable, "-c", KILLED_WRITER, kind, str(path)]
        assert subprocess.run(words, timeout=60, check=False).returncode == 9
    left = {file for file in tmp_path.rglob("*") if file.is_file()} - set(before)
    assert len(left) == 3
    folder.sweep()
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before
    assert [path.name for path in folder.checkpoints.iterdir()] == ["iteration-00000001"]


# --- pictures ---------------------------------------------------------------------------------


def drawn(folder: RunFolder, lines: list[Any]) -> NDArray[np.uint8]:
    """Pixels of the plot of a run with these metrics."""
    folder.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    path = plot_run(folder, folder.path / "plot.png")
    with Image.open(path) as picture:
        assert picture.format == "PNG" and picture.size == (1200, 800)
        return np.asarray(picture.convert("RGB"))


def where(pixels: NDArray[np.uint8], name: str) -> NDArray[np.bool_]:
    """Pixels in the colour of a loss."""
    return np.all(pixels == ImageColor.getrgb(COLOURS[name]), axis=-1)


def panels(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Losses by iteration, below their legend, and by noise level."""
    return pixels[60:340, 70:], pixels[420:750, 70:570]


FALLING = [metric(i, loss=float(0.9 * np.exp(-i / 30))) for i in range(1, 101)]
RISING = [metric(i, loss=float(0.9 * np.exp((i - 101) / 30))) for i in range(1, 101)]
HELD_OUT = [metric(i, loss=0.4, kind="validation") for i in (50, 100)]
CASES = {
    "one line": [metric(1)],
    "validation only": [metric(5, kind="validation")],
    "no validation": FALLING,
    "validation": sorted(FALLING + HELD_OUT, key=lambda line: line["iteration"]),
    "a span of t without a loss": [metric(i, hole=2) for i in range(1, 9)],
    "other spans of t in each line": [metric(i, hole=i % LEVELS) for i in range(1, 9)],
    "a loss of zero": [metric(i, loss=0.5 * (i % 2)) for i in range(1, 9)],
}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return begun(tmp_path / "run", "stopped")


@pytest.mark.slow
@pytest.mark.filterwarnings("error", "ignore::DeprecationWarning")
@pytest.mark.parametrize("case", CASES)
def test_losses_are_drawn_in_their_colours(folder: RunFolder, case: str) -> None:
    losses, levels = panels(drawn(folder, CASES[case]))
    for name in ("x0", "eps"):
        assert where(losses, name).sum() >= 4
        assert where(levels, name).sum() >= 20
    assert where(losses, "total").sum() >= 4


def height(pixels: NDArray[np.uint8], name: str, columns: slice) -> float:
    """Mean row of a curve in some columns, counted from below."""
    rows, _ = np.nonzero(where(pixels[:, columns], name))
    return float(-rows.mean())


@pytest.mark.slow
def test_falling_losses_fall_and_rising_ones_rise(folder: RunFolder) -> None:
    left, right = slice(50, 250), slice(800, 1000)
    falling, rising = (panels(drawn(folder, lines))[0] for lines in (FALLING, RISING))
    for name in COLOURS:
        assert height(falling, name, left) > height(falling, name, right) + 100
        assert height(rising, name, left) < height(rising, name, right) - 100


@pytest.mark.slow
def test_validation_is_drawn_beside_training(folder: RunFolder) -> None:
    alone, beside = (drawn(folder, CASES[case]) for case in ("no validation", "validation"))
    added = where(beside, "x0") & ~where(alone, "x0")
    losses, levels = added[60:340, 70:], added[420:750, 70:570]
    ends = losses[:, 500:620], losses[:, -60:]
    assert all(part.sum() >= 4 for part in (*ends, levels))


@pytest.mark.slow
def test_a_span_without_a_loss_stays_empty(folder: RunFolder) -> None:
    _, full = panels(drawn(folder, [metric(1)]))
    _, holed = panels(drawn(folder, [metric(1, hole=2)]))
    middle = slice(225, 275)
    assert where(full, "x0")[:, middle].any() and where(full, "eps")[:, middle].any()
    assert not where(holed, "x0")[:, middle].any() and not where(holed, "eps")[:, middle].any()


@pytest.mark.slow
def test_levels_of_training_are_of_the_newest_lines(folder: RunFolder) -> None:
    high = metric(0, loss=50.0)["levels"]
    old = [metric(i) | {"levels": high} for i in range(1, 301)]
    new = [metric(i) for i in range(301, 501)]
    levels = panels(drawn(folder, old + new))[1]
    np.testing.assert_array_equal(levels, panels(drawn(folder, new))[1])
    assert (levels != panels(drawn(folder, old + new[:-1]))[1]).any()


@pytest.mark.slow
def test_a_cut_line_is_not_drawn(folder: RunFolder) -> None:
    whole = drawn(folder, FALLING)
    with folder.metrics.open("a") as stream:
        stream.write(json.dumps(metric(101, loss=50.0))[:-9])
    plot_run(folder, folder.path / "plot.png")
    with Image.open(folder.path / "plot.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), whole)


@pytest.mark.slow
def test_the_picture_shows_where_a_run_went_on(folder: RunFolder) -> None:
    once = drawn(folder, FALLING)
    append_line(folder.history, {"begin": "new", "iteration": 0, "dropped": 0})
    np.testing.assert_array_equal(drawn(folder, FALLING), once)
    for more in ({"begin": "resume", "iteration": 30, "dropped": 2}, {"begin": "change"}):
        append_line(folder.history, more)
    with folder.history.open("a") as stream:
        stream.write('{"begin": "resume", "iteration": 80, "dro')
    rows, columns = np.nonzero(
        np.any(panels(drawn(folder, FALLING))[0] != panels(once)[0], axis=-1)
    )
    assert np.ptp(columns) <= 3 and 300 < columns.mean() < 350
    assert np.ptp(rows) > 200


def test_a_run_without_metrics_cannot_be_drawn(folder: RunFolder) -> None:
    with pytest.raises(UsageError, match="has no metrics yet"):
        plot_run(folder, folder.path / "plot.png")
    folder.metrics.write_text('{"kind": "train", "it')
    with pytest.raises(UsageError, match="has no metrics yet"):
        plot_run(folder, folder.path / "plot.png")
    assert not list(folder.path.glob("*.png"))


@pytest.mark.slow
@pytest.mark.filterwarnings("error", "ignore::DeprecationWarning")
def test_a_run_may_have_any_name(tmp_path: Path) -> None:
    odd = begun(tmp_path / ("$x^{$ \x1b_" + "a" * 150), "stopped")
    assert where(drawn(odd, FALLING), "x0").any()
    odd.status.unlink()
    assert where(drawn(odd, FALLING), "x0").any()


# --- command ----------------------------------------------------------------------------------


def test_runs_are_listed_in_columns(tmp_path: Path) -> None:
    numbers = {"loss": 0.123456, "validation_loss": 0.25, "seconds_left": 3 * 3600 + 5 * 60.0}
    begun(tmp_path / "b-failed\x1b", "failed", message="the loss is not finite", **numbers)
    begun(tmp_path / "c-done", "finished", message="all is well")
    with worker(begun(tmp_path / "a-run", "running", **numbers)):
        lines = run(tmp_path).stdout.splitlines()
    cells = [re.split(r"  +", line) for line in lines]
    headings = ["run", "state", "stage", "iteration", "loss", "validation", "left", "message"]
    assert cells[0] == headings
    here = str(tmp_path / "a-run")
    assert cells[1] == [here, "running", "local", "40/100", "0.1235", "0.25", "3 h 05 min"]
    assert cells[2][0].endswith(r"b-failed\x1b")
    assert cells[2][1:] == [
        *("failed", "local", "40/100", "0.1235", "0.25", "-"),
        "the loss is not finite",
    ]
    assert cells[3][1:] == ["finished", "local", "40/100", "-", "-", "-"]
    assert len({line.index("local") for line in lines[1:]}) == 1
    assert run("list", tmp_path / "c-done").stdout.splitlines()[1].startswith(str(tmp_path))


def test_runs_are_listed_as_json(tmp_path: Path) -> None:
    begun(tmp_path / "killed", "running", loss=0.5, seconds_left=60)
    begun(tmp_path / "unreadable", "finished").status.write_text("")
    killed, unreadable = json.loads(run("--json", tmp_path).stdout)
    assert killed["run"] == str(tmp_path / "killed")
    assert (killed["state"], killed["loss"], killed["seconds_left"]) == ("dead", 0.5, None)
    assert killed["pid"] == TOLD["pid"]
    assert unreadable.keys() == killed.keys()
    assert (unreadable["state"], unreadable["iteration"]) == ("dead", None)
    assert "dead" in run(tmp_path / "unreadable").stdout


def test_where_no_runs_are_none_are_listed(tmp_path: Path) -> None:
    assert f"no runs in {tmp_path}" in run(tmp_path).stdout
    assert json.loads(run(tmp_path, "--json").stdout) == []
    assert "no folder" in run(tmp_path / "nowhere", code=2).stderr


@pytest.mark.slow
def test_a_run_is_plotted_into_its_folder_or_elsewhere(folder: RunFolder, tmp_path: Path) -> None:
    assert "no metrics yet" in run("plot", folder.path, code=2).stderr
    for line in FALLING:
        append_line(folder.metrics, line)
    for words in ([], ["--out", tmp_path / "new" / "other.png"]):
        path = Path(run("plot", folder.path, *words).stdout.strip())
        assert path == (words[1] if words else folder.path / "plot.png")
        with Image.open(path) as picture:
            assert where(np.asarray(picture.convert("RGB")), "x0").any()
    assert ".png" in run("plot", folder.path, "--out", tmp_path / "plot.pdf", code=2).stderr
    assert "no run folder" in run("plot", tmp_path, code=2).stderr


def test_only_a_run_at_work_is_asked_to_stop(folder: RunFolder, tmp_path: Path) -> None:
    assert "nothing works" in run("stop", folder.path, code=2).stderr
    assert "no run folder" in run("stop", tmp_path, code=2).stderr
    assert not folder.stop.exists() and not (tmp_path / "STOP").exists()
    with worker(folder):
        run("stop", folder.path)
        assert folder.stop.exists()


def test_the_group_tells_its_commands() -> None:
    for words in (("--help",), ()):
        told_help = run(*words, code=0 if words else 2).output
        assert all(f"  {name}  " in told_help for name in ("list", "plot", "stop"))


@pytest.mark.slow
def test_watching_loads_no_torch_and_only_plotting_loads_matplotlib(tmp_path: Path) -> None:
    folder = begun(tmp_path / "run", "stopped")
    append_line(folder.metrics, metric(1))
    report = (
        "import sys; from typer.testing import CliRunner; from prdit_core.cli.app import app;"
        "done = CliRunner().invoke(app, ['runs', *sys.argv[1:]]); assert not done.exit_code;"
        "print(*(m for m in ('torch', 'matplotlib', 'matplotlib.pyplot') if m in sys.modules))"
    )
    for words, loaded in ((["list"], ""), (["plot"], "matplotlib")):
        command = [sys.executable, "-c", report, *words, str(folder.path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        assert done.stdout.strip() == loaded

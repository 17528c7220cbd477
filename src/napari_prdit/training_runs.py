"""Training runs as processes of their own: begun, resumed, stopped.

Nothing here waits for a run, and none ends with napari; `run_watch` tells how they are doing.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psutil

from napari_prdit.run_watch import CONSOLE, LAUNCH, WORKING, Launch, look, read_launch
from prdit_core.errors import OutputError, UsageError
from prdit_core.files import check_writable, shown, write_json
from prdit_core.runs.folder import RunFolder
from prdit_core.verbs.stages import settings_of_stage

if TYPE_CHECKING:
    from napari_prdit.run_watch import Seen
    from prdit_core.config import TrainingConfig

PRDIT_CORE = (sys.executable, "-m", "prdit_core.cli")
RESUMED_WITH = "resume.toml"


def train_words(config: TrainingConfig) -> list[str]:
    """Arguments of prdit-core for the settings that were given; the rest takes its defaults."""
    given = config.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    options = ("--from" if name == "start" else f"--{name.replace('_', '-')}" for name in given)
    pairs = zip(options, map(str, given.values()), strict=True)
    return ["train", *(word for pair in pairs for word in pair)]


def begin(config: TrainingConfig) -> RunFolder:
    """Start a new run, in a folder that is not there yet.

    Raises
    ------
    OutputError
        If the folder is there, cannot be made, or no process can be started.
    """
    check_writable(config.run.parent)
    try:
        config.run.mkdir()
    except OSError as error:
        raise OutputError(
            f"cannot make {shown(config.run)}: {error.strerror}; choose another name for the run"
        ) from error
    folder = RunFolder(config.run)
    _launch(folder, train_words(config))
    return folder


def resume(folder: RunFolder) -> None:
    """Let a run go on with the settings it was begun with.

    Raises
    ------
    UsageError
        If nothing tells what the settings were.
    OutputError
        If the folder cannot be written, or no process can be started.
    """
    check_writable(folder.path)
    launch = read_launch(folder)
    if folder.exists:
        file = folder.path / RESUMED_WITH
        settings = settings_of(folder).model_dump(mode="json", exclude_none=True)
        file.write_text(_toml(settings), encoding="utf-8")
        _launch(folder, ["train", "--resume", "--config", str(file)])
    elif launch is not None:  # it never came so far as to write them down
        _launch(folder, launch.words)
    else:
        raise UsageError(f"{shown(folder.path)} holds no settings; start a new run")


def settings_of(folder: RunFolder) -> TrainingConfig:
    """Settings of a run by its config.json, for the folder where the run lies now.

    Raises
    ------
    UsageError
        If nothing readable tells what the settings were.
    """
    try:
        content = json.loads(folder.config.read_text(encoding="utf-8"))
        settings = settings_of_stage(content["settings"]["stage"])
        return settings.model_validate({**content["settings"], "run": folder.path})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UsageError(f"{shown(folder.config)} is damaged; start a new run") from error


def stop(folder: RunFolder) -> None:
    """Let a run save and end; one that has not begun yet ends at once."""
    run = look(folder)
    folder.ask_to_stop()
    if run.state == "starting":
        _worker(run).terminate()


def end(folder: RunFolder) -> None:
    """End a run that does not stop; what it did since its last checkpoint is lost.

    Raises
    ------
    UsageError
        If it works on another machine, or no longer.
    """
    run = look(folder)
    if run.state not in WORKING:
        raise UsageError(f"{shown(folder.path)} is not being worked in any more")
    _worker(run).kill()


def _worker(run: Seen) -> psutil.Process:
    if run.host != socket.gethostname():
        who = run.host or "another process"
        raise UsageError(f"{shown(run.folder.path)} is worked in by {who}; end it there")
    try:
        return psutil.Process(run.pid)
    except psutil.Error as error:
        raise UsageError(f"{shown(run.folder.path)} is not being worked in any more") from error


def _launch(folder: RunFolder, words: list[str]) -> None:
    """Start a child that outlives this process, and write down that it was started."""
    folder.stop.unlink(missing_ok=True)
    at = datetime.now(UTC).isoformat(timespec="seconds")
    try:
        with (folder.path / CONSOLE).open("wb") as console:
            process = _detached([*PRDIT_CORE, *words], console.fileno())
        born = psutil.Process(process.pid).create_time()
    except (OSError, psutil.Error) as error:
        raise OutputError(f"cannot start a process for {shown(folder.path)}: {error}") from error
    launch = Launch(words=words, pid=process.pid, born=born, host=socket.gethostname(), at=at)
    write_json(folder.path / LAUNCH, launch.model_dump())
    # Without somebody who waits for it, it would stay behind as a zombie.
    threading.Thread(target=process.wait, name="prdit training", daemon=True).start()


def _detached(command: list[str], output: int) -> subprocess.Popen[bytes]:
    quiet = subprocess.DEVNULL
    if sys.platform == "win32":
        flags = subprocess.DETACHED_PROCESS | subprocess.CREATE_NEW_PROCESS_GROUP
        return subprocess.Popen(
            command, stdin=quiet, stdout=output, stderr=output, creationflags=flags
        )
    return subprocess.Popen(
        command, stdin=quiet, stdout=output, stderr=output, start_new_session=True
    )


def _toml(settings: dict[str, Any]) -> str:
    """Text and numbers look alike in JSON and TOML."""
    return "".join(
        f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in settings.items()
    )

"""How training runs look from outside: read from their folders, nothing else.

What this plugin starts is written down in launch.json, so that a child that never came to write
its status is accounted for.
"""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import psutil
from pydantic import BaseModel, ConfigDict, ValidationError

from napari_prdit.run_tail import last_line
from prdit_core.runs.folder import RunFolder
from prdit_core.runs.listing import state_of
from prdit_core.runs.status import Status, read_status

if TYPE_CHECKING:
    from pathlib import Path

State = Literal["starting", "running", "stopping", "stopped", "finished", "failed", "dead"]
WORKING = ("starting", "running", "stopping")
RESUMABLE = ("stopped", "failed", "dead")
LAUNCH, CONSOLE = "launch.json", "console.txt"
# So long a run may take to end by itself before it can be ended.
GRACE_S = 10.0
_CLOCK_DRIFT_S = 2.0


class Launch(BaseModel):
    """A child that was started for a run folder: content of launch.json.

    Attributes
    ----------
    words : arguments of prdit-core
    born : when the system began the process, seconds; tells it from a later one of the same pid
    at : when it was started, ISO, UTC
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    words: list[str]
    pid: int
    born: float
    host: str
    at: str

    @property
    def lives(self) -> bool:
        """Whether the child still works; only its own machine can know."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.born) < _CLOCK_DRIFT_S
            working = process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False
        return same and working and self.host == socket.gethostname()


@dataclass(frozen=True)
class Seen:
    """A run as it looks now.

    Attributes
    ----------
    message : why it ended, where that needs saying
    since : when its process was started, ISO, UTC
    pid, host : that process; None where nothing is known of one
    """

    folder: RunFolder
    state: State
    status: Status | None
    message: str
    since: str
    pid: int | None
    host: str | None

    @property
    def may_resume(self) -> bool:
        """Whether it can go on."""
        return self.state in RESUMABLE

    @property
    def may_be_ended(self) -> bool:
        """Whether it was asked to stop, and had its time to do so."""
        try:
            asked_s = time.time() - self.folder.stop.stat().st_mtime
        except OSError:  # nobody asked, or it stops right now
            return False
        return self.state == "stopping" and asked_s > GRACE_S


def runs_below(root: Path) -> list[Seen]:
    """Run folders at or up to two levels below `root`, newest first; also what never began."""
    marks = [f"{depth}{name}" for depth in ("", "*/", "*/*/") for name in ("status.json", LAUNCH)]
    paths = sorted({file.parent for mark in marks for file in root.glob(mark)})
    runs = [look(RunFolder(path)) for path in paths]
    return sorted(runs, key=lambda run: run.since, reverse=True)


def look(folder: RunFolder) -> Seen:
    """How a run is doing."""
    recorded = state_of(folder)
    status, launch = read_status(folder), read_launch(folder)
    if launch is not None and (status is None or status.started < launch.at):
        state, why = _of_launch(folder, launch)
        return Seen(folder, state, status, why, launch.at, launch.pid, launch.host)
    if recorded == "dead" and launch is not None and launch.lives:  # it took the lock just now
        recorded = "running"
    state = "stopping" if recorded == "running" and folder.stop.exists() else recorded
    if status is None:
        return Seen(folder, state, None, _why(folder, state, None), "", None, None)
    why = _why(folder, state, status)
    return Seen(folder, state, status, why, status.started, status.pid, status.host)


def read_launch(folder: RunFolder) -> Launch | None:
    """The newest child that this plugin started there; None if there is none."""
    try:
        return Launch.model_validate_json((folder.path / LAUNCH).read_bytes())
    except (OSError, ValidationError):
        return None


def _of_launch(folder: RunFolder, launch: Launch) -> tuple[State, str]:
    """A child that has not said anything yet, or never will."""
    if launch.lives:
        return ("stopping" if folder.stop.exists() else "starting"), ""
    if folder.stop.exists():
        return "stopped", "stopped before it began"
    line = last_line(folder.path / CONSOLE).removeprefix("prdit-core: ")
    return "failed", line or "it was killed before it began; perhaps memory is short"


def _why(folder: RunFolder, state: State, status: Status | None) -> str:
    if state == "dead":
        *_, message = last_line(folder.log).partition("  ")  # the time of day goes before
        return f"its process was killed; last it said: {message or 'nothing'}"
    return status.message if status is not None and state == "failed" else ""

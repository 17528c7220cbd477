"""Runs below a folder and how each is doing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from prdit_core.errors import UsageError
from prdit_core.files import shown
from prdit_core.runs.folder import RunFolder
from prdit_core.runs.lock import is_held
from prdit_core.runs.status import Status, read_status

State = Literal["running", "stopped", "finished", "failed", "dead"]


@dataclass(frozen=True)
class Run:
    """A run folder, its state and what it last said of itself (None: nothing)."""

    folder: RunFolder
    state: State
    status: Status | None


def state_of(folder: RunFolder) -> State:
    """What the run says, except that one whose process is gone without a word is dead.

    A stopped, failed or dead run goes on with `train --resume`.
    """
    if is_held(folder):
        return "running"
    status = read_status(folder)
    return "dead" if status is None or status.state == "running" else status.state


def list_runs(root: str | Path) -> list[Run]:
    """Run folders at or below `root` (two levels deep), sorted by path.

    Raises
    ------
    UsageError
        If there is no such folder.
    """
    top = Path(root)
    if not top.is_dir():
        raise UsageError(f"no folder {shown(top)}")
    paths = {
        file.parent for depth in ("", "*/", "*/*/") for file in top.glob(f"{depth}status.json")
    }
    folders = [RunFolder(path) for path in sorted(paths)]
    return [Run(folder, state_of(folder), read_status(folder)) for folder in folders]

"""Making a run folder ours: held, configured, and with its history written down."""

from __future__ import annotations

import json
import os
import socket
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Literal

import torch

from prdit_core.errors import OutputError, UsageError
from prdit_core.files import check_writable, shown, write_json
from prdit_core.runs.folder import RunFolder
from prdit_core.runs.lock import held
from prdit_core.runs.metrics import append_line, keep_until, read_lines
from prdit_core.training.engine import by_first
from prdit_core.training.recorder import now
from prdit_core.training.settings import compare

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lightning_fabric import Fabric

    from prdit_core.training.settings import Settings

Begin = Literal["new", "resume", "change"]

# Groups must outlive the DDP reducers that share them: a reducer that holds the last one ends
# gloo's threads while it keeps the interpreter's lock, which they may be waiting for.
_LEFT: list[object] = []


@contextmanager
def claimed(settings: Settings, begin: Begin, fabric: Fabric) -> Iterator[list[str]]:
    """Hold the run folder in process 0, for all; yields what changed since it was begun.

    Raises
    ------
    RunBusy, OutputError
        If another process works there, the folder cannot be written, or "new" finds a run.
    UsageError
        If settings changed that must not.
    """
    folder = RunFolder(settings.config.run)
    with ExitStack() as stack:
        stack.callback(_leave)

        def claim() -> list[str]:
            check_writable(folder.path)
            stack.enter_context(held(folder))
            changed = _configure(folder, settings, begin)
            folder.stop.unlink(missing_ok=True)
            folder.sweep()
            return changed

        yield by_first(fabric, claim)
        # A process that leaves early can keep the others from leaving at all.
        fabric.barrier()


def begin_history(
    folder: RunFolder, settings: Settings, begin: Begin, iteration: int, changed: list[str]
) -> int:
    """Drop metrics past `iteration`, write down that the run goes on from there.

    Returns
    -------
    How many iterations have to be done again.
    """
    dropped = keep_until(folder.metrics, iteration)
    facts = {name: settings.facts[name] for name in ("version", "torch", "processes")}
    line = {
        "begin": begin,
        "iteration": iteration,
        "dropped": dropped,
        "changed": changed,
        "threads": settings.config.threads,
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "time": now(),
    }
    append_line(folder.history, line | facts)
    write_json(folder.config, settings.recorded())  # last, so that no change goes unrecorded
    return dropped


def changes_so_far(folder: RunFolder) -> list[dict[str, Any]]:
    """Changes of settings in the run's history, for the record of its checkpoints."""
    lines = [line for line in read_lines(folder.history) if line["changed"]]
    return [{key: line[key] for key in ("iteration", "changed")} for line in lines]


def _configure(folder: RunFolder, settings: Settings, begin: Begin) -> list[str]:
    changed: list[str] = []
    if folder.exists:
        if begin == "new":
            raise OutputError(
                f"{shown(folder.path)} already holds a run; add --resume, or choose another --run"
            )
        before = _read(folder.config)
        changed = compare(before, settings, folder.path, allowed=begin == "change")
    else:
        _refuse_foreign_files(folder)
        write_json(folder.config, settings.recorded())
    return changed


def _refuse_foreign_files(folder: RunFolder) -> None:
    """Raise `OutputError` where a run that was never begun has files: they are somebody's."""
    own = (folder.status, folder.metrics, folder.history, folder.log)
    for place in (*own, folder.previews, folder.checkpoints):
        if place.exists():
            raise OutputError(f"{shown(place)} is there and is of no run; choose another --run")


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return {name: dict(content[name]) for name in ("settings", "facts")}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UsageError(f"{shown(file)} is damaged; start anew in another --run") from error


def _leave() -> None:
    if torch.distributed.is_initialized():
        _LEFT.append(torch.distributed.group.WORLD)
        torch.distributed.destroy_process_group()

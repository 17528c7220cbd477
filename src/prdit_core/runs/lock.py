"""One process per run folder: a lock that the system releases with its process.

Data workers are spawned, not forked, so none inherits it.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from prdit_core.errors import OutputError, RunBusy
from prdit_core.files import shown
from prdit_core.runs.status import read_status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prdit_core.runs.folder import RunFolder

# Longer than `is_held` takes, so that a glance at the run never looks like a second run.
PATIENCE_S = 2.0


@contextmanager
def held(folder: RunFolder) -> Iterator[None]:
    """Hold the run folder.

    Raises
    ------
    RunBusy
        If another process holds it, naming process and host.
    OutputError
        If no lock can be made there.
    """
    lock = FileLock(folder.lock, timeout=PATIENCE_S, thread_local=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise RunBusy(_busy(folder)) from error
    except OSError as error:
        raise OutputError(f"cannot lock {shown(folder.lock)}: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()


def is_held(folder: RunFolder) -> bool:
    """Whether a process works in the run folder right now."""
    if not folder.lock.is_file():
        return False
    lock = FileLock(folder.lock, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        return True
    except OSError:  # a folder that may only be read: its word has to do
        status = read_status(folder)
        return status is not None and status.state == "running"
    lock.release()
    return False


def _busy(folder: RunFolder) -> str:
    status = read_status(folder)
    who = "another process" if status is None else f"process {status.pid} on {status.host}"
    return (
        f"{shown(folder.path)} is being worked in by {who}; wait for it, or stop it: "
        f"prdit-core runs stop {shown(folder.path)}"
    )

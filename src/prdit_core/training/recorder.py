"""Writes what a run tells into its folder: metrics, status, log."""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from prdit_core.runs.metrics import append_line
from prdit_core.runs.status import Status, read_status, write_status
from prdit_core.training.events import (
    Previewed,
    Saved,
    Started,
    Stopped,
    TrainStep,
    Validated,
)

if TYPE_CHECKING:
    from prdit_core.runs.folder import RunFolder
    from prdit_core.runs.status import Ending
    from prdit_core.training.events import Event

STATUS_EVERY_S = 1.0
RECENT = 50  # iterations that the shown loss is the mean of


class Recorder:
    """A consumer of events, in the one process that owns the folder."""

    def __init__(self, folder: RunFolder, stage: str, total: int) -> None:
        self.folder = folder
        self.begun_at = now()
        self._status: dict[str, Any] = {"stage": stage, "iteration": 0, "total": total}
        before = read_status(folder)
        if before is not None:  # a run that goes on has losses already
            self._status |= {"loss": before.loss, "validation_loss": before.validation_loss}
        self._first = 0
        self._clock = time.monotonic()
        self._written = -STATUS_EVERY_S
        self._losses: deque[float] = deque(maxlen=RECENT)
        self._write("running")

    def take(self, event: Event) -> None:
        """Write down one event."""
        if isinstance(event, TrainStep):
            self._step(event)
            return
        if isinstance(event, Validated):
            self._validated(event)
        elif isinstance(event, Started):
            self._first, self._clock = event.index, time.monotonic()
            self._status["iteration"] = event.index
            for note in event.notes:
                self.log(note)
            self.log(f"training from iteration {event.index} to {event.total}")
            self._write("running")
        elif isinstance(event, Saved | Previewed):
            self.log(f"iteration {event.index}: {event.path.parent.name}/{event.path.name}")
        elif isinstance(event, Stopped):
            self.log(f"stopped after iteration {event.index}")

    def end(self, state: Ending, message: str = "") -> None:
        """Say how the run ended."""
        self.log(f"{state}{': ' if message else ''}{message}")
        self._status["seconds_left"] = None
        self._write(state, message)

    def log(self, line: str) -> None:
        """One line for people, with the time of day."""
        with self.folder.log.open("a", encoding="utf-8", newline="\n") as stream:
            stream.write(f"{now()}  {' '.join(line.split())}\n")

    def _step(self, step: TrainStep) -> None:
        append_line(
            self.folder.metrics,
            {
                "kind": "train",
                "iteration": step.index,
                "loss": step.losses,
                "levels": step.levels,
                "grad_norm": step.grad_norm,
                "lr": step.lr,
            },
        )
        self._losses.append(step.losses["total"])
        pace = (time.monotonic() - self._clock) / (step.index - self._first)
        self._status |= {
            "iteration": step.index,
            "loss": sum(self._losses) / len(self._losses),
            "seconds_left": pace * (step.total - step.index),
        }
        if time.monotonic() - self._written >= STATUS_EVERY_S:
            self._write("running")

    def _validated(self, event: Validated) -> None:
        line = {
            "kind": "validation",
            "iteration": event.index,
            "loss": event.losses,
            "levels": event.levels,
        }
        append_line(self.folder.metrics, line)
        self._status["validation_loss"] = event.losses["total"]
        self.log(f"iteration {event.index}: validation loss {event.losses['total']:.5f}")

    def _write(self, state: str, message: str = "") -> None:
        process = {"pid": os.getpid(), "host": socket.gethostname(), "started": self.begun_at}
        content = self._status | process | {"updated": now(), "state": state, "message": message}
        write_status(self.folder, Status.model_validate(content))
        self._written = time.monotonic()


def now() -> str:
    """Time of day, ISO, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")

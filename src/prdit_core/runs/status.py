"""How a run is doing, in a file that is always whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from prdit_core.files import write_json

if TYPE_CHECKING:
    from prdit_core.runs.folder import RunFolder

Ending = Literal["stopped", "finished", "failed"]


class Status(BaseModel):
    """Content of status.json, rewritten about once a second.

    Attributes
    ----------
    state : what the process last said; a killed one leaves "running", see `listing.state_of`
    loss : mean total loss of the newest iterations
    validation_loss : newest of held-out patients; None before the first, or without any
    seconds_left : at the pace so far
    message : the last thing worth knowing, such as why the run failed
    pid, host, started, updated : the process, when it began and when it wrote this (ISO, UTC)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    state: Literal["running", "stopped", "finished", "failed"]
    stage: str
    iteration: int
    total: int
    loss: float | None = None
    validation_loss: float | None = None
    seconds_left: float | None = None
    message: str = ""
    pid: int
    host: str
    started: str
    updated: str


def write_status(folder: RunFolder, status: Status) -> None:
    """Replace status.json."""
    write_json(folder.status, status.model_dump(mode="json"))


def read_status(folder: RunFolder) -> Status | None:
    """Newest status; None if there is none that can be read."""
    try:
        return Status.model_validate_json(folder.status.read_bytes())
    except (OSError, ValidationError):
        return None


def duration(seconds: float) -> str:
    """Two largest units, such as 3 h 05 min."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours:02d} h"
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"

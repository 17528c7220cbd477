"""What lies where in a run folder.

config.json     settings with every default resolved, and facts (hashes, versions) they rest on
status.json     state, iteration, loss, time left; the process, its start and its host
metrics.jsonl   one line an iteration or validation; equal runs give equal bytes
history.jsonl   one line each time the run was begun or resumed
log.txt         what was said, with the time of day
previews/       three-plane pictures
checkpoints/    iteration-NNNNNNNN, each a checkpoint like any other
STOP            whoever creates it asks the run to save and end
lock            held by the working process and released with it
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from prdit_core.files import sweep

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class RunFolder:
    """Paths of one run."""

    path: Path

    @property
    def config(self) -> Path:
        """Settings and facts, JSON."""
        return self.path / "config.json"

    @property
    def status(self) -> Path:
        """See `prdit_core.runs.status`."""
        return self.path / "status.json"

    @property
    def metrics(self) -> Path:
        """See `prdit_core.runs.metrics`."""
        return self.path / "metrics.jsonl"

    @property
    def history(self) -> Path:
        """Beginnings and continuations, one JSON line each."""
        return self.path / "history.jsonl"

    @property
    def log(self) -> Path:
        """Lines for people."""
        return self.path / "log.txt"

    @property
    def stop(self) -> Path:
        """Asks the run to save and end."""
        return self.path / "STOP"

    @property
    def lock(self) -> Path:
        """See `prdit_core.runs.lock`."""
        return self.path / "lock"

    @property
    def previews(self) -> Path:
        """Folder of pictures."""
        return self.path / "previews"

    @property
    def checkpoints(self) -> Path:
        """Folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def exists(self) -> bool:
        """Whether a run was ever begun here."""
        return self.config.is_file()

    def ask_to_stop(self) -> None:
        """Let the run save after the iteration at hand and end."""
        self.stop.touch()

    def sweep(self) -> None:
        """Remove what a killed process left half-written; only for the holder of the lock."""
        for folder in (self.path, self.previews, self.checkpoints):
            sweep(folder)

"""Trainings as napari shows long work; they go on without it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_prdit.activity import Activity
from napari_prdit.run_watch import WORKING
from prdit_core.files import shown

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_prdit.run_watch import Seen


class RunActivities:
    """A bar for each run that works, and a notification when it has ended."""

    def __init__(self) -> None:
        self._activities: dict[Path, Activity] = {}

    @property
    def any(self) -> bool:
        """Whether a run works."""
        return bool(self._activities)

    def show_runs(self, runs: Sequence[Seen]) -> None:
        """Follow how runs look now; those that are gone from the list are forgotten."""
        seen = {run.folder.path: run for run in runs}
        for path in self._activities.keys() - seen.keys():
            self._activities.pop(path).end()
        for path, run in seen.items():
            if run.state in WORKING:
                self._advance(self._activities.setdefault(path, Activity()), run)
            elif path in self._activities:
                _end(self._activities.pop(path), run)

    def clear(self) -> None:
        """Take all bars away; nothing is told."""
        self.show_runs(())

    def _advance(self, activity: Activity, run: Seen) -> None:
        total = 0 if run.status is None else run.status.total
        if activity.total != total:
            activity.begin(f"Training {shown(run.folder.path.name)}", total)
        if run.status is not None:
            activity.advance(run.status.iteration)


def _end(activity: Activity, run: Seen) -> None:
    name = shown(run.folder.path.name)
    if run.state == "finished":
        activity.end(f"The training {name} has finished.")
    elif run.state == "stopped":
        activity.end(outcome="stopped")
    else:
        activity.end(f"The training {name} ended: {run.message}", "failed")

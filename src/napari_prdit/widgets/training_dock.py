"""The dock "Train on CT scans": begin trainings, watch them, come back to them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.compat import isalive
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QTabWidget, QVBoxLayout

from napari_prdit.preferences import preferences
from napari_prdit.run_watch import WORKING, runs_below
from napari_prdit.training_runs import begin
from napari_prdit.widgets.child import Child
from napari_prdit.widgets.dock_place import OpensAsTab
from napari_prdit.widgets.help import HelpButton
from napari_prdit.widgets.new_run import NewRun
from napari_prdit.widgets.parts import Form, Message, PathDrop, button, row, scrolled
from napari_prdit.widgets.run_activities import RunActivities
from napari_prdit.widgets.run_list import RunList
from napari_prdit.widgets.run_view import RunView
from napari_prdit.widgets.working_dock import WorkingDock
from prdit_core.errors import PrditError

if TYPE_CHECKING:
    import napari.viewer
    from qtpy.QtGui import QHideEvent, QShowEvent

    from napari_prdit.run_watch import Seen

POLL_MS = 700
# Looking at all runs may take this part of the time, however slow the disk is.
SHARE = 1 / 4


class TrainingDock(WorkingDock):
    """Trainings are processes of their own; the dock knows them by their folders alone."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.message = Message()
        self.message.setToolTip("What went wrong, or was done")
        self.view = RunView(napari_viewer, self.message, self.refresh)
        self.new = NewRun(preferences().runs_folder)
        self.new.start_wanted.connect(self.start)
        self.view.next_wanted.connect(self._propose_next)
        self._at_work = RunActivities()
        self._starting: Path | None = None
        self._build()
        self._timer = QTimer(self)
        self._timer.setInterval(POLL_MS)
        self._timer.timeout.connect(self.refresh)
        self._devices = Child(self)
        self._devices.ended.connect(self._take_devices)
        self._devices_known = False
        self.choose_runs_folder(preferences().runs_folder)
        OpensAsTab(self)

    def choose_runs_folder(self, folder: str | Path) -> None:
        """Watch the runs there, and put new ones there."""
        self.runs_folder.choose(str(folder))

    def start(self) -> None:
        """Begin a run as the form says; nothing happens while another is starting."""
        if self._starting is not None:
            return
        try:
            folder = begin(self.new.config())
        except PrditError as error:
            self.message.say(str(error), "error")
            return
        self._starting = folder.path
        self.message.say(f"{folder.path.name} is starting; that takes some seconds")
        self.refresh()
        self.runs.choose(str(folder.path))
        self.tabs.setCurrentIndex(1)

    def refresh(self) -> None:
        """Look at all runs again."""
        begun = time.perf_counter()
        runs = self._seen()
        self.runs.show_runs(self.new.runs_folder, runs)
        self.view.show_run(self._selected(runs))
        self._look_at_start(runs)
        self._at_work.show_runs(runs)
        if not isalive(self):  # to paint a bar napari handles all events, closing among them
            return
        took_ms = (time.perf_counter() - begun) * 1000
        self._timer.setInterval(max(POLL_MS, round(took_ms / SHARE)))
        if not (self.isVisible() or self._at_work.any):
            self._timer.stop()

    def showEvent(self, event: QShowEvent | None) -> None:
        """Watch as long as somebody looks."""
        super().showEvent(event)
        self._timer.start()
        if not self._devices_known:
            self._devices.start(["devices", "--json"])

    def hideEvent(self, event: QHideEvent | None) -> None:
        """Nobody looks, but whoever has a run that works wants to be told when it ends."""
        super().hideEvent(event)
        if not self._at_work.any:
            self._timer.stop()
        self._devices.kill()

    def shut_down(self) -> None:
        """End timers, threads and children; trainings are none of them."""
        self._at_work.clear()
        self._timer.stop()
        self._devices.kill()
        self.new.data.prepare.shut_down()
        self.view.shut_down()

    def _seen(self) -> list[Seen]:
        try:
            return runs_below(self.new.runs_folder)
        except OSError as error:  # a disk that went away
            self.message.say(f"the runs folder cannot be read: {error}", "error")
            return []

    def _selected(self, runs: list[Seen]) -> Seen | None:
        return next((run for run in runs if str(run.folder.path) == self.runs.path), None)

    def _look_at_start(self, runs: list[Seen]) -> None:
        """Let the next run begin once this one got going, or failed to."""
        run = next((run for run in runs if run.folder.path == self._starting), None)
        if run is not None and run.state != "starting":
            self._starting = None
            failed = run.state == "failed"
            self.message.say(run.message if failed else "", "error" if failed else "note")
            self.new.use_runs_folder(self.new.runs_folder)
        self.new.show_starting(self._starting is not None)

    def _propose_next(self, run: str) -> None:
        """Fill in the form for the stage that comes after a run."""
        self.new.propose_next(Path(run))
        self.tabs.setCurrentIndex(0)
        self.message.say(f"the form goes on from {Path(run).name}; press Start training")

    def _take_folder(self, text: str) -> None:
        folder = Path(text).expanduser().absolute()
        if folder == self.new.runs_folder and self.runs.count():
            return
        self.new.use_runs_folder(folder)
        self.refresh()
        if any(run.state in WORKING for run in self._seen()):
            self.tabs.setCurrentIndex(1)

    def _take_devices(self, code: int, answer: str) -> None:
        self._devices_known = code == 0
        if self._devices_known:
            self.new.settings.offer_devices(answer)

    # The controls.

    def _build(self) -> None:
        self.runs_folder = PathDrop([])
        self.runs_folder.changed.connect(self._take_folder)
        self.runs = RunList()
        self.runs.chosen.connect(lambda _path: self.refresh())
        folder = Form("Runs")
        tip = "All trainings are kept in this folder, each in a folder of its own"
        browse = button("Browse ...", tip, lambda: self.runs_folder.browse("Runs folder"))
        folder.add("runs folder", row(self.runs_folder, browse), tip)
        folder.rows.addRow(self.runs)
        self.tabs = QTabWidget()
        help_button = HelpButton("train")
        help_button.setStyleSheet("padding: 0 8px; margin: 0")  # as high as the tabs
        self.tabs.setCornerWidget(help_button)
        self.tabs.addTab(scrolled(self.new), "New run")
        self.tabs.addTab(scrolled(folder, self.view), "Runs")
        # Runs that have ended meanwhile are there to start from.
        self.tabs.currentChanged.connect(
            lambda _index: self.new.use_runs_folder(self.new.runs_folder)
        )
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.tabs)
        column.addWidget(self.message)

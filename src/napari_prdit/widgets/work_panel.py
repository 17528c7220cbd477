"""A panel of a dock that works beside the window and shows what comes of it in layers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_prdit.activity import Activity
from napari_prdit.jobs import Job, Mailbox
from napari_prdit.preferences import preferences
from napari_prdit.preview import Refresher
from napari_prdit.widgets.contact_sheet import ContactSheet
from napari_prdit.widgets.run_controls import RunControls
from napari_prdit.widgets.saver import Saver
from prdit_core.runs.status import duration

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from napari.components import ViewerModel

    from napari_prdit.generation import Progress
    from napari_prdit.jobs import Control
    from napari_prdit.widgets.generation_forms import ModelForm


class WorkPanel(QWidget):
    """Buttons, progress, message and contact sheet; what they do is for those who inherit.

    Signals
    -------
    worked : whether it is at work now
    planes_wanted : the user wants to see the other planes

    Parameters
    ----------
    go : what the button says that begins
    one : what one of several results is called
    title : of the work, for napari's activity dock
    """

    worked = Signal(bool)
    planes_wanted = Signal()

    def __init__(
        self, viewer: ViewerModel, model: ModelForm, go: str, one: str, title: str
    ) -> None:
        super().__init__()
        self.viewer, self.model, self._title = viewer, model, title
        self.frames: Mailbox[Any] = Mailbox()
        self.job = Job(self)
        self.job.yielded.connect(self._hear)
        self.job.ended.connect(self._end)
        self.refresher = Refresher(self._tick, preferences().preview_rate, self)
        self.activity = Activity()
        self.controls = RunControls(self.job, go, one)
        self.message = self.controls.message
        self.saving = Saver(self.message, self)
        self.sheet = ContactSheet()
        self.column = QVBoxLayout(self)
        self.column.setContentsMargins(0, 0, 0, 0)
        self._begun_at, self._steps_done, self._total = 0.0, 0, 0

    def shut_down(self) -> None:
        """End work and timers."""
        self.refresher.stop()
        self.activity.end()
        self.job.abandon()
        self.saving.abandon()

    def _start(self, work: Callable[[Control], Generator[Any]], total: int) -> None:
        """Begin work of so many steps, of all results together."""
        self._steps_done, self._total = 0, total
        self._begun_at = time.monotonic()
        self.frames.take()
        self.controls.show_loading()
        self.job.start(work)
        self._show_running(True)
        self.refresher.start()

    @property
    def _took(self) -> str:
        return duration(time.monotonic() - self._begun_at)

    def _hear(self, event: object) -> None:
        """An event of the work."""
        raise NotImplementedError

    def _show_progress(self, event: Progress, count: int) -> None:
        self.controls.show_progress(event, count)
        self._total = count * event.total
        self._steps_done = event.volume * event.total + event.index + 1

    def _end(self) -> None:
        self.refresher.stop()
        self.frames.take()
        if self.message.kind == "error":
            self.activity.end(self.message.text(), "failed")
        self._ended()
        self.activity.end("", "stopped")
        self._show_running(False)

    def _ended(self) -> None:
        """The work is over, however it went."""
        raise NotImplementedError

    def _tick(self) -> None:
        """To paint a bar napari handles all events that wait, so never from one of the worker."""
        frame = self.frames.take()
        if frame is not None:
            self._paint(frame)
        if self._steps_done and self.job.running:
            if self.activity.total != self._total:
                self.activity.begin(self._title, self._total)
            self.activity.advance(self._steps_done)
            if not self.job.running:  # it ended meanwhile
                self.activity.end()

    def _paint(self, frame: Any) -> None:
        """Show what comes about."""
        raise NotImplementedError

    def _show_running(self, running: bool) -> None:
        """Offer what can be done while there is work, or while there is none."""
        self.controls.show_running(running)
        self.sheet.setEnabled(not running)
        self.worked.emit(running)

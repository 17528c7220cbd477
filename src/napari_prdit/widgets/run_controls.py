"""Starting, pausing and ending the work of a dock, and how far it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QProgressBar, QVBoxLayout, QWidget

from napari_prdit.widgets.parts import Message, button, row
from prdit_core.runs.status import duration

if TYPE_CHECKING:
    from napari_prdit.generation import Progress
    from napari_prdit.jobs import Job


class RunControls(QWidget):
    """Generate, pause, step and stop, a bar while there is work, and a line that says what is.

    Signals
    -------
    wanted : work is to begin

    Parameters
    ----------
    go : what the button says that begins
    one : what one of several results is called
    """

    wanted = Signal()

    def __init__(self, job: Job, go: str = "Generate", one: str = "volume") -> None:
        super().__init__()
        self._job, self._one = job, one
        self.go = button(go, "Start", self.wanted.emit)
        self.pause = button("Pause", "Rest after this step", self._pause_or_resume)
        self.one = button("Step", "Go one step further and rest", job.step)
        self.halt = button("Stop", "End after this step and keep what is there", job.stop)
        self.progress = QProgressBar()
        self.progress.setToolTip(f"Steps of the {one} at hand")
        self.message = Message()
        self._last: tuple[Progress, int] | None = None
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(row(self.go, self.pause, self.one, self.halt))
        column.addWidget(self.progress)
        column.addWidget(self.message)
        self.show_running(False)

    def show_running(self, running: bool) -> None:
        """Offer what can be done while there is work, or while there is none."""
        self.go.setEnabled(not running)
        for control in (self.pause, self.one, self.halt):
            control.setEnabled(running)
        self.progress.setVisible(running)
        self._show_pause()

    def show_loading(self) -> None:
        """Nobody knows yet how long it will take."""
        self._last = None
        self.message.say("loading the model ...")
        self.progress.setRange(0, 0)

    def show_progress(self, event: Progress, count: int) -> None:
        """Say where the volume at hand is, one of `count`."""
        self._last = event, count
        self.progress.setRange(0, event.total)
        self.progress.setValue(event.index + 1)
        which = f"{self._one} {event.volume + 1} of {count}, " if count > 1 else ""
        if self._job.control.paused:
            self.message.say(f"{which}paused at step {event.index + 1} of {event.total}")
        else:
            self.message.say(
                f"{which}step {event.index + 1} of {event.total}, "
                f"{event.seconds_per_step:.2g} s a step, {duration(event.seconds_left)} left"
            )

    def _pause_or_resume(self) -> None:
        control = self._job.control
        if control.paused:
            control.resume()
        else:
            control.pause()
        self._show_pause()
        if self._last is not None:  # no step may come any more that would say it
            self.show_progress(*self._last)

    def _show_pause(self) -> None:
        resting = self._job.running and self._job.control.paused
        self.pause.setText("Resume" if resting else "Pause")

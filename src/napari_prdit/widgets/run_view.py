"""One training run: losses, pictures and log as they come, and what can be done with it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from napari.utils.notifications import show_info
from qtpy.QtCore import QTimer, QUrl, Signal
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_prdit.jobs import Failed, Job
from napari_prdit.run_pictures import open_picture
from napari_prdit.run_tail import LossHistory, Tail, add_metrics
from napari_prdit.run_watch import CONSOLE
from napari_prdit.training_runs import end, resume, stop
from napari_prdit.widgets.curves import LossCurves
from napari_prdit.widgets.dock_place import open_dock
from napari_prdit.widgets.evaluate_box import EvaluateBox
from napari_prdit.widgets.fold import Fold
from napari_prdit.widgets.generate import GenerateDock
from napari_prdit.widgets.log_view import LogView
from napari_prdit.widgets.parts import Message, button, row
from napari_prdit.widgets.previews import Previews
from napari_prdit.widgets.run_list import ALARMING, described
from prdit_core.checkpoints.catalog import saved
from prdit_core.errors import PrditError
from prdit_core.files import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    import napari.viewer

    from napari_prdit.run_watch import Seen
    from prdit_core.runs.folder import RunFolder

LOG_BYTES = 1 << 16
PLOT = "plot.png"
UNFINISHED = (
    "Only the local part of this model is trained: its volumes fit together near each voxel, but "
    "not as a whole. Next, train the global part on top of it"
)
STOP_TIP = "Save after the iteration at hand and end; Resume goes on from there"
END_TIP = "It did not stop yet. End its process: what it did since its last checkpoint is lost"


class RunView(QWidget):
    """Reads the files of the run it is attached to, each byte once.

    Parameters
    ----------
    viewer : where pictures are opened
    message : where it says what went wrong
    changed : called after something was done to the run

    Signals
    -------
    next_wanted : path of a run that the next stage shall go on from
    """

    next_wanted = Signal(str)

    def __init__(
        self, viewer: napari.viewer.Viewer, message: Message, changed: Callable[[], object]
    ) -> None:
        super().__init__()
        self._viewer, self._message, self._changed = viewer, message, changed
        self.run: Seen | None = None
        self.train, self.validation = LossHistory(), LossHistory()
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.timeout.connect(self._read_metrics)
        self.plotting = Job(self)
        self.plotting.yielded.connect(self._plotted)
        self._build()
        self.show_run(None)

    def show_run(self, run: Seen | None) -> None:
        """Show how a run looks now; another one than before is read from its beginning."""
        before, self.run = self.run, run
        if run is not None and (before is None or before.folder != run.folder):
            self._attach(run)
        self._show_state()
        self.evaluating.show_run(run)
        if run is not None:
            self._read_metrics()
            self._read_log(run)
            self.previews.show_folder(run.folder.previews)

    def shut_down(self) -> None:
        """End threads and children; trainings are none of them."""
        self.plotting.abandon()
        self.evaluating.shut_down()

    def _attach(self, run: Seen) -> None:
        folder = run.folder
        self._metrics = Tail(folder.metrics)
        self._logs = [Tail(folder.log, LOG_BYTES), Tail(folder.path / CONSOLE, LOG_BYTES)]
        self._forget_losses()
        self.log.clear()

    # What the files tell.

    def _read_metrics(self) -> None:
        news = self._metrics.read()
        if news.anew:
            self._forget_losses()
        if news.lines:
            add_metrics(news.lines, self.train, self.validation)
            self.curves.draw(self.train, self.validation)
        if news.more:  # a long run is read in pieces, between which the window stays alive
            self._soon.start()

    def _forget_losses(self) -> None:
        self.train.clear()
        self.validation.clear()
        self.curves.draw(self.train, self.validation)

    def _read_log(self, run: Seen) -> None:
        """The run's own words, and those of its process if that failed before it had any."""
        for tail in self._logs if run.state == "failed" else self._logs[:1]:
            self.log.add_lines(map(_with_local_time, tail.read().lines))

    def _show_state(self) -> None:
        run = self.run
        self.setVisible(run is not None)
        if run is None:
            return
        why = f"\n{run.message}" if run.message and run.status is not None else ""
        there, unfinished = bool(saved(run.folder.path)), _is_half_a_model(run)
        what_next = f"\n{UNFINISHED}." if there and unfinished else ""
        text = f"{shown(run.folder.path.name)} is {run.state}\n{described(run)}{why}{what_next}"
        if text != self.about.text():
            self.about.say(text, "error" if run.state in ALARMING else "note")
        self.stop_button.setText("End at once" if run.may_be_ended else "Stop")
        self.stop_button.setToolTip(END_TIP if run.may_be_ended else STOP_TIP)
        self.stop_button.setEnabled(run.may_be_ended or run.state in ("starting", "running"))
        self.resume_button.setEnabled(run.may_resume)
        self.generate_button.setEnabled(there)
        self.next_button.setVisible(unfinished)
        self.next_button.setEnabled(there)
        self.plot_button.setEnabled(len(self.train) > 0 and not self.plotting.running)

    # What can be done.

    def stop(self) -> None:
        """Ask the run to save and end; if it did not listen, end it."""
        self._do(lambda run: end(run.folder) if run.may_be_ended else stop(run.folder))

    def resume(self) -> None:
        """Let the run go on; nothing happens if it does."""
        self._do(lambda run: resume(run.folder) if run.may_resume else None)

    def generate(self) -> None:
        """Open the other dock with the newest checkpoint of the run."""
        self._do(self._open_generator)

    def plot(self) -> None:
        """Draw the run as PNG in its folder, and show it."""
        self._do(lambda run: self.plotting.start(lambda _control: _drawn(run.folder)))

    def open_picture(self, file: Path) -> None:
        """Show a picture of the run as a layer."""
        self._do(lambda run: open_picture(self._viewer, file, run.folder.path.name))

    def _open_generator(self, run: Seen) -> None:
        dock = open_dock(self._viewer, GenerateDock, "Generate CT volume")
        dock.choose_checkpoint(str(run.folder.path))
        if _is_half_a_model(run):  # the other dock may hide what is said here
            show_info(f"{UNFINISHED}: press Train next part in the dock Train on CT scans.")

    def train_next(self) -> None:
        """Have the form filled in for the stage that comes next."""
        self._do(lambda run: self.next_wanted.emit(str(run.folder.path)))

    def _open_folder(self) -> None:
        self._do(lambda run: QDesktopServices.openUrl(QUrl.fromLocalFile(str(run.folder.path))))

    def _plotted(self, event: object) -> None:
        if isinstance(event, Failed):
            self._message.say(event.message, "error")
        elif isinstance(event, Path):
            open_picture(self._viewer, event, event.parent.name)
            self._message.say(f"saved {event}")

    def _do(self, act: Callable[[Seen], object]) -> None:
        if self.run is None:
            return
        self._message.say("")
        try:
            act(self.run)
        except PrditError as error:
            self._message.say(str(error), "error")
        self._changed()

    # The controls.

    def _build(self) -> None:
        self.about = Message()
        self.about.setToolTip("State, progress and losses; why the run ended")
        self.curves = LossCurves()
        self.previews = Previews()
        self.previews.opened.connect(lambda file: self.open_picture(Path(file)))
        self.log = LogView("What the run says; all of it is in log.txt of its folder")
        self.evaluating = EvaluateBox(self._viewer)
        tip = "Compare what its model makes with real scans, as a page with tables and pictures"
        self.evaluate_fold = Fold("Evaluate ...", tip, self.evaluating)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        above = (self.about, *self._buttons(), self.evaluate_fold)
        for part in (*above, self.curves, self.previews, self.log):
            column.addWidget(part)

    def _buttons(self) -> tuple[QWidget, QWidget]:
        self.stop_button = button("Stop", STOP_TIP, self.stop)
        self.resume_button = button(
            "Resume", "Go on from the newest checkpoint, with the same settings", self.resume
        )
        self.generate_button = button(
            "Generate with this", "Make CT volumes with its newest checkpoint", self.generate
        )
        self.next_button = button(
            "Train next part", "Fill in the form for the global part on top of it", self.train_next
        )
        tip = "Losses by iteration and by noise level, gradients and learning rate, as a picture"
        self.plot_button = button("Plot as PNG", tip, self.plot)
        folder = button("Open folder", "Show the files of this run", self._open_folder)
        return (
            row(self.stop_button, self.resume_button, self.generate_button),
            row(self.next_button, self.plot_button, folder),
        )


def _is_half_a_model(run: Seen) -> bool:
    """Whether its stage leaves a model without its global part."""
    return run.status is not None and run.status.stage == "local"


def _with_local_time(line: str) -> str:
    """A line of log.txt, which begins with the time in UTC; others stay as they are."""
    stamp, _, text = line.partition("  ")
    try:
        return f"{datetime.fromisoformat(stamp).astimezone():%d %b %H:%M:%S}  {text}"
    except ValueError:
        return line


def _drawn(folder: RunFolder) -> Generator[Path]:
    """Work of a job: matplotlib takes seconds."""
    from prdit_core.runs.plot import plot_run

    yield plot_run(folder, folder.path / PLOT)

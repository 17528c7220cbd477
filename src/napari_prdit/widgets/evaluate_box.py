"""How near what a run's model makes is to real scans: asked for, watched, and looked at."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from qtpy.QtCore import QTimer, QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QProgressBar, QVBoxLayout, QWidget

from napari_prdit.activity import Activity
from napari_prdit.evaluations import EvaluationPlan, fitted, newest_report
from napari_prdit.jobs import Failed, Job
from napari_prdit.nearest_pairs import LayerPair, nearest_pairs, show_pairs
from napari_prdit.training_runs import settings_of
from napari_prdit.widgets.child import Child
from napari_prdit.widgets.evaluation_form import EvaluationForm
from napari_prdit.widgets.parts import Message, bring_into_view, button, row
from prdit_core.errors import PrditError
from prdit_core.files import shown
from prdit_core.runs.status import duration
from prdit_core.verbs.report import PAGE

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from napari.components import ViewerModel

    from napari_prdit.run_watch import Seen

POLL_MS = 1000
ABOUT = (
    "Generates volumes with this run's newest checkpoint and compares them with real scans. "
    "Volumes made before are used again."
)
GO_TIP = "Generate volumes, then compare them"
STOP, STOP_TIP = "Stop", "End after the volume at hand; Evaluate goes on from there"
END, END_TIP = "End at once", "It did not stop yet. End it now; volumes that are complete stay"


class EvaluateBox(QWidget):
    """Runs `prdit-core generate` and `prdit-core evaluate`, one after the other, for a run.

    Parameters
    ----------
    viewer : where the nearest pairs are shown
    """

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = viewer
        self._run: Path | None = None
        self._training: Path | None = None
        self._plan: EvaluationPlan | None = None
        self._last = ""
        self._activity = Activity()
        self._generating = self._stopping = False
        self.child = Child(self)
        self.child.printed.connect(self._hear)
        self.child.ended.connect(self._go_on)
        self.reading = Job(self)
        self.reading.yielded.connect(self._take)
        self.reading.ended.connect(self._show_state)
        self._watch = QTimer(self)
        self._watch.setInterval(POLL_MS)
        self._watch.timeout.connect(self._count)
        self._build()
        self._show_state()

    @property
    def idle(self) -> bool:
        """Whether nothing is asked, generated, compared or read."""
        return not self.child.running and not self.reading.running

    def show_run(self, run: Seen | None) -> None:
        """Ask about this run; another one than before brings its own data."""
        path = None if run is None else run.folder.path
        if path != self._run:
            self._run, self._training = path, None
            self.form.real.setCurrentText("")
        if run is not None and self._training is None:  # a new run writes down its data late
            self._training = _data_of(run)
            if self._training is not None and not self.form.real.text:
                self.form.real.choose(str(self._training))
        self._show_state()

    def evaluate(self) -> None:
        """Begin; nothing happens while another evaluation goes on."""
        if not self.idle or self._run is None or self.form.why_not(self._training):
            return
        try:
            plan = self.form.plan(self._run, self._training)
        except PrditError as error:
            self.message.say(str(error), "error")
            return
        self.message.say("looking at the real scans ...")
        self.reading.start(lambda _control: _fitted(plan))
        self._show_state()

    def stop(self) -> None:
        """End after the volume at hand; asked again, at once. Volumes that were made stay."""
        if self._stopping:
            self.child.kill()
            self._go_on(1, "")
            return
        self._stopping = True
        self.child.stop()
        self.message.say("stopping after the volume at hand ...")
        self._show_state()

    def open_report(self) -> None:
        """Show the page of the newest evaluation in the browser."""
        report = None if self._run is None else newest_report(self._run)
        if report is not None:
            _open_page(report)

    def show_nearest(self) -> None:
        """Read the nearest pairs of the newest evaluation, and show them as layers."""
        report = None if self._run is None else newest_report(self._run)
        if report is not None:
            self._read_pairs(report)

    def shut_down(self) -> None:
        """End all work; it can be begun again."""
        self._activity.end()
        self._watch.stop()
        self.child.kill()
        self.reading.abandon()

    # One command after the other.

    def _take(self, event: object) -> None:
        """What was read beside the window."""
        if isinstance(event, Failed):
            self.message.say(event.message, "error")
        elif isinstance(event, EvaluationPlan):
            self._plan = event
            self._start(generating=event.generated is None)
        elif isinstance(event, list):
            show_pairs(self._viewer, event)
            self.message.say(
                "each generated volume lies above the training scan nearest to it; the nearest "
                "pair is on the left"
            )

    def _start(self, generating: bool) -> None:
        assert self._plan is not None
        self._generating, self._stopping, self._last = generating, False, ""
        plan = self._plan
        self._begun, self._made_before = time.monotonic(), plan.made
        self.child.start(plan.generate_words if generating else plan.evaluate_words)
        self.message.say(f"comparing volumes of {shown(plan.run.name)} ...")
        self.busy.setRange(0, plan.wanted if generating else 0)
        self._watch.start()
        self._count()
        self._show_state()
        doing = "Generating volumes to evaluate" if generating else "Comparing volumes of"
        self._activity.begin(f"{doing} {shown(plan.run.name)}", self.busy.maximum())

    def _count(self) -> None:
        """Volumes that are there; the command counts for terminals only."""
        if not self._generating or self._plan is None:
            return
        made, wanted = min(self._plan.made, self._plan.wanted), self._plan.wanted
        self.busy.setValue(made)
        if not self._stopping:
            self._show_left(made, wanted)
        self._activity.advance(made)

    def _show_left(self, made: int, wanted: int) -> None:
        assert self._plan is not None
        new, left = made - self._made_before, ""
        if new > 0:
            pace = (time.monotonic() - self._begun) / new
            left = f", {duration(pace * (wanted - made))} left"
        name = shown(self._plan.run.name)
        self.message.say(f"generating with {name}: {made} of {wanted} volumes{left}")

    def _hear(self, line: str) -> None:
        self._last = line.removeprefix("prdit-core: ")
        if not self._generating and not self._stopping:
            self.message.say(self._last)

    def _go_on(self, code: int, _result: str) -> None:
        self._watch.stop()
        assert self._plan is not None
        if code == 0 and self._generating and not self._stopping:
            self._start(generating=False)
            return
        if code == 0 and not self._generating:
            self._activity.end(f"{shown(self._plan.run.name)} was compared with real scans.")
            self._show_found(self._plan)
        elif self._stopping:
            self._activity.end()
            self.message.say("stopped; Evaluate goes on with the volumes that are there")
        else:
            why = self._last or f"ended with code {code}"
            self.message.say(why, "error")
            self._activity.end(f"Evaluating failed: {why}", "failed")
        self._show_state()

    def _show_found(self, plan: EvaluationPlan) -> None:
        """The page, and the nearest pairs where there is something that could be copied."""
        self.message.say(f"{shown(plan.run.name)} was compared with real scans")
        report = newest_report(plan.run)
        if report is None:
            return
        _open_page(report)
        bring_into_view(self.pairs)
        if plan.training is not None:
            self._read_pairs(report)

    def _read_pairs(self, report: Path) -> None:
        if self.reading.running:
            return
        self.message.say("reading the nearest pairs ...")
        self.reading.start(lambda _control: _read(report))
        self._show_state()

    def _show_state(self) -> None:
        working = self.child.running
        done = self._run is not None and newest_report(self._run) is not None
        reason = self.form.why_not(self._training)
        self.go.setEnabled(self.idle and self._run is not None and not reason)
        self.go.setToolTip(reason or GO_TIP)
        self.why.say(reason, "warning")
        self.why.setVisible(bool(reason))
        self.halt.setEnabled(working)
        self.halt.setText(END if working and self._stopping else STOP)
        self.halt.setToolTip(END_TIP if working and self._stopping else STOP_TIP)
        self.busy.setVisible(working)
        self.open.setEnabled(done)
        self.pairs.setEnabled(done and not self.reading.running)

    # The controls.

    def _build(self) -> None:
        about = Message()
        about.say(ABOUT)
        self.form = EvaluationForm()
        self.form.changed.connect(self._show_state)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        for part in (about, self.form, *self._buttons()):
            column.addWidget(part)

    def _buttons(self) -> tuple[QWidget, ...]:
        self.go = button("Evaluate", GO_TIP, self.evaluate)
        self.why = Message()
        self.why.setToolTip("Why it cannot be evaluated with these scans")
        self.halt = button(STOP, STOP_TIP, self.stop)
        self.open = button("Open report", "Show the newest page in the browser", self.open_report)
        self.pairs = button(
            "Show nearest pairs",
            "The volumes most like a training scan, each above that scan, as layers",
            self.show_nearest,
        )
        self.busy = QProgressBar()
        self.busy.setFormat("%v of %m")
        self.busy.setToolTip("How many volumes were generated; then comparing goes on")
        self.message = Message()
        words = (self.why, self.busy, self.message)
        return row(self.go, self.halt), *words, row(self.open, self.pairs)


def _data_of(run: Seen) -> Path | None:
    """Prepared data that a run was trained on, if they are still there."""
    try:
        data = settings_of(run.folder).data
    except PrditError:  # nothing is known of it yet
        return None
    return data.absolute() if data.is_dir() else None


def _open_page(report: Path) -> None:
    QDesktopServices.openUrl(QUrl.fromLocalFile(str(report / PAGE)))


def _fitted(plan: EvaluationPlan) -> Generator[EvaluationPlan]:
    """Work of a job: folders may be large."""
    yield fitted(plan)


def _read(report: Path) -> Generator[list[LayerPair]]:
    """Work of a job: volumes take their time."""
    yield list(nearest_pairs(report))

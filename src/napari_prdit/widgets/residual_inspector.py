"""The dock "Inspect local and global part": what each half of the model contributes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QProgressBar, QSizePolicy, QVBoxLayout, QWidget

from napari_prdit.activity import Activity
from napari_prdit.inspector import (
    LEVELS,
    LayerSource,
    SplitResult,
    StateSource,
    levels_work,
    split_work,
)
from napari_prdit.jobs import Failed, Job
from napari_prdit.widgets.dock_place import OpensAsTab
from napari_prdit.widgets.flip_box import FlipBox
from napari_prdit.widgets.help import HelpButton
from napari_prdit.widgets.parts import Message, bring_into_view, button, row, scrolled
from napari_prdit.widgets.shares_box import SharesBox
from napari_prdit.widgets.split_question import SplitQuestion
from napari_prdit.widgets.working_dock import WorkingDock
from prdit_core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    import napari.viewer
    import numpy as np
    from numpy.typing import NDArray

    from napari_prdit.jobs import Control
    from prdit_core.verbs.shares import EnergyShares

INTRODUCTION = (
    "Cover a scan with noise, and see which part of the model cleans what: the <b>local part</b> "
    "works on each small block alone, the <b>global part</b> sees the whole volume."
)


class ResidualInspector(WorkingDock):
    """Settings above, parts to flip through below, and who contributes what as a plot."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        # napari hands out a proxy, which is not the viewer that its events speak of.
        self.viewer = getattr(napari_viewer, "__wrapped__", napari_viewer)
        self.job = Job(self)
        self.job.yielded.connect(self._hear)
        self.job.ended.connect(self._ended)
        self._finished = False
        self._activity = Activity()
        self._build()
        OpensAsTab(self)
        self._show_running(False)

    def split(self) -> None:
        """Split the prediction for the chosen scan at the chosen noise level."""
        source = self._asked()
        if source is None:
            return
        if self._start(partial(split_work, self.question.model(), source)):
            self.progress.setMaximum(0)  # one prediction has no middle
            self.message.say("loading the model and splitting its prediction ...")
            self._activity.begin("Splitting a prediction")

    def split_levels(self) -> None:
        """Plot who contributes what at all noise levels."""
        source = self._asked()
        if not isinstance(source, LayerSource):
            return
        if self._start(partial(levels_work, self.question.model(), source)):
            self.shares.begin_levels()
            self.progress.setMaximum(len(LEVELS))
            self.message.say("loading the model ...")
            self._activity.begin("Splitting at all noise levels", len(LEVELS))

    def inspect_state(self, checkpoint: str, x_t: NDArray[np.float32], t: float) -> None:
        """Split a state of a generated volume on its way.

        Parameters
        ----------
        checkpoint
            The model that the volume is generated with.
        x_t
            (D, H, W) state in model units.
        t
            Its noise level in (0, 1000].
        """
        self.question.checkpoint.choose(checkpoint)
        self.question.source.offer(StateSource(x_t, t))
        self.split()

    def shut_down(self) -> None:
        """End work, and listen to the viewer no more."""
        self.parts.release_keys()
        self._activity.end()
        self.question.source.leave()
        self.job.abandon()

    def _asked(self) -> LayerSource | StateSource | None:
        try:
            return self.question.split_source()
        except UsageError as error:
            self.message.say(str(error), "error")
            return None

    def _start(self, work: Callable[[Control], Generator[Any]]) -> bool:
        if self.job.running:
            self.message.say("still at work; wait, or press Stop", "warning")
            return False
        self._finished = False
        self._show_running(True)
        self.progress.setValue(0)
        self.job.start(work)
        return True

    def _hear(self, event: Any) -> None:
        self._finished = isinstance(event, Failed | SplitResult)
        if isinstance(event, Failed):
            self.message.say(event.message, "error")
            self._activity.end(event.message, "failed")
        elif isinstance(event, SplitResult):
            self._show_result(event)
        else:
            self._show_level(event)

    def _ended(self) -> None:
        self._show_running(False)
        if not self._finished:
            self.message.say("stopped")
            self._activity.end()

    def _show_result(self, result: SplitResult) -> None:
        self.question.hide_scan()
        self.parts.show_volumes(result.volumes)
        self.shares.show_single(result.shares)
        notes = result.volumes["noisy"].metadata.get("notes", ())
        self.message.say("; ".join(notes), "warning" if notes else "note")
        self._activity.end("The prediction is split into its parts.")
        bring_into_view(self.parts)

    def _show_level(self, shares: EnergyShares) -> None:
        done = self.shares.add_level(shares)
        self._finished = done == len(LEVELS)
        self.progress.setValue(done)
        self.message.say(f"{done} of {len(LEVELS)} noise levels")
        if self._finished:
            bring_into_view(self.shares)
        self._activity.advance(done)
        if self._finished:
            self._activity.end("The prediction is split at all noise levels.")

    def _show_running(self, running: bool) -> None:
        self.go.setEnabled(not running)
        self.go_levels.setEnabled(not running and self.question.has_levels)
        self.halt.setEnabled(running)
        self.progress.setVisible(running)

    def _build(self) -> None:
        introduction = Message()
        introduction.setText(INTRODUCTION)
        introduction.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        about = row(introduction, HelpButton("inspect"))
        self.message = Message()
        self.progress = QProgressBar()
        self.progress.setToolTip("How far the work is")
        self.question = SplitQuestion(self.viewer, self.message)
        self.question.picked.connect(lambda: self._show_running(self.job.running))
        self.parts, self.shares = FlipBox(self.viewer, self.message), SharesBox()
        self.parts.turned.connect(lambda: self.shares.show_quantity(self.parts.quantity))
        below = (self.progress, self.message, self.parts, self.shares)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(scrolled(about, self.question, self._buttons(), *below))

    def _buttons(self) -> QWidget:
        self.go = button("Split", "Predict once and show its parts as layers", self.split)
        self.go_levels = button(
            "All noise levels",
            f"Plot who contributes what at {len(LEVELS)} noise levels; makes no layers",
            self.split_levels,
        )
        self.halt = button("Stop", "End after the prediction at hand", self.job.stop)
        return row(self.go, self.go_levels, self.halt)

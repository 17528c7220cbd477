"""The dock "Reconstruct and edit": a scanner saw too little, or a region is to be imagined anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QVBoxLayout

from napari_prdit.measuring import TASKS
from napari_prdit.preferences import preferences
from napari_prdit.widgets.dock_place import OpensAsTab
from napari_prdit.widgets.generation_forms import ModelForm
from napari_prdit.widgets.pace_watch import PaceWatch
from napari_prdit.widgets.parts import Form, Message, choice, scrolled
from napari_prdit.widgets.reconstruction_panel import ReconstructionPanel
from napari_prdit.widgets.regeneration_panel import RegenerationPanel
from napari_prdit.widgets.working_dock import WorkingDock

if TYPE_CHECKING:
    import napari.viewer
    from qtpy.QtGui import QShowEvent

FILE, REGION = "measurement file", "region"
WORDS = {
    **{name: task.words for name, task in TASKS.items()},
    FILE: "Reconstruct a measurement file",
    REGION: "Regenerate a painted region",
}
EXPLAINED = {
    **{name: task.explains for name, task in TASKS.items()},
    FILE: "Data of a scanner, or of <i>prdit-core simulate</i>.",
    REGION: "<b>Paint</b> over a part of a CT scan, and let the model <b>imagine it anew</b> so "
    "that it fits the rest.",
}
WARNING = "What the model adds is <b>invented: not for diagnosis</b>."


class ReconstructDock(WorkingDock):
    """A task and its settings above, what comes of it below; all results are layers."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        # napari hands out a proxy, whose layers are proxies too.
        self.viewer = getattr(napari_viewer, "__wrapped__", napari_viewer)
        self.paces = PaceWatch(self)
        self._planes_shown = False
        self._build()
        self.model.checkpoint.choose("demo")
        self.choose(next(iter(TASKS)))
        OpensAsTab(self)

    @property
    def panel(self) -> ReconstructionPanel | RegenerationPanel:
        """The one that works at the task at hand."""
        return self.region if self.task.currentData() == REGION else self.samples

    def choose(self, task: str) -> None:
        """Take one of `WORDS`."""
        self.task.setCurrentIndex(self.task.findData(task))
        self._show_task()

    def lost(self) -> list[str]:
        """What no layer holds."""
        return [*self.samples.lost(), *self.region.lost()]

    def showEvent(self, event: QShowEvent | None) -> None:
        """The three planes belong together: open the other two with the dock, once."""
        super().showEvent(event)
        if not self._planes_shown:
            self._planes_shown = True
            QTimer.singleShot(0, self._open_planes)

    def shut_down(self) -> None:
        """End work and timers, and listen to the viewer no more."""
        self.paces.stop()
        for panel in (self.samples, self.region):
            panel.shut_down()

    def _build(self) -> None:
        self.task = choice([])
        for name, words in WORDS.items():
            self.task.addItem(words, name)
        self.task.setMaxVisibleItems(len(WORDS))
        self.task.activated.connect(lambda _index: self._show_task())
        self.explained = Message()
        tasks = Form("Task")
        tasks.add("task", self.task, "What is missing, and shall be reconstructed or imagined")
        tasks.rows.addRow(self.explained)
        self.model = ModelForm()
        self.samples = ReconstructionPanel(self.viewer, self.model)
        self.region = RegenerationPanel(self.viewer, self.model)
        self.model.changed.connect(self._show_times)
        self.model.refused.connect(self._show_refusal)
        for panel in (self.samples, self.region):
            panel.planes_wanted.connect(self._open_planes)
            panel.steps.valueChanged.connect(lambda _steps: self._show_times())
            panel.worked.connect(self._lock)
        forms = (self.samples.form, self.region.form)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(scrolled(tasks, *forms, self.model, self.samples, self.region))

    def _show_task(self) -> None:
        name = self.task.currentData()
        self.explained.setText(f"{EXPLAINED[name]} {WARNING}")
        for panel in (self.samples, self.region):
            panel.setVisible(panel is self.panel)
            panel.form.setVisible(panel is self.panel)
        # A file has a grid of its own.
        self.model.size_choice.setEnabled(name != FILE)
        if name != REGION:
            self.samples.take(TASKS.get(name))
        self._show_times()

    def _lock(self, working: bool) -> None:
        """One thing at a time: no other task or model while one is at work."""
        self.task.setEnabled(not working)

    def _show_times(self) -> None:
        from prdit_core.config import SamplingConfig

        known = self.paces.known(self.model.checkpoint.text, preferences().device)
        self.model.show_paces(known, SamplingConfig(steps=self.panel.steps.value()))

    def _show_refusal(self, why: str) -> None:
        message = self.panel.message
        if why or message.kind == "error":
            message.say(why, "error" if why else "note")

    def _open_planes(self) -> None:
        from napari_prdit.widgets.planes import show_planes

        show_planes(self.viewer)

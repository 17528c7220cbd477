"""The dock "Generate CT volume": choose a model, watch a volume emerge, go back in time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QVBoxLayout

from napari_prdit.widgets.dock_place import OpensAsTab
from napari_prdit.widgets.generation_panel import GenerationPanel
from napari_prdit.widgets.generation_settings import GenerationSettings
from napari_prdit.widgets.parts import scrolled
from napari_prdit.widgets.working_dock import WorkingDock

if TYPE_CHECKING:
    import napari.viewer
    from qtpy.QtGui import QShowEvent

    from napari_prdit.request import Request

MEASURE_AFTER_MS = 1500  # the window has been painted then


class GenerateDock(WorkingDock):
    """Settings above, what happens below; all results are layers of the viewer."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        # napari hands out a proxy, whose layers are proxies too.
        self.viewer = getattr(napari_viewer, "__wrapped__", napari_viewer)
        self._planes_shown = False
        self.settings = GenerationSettings(self.viewer, self)
        self.model, self.walk = self.settings.model, self.settings.walk
        self.condition = self.settings.condition
        self.panel = GenerationPanel(self.viewer, self.settings)
        self.settings.changed.connect(self._settings_changed)
        self.settings.measured.connect(self.show_times)
        self.model.refused.connect(self._show_refusal)
        self.panel.worked.connect(self.show_times)
        self.panel.planes_wanted.connect(self._open_planes)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(scrolled(self.model, self.condition, self.walk, self.panel))
        OpensAsTab(self)
        self.choose_checkpoint("demo")

    def choose_checkpoint(self, name: str) -> None:
        """Take a catalogue name, a checkpoint folder or a run folder."""
        self.model.checkpoint.choose(name)

    def request(self) -> Request:
        """What the controls say."""
        return self.settings.request()

    def generate(self) -> None:
        """Start; a second call while it works does nothing."""
        self.panel.generate()

    def show_times(self) -> None:
        """Say what volumes will take, as far as that is known now."""
        if not self.panel.job.running:
            self.settings.show_times()

    def lost(self) -> list[str]:
        """What no layer holds."""
        return self.panel.lost()

    def showEvent(self, event: QShowEvent | None) -> None:
        """The three planes belong together: open the other two with the dock, once."""
        super().showEvent(event)
        if not self._planes_shown:
            self._planes_shown = True
            QTimer.singleShot(0, self._open_planes)
            QTimer.singleShot(MEASURE_AFTER_MS, self._measure)

    def shut_down(self) -> None:
        """End work and timers, and forget what was recorded."""
        self.settings.shut_down()
        self.panel.shut_down()

    def _measure(self) -> None:
        """Find out how long volumes of this model take here, while nothing else is done."""
        if self.isVisible() and not self.panel.job.running:
            self.settings.measure()

    def _settings_changed(self) -> None:
        """A fault may be mended by what was changed, and another model takes another time."""
        if self.panel.message.kind == "error":
            self.panel.message.say("")
        self.show_times()
        self._measure()

    def _show_refusal(self, why: str) -> None:
        if why:
            self.panel.message.say(why, "error")

    def _open_planes(self) -> None:
        from napari_prdit.widgets.planes import show_planes

        show_planes(self.viewer)

"""All that is chosen before volumes are made: a model, labels to heed, and a walk."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Signal

from napari_prdit.widgets.condition_form import ConditionForm
from napari_prdit.widgets.generation_forms import ModelForm
from napari_prdit.widgets.pace_watch import PaceWatch
from napari_prdit.widgets.walk_form import WalkForm

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_prdit.request import Request


class GenerationSettings(QObject):
    """Three forms that heed each other, and the times that volumes will take.

    Signals
    -------
    changed : any of them; `measured` if only times are known better
    """

    changed = Signal()
    measured = Signal()

    def __init__(self, viewer: ViewerModel, parent: QObject) -> None:
        super().__init__(parent)
        self.model, self.condition, self.walk = ModelForm(), ConditionForm(viewer), WalkForm()
        self.paces = PaceWatch(self)
        self.paces.measured.connect(self.measured)
        self.model.changed.connect(self._take_model)
        self.condition.changed.connect(self.changed)
        self.walk.changed.connect(self.changed)

    def request(self) -> Request:
        """What the controls say, with the labels as they are now."""
        model = self.model
        request = self.walk.request(model.checkpoint.text, model.size_choice.edge, model.label)
        return replace(request, condition=self.condition.condition())

    def measure(self) -> None:
        """Find out how long volumes of this model take here."""
        self.paces.measure(self.model.checkpoint.text, self.walk.device.currentText())

    def show_times(self) -> None:
        """Say how long they will take, as far as it is known."""
        known = self.paces.known(self.model.checkpoint.text, self.walk.device.currentText())
        self.model.show_paces(known, self.walk.config())

    def shut_down(self) -> None:
        """Measure no more, and listen to the viewer no more."""
        self.paces.stop()
        self.condition.leave()

    def _take_model(self) -> None:
        model = self.model
        self.walk.take_network(model.network)
        self.condition.take_model(model.checkpoint.text, model.size_choice.edge, model.label)
        self.changed.emit()

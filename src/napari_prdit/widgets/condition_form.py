"""What volumes belong to: painted organs, which number means which, and how much they weigh."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import QListWidget, QListWidgetItem
from superqt import QLabeledDoubleSlider

from napari_prdit.conditions import Condition, new_labels, palette, wear
from napari_prdit.known_checkpoints import label_control
from napari_prdit.widgets.parts import Form, Message, button, row
from napari_prdit.widgets.source_choice import OrganChoice
from prdit_core.errors import PrditError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.components import ViewerModel

    from napari_prdit.conditions import Organ
    from napari_prdit.known_checkpoints import LabelControl

STRONGEST = 2.0
_SWATCH, _MOST_ROWS = 14, 6


class OrganList(QListWidget):
    """Number, colour and name of what can be painted.

    Signals
    -------
    picked : number of the one that was clicked
    """

    picked = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self.setToolTip("Click one to paint with it")
        self.itemClicked.connect(lambda item: self.picked.emit(item.data(Qt.ItemDataRole.UserRole)))

    def show_organs(self, organs: Sequence[Organ]) -> None:
        """List these."""
        self.clear()
        for organ in organs:
            swatch = QPixmap(_SWATCH, _SWATCH)
            swatch.fill(QColor.fromRgbF(*organ.colour))
            item = QListWidgetItem(QIcon(swatch), f"{organ.number} {organ.name}")
            item.setData(Qt.ItemDataRole.UserRole, organ.number)
            self.addItem(item)
        rows = min(len(organs), _MOST_ROWS)
        self.setFixedHeight(rows * max(self.sizeHintForRow(0), 1) + 2 * self.frameWidth())


class ConditionForm(Form):
    """Hidden unless the model makes volumes for label maps.

    Signals
    -------
    changed : another layer or weight was chosen
    """

    changed = Signal()

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__("Painted organs")
        self._viewer = viewer
        self._control: LabelControl | None = None
        self.layers = OrganChoice(viewer)
        self.layers.picked.connect(self._take_layer)
        self.new = button(
            "New labels",
            "An empty layer where the model's volumes lie, with a brush in hand",
            self._add_layer,
        )
        self.add(
            "labels",
            row(self.layers, self.new),
            "A labels layer that the volumes shall belong to, of any grid: they come back on it. "
            "Going back in time and new endings heed it too, as it was when the volume was made",
        )
        self.scale = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
        self.scale.setRange(0.0, STRONGEST)
        self.scale.setDecimals(2)
        self.scale.setValue(1.0)
        self.scale.valueChanged.connect(lambda _value: self.changed.emit())
        self.add(
            "weight",
            self.scale,
            "How much the labels weigh: 1 as in training, 0 not at all, as if there were none",
        )
        self.organs = OrganList()
        self.organs.picked.connect(self._pick)
        self.rows.addRow(self.organs)
        self.note = Message()
        self.rows.addRow(self.note)
        self.hide()

    def take_model(self, name: str, edge: int | None, label: str | None) -> None:
        """Offer what this model knows, at a size and for a class."""
        before = self._control
        try:
            self._control = label_control(name, edge, label)
        except PrditError:  # the form of the model says why
            self._control = None
        if self._control != before:
            self._take_layer()
        self.setVisible(self._control is not None)

    def condition(self) -> Condition | None:
        """What is painted now; None if volumes belong to nothing."""
        layer = self.layers.chosen
        if self._control is None or layer is None:
            return None
        data, attributes, kind = layer.as_layer_data_tuple()
        return Condition((np.array(data), attributes, kind), round(self.scale.value(), 2))

    def lay_on_top(self) -> None:
        """Move the painted layer above others, whose pictures would hide it."""
        layer, layers = self.layers.chosen, self._viewer.layers
        if self._control is not None and layer is not None and layers[-1] is not layer:
            layers.move(layers.index(layer), len(layers))

    def leave(self) -> None:
        """Listen to the viewer no more."""
        self.layers.leave()

    def _take_layer(self) -> None:
        """Show the layer in the colours of the model, which are those of the list."""
        control, layer = self._control, self.layers.chosen
        if control is None:
            return
        organs = palette(control.names) if layer is None else wear(layer, control.names)
        self.organs.show_organs(organs)
        self.scale.setEnabled(layer is not None)
        self.new.setEnabled(control.grid is not None)
        trained_on = f"Labels work for {control.trained_on}; choose that class and size"
        self.note.say("" if control.grid else trained_on, "warning")
        self.changed.emit()

    def _add_layer(self) -> None:
        if self._control is not None and self._control.grid is not None:
            self.layers.choose(new_labels(self._viewer, self._control.grid))

    def _pick(self, number: int) -> None:
        """Paint with it."""
        layer = self.layers.chosen
        if layer is not None:
            layer.visible = True
            layer.mode = "paint"
            layer.selected_label = number
            self._viewer.layers.selection.active = layer

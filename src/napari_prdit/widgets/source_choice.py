"""Which scan of the viewer is meant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.layers import Image
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QComboBox

from napari_prdit.inspector import StateSource, is_part, refusal

if TYPE_CHECKING:
    from napari.components import ViewerModel


class SourceChoice(QComboBox):
    """The image layers of a viewer; those that are no scan cannot be chosen, and say why.

    Signals
    -------
    picked : whenever another source was chosen, by the user or because layers came and went
    """

    picked = Signal()

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = viewer
        self._state: StateSource | None = None
        self.setPlaceholderText("open a CT scan first")
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(12)
        self.currentIndexChanged.connect(lambda _index: self.picked.emit())
        for emitter in self._changes():
            emitter.connect(self.refresh)
        self.refresh()

    @property
    def chosen(self) -> Image | StateSource | None:
        """A layer, a state of a run, or None."""
        source: Image | StateSource | None = self.currentData()
        return source

    @property
    def refused(self) -> list[str]:
        """Image layers that cannot be chosen, and why."""
        items = [(self.itemText(i), self._item(i)) for i in range(self.count())]
        return [text for text, item in items if not item.isEnabled()]

    def offer(self, state: StateSource) -> None:
        """Add a state of a run, instead of an earlier one, and choose it."""
        self._state = state
        self.refresh()
        self.setCurrentIndex(self.count() - 1)

    def refresh(self) -> None:
        """List the layers anew; what was chosen stays so if it is still there."""
        before = self.chosen
        self.blockSignals(True)
        self.clear()
        for layer in self._viewer.layers:
            if isinstance(layer, Image) and not is_part(layer):
                self._add_layer(layer)
        if self._state is not None:
            self.addItem(f"step of a run, noise level {self._state.t:.0f}", self._state)
        self.setCurrentIndex(self._place_of(before))
        self.blockSignals(False)
        if self.chosen is not before:
            self.picked.emit()

    def leave(self) -> None:
        """Listen to the viewer no more."""
        for emitter in self._changes():
            emitter.disconnect(self.refresh)

    def showPopup(self) -> None:
        """Look again before the list opens."""
        self.refresh()
        super().showPopup()

    def _add_layer(self, layer: Image) -> None:
        reason = refusal(layer)
        self.addItem(f"{layer.name} ({reason})" if reason else layer.name, layer)
        item = self._item(self.count() - 1)
        item.setEnabled(not reason)
        item.setData(reason or "A CT volume in HU", Qt.ItemDataRole.ToolTipRole)

    def _place_of(self, source: Image | StateSource | None) -> int:
        """Where it is in the list now, else the first that may be chosen, else -1."""
        places = [place for place in range(self.count()) if self._item(place).isEnabled()]
        same = [place for place in places if self.itemData(place) is source]
        return next(iter(same or places), -1)

    def _item(self, place: int) -> Any:
        return self.model().item(place)  # type: ignore[union-attr]

    def _changes(self) -> tuple[Any, ...]:
        events = self._viewer.layers.events
        return events.inserted, events.removed, events.reordered, events.renamed

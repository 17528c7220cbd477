"""Which scan of the viewer is meant, and which painted layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.layers import Image, Labels
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QComboBox
from superqt.utils import signals_blocked

from napari_prdit.inspector import StateSource, is_part, refusal
from napari_prdit.layers import OURS
from napari_prdit.regeneration import IMAGINED

if TYPE_CHECKING:
    from napari.components import ViewerModel

NOTHING = "none"


class LayerChoice(QComboBox):
    """Layers of a viewer; those that cannot be chosen say why.

    Signals
    -------
    picked : whenever another was chosen, by the user or because layers came and went
    """

    picked = Signal()
    tip = ""

    def __init__(self, viewer: ViewerModel, placeholder: str) -> None:
        super().__init__()
        self._viewer = viewer
        self.setPlaceholderText(placeholder)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(12)
        self.currentIndexChanged.connect(lambda _index: self.picked.emit())
        for emitter in self._changes():
            emitter.connect(self.refresh)
        self.refresh()

    @property
    def refused(self) -> list[str]:
        """Layers that cannot be chosen, and why."""
        items = [(self.itemText(i), self._item(i)) for i in range(self.count())]
        return [text for text, item in items if not item.isEnabled()]

    def choose(self, layer: Any) -> None:
        """Take this one, which is in the viewer."""
        self.refresh()
        self.setCurrentIndex(self._place_of(layer))

    def refresh(self) -> None:
        """List the layers anew; what was chosen stays so if it is still there."""
        before = self.currentData()
        with signals_blocked(self):
            self.clear()
            for layer in self._viewer.layers:
                if self._lists(layer):
                    self._add_layer(layer)
            self._add_others()
            self.setCurrentIndex(self._place_of(before))
        if self.currentData() is not before:
            self.picked.emit()

    def leave(self) -> None:
        """Listen to the viewer no more."""
        for emitter in self._changes():
            emitter.disconnect(self.refresh)

    def showPopup(self) -> None:
        """Look again before the list opens."""
        self.refresh()
        super().showPopup()

    def _lists(self, layer: Any) -> bool:
        """Whether a layer is of the kind to choose from."""
        raise NotImplementedError

    def _refusal(self, layer: Any) -> str:
        """Why a layer of that kind cannot be chosen; empty if it can."""
        raise NotImplementedError

    def _add_others(self) -> None:
        """What can be chosen and is no layer."""

    def _add_layer(self, layer: Any) -> None:
        reason = self._refusal(layer)
        self.addItem(f"{layer.name} ({reason})" if reason else layer.name, layer)
        item = self._item(self.count() - 1)
        item.setEnabled(not reason)
        item.setData(reason or self.tip, Qt.ItemDataRole.ToolTipRole)

    def _place_of(self, source: Any) -> int:
        """Where it is in the list now, else the first that may be chosen, else -1."""
        places = [place for place in range(self.count()) if self._item(place).isEnabled()]
        same = [place for place in places if self.itemData(place) is source]
        return next(iter(same or places), -1)

    def _item(self, place: int) -> Any:
        return self.model().item(place)  # type: ignore[union-attr]

    def _changes(self) -> tuple[Any, ...]:
        events = self._viewer.layers.events
        return events.inserted, events.removed, events.reordered, events.renamed


class SourceChoice(LayerChoice):
    """The image layers of a viewer that may be scans, and a state of a run."""

    tip = "A CT volume in HU"

    def __init__(self, viewer: ViewerModel) -> None:
        self._state: StateSource | None = None
        super().__init__(viewer, "open a CT scan first")

    @property
    def chosen(self) -> Image | StateSource | None:
        """A layer, a state of a run, or None."""
        source: Image | StateSource | None = self.currentData()
        return source

    def no_scan(self) -> str:
        """Why there is no scan to choose, and what to do."""
        refused = "".join(f"; not {text}" for text in self.refused)
        return f"drop a CT scan on napari, or take File > Open Sample{refused}"

    def offer(self, state: StateSource) -> None:
        """Add a state of a run, instead of an earlier one, and choose it."""
        self._state = state
        self.refresh()
        self.setCurrentIndex(self.count() - 1)

    def _lists(self, layer: Any) -> bool:
        return isinstance(layer, Image) and not is_part(layer)

    def _refusal(self, layer: Any) -> str:
        return refusal(layer)

    def _add_others(self) -> None:
        if self._state is not None:
            self.addItem(f"step of a run, noise level {self._state.t:.0f}", self._state)


class LabelsChoice(LayerChoice):
    """The labels layers of a viewer; none is taken before somebody paints or chooses one."""

    @property
    def chosen(self) -> Labels | None:
        """A layer, or None."""
        layer: Labels | None = self.currentData()
        return layer

    def _lists(self, layer: Any) -> bool:
        kind = layer.metadata.get(OURS, {}).get("kind", "")
        return isinstance(layer, Labels) and not kind.startswith(IMAGINED)

    def _refusal(self, layer: Any) -> str:
        if layer.multiscale:
            return "a pyramid of resolutions"
        return "" if layer.ndim == 3 else f"{layer.ndim}D, not 3D"

    def _place_of(self, source: Any) -> int:
        """An organ map that happens to be there is no wish for anything."""
        same = (place for place in range(self.count()) if self.itemData(place) is source)
        return next(same, -1)


class RegionChoice(LabelsChoice):
    """What is to be imagined anew."""

    tip = "Whatever is painted in this layer, in any colour"

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__(viewer, "press Paint first")


class OrganChoice(LabelsChoice):
    """What volumes belong to, or nothing."""

    tip = "Volumes belong to what is painted in this layer, and lie on its grid"

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__(viewer, NOTHING)

    def _add_others(self) -> None:
        self.addItem(NOTHING)

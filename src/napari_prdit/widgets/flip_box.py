"""Buttons that show one part of a split prediction at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QButtonGroup, QCheckBox, QPushButton

from napari_prdit.keys import bind_keys, release_keys
from napari_prdit.split_layers import PARTS, SplitLayers, parts_of
from napari_prdit.widgets.parts import Form, Message, button, row

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari.components import ViewerModel

    from prdit_core import Volume

# Words on the buttons; x0 or eps comes before the names of all parts but those that are given.
GIVEN = {"scan": "Scan", "noisy": "Noisy"}
FOUND = {
    "local": "Local",
    "no-context": "No context",
    "no-coordinates": "No place",
    "global-residual": "Global",
    "refiner": "Refiner",
    "total": "Sum",
    "error": "Error",
}
# What only some models have.
SOME = ("refiner", "no-context", "no-coordinates")


class FlipBox(Form):
    """One button for each part that the model has; the layers of the other parts are hidden.

    Signals
    -------
    turned : between the predicted clean scan and the predicted noise
    """

    turned = Signal()

    def __init__(self, viewer: ViewerModel, message: Message) -> None:
        super().__init__("Flip through the parts")
        self.layers = SplitLayers(viewer)
        self._message = message
        self._volumes: Mapping[str, Volume] = {}
        self._flip_rows()
        self.caption = Message()
        self.rows.addRow(self.caption)
        self.noise = QCheckBox("of the predicted noise")
        self.noise.setToolTip(
            "The model also predicts the noise itself, in as many parts. Show those, in layers "
            "and plot, instead of the parts of the clean scan."
        )
        self.noise.toggled.connect(lambda _on: self._turn())
        self.keep = button(
            "Keep", "Leave these layers alone; the next Split makes its own", self._keep
        )
        self.rows.addRow(row(self.noise, self.keep))
        self._explain()

    @property
    def quantity(self) -> str:
        """Which prediction is looked at: x0 (clean scan) or eps (noise)."""
        return "eps" if self.noise.isChecked() else "x0"

    @property
    def key(self) -> str:
        """The part whose button is pressed, as `Result.volumes` names it."""
        return self._key(next(name for name, made in self.flips.items() if made.isChecked()))

    def show_volumes(self, volumes: Mapping[str, Volume]) -> None:
        """Have layers for the parts of a result, one of them visible."""
        self._volumes = volumes
        self._enable()
        for name in SOME:
            self.flips[name].setVisible(f"x0-{name}" in volumes)
        if self.key not in volumes:
            self.flips["total"].setChecked(True)
        kinds = ("scan", "noisy", "x0", *(["eps"] if self.noise.isChecked() else []))
        wanted = [key for key in PARTS if key.partition("-")[0] in kinds]
        self.layers.show(volumes, wanted, self.key)
        self._bind_keys()
        self._explain()

    def release_keys(self) -> None:
        """Give the keys of the layers back to napari."""
        for layer in self.layers.present:
            release_keys(layer, map(str, range(1, len(self.flips) + 1)))

    def _bind_keys(self) -> None:
        """Numbers for the buttons that are there, from the left."""
        self.release_keys()
        parts = parts_of(self._volumes)
        there = [name for name in self.flips if name not in SOME or f"x0-{name}" in self._volumes]
        acts = {str(key): self.flips[name].click for key, name in enumerate(there, start=1)}
        for key, name in enumerate(there, start=1):
            part = parts[name if name in GIVEN else f"x0-{name}"]
            self.flips[name].setToolTip(f"{part.says} Key {key}")
        for layer in self.layers.present:
            bind_keys(layer, acts)

    def _flip_rows(self) -> None:
        group = QButtonGroup(self)
        self.flips: dict[str, QPushButton] = {}
        for names in (GIVEN, FOUND):
            for name, word in names.items():
                part = PARTS[name if name in GIVEN else f"x0-{name}"]
                made = button(word, part.says, self._flip)
                made.setCheckable(True)
                made.setEnabled(False)
                group.addButton(made)
                self.flips[name] = made
            self.rows.addRow(row(*(self.flips[name] for name in names)))
        self.flips["total"].setChecked(True)
        for name in SOME:
            self.flips[name].hide()

    def _key(self, name: str) -> str:
        return name if name in GIVEN else f"{self.quantity}-{name}"

    def _enable(self) -> None:
        for name, made in self.flips.items():
            made.setEnabled(self._key(name) in self._volumes)

    def _flip(self) -> None:
        there = self.layers.flip(self.key)
        self._explain()
        if not there:
            self._message.say("that layer was deleted; press Split to have it back", "warning")

    def _turn(self) -> None:
        self._explain()
        if self._volumes:
            self.show_volumes(self._volumes)
        self.turned.emit()

    def _explain(self) -> None:
        full = self.layers.full_colour_hu(self.key)
        scale = f" Full colour at {full:.0f} HU." if full is not None else ""
        self.caption.setText(parts_of(self._volumes)[self.key].says + scale)

    def _keep(self) -> None:
        if not self._volumes:
            self._message.say("there is nothing to keep yet; press Split", "warning")
            return
        metadata = self._volumes["noisy"].metadata
        seed = f", seed {metadata['seed']}" if "seed" in metadata else ""
        self.release_keys()
        count = self.layers.keep(f"noise {metadata['t']:.0f}{seed}")
        self._volumes = {}
        self._enable()
        self._message.say(f"{count} layers are yours; the next Split makes new ones")

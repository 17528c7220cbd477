"""What to split: a scan, a model, a noise level, a seed."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QSlider, QWidget

from napari_prdit.inspector import LayerSource, Model, StateSource, noise_in_words
from napari_prdit.known_checkpoints import described, known, resolutions
from napari_prdit.preferences import preferences
from napari_prdit.widgets.parts import Form, Message, PathDrop, button, number, row
from napari_prdit.widgets.size_choice import SizeChoice
from napari_prdit.widgets.source_choice import SourceChoice
from prdit_core.errors import PrditError, UsageError

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image


LARGEST_SEED = 2**31 - 1  # of Qt's spin boxes
FIRST_LEVEL = 400


class SplitQuestion(Form):
    """The controls above the Split button.

    Signals
    -------
    picked : another scan was chosen
    """

    picked = Signal()

    def __init__(self, viewer: ViewerModel, message: Message) -> None:
        super().__init__("What to split")
        self._message = message
        self._scan: Image | None = None
        self.source = SourceChoice(viewer)
        self.source.picked.connect(self._follow_source)
        self.add("scan", self.source, "A CT scan that is open in napari, or a generated volume")
        self.checkpoint = PathDrop(
            known((preferences().checkpoint_folder, preferences().runs_folder))
        )
        self.checkpoint.changed.connect(self._describe)
        self.add("model", self._with_browse(), "A checkpoint or run folder; drop it here")
        self.size_choice = SizeChoice()
        tip = "Voxels along each edge: this model works at several resolutions, its refiners above"
        self.add("size", self.size_choice, f"{tip} the lowest")
        self._level_row()
        self._seed_row()
        self._follow_source()
        self.checkpoint.choose("demo")

    def model(self) -> Model:
        """The checkpoint, on the device that was chosen in the preferences.

        A state of a run has the size that it was generated at.
        """
        size = self.size_choice.edge if self.has_levels else None
        return Model(self.checkpoint.text, preferences().device, size)

    def split_source(self) -> LayerSource | StateSource:
        """The scan as it is now, with its noise.

        Raises
        ------
        UsageError
            If no scan is open.
        """
        self.source.refresh()
        chosen = self.source.chosen
        if chosen is None:
            refused = "".join(f"; not {text}" for text in self.source.refused)
            raise UsageError(f"drop a CT scan on napari, or take File > Open Sample{refused}")
        if isinstance(chosen, StateSource):
            self._scan = None
            return chosen
        self._scan = chosen
        data, attributes, _ = chosen.as_layer_data_tuple()
        return LayerSource(data, attributes, float(self.level.value()), self.seed.value())

    @property
    def has_levels(self) -> bool:
        """Whether the noise can be chosen: a state of a run has its own already."""
        return not isinstance(self.source.chosen, StateSource)

    def hide_scan(self) -> None:
        """Hide the layer that was asked about, which would show around the parts."""
        if self._scan is not None:
            self._scan.visible = False

    def _with_browse(self) -> QWidget:
        browse = button(
            "Browse ...",
            "Choose a checkpoint or run folder",
            lambda: self.checkpoint.browse("Checkpoint or run folder"),
        )
        return row(self.checkpoint, browse)

    def _level_row(self) -> None:
        self.level = QSlider(Qt.Orientation.Horizontal)
        self.level.setRange(1, 1000)
        self.level.setValue(FIRST_LEVEL)
        self.level.valueChanged.connect(lambda _t: self._say_level())
        self.add(
            "noise", self.level, "How much noise covers the scan: 1 hardly any, 1000 nothing else"
        )
        self.level_words = Message()
        self.rows.addRow(self.level_words)

    def _seed_row(self) -> None:
        self.seed = number(0, LARGEST_SEED, 0)
        self._seeding = row(self.seed, button("Dice", "Other noise by chance", self._roll))
        self.add("seed", self._seeding, "Same seed: the same noise, so that results compare")

    def _follow_source(self) -> None:
        for control in (self.level, self._seeding):
            self.rows.setRowVisible(control, self.has_levels)
        self._show_size()
        self._say_level()
        self.picked.emit()

    def _say_level(self) -> None:
        chosen = self.source.chosen
        t = chosen.t if isinstance(chosen, StateSource) else self.level.value()
        self.level_words.setText(f"<b>{t:.0f}</b> of 1000: {noise_in_words(t)}")

    def _describe(self, name: str) -> None:
        sizes: dict[int, str] = {}
        try:
            self.checkpoint.setToolTip(described(name))
            sizes = resolutions(name)
            self._message.say("")
        except PrditError as error:
            self._message.say(str(error), "error")
        self.size_choice.offer(sizes)
        self._show_size()

    def _show_size(self) -> None:
        """Only where there is a choice."""
        wanted = self.has_levels and self.size_choice.count() > 0
        self.rows.setRowVisible(self.size_choice, wanted)

    def _roll(self) -> None:
        self.seed.setValue(random.SystemRandom().randint(0, LARGEST_SEED))

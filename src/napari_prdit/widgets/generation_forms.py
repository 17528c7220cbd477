"""Which model makes volumes, at which size, and about how long that takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox
from superqt.utils import signals_blocked

from napari_prdit.known_checkpoints import (
    classes,
    described,
    known,
    makes,
    network_of,
    resolutions,
)
from napari_prdit.paces import affordable
from napari_prdit.preferences import preferences
from napari_prdit.widgets.parts import Form, Message, PathDrop, button, row
from napari_prdit.widgets.size_choice import SizeChoice
from prdit_core.checkpoints.catalog import CATALOGUE
from prdit_core.config import SamplingConfig
from prdit_core.errors import PrditError
from prdit_core.runs.status import duration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prdit_core.config import NetworkConfig


class ModelForm(Form):
    """Which checkpoint, what it makes, and at which of its resolutions.

    Attributes
    ----------
    network : of the last checkpoint that could be read

    Signals
    -------
    refused : why the chosen one cannot be used; empty if it can
    changed : another model or size was chosen
    """

    refused = Signal(str)
    changed = Signal()

    def __init__(self) -> None:
        super().__init__("Model")
        folders = (preferences().checkpoint_folder, preferences().runs_folder)
        self.checkpoint = PathDrop(known(folders))
        self.checkpoint.changed.connect(self._describe)
        browse = button(
            "...",
            "Choose a checkpoint or run folder",
            lambda: self.checkpoint.browse("Checkpoint or run folder"),
        )
        browse.setMaximumWidth(30)
        self.add(
            "model",
            row(self.checkpoint, browse),
            "A trained model: the bundled demo, a checkpoint folder, or the folder of a training "
            "run. Drop a folder here, or type its path.",
        )
        self.about = Message()
        self.rows.addRow(self.about)
        self.class_choice = QComboBox()
        self.class_choice.currentTextChanged.connect(self._take_class)
        self.add("class", self.class_choice, "What to make: this model was trained on several")
        self.size_choice = SizeChoice()
        self.size_choice.currentIndexChanged.connect(self._say)
        self.add(
            "size",
            self.size_choice,
            "Voxels along each edge: this model works at several resolutions, and is much quicker "
            "at the lower ones. Times are about what this machine takes for a volume",
        )
        self.network: NetworkConfig | None = None
        self._sizes: dict[int, str] = {}
        self._paces: dict[int, float] = {}
        self._seconds: dict[int, float] = {}

    def show_paces(self, paces: Mapping[int, float], config: SamplingConfig) -> None:
        """Say how long a volume of each edge will take, as far as it is known.

        Where nobody has chosen a size, the best that takes about ten seconds by default is taken.

        Parameters
        ----------
        paces : seconds of one evaluation by edge
        config : of the volumes to come
        """
        seconds = {edge: pace * config.steps for edge, pace in paces.items()}
        if self._sizes and (paces != self._paces or seconds != self._seconds):
            self._paces, self._seconds = dict(paces), seconds
            self._offer()

    def _describe(self, name: str) -> None:
        why = ""
        self._sizes, self._paces, self._seconds = {}, {}, {}
        try:
            self.about.setToolTip(described(name))
            self._offer_classes(name)
            self._sizes = resolutions(name, self.label)
            self.network = network_of(name)
        except PrditError as error:
            self.about.setToolTip("")
            why = str(error)
        self._offer()
        self.rows.setRowVisible(self.class_choice, self.class_choice.count() > 0)
        self.rows.setRowVisible(self.size_choice, self.size_choice.count() > 0)
        self.refused.emit(why)

    @property
    def label(self) -> str | None:
        """The class; None where there is nothing to choose."""
        return self.class_choice.currentText() or None

    def _offer_classes(self, name: str) -> None:
        """Those of a checkpoint; the one that was chosen last stays so if it is among them."""
        names, before = classes(name), self.label
        with signals_blocked(self.class_choice):
            self.class_choice.clear()
            self.class_choice.addItems(names)
            if before in names:
                self.class_choice.setCurrentText(before)

    def _take_class(self) -> None:
        self._describe(self.checkpoint.text)

    def _offer(self) -> None:
        labels = {
            edge: f"{words}, {_about(self._seconds[edge])}" if edge in self._seconds else words
            for edge, words in self._sizes.items()
        }
        usual = {edge: pace * SamplingConfig().steps for edge, pace in self._paces.items()}
        default = affordable(usual, list(labels)) if labels else None
        self.size_choice.offer(labels, default)
        self._say()

    def _say(self) -> None:
        """What it makes, in words."""
        text = ""
        if self._sizes:
            name, edge = self.checkpoint.text, self.size_choice.edge
            text = f"<b>{makes(name, edge, self.label)}</b>"
            only = next(iter(self._seconds), None) if edge is None else None
            text += f", {_about(self._seconds[only])}" if only is not None else ""
            text += f"<br>{CATALOGUE[name].description}" if name in CATALOGUE else ""
        self.about.setText(text)
        self.changed.emit()


def _about(seconds: float) -> str:
    return f"about {duration(max(seconds, 1.0))}"

"""What a volume depends on: the model, and how it walks from noise to a volume."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, get_args

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QDoubleSpinBox, QLabel

from napari_prdit.generation import Request
from napari_prdit.known_checkpoints import described, known, makes, resolutions
from napari_prdit.paces import affordable
from napari_prdit.preferences import preferences, remember_advanced
from napari_prdit.widgets.fold import Fold
from napari_prdit.widgets.parts import Form, PathDrop, button, choice, number, row
from napari_prdit.widgets.size_choice import SizeChoice
from prdit_core.checkpoints.catalog import CATALOGUE
from prdit_core.config import GridName, SamplerName, SamplingConfig
from prdit_core.errors import PrditError
from prdit_core.presets import SAMPLING_PRESETS, presets_text, sampling_preset
from prdit_core.runs.status import duration

if TYPE_CHECKING:
    from collections.abc import Mapping

LARGEST_SEED = 2**31 - 1  # of Qt's spin boxes; the command takes larger ones
OWN, EVERY_STEP = "own", "every step"


class ModelForm(Form):
    """Which checkpoint, what it makes, and at which of its resolutions.

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
        self.about = QLabel()
        self.about.setWordWrap(True)
        self.rows.addRow(self.about)
        self.size_choice = SizeChoice()
        self.size_choice.currentIndexChanged.connect(self._say)
        self.add(
            "size",
            self.size_choice,
            "Voxels along each edge: this model works at several resolutions, and is much quicker "
            "at the lower ones. Times are about what this machine takes for a volume",
        )
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
            self._sizes = resolutions(name)
        except PrditError as error:
            self.about.setToolTip("")
            why = str(error)
        self._offer()
        self.rows.setRowVisible(self.size_choice, self.size_choice.count() > 0)
        self.refused.emit(why)

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
            text = f"<b>{makes(name, edge)}</b>"
            only = next(iter(self._seconds), None) if edge is None else None
            text += f", {_about(self._seconds[only])}" if only is not None else ""
            text += f"<br>{CATALOGUE[name].description}" if name in CATALOGUE else ""
        self.about.setText(text)
        self.changed.emit()


class WalkForm(Form):
    """Quality, seed and number of volumes; steps, sampler, k, grid, reuse, device under Advanced.

    Signals
    -------
    changed : a setting was changed
    """

    changed = Signal()

    def __init__(self) -> None:
        super().__init__("Volume")
        self.preset = choice([*SAMPLING_PRESETS, OWN])
        self.preset.textActivated.connect(self.take_preset)
        self.steps = number(1, 100_000, 1)
        self.sampler = choice(get_args(SamplerName))
        self.k = QDoubleSpinBox()
        self.k.setRange(1.0, 10.0)
        self.k.setSingleStep(0.5)
        self.grid = choice(get_args(GridName))
        self.refresh = QDoubleSpinBox()
        self.refresh.setRange(0.0, 10.0)
        self.refresh.setSingleStep(0.05)
        self.refresh.setSpecialValueText(EVERY_STEP)
        self.seed = number(0, LARGEST_SEED, 0)
        self.count = number(1, 1000, 1)
        self.device = choice(["auto", "cpu", "cuda", "mps"])
        self.device.setCurrentText(preferences().device)
        self._lay_out()
        for changed in (self.steps.valueChanged, self.k.valueChanged, self.refresh.valueChanged):
            changed.connect(lambda _value: self._name_preset())
        for chosen in (self.sampler.currentTextChanged, self.grid.currentTextChanged):
            chosen.connect(lambda _text: self._name_preset())
        for other in (self.seed.valueChanged, self.count.valueChanged):
            other.connect(lambda _value: self.changed.emit())
        self.device.currentTextChanged.connect(lambda _text: self.changed.emit())
        self.take_preset("balanced")

    def request(self, checkpoint: str, size: int | None) -> Request:
        """What the controls say, for this model at this size."""
        return Request(
            checkpoint=checkpoint,
            size=size,
            seed=self.seed.value(),
            count=self.count.value(),
            config=self.config(),
            device=self.device.currentText(),
        )

    def config(self) -> SamplingConfig:
        """The way from noise to a volume."""
        return SamplingConfig(
            steps=self.steps.value(),
            sampler=self.sampler.currentText(),
            k=self.k.value(),
            grid=self.grid.currentText(),
            refresh_change=self.refresh.value() or None,
        )

    def take_preset(self, name: str) -> None:
        """Set what the preset says."""
        if name == OWN:
            return
        config = sampling_preset(name)
        self.steps.setValue(config.steps)
        self.sampler.setCurrentText(config.sampler)
        self.k.setValue(config.k)
        self.grid.setCurrentText(config.grid)
        self.refresh.setValue(config.refresh_change or 0.0)
        self.preset.setCurrentText(name)

    def roll(self) -> None:
        """Another seed by chance."""
        self.seed.setValue(random.SystemRandom().randint(0, LARGEST_SEED))

    def _name_preset(self) -> None:
        """Name the preset that the controls make up, if any."""
        now = self.config()
        names = [name for name, preset in SAMPLING_PRESETS.items() if preset.config == now]
        self.preset.setCurrentText(names[0] if names else OWN)
        self.changed.emit()

    def _lay_out(self) -> None:
        self.add("quality", self.preset, presets_text())
        dice = button("Dice", "Another seed by chance", self.roll)
        self.add("seed", row(self.seed, dice), "Same seed and settings: the same volume")
        self.add("volumes", self.count, "How many; more than one gives a contact sheet")
        self.advanced = Fold(
            "Advanced", "How it walks from noise to a volume, and where", self._way()
        )
        if preferences().show_advanced:
            self.advanced.open()
        self.advanced.toggled.connect(remember_advanced)
        self.rows.addRow(self.advanced)

    def _way(self) -> Form:
        way = Form("From noise to a volume")
        way.add("steps", self.steps, "More steps take longer and give finer volumes")
        way.add("sampler", self.sampler, "How each step moves; euler is Algorithm 1 of the paper")
        way.add(
            "k",
            self.k,
            "1: no noise is added on the way. 2 to 3: every step goes further and adds some noise "
            "back, which gives more natural texture",
        )
        way.add("grid", self.grid, "Times visited; release replays the official sampler")
        way.add(
            "refresh",
            self.refresh,
            "Evaluate the global residual only when the local part's image has changed by this "
            "share since, and hold it in between: 0.1 to 0.2 saves half of the time or more",
        )
        way.add("device", self.device, "Where to compute; auto takes a GPU if there is one")
        return way


def _about(seconds: float) -> str:
    return f"about {duration(max(seconds, 1.0))}"

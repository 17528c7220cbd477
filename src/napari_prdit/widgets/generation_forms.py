"""What a volume depends on: the model, and how it walks from noise to a volume."""

from __future__ import annotations

import random
from typing import get_args

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QDoubleSpinBox, QLabel

from napari_prdit.generation import Request
from napari_prdit.known_checkpoints import described, known, resolutions
from napari_prdit.preferences import preferences
from napari_prdit.widgets.parts import Form, PathDrop, button, choice, number, row
from napari_prdit.widgets.size_choice import SizeChoice
from prdit_core.config import GridName, SamplerName, SamplingConfig
from prdit_core.errors import PrditError
from prdit_core.presets import PRESETS, presets_text, sampling_preset

LARGEST_SEED = 2**31 - 1  # of Qt's spin boxes; the command takes larger ones
OWN, EVERY_STEP = "own", "every step"


class ModelForm(Form):
    """Which checkpoint, what it is, and at which of its resolutions.

    Signals
    -------
    refused : why the chosen one cannot be used; empty if it can
    """

    refused = Signal(str)

    def __init__(self) -> None:
        super().__init__("Model")
        folders = (preferences().checkpoint_folder, preferences().runs_folder)
        self.checkpoint = PathDrop(known(folders))
        self.checkpoint.changed.connect(self._describe)
        self.add(
            "checkpoint",
            self.checkpoint,
            "A trained model: the bundled demo, a checkpoint folder, or the folder of a training "
            "run. Drop a folder here, or type its path.",
        )
        browse = button(
            "Browse ...",
            "Choose a checkpoint or run folder",
            lambda: self.checkpoint.browse("Checkpoint or run folder"),
        )
        self.rows.addRow("", browse)
        self.about = QLabel()
        self.about.setWordWrap(True)
        self.about.setToolTip("What this model makes, and from what it learnt")
        self.rows.addRow(self.about)
        self.size_choice = SizeChoice()
        self.add(
            "size",
            self.size_choice,
            "Voxels along each edge: this model works at several resolutions, and is much quicker "
            "at the lower ones",
        )

    def _describe(self, name: str) -> None:
        about, why, sizes = "", "", {}
        try:
            about, sizes = described(name), resolutions(name)
        except PrditError as error:
            why = str(error)
        self.about.setText(about)
        self.size_choice.offer(sizes)
        self.rows.setRowVisible(self.size_choice, self.size_choice.count() > 0)
        self.refused.emit(why)


class WalkForm(Form):
    """Steps, sampler, k, grid, reuse, seed, number of volumes, device."""

    def __init__(self) -> None:
        super().__init__("From noise to a volume")
        self.preset = choice([*PRESETS, OWN])
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
        for changed in (self.steps.valueChanged, self.k.valueChanged, self.refresh.valueChanged):
            changed.connect(lambda _value: self._name_preset())
        for chosen in (self.sampler.currentTextChanged, self.grid.currentTextChanged):
            chosen.connect(lambda _text: self._name_preset())
        self.seed = number(0, LARGEST_SEED, 0)
        self.count = number(1, 1000, 1)
        self.device = choice(["auto", "cpu", "cuda", "mps"])
        self.device.setCurrentText(preferences().device)
        self._lay_out()
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
        names = [name for name, preset in PRESETS.items() if preset.config == now]
        self.preset.setCurrentText(names[0] if names else OWN)

    def _lay_out(self) -> None:
        self.add("preset", self.preset, presets_text())
        self.add("steps", self.steps, "More steps take longer and give finer volumes")
        self.add("sampler", self.sampler, "How each step moves; euler is Algorithm 1 of the paper")
        self.add(
            "k",
            self.k,
            "1: no noise is added on the way. 2 to 3: every step goes further and adds some noise "
            "back, which gives more natural texture",
        )
        self.add("grid", self.grid, "Times visited; release replays the official sampler")
        self.add(
            "refresh",
            self.refresh,
            "Evaluate the global residual only when the local part's image has changed by this "
            "share since, and hold it in between: 0.1 to 0.2 saves half of the time or more",
        )
        dice = button("Dice", "Another seed by chance", self.roll)
        self.add("seed", row(self.seed, dice), "Same seed and settings: the same volume")
        self.add("volumes", self.count, "How many; more than one gives a contact sheet")
        self.add("device", self.device, "Where to compute; auto takes a GPU if there is one")

"""How a model walks from noise to a volume, and which volumes it makes."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, get_args

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QDoubleSpinBox

from napari_prdit.preferences import preferences, remember_advanced
from napari_prdit.request import Request
from napari_prdit.widgets.fold import Fold
from napari_prdit.widgets.parts import LARGEST_SEED, Form, button, choice, number, row
from prdit_core.config import WITHOUT_K, GridName, SamplerName, SamplingConfig, words_of
from prdit_core.presets import SAMPLING_PRESETS, presets_text, sampling_preset

if TYPE_CHECKING:
    from prdit_core.config import NetworkConfig

OWN, EVERY_STEP = "own", "every step"


class WalkForm(Form):
    """Quality, seed and number of volumes; steps, sampler, k, grid, reuse, device under Advanced.

    Signals
    -------
    changed : a setting was changed
    """

    changed = Signal()

    def __init__(self) -> None:
        super().__init__("Volume")
        self._network: NetworkConfig | None = None
        self.preset = choice([*SAMPLING_PRESETS, OWN])
        self.preset.textActivated.connect(self.take_preset)
        self.steps = number(1, 100_000, 1)
        self.sampler = choice(get_args(SamplerName))
        self.sampler.currentTextChanged.connect(self._offer_k)
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

    def request(self, checkpoint: str, size: int | None, label: str | None = None) -> Request:
        """What the controls say, for this model at this size and this class."""
        return Request(
            checkpoint=checkpoint,
            size=size,
            seed=self.seed.value(),
            count=self.count.value(),
            config=self.config(),
            device=self.device.currentText(),
            network=self._network,
            label=label,
        )

    def config(self) -> SamplingConfig:
        """The way from noise to a volume."""
        return SamplingConfig(
            steps=self.steps.value(),
            sampler=self.sampler.currentText(),
            k=self.k.value() if self.k.isEnabled() else 1.0,
            grid=self.grid.currentText(),
            refresh_change=self.refresh.value() or None,
        )

    def take_preset(self, name: str) -> None:
        """Set what the preset says."""
        if name == OWN:
            return
        config = sampling_preset(name, self._network)
        self.steps.setValue(config.steps)
        self.sampler.setCurrentText(config.sampler)
        self.k.setValue(config.k)
        self.grid.setCurrentText(config.grid)
        self.refresh.setValue(config.refresh_change or 0.0)
        self.preset.setCurrentText(name)

    def take_network(self, network: NetworkConfig | None) -> None:
        """Mean by a preset what it is for this network; own settings stay."""
        if network != self._network:
            self._network = network
            self.take_preset(self.preset.currentText())
            self._name_preset()

    def roll(self) -> None:
        """Another seed by chance."""
        self.seed.setValue(random.SystemRandom().randint(0, LARGEST_SEED))

    def _name_preset(self) -> None:
        """Name the preset that the controls make up, if any."""
        now = self.config()
        names = [one for one in SAMPLING_PRESETS if sampling_preset(one, self._network) == now]
        self.preset.setCurrentText(names[0] if names else OWN)
        self.changed.emit()

    def _offer_k(self, sampler: str) -> None:
        self.k.setEnabled(sampler not in WITHOUT_K)

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
        way.add("steps", self.steps, words_of(SamplingConfig, "steps"))
        way.add("sampler", self.sampler, words_of(SamplingConfig, "sampler"))
        way.add("k", self.k, words_of(SamplingConfig, "k"))
        way.add("grid", self.grid, words_of(SamplingConfig, "grid"))
        way.add(
            "refresh",
            self.refresh,
            "Evaluate the global residual only when the local part's image has changed by this "
            "share since, and hold it in between: 0.1 to 0.2 saves half of the time or more",
        )
        way.add("device", self.device, "Where to compute; auto takes a GPU if there is one")
        return way

"""Going back in the last run: a slider over its steps, and other endings from any of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QSlider, QSpinBox, QWidget

from napari_prdit.widgets.parts import Form, button

if TYPE_CHECKING:
    from napari_prdit.replay import Recording


class TimeTravel(Form):
    """Disabled until there is a recording.

    Signals
    -------
    moved : step to show
    branched : step to go on from, and the other seed
    inspected : step whose local and global part are asked for
    """

    moved = Signal(int)
    branched = Signal(int, int)
    inspected = Signal(int)

    def __init__(self) -> None:
        super().__init__("Go back in time")
        self._steps: list[int] = []
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.valueChanged.connect(self._move)
        self.add(
            "step", self.slider, "What the model thought the finished volume would be, step by step"
        )
        self.where = QLabel("no run yet")
        self.rows.addRow(self.where)
        self.seed = QSpinBox()
        self.seed.setRange(0, 2**31 - 1)
        self.seed.setValue(1)
        row = QWidget()
        line = QHBoxLayout(row)
        line.setContentsMargins(0, 0, 0, 0)
        line.addWidget(self.seed, 1)
        line.addWidget(
            button(
                "New ending from here",
                "Add other noise to this step and go on: early steps leave the anatomy open, late "
                "ones only texture",
                lambda: self.branched.emit(self.step, self.seed.value()),
            )
        )
        self.add("other seed", row, "Seed of the noise for a new ending")
        self.rows.addRow(
            button(
                "Local and global part of this step",
                "Show what the two parts of the network each contribute at this step",
                lambda: self.inspected.emit(self.step),
            )
        )
        self.setEnabled(False)

    @property
    def step(self) -> int:
        """The recorded step at the slider."""
        return self._steps[self.slider.value()] if self._steps else 0

    def show_recording(self, recording: Recording) -> None:
        """Offer the steps that are kept; the slider stands at the last."""
        self._steps = recording.indices
        self._used = f"{recording.size / 2**20:.1f} of {recording.budget / 2**20:.0f} MB"
        self.setEnabled(bool(self._steps))
        self.slider.blockSignals(True)
        self.slider.setRange(0, max(len(self._steps) - 1, 0))
        self.slider.setValue(len(self._steps) - 1)
        self.slider.blockSignals(False)
        self._say()

    def _move(self) -> None:
        self._say()
        self.moved.emit(self.step)

    def _say(self) -> None:
        if self._steps:
            kept = f"{len(self._steps)} steps kept in {self._used}"
            self.where.setText(f"step {self.step + 1}; {kept}")

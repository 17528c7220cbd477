"""Going back in the last run: a slider over its steps, and other endings from any of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QSlider, QSpinBox, QWidget
from superqt.utils import QSignalThrottler, signals_blocked

from napari_prdit.widgets.parts import Form, button

if TYPE_CHECKING:
    from napari_prdit.replay import Recording

TIP = "What the model thought the finished volume would be, step by step"
THROTTLE_MS = 40


class TimeTravel(Form):
    """Disabled while there is nothing to go back to.

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
        # Showing a step takes longer than the slider does from one to the next.
        self._throttle = QSignalThrottler(
            parent=self, policy=QSignalThrottler.EmissionPolicy.Leading
        )
        self._throttle.setTimeout(THROTTLE_MS)
        self._throttle.triggered.connect(lambda: self.moved.emit(self.step))
        self.slider.valueChanged.connect(self._move)
        self.add("step", self.slider, TIP)
        self.where = QLabel()
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
        self.inspect = button(
            "Local and global part of this step",
            "Show what the two parts of the network each contribute at this step",
            lambda: self.inspected.emit(self.step),
        )
        self.rows.addRow(self.inspect)
        self.show_recording(None, "")

    @property
    def step(self) -> int:
        """The recorded step at the slider."""
        return self._steps[self.slider.value()] if self._steps else 0

    def show_recording(self, recording: Recording | None, which: str) -> None:
        """Offer the steps that are kept; the slider stands at the last.

        Parameters
        ----------
        recording : None while there is nothing to go back to
        which : volume of a series that was recorded; empty if there is one only
        """
        self._steps = [] if recording is None else recording.indices
        self._of = f" of {which}" if which else ""
        if recording is not None:
            megabytes = recording.size / 2**20, recording.budget / 2**20
            self.slider.setToolTip(
                f"{TIP}. {len(self._steps)} steps are kept in {megabytes[0]:.1f} of "
                f"{megabytes[1]:.0f} MB"
            )
        self.setEnabled(len(self._steps) > 1)
        with signals_blocked(self.slider):
            self.slider.setRange(0, max(len(self._steps) - 1, 0))
            self.slider.setValue(len(self._steps) - 1)
        self._say()

    def back(self) -> None:
        """One step back, if there is any."""
        if self.isEnabled():
            self.slider.setValue(self.slider.value() - 1)

    def forward(self) -> None:
        """One step forward, if there is any."""
        if self.isEnabled():
            self.slider.setValue(self.slider.value() + 1)

    def _move(self) -> None:
        self._say()
        self._throttle.throttle()

    def _say(self) -> None:
        if not self._steps:
            self.where.setText("nothing to go back to yet")
            return
        last = self._steps[-1]
        what = "what came out" if self.step == last else "what the model expected then"
        self.where.setText(f"step {self.step + 1} of {last + 1}{self._of}: {what}")

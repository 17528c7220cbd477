"""Losses of a run as curves that grow."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, Qt
from qtpy.QtGui import QPalette
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_prdit.run_tail import LOSSES
from napari_prdit.widgets.plain_plot import THEME_CHANGES, PlainPlot

if TYPE_CHECKING:
    from napari_prdit.run_tail import LossHistory

# Between the blue and orange of Okabe and Ito and what shows on both dark and light; the total is
# in the colour of text.
COLOURS = {"x0": "#2f8fd8", "eps": "#e0701a"}
WORDS = {"total": "sum", "x0": "image", "eps": "noise"}
HEIGHT = 200
DECADES = range(-8, 6)
TOOLTIP = (
    "How wrong the model is, on a logarithmic scale: lower is better.\n"
    "image: error of the predicted clean image (x0); noise: of the predicted noise.\n"
    "Lines: scans it trains on, averaged over neighbouring iterations.\n"
    "Circles: scans it never trains on, with averaged weights. If they rise while the lines fall, "
    "it learns by heart."
)


class LossCurves(QWidget):
    """Training as lines, validation as circles, by iteration; the loss is on a log scale."""

    def __init__(self) -> None:
        super().__init__()
        self.setToolTip(TOOLTIP)
        self._legend = QLabel()
        self._plot = PlainPlot(HEIGHT)
        self._plot.setLogMode(x=False, y=True)
        self._plot.showGrid(x=True, y=True, alpha=0.15)
        self._plot.getAxis("left").setTicks([_ticks()])
        self._plot.setLabel("bottom", "iteration")
        self.lines = {name: self._plot.plot() for name in LOSSES}
        self.circles = {name: self._plot.plot(pen=None, symbol="o") for name in LOSSES}
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self._legend)
        column.addWidget(self._plot)
        self._paint()

    def draw(self, train: LossHistory, validation: LossHistory) -> None:
        """Show both; nothing while there is nothing."""
        self.setVisible(len(train) > 0)
        for name in LOSSES:
            self.lines[name].setData(*train.smooth_curve(name))
            self.circles[name].setData(*validation.curve(name))

    def changeEvent(self, event: QEvent | None) -> None:
        """Follow the theme."""
        super().changeEvent(event)
        if event is not None and event.type() in THEME_CHANGES and hasattr(self, "circles"):
            self._paint()

    def _paint(self) -> None:
        text = self._legend.palette().color(QPalette.ColorRole.WindowText).name()
        colours = {"total": text, **COLOURS}
        for name, colour in colours.items():
            self.lines[name].setPen(colour, width=2)
            self.circles[name].setSymbolPen(colour)
            self.circles[name].setSymbolBrush(None)
            self.circles[name].setSymbolSize(8)
        for side in ("left", "bottom"):
            axis = self._plot.getAxis(side)
            axis.setPen(text)
            axis.setTextPen(text)
        words = [f"<span style='color:{c}'>&#9644; {WORDS[n]}</span>" for n, c in colours.items()]
        self._legend.setTextFormat(Qt.TextFormat.RichText)
        self._legend.setText("loss: " + " &nbsp; ".join([*words, "&#9675; held-out scans"]))


def _ticks() -> list[tuple[float, str]]:
    """Places and names on the log scale; those of pyqtgraph lie on top of each other."""
    values = [float(f"{step}e{decade}") for decade in DECADES for step in (1, 2, 5)]
    return [(math.log10(value), f"{value:g}") for value in values]

"""How the misfit of the data falls while a model walks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtGui import QPalette
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_prdit.reconstruction import share_in_words
from napari_prdit.widgets.plain_plot import THEME_CHANGES, PlainPlot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qtpy.QtCore import QEvent

HEIGHT = 90
NEWEST, EARLIER = "#e0701a", "#2f8fd8"
TOOLTIP = (
    "|A x - y| / |y|: which share of the data the volume does not explain, step by step, on a "
    "logarithmic scale. Orange: the sample at hand, blue: those before.\n"
    "A small misfit is no sign of truth: what the scanner cannot see does not enter it."
)


class MisfitPlot(QWidget):
    """A curve for each sample; hidden while there is none."""

    def __init__(self) -> None:
        super().__init__()
        self.setToolTip(TOOLTIP)
        self.caption = QLabel()
        self._plot = PlainPlot(HEIGHT)
        self._plot.setLogMode(x=False, y=True)
        self._plot.showGrid(x=False, y=True, alpha=0.15)
        self._plot.getAxis("bottom").setHeight(22)
        self._plot.getAxis("left").setStyle(showValues=False)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.caption)
        column.addWidget(self._plot)
        self._paint()
        self.hide()

    def draw(self, curves: Sequence[Sequence[float]]) -> None:
        """Show curves of shares, which may grow meanwhile; nothing while there are none."""
        shown = [list(curve) for curve in curves if len(curve)]
        self.setVisible(bool(shown))
        self._plot.clear()
        for number, curve in enumerate(shown, start=1):
            newest = number == len(shown)
            pen = NEWEST if newest else EARLIER
            steps = range(1, len(curve) + 1)
            self._plot.plot(steps, curve, pen={"color": pen, "width": 2 if newest else 1})
        if shown:
            first, last = shown[-1][0], shown[-1][-1]
            self.caption.setText(
                f"misfit of the data: {share_in_words(last)}, from {share_in_words(first)}"
            )

    def changeEvent(self, event: QEvent | None) -> None:
        """Follow the theme."""
        super().changeEvent(event)
        if event is not None and event.type() in THEME_CHANGES and hasattr(self, "_plot"):
            self._paint()

    def _paint(self) -> None:
        text = self.caption.palette().color(QPalette.ColorRole.WindowText).name()
        for side in ("left", "bottom"):
            axis = self._plot.getAxis(side)
            axis.setPen(text)
            axis.setTextPen(text)

"""Bars and curves that say which part contributes what."""

from __future__ import annotations

from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import pyqtgraph
from qtpy.QtCore import QEvent, Qt
from qtpy.QtGui import QColor, QPalette
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_prdit.inspector import sizes_in_words
from napari_prdit.widgets.plain_plot import THEME_CHANGES, PlainPlot

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from prdit_core.verbs.shares import EnergyShares, PartEnergies

# Blue and orange as in the curves of training; what is both is in the colour of text.
LOCAL, GLOBAL = "#2f8fd8", "#e0701a"
COARSE, FINE = "#8a63d2", "#2fae6b"
HEIGHT = 160
BAR, DIAMOND = "\N{BLACK RECTANGLE}", "\N{BLACK DIAMOND}"
ALONE, BOTH = f"{BAR} local alone", f"{BAR} both"
SIZES, LEVELS = "size of detail in mm", "noise level"
ENERGY_TOOLTIP = (
    "For details of each size, from coarse anatomy to fine texture: the energy (variance) of the\n"
    "local part and of the global residual, together 100 %. The diamond is the energy of their\n"
    "sum: above 100 % both say the same, below 100 % the global part takes back what the local\n"
    "part said."
)
ENERGY_LEVEL_TOOLTIP = (
    "How much of the energy (variance) of both parts is the global residual's, for details of\n"
    "each size in mm and for all together. With more noise a block knows less on its own."
)
ERROR_TOOLTIP = (
    "How far the prediction is from the truth (root of the mean square): the local part\n"
    "alone, and both parts added. The difference is what the global part is good for."
)


class SharesPlot(QWidget):
    """Energies above, errors below, by size of detail or by noise level."""

    def __init__(self) -> None:
        super().__init__()
        self.energy, self.error = Panel(), Panel()
        self._draw: Callable[[], None] = self._nothing
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        for panel in (self.energy, self.error):
            column.addWidget(panel)
        self.clear()

    def clear(self) -> None:
        """Show nothing."""
        self._keep(self._nothing)

    def draw_bands(self, shares: EnergyShares, quantity: str) -> None:
        """One noise level, by size of detail; `quantity` is x0 or eps."""
        self._keep(partial(self._bands, getattr(shares, quantity), shares.limits_mm))

    def draw_levels(self, levels: Sequence[EnergyShares], quantity: str) -> None:
        """By noise level, a curve for each size of detail."""
        energies = [getattr(shares, quantity) for shares in levels]
        limits_mm = levels[0].limits_mm
        self._keep(partial(self._levels, [shares.t for shares in levels], energies, limits_mm))

    def changeEvent(self, event: QEvent | None) -> None:
        """Follow the theme."""
        super().changeEvent(event)
        if event is not None and event.type() in THEME_CHANGES and hasattr(self, "_draw"):
            self._draw()

    def _keep(self, draw: Callable[[], None]) -> None:
        self._draw = draw
        draw()

    def _nothing(self) -> None:
        self.energy.setVisible(False)
        self.error.setVisible(False)

    def _bands(self, energies: PartEnergies, limits_mm: Sequence[float]) -> None:
        words, text = sizes_in_words(limits_mm), self.energy.text_colour
        share = 100 * energies.residual_share
        legend = {LOCAL: f"{BAR} local", GLOBAL: f"{BAR} global", text: f"{DIAMOND} sum"}
        self.energy.begin("Energy, %", legend, SIZES)
        self.energy.setToolTip(ENERGY_TOOLTIP)
        self.energy.bars(100 - share, LOCAL, width=0.6)
        self.energy.bars(share, GLOBAL, width=0.6, base=100 - share)
        self.energy.diamonds(100 * energies.agreement)
        self.energy.name(words)
        known = energies.error_local is not None and energies.error_total is not None
        if known:
            self.error.begin("Distance to truth, HU", {LOCAL: ALONE, text: BOTH}, SIZES)
            self.error.setToolTip(ERROR_TOOLTIP)
            self.error.bars(_root(energies.error_local), LOCAL, width=0.35, shift=-0.18)
            self.error.bars(_root(energies.error_total), text, width=0.35, shift=0.18)
            self.error.name(words)
        self.error.setVisible(known)

    def _levels(
        self, ts: Sequence[float], energies: Sequence[PartEnergies], limits_mm: Sequence[float]
    ) -> None:
        words, text = sizes_in_words(limits_mm), self.energy.text_colour
        colours = _ramp(len(words))
        named = [f"{BAR} {word}" for word in (*words, "all")]
        legend = dict(zip([*colours, text], named, strict=True))
        self.energy.begin("Energy of global part, %", legend, LEVELS)
        self.energy.setToolTip(ENERGY_LEVEL_TOOLTIP)
        shares = 100 * np.array([part.residual_share for part in energies])
        for colour, share in zip(colours, shares.T, strict=True):
            self.energy.curve(ts, share, colour)
        whole = [part.summed() for part in energies]
        self.energy.curve(ts, [100 * part.residual_share[0] for part in whole], text)
        self.error.begin("Distance to truth, HU", {LOCAL: ALONE, text: BOTH}, LEVELS)
        self.error.setToolTip(ERROR_TOOLTIP)
        self.error.curve(ts, [_root(part.error_local)[0] for part in whole], LOCAL)
        self.error.curve(ts, [_root(part.error_total)[0] for part in whole], text)
        self.error.setVisible(True)


class Panel(QWidget):
    """One plot with a title that is its legend too."""

    def __init__(self) -> None:
        super().__init__()
        self._legend = QLabel()
        self._legend.setWordWrap(True)
        self._legend.setTextFormat(Qt.TextFormat.RichText)
        self._across = QLabel()
        self._across.setAlignment(Qt.AlignmentFlag.AlignHCenter)
        self.plot = PlainPlot(HEIGHT)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addWidget(self._legend)
        column.addWidget(self.plot)
        column.addWidget(self._across)

    @property
    def text_colour(self) -> str:
        """That of the theme."""
        return self._legend.palette().color(QPalette.ColorRole.WindowText).name()

    def begin(self, title: str, legend: Mapping[str, str], across: str) -> None:
        """Empty the plot; `legend` has a word for each colour."""
        words = [
            f"<span style='color:{colour}'>{escape(word)}</span>" for colour, word in legend.items()
        ]
        self._legend.setText(f"<b>{title}</b> &nbsp; " + " &nbsp;".join(words))
        self.plot.clear()
        self._across.setText(across)
        self.plot.getAxis("bottom").setTicks(None)
        for side in ("left", "bottom"):
            axis = self.plot.getAxis(side)
            axis.setPen(self.text_colour)
            axis.setTextPen(self.text_colour)
            axis.setStyle(tickLength=0, maxTickLevel=0)
        self.plot.showGrid(x=False, y=True, alpha=0.15)
        self.plot.setLimits(yMin=0)
        self.setVisible(True)

    def bars(
        self, heights: Any, colour: str, *, width: float, base: Any = 0.0, shift: float = 0.0
    ) -> None:
        """A bar for each band, from `base` upwards."""
        places = np.arange(len(heights)) + shift
        self.plot.addItem(
            pyqtgraph.BarGraphItem(
                x=places, y0=base, height=heights, width=width, brush=colour, pen=None
            )
        )

    def diamonds(self, heights: Any) -> None:
        """A mark for each band."""
        self.plot.plot(
            np.arange(len(heights)), heights, pen=None, symbol="d", symbolBrush=self.text_colour
        )

    def curve(self, ts: Sequence[float], values: Any, colour: str) -> None:
        """A line with its points."""
        pen = pyqtgraph.mkPen(colour, width=2)
        self.plot.plot(ts, values, pen=pen, symbol="o", symbolSize=5, symbolBrush=colour)

    def name(self, words: Sequence[str]) -> None:
        """Write below each band what it is."""
        self.plot.getAxis("bottom").setTicks([list(enumerate(words))])


def _root(mean_square: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """Errors in HU; callers have made sure that they are known."""
    assert mean_square is not None
    root: NDArray[np.float64] = np.sqrt(mean_square)
    return root


def _ramp(count: int) -> list[str]:
    """Colours from coarse to fine."""
    first, last = QColor(COARSE).getRgb(), QColor(FINE).getRgb()
    mixed = np.linspace(first, last, count)
    return [QColor(*(round(float(c)) for c in colour)).name() for colour in mixed]

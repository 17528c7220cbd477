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
from napari_prdit.widgets.parts import Message
from napari_prdit.widgets.plain_plot import THEME_CHANGES, PlainPlot

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from prdit_core.verbs.shares import EnergyShares, PartEnergies

    # Colour, words and mean square in HU²
    Error = tuple[str, str, NDArray[np.float64]]

# Blue and orange as in the curves of training; what is all together is in the colour of text.
LOCAL, GLOBAL, REFINER = "#2f8fd8", "#e0701a", "#c74fa5"
COARSE, FINE = "#8a63d2", "#2fae6b"
HEIGHT = 160
BAR, DIAMOND = "\N{BLACK RECTANGLE}", "\N{BLACK DIAMOND}"
ALONE, BASE, BOTH, ALL = (
    f"{BAR} {words}" for words in ("local alone", "local + global", "both", "all")
)
SIZES, LEVELS = "size of detail in mm", "noise level"
ENERGY_TOOLTIP = (
    "For details of each size, from coarse anatomy to fine texture: the energy (variance) of each\n"
    "part, together 100 %. The diamond is the energy of their sum: above 100 % the parts say the\n"
    "same, below 100 % one takes back what another said."
)
ENERGY_LEVEL_TOOLTIP = (
    "How much of the energy (variance) of all parts is the global residual's, for details of\n"
    "each size in mm and for all together. With more noise a block knows less on its own."
)
REFINER_LEVEL_TOOLTIP = (
    "The same of the refiner, which adds the details that half the resolution cannot show."
)
ERROR_TOOLTIP = (
    "How far the prediction is from the truth (root of the mean square): the local part alone,\n"
    "and with the other parts added. Each difference is what that part is good for."
)


class SharesPlot(QWidget):
    """Energies above, errors below, by size of detail or by noise level."""

    def __init__(self) -> None:
        super().__init__()
        self.energy, self.refiner, self.error = TitledPlot(), TitledPlot(), TitledPlot()
        self._draw: Callable[[], None] = self._nothing
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        for panel in self._panels:
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

    @property
    def _panels(self) -> tuple[TitledPlot, ...]:
        return self.energy, self.refiner, self.error

    def _nothing(self) -> None:
        for panel in self._panels:
            panel.hide()

    def _bands(self, energies: PartEnergies, limits_mm: Sequence[float]) -> None:
        self._nothing()
        words, text = sizes_in_words(limits_mm), self.energy.text_colour
        parts = _shares(energies)
        legend = {colour: f"{BAR} {name}" for name, (colour, _) in parts.items()}
        self.energy.begin("Energy, %", legend | {text: f"{DIAMOND} sum"}, SIZES)
        self.energy.setToolTip(ENERGY_TOOLTIP)
        below = np.zeros(len(words))
        for colour, share in parts.values():
            self.energy.bars(100 * share, colour, width=0.6, base=100 * below)
            below = below + share
        self.energy.diamonds(100 * energies.agreement)
        self.energy.name(words)
        errors = _errors(energies, text)
        if errors:
            self._begin_errors(errors, SIZES)
            width = 0.7 / len(errors)
            for place, (colour, _, error) in enumerate(errors):
                shift = (place - (len(errors) - 1) / 2) * (width + 0.01)
                self.error.bars(np.sqrt(error), colour, width=width, shift=shift)
            self.error.name(words)

    def _levels(
        self, ts: Sequence[float], energies: Sequence[PartEnergies], limits_mm: Sequence[float]
    ) -> None:
        self._nothing()
        words, text = sizes_in_words(limits_mm), self.energy.text_colour
        colours = [*_ramp(len(words)), text]
        named = [f"{BAR} {word}" for word in (*words, "all")]
        legend = dict(zip(colours, named, strict=True))
        whole = [part.summed() for part in energies]

        def curves(panel: TitledPlot, share: str) -> None:
            """For each size of detail, and for all."""
            bands, together = ([getattr(e, share) for e in group] for group in (energies, whole))
            for colour, values in zip(colours, np.hstack([bands, together]).T, strict=True):
                panel.curve(ts, 100 * values, colour)

        self.energy.begin("Energy of global part, %", legend, LEVELS)
        self.energy.setToolTip(ENERGY_LEVEL_TOOLTIP)
        curves(self.energy, "residual_share")
        if energies[0].refiner is not None:
            self.refiner.begin("Energy of refiner, %", legend, LEVELS)
            self.refiner.setToolTip(REFINER_LEVEL_TOOLTIP)
            curves(self.refiner, "refiner_share")
        errors = [_errors(part, text) for part in whole]
        self._begin_errors(errors[0], LEVELS)
        for same in zip(*errors, strict=True):
            self.error.curve(ts, [np.sqrt(error[0]) for _, _, error in same], same[0][0])

    def _begin_errors(self, errors: Sequence[Error], across: str) -> None:
        legend = {colour: word for colour, word, _ in errors}
        self.error.begin("Distance to truth, HU", legend, across)
        self.error.setToolTip(ERROR_TOOLTIP)


class TitledPlot(QWidget):
    """One plot with a title that is its legend too."""

    def __init__(self) -> None:
        super().__init__()
        self._legend = Message()
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
            f"<span style='color:{colour}'>{escape(word).replace(' ', '&nbsp;')}</span>"
            for colour, word in legend.items()
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


def _shares(energies: PartEnergies) -> dict[str, tuple[str, NDArray[np.float64]]]:
    """Colour and share of the energy of each part by its name."""
    residual, refiner = energies.residual_share, energies.refiner_share
    parts = {"local": (LOCAL, 1 - residual - refiner), "global": (GLOBAL, residual)}
    return parts if energies.refiner is None else parts | {"refiner": (REFINER, refiner)}


def _errors(energies: PartEnergies, text: str) -> list[Error]:
    """Of the local part alone and with what is added to it; none where the truth is not known."""
    if energies.error_local is None or energies.error_total is None:
        return []
    alone = (LOCAL, ALONE, energies.error_local)
    if energies.error_base is None:
        return [alone, (text, BOTH, energies.error_total)]
    return [alone, (GLOBAL, BASE, energies.error_base), (text, ALL, energies.error_total)]


def _ramp(count: int) -> list[str]:
    """Colours from coarse to fine."""
    first, last = QColor(COARSE).getRgb(), QColor(FINE).getRgb()
    mixed = np.linspace(first, last, count)
    return [QColor(*(round(float(c)) for c in colour)).name() for colour in mixed]

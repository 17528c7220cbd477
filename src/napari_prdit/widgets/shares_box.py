"""Who contributes what, as a sentence and a plot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_prdit.inspector import summary
from napari_prdit.widgets.parts import Form, Message, choice
from napari_prdit.widgets.shares_plot import SharesPlot

if TYPE_CHECKING:
    from prdit_core.verbs.shares import EnergyShares

BY_SIZE, BY_LEVEL = "by size of detail", "by noise level"


class SharesBox(Form):
    """The result at hand by size of detail, or a series by noise level."""

    def __init__(self) -> None:
        super().__init__("Who contributes what")
        self._single: EnergyShares | None = None
        self._levels: list[EnergyShares] = []
        self._quantity = "x0"
        self.by = choice((BY_SIZE, BY_LEVEL))
        self.by.setToolTip("At this noise level for details of each size, or at all noise levels")
        self.by.currentTextChanged.connect(lambda _text: self._draw())
        self.summary = Message()
        self.plot = SharesPlot()
        for widget in (self.by, self.summary, self.plot):
            self.rows.addRow(widget)
        self._draw()

    def show_single(self, shares: EnergyShares) -> None:
        """Show one noise level."""
        self._single = shares
        self._turn_to(BY_SIZE)

    def begin_levels(self) -> None:
        """Forget an earlier series."""
        self._levels = []
        self._turn_to(BY_LEVEL)

    def add_level(self, shares: EnergyShares) -> int:
        """Show one noise level more; how many there are."""
        self._levels.append(shares)
        self._draw()
        return len(self._levels)

    def show_quantity(self, quantity: str) -> None:
        """Show x0 (clean scan) or eps (noise)."""
        self._quantity = quantity
        self._draw()

    def _turn_to(self, by: str) -> None:
        self.by.setCurrentText(by)
        self._draw()

    def _draw(self) -> None:
        by_level = self.by.currentText() == BY_LEVEL
        if by_level and self._levels:
            self.plot.draw_levels(self._levels, self._quantity)
            self.summary.setText("The same noise at every level, only more of it.")
        elif self._single is not None and not by_level:
            self.plot.draw_bands(self._single, self._quantity)
            self.summary.setText(summary(self._single, self._quantity))
        else:
            self.plot.clear()
            missing = "All noise levels" if by_level else "Split"
            self.summary.setText(f"Press {missing} to see this plot.")

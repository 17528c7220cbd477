"""Which resolution of a chain."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QComboBox

if TYPE_CHECKING:
    from collections.abc import Mapping


class SizeChoice(QComboBox):
    """The resolutions of a model, the highest first; empty where there is only one."""

    def __init__(self) -> None:
        super().__init__()
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(12)
        self._wished: int | None = None

    @property
    def edge(self) -> int | None:
        """Voxels along each edge; None where there is nothing to choose."""
        chosen: int | None = self.currentData()
        return chosen

    def offer(self, resolutions: Mapping[int, str]) -> None:
        """List these; the edge that was chosen last stays so if it is among them."""
        self._wished = self.edge or self._wished  # also over models that have one size only
        self.clear()
        if len(resolutions) > 1:
            for edge, words in resolutions.items():
                self.addItem(words, edge)
        self.choose(self._wished)

    def choose(self, edge: int | None) -> None:
        """Take this edge, or the highest if it is not there."""
        self.setCurrentIndex(max(self.findData(edge), 0))

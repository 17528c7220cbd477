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

    @property
    def edge(self) -> int | None:
        """Voxels along each edge; None where there is nothing to choose."""
        chosen: int | None = self.currentData()
        return chosen

    def offer(self, resolutions: Mapping[int, str]) -> None:
        """List these; the edge that was chosen stays so if it is among them."""
        before = self.edge
        self.clear()
        if len(resolutions) > 1:
            for edge, words in resolutions.items():
                self.addItem(words, edge)
        self.choose(before)

    def choose(self, edge: int | None) -> None:
        """Take this edge, or the highest if it is not there."""
        self.setCurrentIndex(max(self.findData(edge), 0))

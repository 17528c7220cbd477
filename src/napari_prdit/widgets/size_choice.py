"""Which resolution of a chain."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QComboBox
from superqt.utils import signals_blocked

if TYPE_CHECKING:
    from collections.abc import Mapping


class SizeChoice(QComboBox):
    """The resolutions of a model, the highest first; empty where there is only one."""

    def __init__(self) -> None:
        super().__init__()
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(12)
        self._wished: int | None = None
        self._default: int | None = None
        self.activated.connect(self._wish)

    @property
    def edge(self) -> int | None:
        """Voxels along each edge; None where there is nothing to choose."""
        chosen: int | None = self.currentData()
        return chosen

    def offer(self, resolutions: Mapping[int, str], default: int | None = None) -> None:
        """List these; the edge that was chosen last stays so if it is among them.

        Parameters
        ----------
        resolutions : what each edge means
        default : taken where nobody has chosen; None: the highest
        """
        self._default = default
        with signals_blocked(self):  # until there is a list again
            self.clear()
            if len(resolutions) > 1:
                for edge, words in resolutions.items():
                    self.addItem(words, edge)
            self._take(self._wished)

    def choose(self, edge: int | None) -> None:
        """Take this edge, or the default if it is not there."""
        self._wished = edge
        self._take(edge)

    def _wish(self) -> None:
        self._wished = self.edge

    def _take(self, edge: int | None) -> None:
        places = (self.findData(one) for one in (edge, self._default) if one is not None)
        self.setCurrentIndex(next((place for place in places if place >= 0), 0))

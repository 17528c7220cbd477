"""A plot that is only looked at, in the colours of the theme."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyqtgraph
from qtpy.QtCore import QEvent

if TYPE_CHECKING:
    from qtpy.QtWidgets import QWidget

THEME_CHANGES = (QEvent.Type.PaletteChange, QEvent.Type.StyleChange)


class PlainPlot(pyqtgraph.PlotWidget):  # type: ignore[misc]  # pyqtgraph is untyped
    """Without frame, menu, buttons and zoom, so that the wheel scrolls the dock."""

    def __init__(self, height: int, parent: QWidget | None = None) -> None:
        super().__init__(parent, background=None)
        self.setFixedHeight(height)
        self.setFrameStyle(0)
        self.setMouseEnabled(x=False, y=False)
        self.setMenuEnabled(False)
        self.hideButtons()

    def changeEvent(self, event: QEvent | None) -> None:
        """Forget the background of the theme before, which pyqtgraph keeps."""
        super().changeEvent(event)
        if event is not None and event.type() in THEME_CHANGES:
            self.resetCachedContent()
            self.viewport().update()

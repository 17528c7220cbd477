"""A dock with work of its own, which ends however the dock goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QMainWindow, QWidget

if TYPE_CHECKING:
    from qtpy.QtGui import QCloseEvent, QHideEvent


class WorkingDock(QWidget):
    """Calls `shut_down` when it is closed, let go, or goes with its window."""

    def shut_down(self) -> None:
        """End work and timers; it may be called more than once."""
        raise NotImplementedError

    def closeEvent(self, event: QCloseEvent | None) -> None:
        """Leave no thread behind."""
        self.shut_down()
        super().closeEvent(event)

    def hideEvent(self, event: QHideEvent | None) -> None:
        """With the window goes the work; docks get no event of their own for it."""
        super().hideEvent(event)
        if self._window_is_gone():
            self.shut_down()

    def changeEvent(self, event: QEvent | None) -> None:
        """The cross of a napari dock neither closes nor deletes what is in it, but lets it go."""
        super().changeEvent(event)
        if event is not None and event.type() == QEvent.Type.ParentChange and not self.parent():
            self.shut_down()

    def _window_is_gone(self) -> bool:
        above = self.parentWidget()
        while above is not None and not isinstance(above, QMainWindow):
            above = above.parentWidget()
        return above is not None and not above.isVisible()

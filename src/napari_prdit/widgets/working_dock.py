"""A dock with work of its own, which ends however the dock goes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING
from weakref import ref

from qtpy.QtCore import QEvent, QTimer
from qtpy.QtWidgets import QDockWidget, QMainWindow, QMessageBox, QWidget

if TYPE_CHECKING:
    from collections.abc import Callable

    from qtpy.QtGui import QCloseEvent, QHideEvent


class WorkingDock(QWidget):
    """Calls `shut_down` when it is closed, let go, or goes with its window; then it is freed."""

    def shut_down(self) -> None:
        """End work and timers without waiting; it may be called more than once."""
        raise NotImplementedError

    def lost(self) -> list[str]:
        """What would be lost if the dock was closed now, for the question before."""
        return []

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
        if event is None or event.type() != QEvent.Type.ParentChange:
            return
        place = self.parent()
        if place is None:
            self.shut_down()
            QTimer.singleShot(0, self._free)
        elif isinstance(place, QDockWidget) and hasattr(place, "destroyOnClose"):
            # What the cross calls: napari itself asks nobody.
            place.destroyOnClose = partial(_close, ref(self), place.destroyOnClose)

    def _free(self) -> None:
        """Connections to functions of its own keep a widget of Qt alive; deleting it ends them."""
        if self.parent() is None:
            self.deleteLater()

    def _window_is_gone(self) -> bool:
        above = self.parentWidget()
        while above is not None and not isinstance(above, QMainWindow):
            above = above.parentWidget()
        return above is not None and not above.isVisible()


def _close(which: ref[WorkingDock], close: Callable[[], None]) -> None:
    """Close a dock, unless something would be lost and the user wants it."""
    dock = which()
    lost = [] if dock is None else dock.lost()
    if dock is None or not lost:
        close()
        return
    question = QMessageBox(dock.window())
    question.setIcon(QMessageBox.Icon.Question)
    question.setWindowTitle("Close this dock?")
    question.setText("Closing this dock loses\n\n" + "\n".join(f"\N{BULLET} {one}" for one in lost))
    question.setInformativeText("A hidden dock keeps it all; the Plugins menu shows it again.")
    hide = question.addButton("Hide instead", QMessageBox.ButtonRole.AcceptRole)
    anyway = question.addButton("Close", QMessageBox.ButtonRole.DestructiveRole)
    question.addButton(QMessageBox.StandardButton.Cancel)
    question.setDefaultButton(hide)
    question.exec()
    if question.clickedButton() is anyway:
        close()
    elif question.clickedButton() is hide and (place := dock.parentWidget()) is not None:
        place.hide()

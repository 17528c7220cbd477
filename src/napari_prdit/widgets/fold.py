"""A section that opens with a click on its title."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QPushButton, QVBoxLayout, QWidget

OPEN, CLOSED = "\N{BLACK DOWN-POINTING TRIANGLE}", "\N{BLACK RIGHT-POINTING TRIANGLE}"


class Fold(QWidget):
    """A title, and below it what is hidden at first.

    superqt's QCollapsible makes its content flat instead, so that Tab goes to fields nobody sees.

    Signals
    -------
    toggled : whether it is open now
    """

    toggled = Signal(bool)

    def __init__(self, title: str, tooltip: str, content: QWidget) -> None:
        super().__init__()
        self._title, self._content = title, content
        self.title = QPushButton()
        self.title.setToolTip(tooltip)
        self.title.setCheckable(True)
        self.title.setStyleSheet("text-align: left; background: transparent; border: none")
        self.title.toggled.connect(self._show)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.title)
        column.addWidget(content)
        self._show(False)

    def open(self) -> None:
        """Show the content."""
        self.title.setChecked(True)

    def _show(self, wanted: bool) -> None:
        self.title.setText(f"{OPEN if wanted else CLOSED}  {self._title}")
        self._content.setVisible(wanted)
        self.toggled.emit(wanted)

"""A section that opens with a click on its title."""

from __future__ import annotations

from qtpy.QtWidgets import QPushButton, QVBoxLayout, QWidget

OPEN, CLOSED = "\N{BLACK DOWN-POINTING TRIANGLE}", "\N{BLACK RIGHT-POINTING TRIANGLE}"


class Fold(QWidget):
    """A title, and below it what is hidden at first."""

    def __init__(self, title: str, tooltip: str, content: QWidget) -> None:
        super().__init__()
        self._title, self._content = title, content
        self._button = QPushButton()
        self._button.setToolTip(tooltip)
        self._button.setCheckable(True)
        self._button.setStyleSheet("text-align: left; background: transparent; border: none")
        self._button.toggled.connect(self._show)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self._button)
        column.addWidget(content)
        self._show(False)

    def open(self) -> None:
        """Show the content."""
        self._button.setChecked(True)

    def _show(self, wanted: bool) -> None:
        self._button.setText(f"{OPEN if wanted else CLOSED}  {self._title}")
        self._content.setVisible(wanted)

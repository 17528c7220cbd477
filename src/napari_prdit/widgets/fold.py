"""A section that opens with a click on its title."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QPushButton, QVBoxLayout, QWidget

if TYPE_CHECKING:
    from collections.abc import Callable

OPEN, CLOSED = "\N{BLACK DOWN-POINTING SMALL TRIANGLE}", "\N{BLACK RIGHT-POINTING SMALL TRIANGLE}"


class Fold(QWidget):
    """A title, and below it what is only made when it is first opened.

    Signals
    -------
    opened : the content was made and is shown
    """

    opened = Signal()

    def __init__(self, title: str, tooltip: str, make: Callable[[], QWidget]) -> None:
        super().__init__()
        self._title, self._make = title, make
        self._content: QWidget | None = None
        self._button = QPushButton(f"{CLOSED} {title}")
        self._button.setToolTip(tooltip)
        self._button.setCheckable(True)
        self._button.setFlat(True)
        self._button.setStyleSheet("text-align: left; background: transparent; border: none")
        self._button.toggled.connect(self._toggle)
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.addWidget(self._button)

    def open(self, wanted: bool = True) -> None:
        """Show the content, or hide it."""
        self._button.setChecked(wanted)

    def _toggle(self, wanted: bool) -> None:
        self._button.setText(f"{OPEN if wanted else CLOSED} {self._title}")
        if self._content is None:
            self._content = self._make()
            self._column.addWidget(self._content)
        self._content.setVisible(wanted)

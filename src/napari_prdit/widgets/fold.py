"""A section that opens with a click on its title."""

from __future__ import annotations

from typing import TYPE_CHECKING

from superqt import QCollapsible

if TYPE_CHECKING:
    from qtpy.QtWidgets import QWidget

OPEN, CLOSED = "\N{BLACK DOWN-POINTING TRIANGLE}", "\N{BLACK RIGHT-POINTING TRIANGLE}"


class Fold(QCollapsible):
    """A title, and below it what is hidden at first; its signal `toggled` says if it is open."""

    def __init__(self, title: str, tooltip: str, content: QWidget) -> None:
        super().__init__(title, expandedIcon=OPEN, collapsedIcon=CLOSED)
        self.setDuration(0)
        self.toggleButton().setToolTip(tooltip)
        self.addWidget(content)

    def open(self) -> None:
        """Show the content."""
        self.expand(animate=False)

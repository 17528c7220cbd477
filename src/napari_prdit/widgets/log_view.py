"""Lines for people, of which only the newest are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtGui import QFontDatabase
from qtpy.QtWidgets import QPlainTextEdit

from prdit_core.files import shown

if TYPE_CHECKING:
    from collections.abc import Iterable

LINES = 500
HEIGHT = 110


class LogView(QPlainTextEdit):
    """At most `LINES` lines; it follows the newest unless somebody scrolled up to read."""

    def __init__(self, tooltip: str) -> None:
        super().__init__()
        self.setReadOnly(True)
        self.setMaximumBlockCount(LINES)
        self.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        self.setFont(QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont))
        self.setFixedHeight(HEIGHT)
        self.setToolTip(tooltip)

    def add_lines(self, lines: Iterable[str]) -> None:
        """Append, printable."""
        text = "\n".join(shown(line) for line in lines)
        if text:
            self.appendPlainText(text)

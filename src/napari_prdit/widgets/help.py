"""A button in every dock that opens the dock's own page of help."""

from __future__ import annotations

from functools import partial
from importlib.resources import files
from typing import Literal

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QDialog, QPushButton, QSizePolicy, QTextBrowser, QVBoxLayout, QWidget

Page = Literal["generate", "reconstruct", "inspect", "train", "planes"]
SIZE = (620, 640)


class HelpWindow(QDialog):
    """A page beside the window, which can be used meanwhile."""

    def __init__(self, page: Page, parent: QWidget) -> None:
        super().__init__(parent)
        text = page_text(page)
        self.setWindowTitle(text.splitlines()[0].lstrip("# "))
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.text = QTextBrowser()
        self.text.setOpenExternalLinks(True)
        self.text.setMarkdown(text)
        column = QVBoxLayout(self)
        column.addWidget(self.text)
        self.resize(*SIZE)


class HelpButton(QPushButton):
    """Opens the page of a dock; pressed again it brings the page to the front."""

    def __init__(self, page: Page) -> None:
        super().__init__("Help")
        self.setToolTip("What this dock does, step by step, and what each control means")
        self.setAutoDefault(False)
        self.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Fixed)
        self.clicked.connect(partial(self._open, page))

    def _open(self, page: Page, _checked: bool = False) -> None:
        there = self.findChild(HelpWindow)
        window = HelpWindow(page, self) if there is None else there
        window.show()
        window.raise_()
        window.activateWindow()


def page_text(page: Page) -> str:
    """A page as Markdown; its first line is its title."""
    return (files("napari_prdit") / "help" / f"{page}.md").read_text(encoding="utf-8")

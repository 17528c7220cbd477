"""Every dock has a page of help that speaks of all its controls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtGui import QImage
from qtpy.QtWidgets import QFormLayout, QLabel, QPushButton, QWidget

from napari_prdit.widgets.generate import GenerateDock
from napari_prdit.widgets.help import HelpButton, HelpWindow, page_text
from napari_prdit.widgets.planes import PlanesDock
from napari_prdit.widgets.reconstruct import ReconstructDock
from napari_prdit.widgets.residual_inspector import ResidualInspector
from napari_prdit.widgets.training_dock import TrainingDock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytestqt.qtbot import QtBot

PAGES = ("generate", "reconstruct", "inspect", "train", "planes")
SECTIONS = (
    "First steps",
    "What each control means",
    "hortcuts",
    "What the pictures mean",
    "Common problems",
)
DOCKS = {
    "generate": GenerateDock,
    "reconstruct": ReconstructDock,
    "inspect": ResidualInspector,
    "train": TrainingDock,
    "planes": PlanesDock,
}
# What says itself, and the rare settings that a tooltip explains.
SELF_EVIDENT = {"Browse ...", "Dice", "Help", "Open folder"}


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_a_title_and_all_sections(page: Any) -> None:
    text = page_text(page)
    assert text.startswith("# ")
    headings = "\n".join(line for line in text.splitlines() if line.startswith("## "))
    assert [section for section in SECTIONS if section not in headings] == []


@pytest.mark.parametrize("page", DOCKS)
def test_the_page_speaks_of_every_control(qtbot: QtBot, page: Any) -> None:
    dock: Any = DOCKS[page](ViewerModel())
    qtbot.addWidget(dock)
    text = page_text(page).lower()
    names = {*labels(dock), *buttons(dock)} - SELF_EVIDENT
    assert len(names) >= 5
    assert sorted(name for name in names if name.lower().rstrip(" .") not in text) == []
    if hasattr(dock, "shut_down"):
        dock.shut_down()


def labels(dock: QWidget) -> Iterator[str]:
    """Names of the rows of its forms."""
    for form in dock.findChildren(QFormLayout):
        for row in range(form.rowCount()):
            item = form.itemAt(row, QFormLayout.ItemRole.LabelRole)
            label = None if item is None else item.widget()
            if isinstance(label, QLabel) and label.text():
                yield label.text()


def buttons(dock: QWidget) -> Iterator[str]:
    """Words on its buttons, without those that open a section."""
    for made in dock.findChildren(QPushButton):
        if made.text()[:1].isalpha():
            yield made.text()


@pytest.mark.parametrize("page", DOCKS)
def test_every_dock_has_the_button_of_its_own_page(qtbot: QtBot, page: Any) -> None:
    dock: Any = DOCKS[page](ViewerModel())
    qtbot.addWidget(dock)
    # A dock of several tasks has one for each, of which one is seen.
    (help_button,) = (one for one in dock.findChildren(HelpButton) if one.isVisibleTo(dock))
    help_button.click()
    (window,) = dock.findChildren(HelpWindow)
    assert page_text(page).splitlines()[0] == f"# {window.windowTitle()}"
    assert window.text.toPlainText().startswith(window.windowTitle())
    help_button.click()  # again: the same window, in front
    assert dock.findChildren(HelpWindow) == [window]
    window.close()
    qtbot.waitUntil(lambda: dock.findChildren(HelpWindow) == [])
    if hasattr(dock, "shut_down"):
        dock.shut_down()


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["dark", "light"])
def test_the_page_can_be_read_in_both_themes(
    make_napari_viewer: Callable[..., Any], qtbot: QtBot, theme: str
) -> None:
    """Of the page's pixels, some are text: far from the colour of its background."""
    viewer = make_napari_viewer(show=True)
    viewer.theme = theme
    _, dock = viewer.window.add_plugin_dock_widget("napari-prdit", "Inspect local and global part")
    dock.findChildren(HelpButton)[0].click()
    (window,) = dock.findChildren(HelpWindow)
    qtbot.waitExposed(window)
    qtbot.wait(200)
    image = window.text.grab().toImage().convertToFormat(QImage.Format.Format_RGB32)
    data = image.constBits().asstring(image.sizeInBytes())
    grey = np.frombuffer(data, np.uint8).reshape(-1, 4)[:, :3].mean(axis=1)
    background = np.bincount(grey.astype(int)).argmax()
    assert (background < 100) == (theme == "dark")
    assert 0.01 < np.mean(np.abs(grey - background) > 100) < 0.3
    window.close()
    dock.shut_down()

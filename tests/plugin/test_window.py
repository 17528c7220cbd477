"""The plugin in a real window of napari: its menu, the command palette, what is dropped."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from npe2 import PluginManifest
from qtpy.QtCore import QMimeData, QPointF, Qt, QTimer, QUrl
from qtpy.QtGui import QDropEvent
from qtpy.QtWidgets import QApplication, QDialog, QMainWindow, QRadioButton

from napari_prdit.widgets.dock_place import open_dock
from napari_prdit.widgets.planes import TITLE
from napari_prdit.widgets.residual_inspector import ResidualInspector
from napari_prdit.widgets.training_dock import TrainingDock
from prdit_core.data.io import read_volume

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari import Viewer
    from pytestqt.qtbot import QtBot
    from qtpy.QtWidgets import QMenu

pytestmark = pytest.mark.slow

MANIFEST = PluginManifest.from_distribution("napari-prdit")
WIDGETS = [widget.display_name for widget in MANIFEST.contributions.widgets or []]


@pytest.fixture
def viewer(make_napari_viewer: Callable[..., Viewer]) -> Viewer:
    return make_napari_viewer(show=True)


def main_window() -> QMainWindow:
    (window,) = [top for top in QApplication.topLevelWidgets() if isinstance(top, QMainWindow)]
    return window


def submenu(menu: Any, title: str) -> QMenu:
    (found,) = [action for action in menu.actions() if action.text().replace("&", "") == title]
    return found.menu()


def palette() -> dict[str, Any]:
    """Entries of the command palette by their titles."""
    from napari._app_model import get_app_model

    menus = get_app_model().menus
    items = menus.get_menu(menus.COMMAND_PALETTE_ID)
    return {item.command.title: item.command for item in items}


def test_the_menu_has_every_dock_under_its_plain_title_and_a_click_opens_it(
    viewer: Viewer, qtbot: QtBot
) -> None:
    menu = submenu(submenu(main_window().menuBar(), "Plugins"), "PRDiT CT synthesis")
    actions = {action.text(): action for action in menu.actions()}
    assert list(actions) == WIDGETS
    assert WIDGETS[0] == "Generate CT volume"
    docks = viewer.window.dock_widgets
    for title, action in reversed(actions.items()):  # the planes first: others open them, too
        assert not [name for name in docks if title in name]
        action.trigger()
        (dock,) = [name for name in docks if title in name]
        qtbot.waitUntil(docks[dock].isVisible)
    assert len(docks) == len(WIDGETS)


def test_planes_that_another_dock_opened_are_those_of_the_menu(
    viewer: Viewer, qtbot: QtBot
) -> None:
    menu = submenu(submenu(main_window().menuBar(), "Plugins"), "PRDiT CT synthesis")
    actions = {action.text(): action for action in menu.actions()}
    actions["Generate CT volume"].trigger()
    docks = viewer.window.dock_widgets
    qtbot.waitUntil(lambda: any(TITLE in name for name in docks))
    (name,) = [name for name in docks if TITLE in name]
    actions[TITLE].trigger()  # which hides what is shown
    assert [name for name in docks if TITLE in name] == [name] and not docks[name].isVisible()


def test_a_dock_that_another_opened_is_that_of_the_menu(viewer: Viewer) -> None:
    menu = submenu(submenu(main_window().menuBar(), "Plugins"), "PRDiT CT synthesis")
    actions = {action.text(): action for action in menu.actions()}
    docks = viewer.window.dock_widgets
    title = "Inspect local and global part"
    inspector = open_dock(viewer, ResidualInspector, title)
    actions[title].trigger()  # which hides what is shown
    assert len(docks) == 1 and not inspector.isVisible()
    assert open_dock(viewer, ResidualInspector, title) is inspector and inspector.isVisible()
    title = "Train on CT scans"
    actions[title].trigger()
    (training,) = [dock for dock in docks.values() if dock is not inspector]
    assert open_dock(viewer, TrainingDock, title) is training and len(docks) == 2


def test_the_palette_offers_docks_and_samples_and_nothing_that_needs_a_file(
    viewer: Viewer,
) -> None:
    offered = {command.id for command in palette().values() if str(command.enablement) != "False"}
    samples = {f"napari-prdit.{sample.key}" for sample in MANIFEST.contributions.sample_data or []}
    docks = {widget.command for widget in MANIFEST.contributions.widgets or []}
    assert {name for name in offered if name.startswith("napari-prdit.")} == docks | samples
    assert palette().keys() >= set(WIDGETS)


def test_what_is_dropped_on_the_window_opens(viewer: Viewer, qtbot: QtBot, real_data: Path) -> None:
    """napari asks who shall read what its own reader might, too, such as any folder."""
    for name in ("abdomen-20-slices-dicom", "elastix-right-lung.mha"):
        source = real_data / "ct" / name
        QTimer.singleShot(500, choose_us)
        drop(source)
        (layer,) = viewer.layers
        expected = read_volume(source)
        np.testing.assert_array_equal(layer.data, expected.voxels_hu)
        np.testing.assert_allclose(layer.scale, expected.spacing_mm)
        assert viewer.screenshot(canvas_only=True, flash=False)[..., :3].std() > 5
        viewer.layers.clear()


def drop(path: Path) -> None:
    from napari.qt import QtViewer

    (canvas,) = [widget for widget in QApplication.allWidgets() if isinstance(widget, QtViewer)]
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path))])
    canvas.dropEvent(
        QDropEvent(
            QPointF(10, 10),
            Qt.DropAction.CopyAction,
            data,
            Qt.MouseButton.LeftButton,
            Qt.KeyboardModifier.NoModifier,
        )
    )


def choose_us() -> None:
    """Answer the question of napari, if it asks."""
    dialog = QApplication.activeModalWidget()
    if isinstance(dialog, QDialog):
        (choice,) = [b for b in dialog.findChildren(QRadioButton) if "PRDiT" in b.text()]
        choice.click()
        dialog.accept()


# Opens every dock, one after the other, and says which of what is heavy came with which.
OPEN_ALL = """
import sys
import napari
heavy = {{"torch", "matplotlib", "lightning_fabric"}}
viewer = napari.Viewer(show=False)
for title in {titles!r}:
    _, dock = viewer.window.add_plugin_dock_widget("napari-prdit", title)
    if title == "Train on CT scans":
        dock.new.stage.start.choose("demo")
    if title == "Generate CT volume":
        assert dock.model.about.text().startswith("<b>Chest CT, ")
    print(*(f"{{title}}: {{name}}" for name in sorted(heavy & sys.modules.keys())))
    heavy -= sys.modules.keys()
assert len(viewer.window.dock_widgets) == len({titles!r}), viewer.window.dock_widgets
viewer.close()
"""


def test_opening_napari_and_every_dock_loads_no_torch(display: None) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", OPEN_ALL.format(titles=WIDGETS)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""

"""Generating in a real window, from the menu to the finished volume."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any
from weakref import ref

import numpy as np
import pytest
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication, QMessageBox, QPushButton
from torch.nn.modules.module import register_module_forward_pre_hook

from napari_prdit.widgets.generate import GenerateDock
from napari_prdit.widgets.planes import planes_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import napari
    from pytestqt.qtbot import QtBot
    from qtpy.QtGui import QAction
    from qtpy.QtWidgets import QMenu, QWidget

    from napari_prdit.replay import Recording

    MakeViewer = Callable[..., napari.Viewer]

MENUS = ("Plugins", "PRDiT CT synthesis", "Generate CT volume")
PATIENCE_MS = 240_000


def menu_action(viewer: napari.Viewer, *path: str) -> QAction:
    """The action at the end of a path of menus, as a user finds it."""
    menus: list[Any] = list(viewer.window._qt_window.menuBar().actions())
    for title in path:
        (found,) = [action for action in menus if action.text().replace("&", "") == title]
        menu: QMenu | None = found.menu()
        if menu is not None:
            menu.aboutToShow.emit()
            menus = list(menu.actions())
    return found


def shows_tissue(pixels: Any) -> bool:
    """Whether a picture is more than a crosshair and a scale bar on air."""
    return bool((np.asarray(pixels)[..., :3].mean(-1) > 60).mean() > 0.2)


@pytest.mark.slow
def test_from_the_menu_to_a_finished_volume(
    make_napari_viewer: MakeViewer, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer = make_napari_viewer(show=True)
    viewer.window._qt_window.resize(1400, 900)
    menu_action(viewer, *MENUS).trigger()
    (dock,) = viewer.window._qt_window.findChildren(GenerateDock)
    dock.walk.device.setCurrentText("cpu")
    dock.model.size_choice.choose(32)
    dock.walk.steps.setValue(100)
    qtbot.waitUntil(lambda: planes_of(viewer) is not None, timeout=PATIENCE_MS)
    qtbot.wait(1000)  # all views have been painted once
    frames: list[float] = []
    show = dock.panel.live.show

    def counted(volume: Any) -> None:
        show(volume)
        frames.append(float(volume.voxels_hu.mean()))

    monkeypatch.setattr(dock.panel.live, "show", counted)
    computing: set[int] = set()
    hook = register_module_forward_pre_hook(lambda *_: computing.add(threading.get_ident()))
    dock.panel.controls.go.click()
    qtbot.waitUntil(lambda: not dock.panel.job.running, timeout=PATIENCE_MS)
    hook.remove()

    (layer,) = viewer.layers
    assert len(set(frames)) >= 10
    np.testing.assert_allclose(layer.scale, (10, 10, 10))
    assert [str(unit) for unit in layer.units] == ["millimeter"] * 3
    assert -1000 <= layer.data.min() < -900 and 200 < layer.data.max() <= 400
    assert layer.metadata["prdit"]["steps"] == 100

    planes = planes_of(viewer)
    assert planes is not None
    qtbot.wait(300)
    pictures = [viewer.screenshot(canvas_only=True, flash=False)]
    pictures += [picture.view.screenshot(flash=False) for picture in planes._pictures]
    assert all(shows_tissue(pixels) for pixels in pictures)

    # The window's own thread computes nothing: it is free to answer.
    assert computing and threading.get_ident() not in computing
    dock.shut_down()


@pytest.mark.slow
def test_side_planes_follow_a_dock_that_a_script_opened(
    make_napari_viewer: MakeViewer, qtbot: QtBot
) -> None:
    """napari hands such a dock a proxy of the viewer, whose layers are proxies too."""
    viewer = make_napari_viewer(show=True)
    _, dock = viewer.window.add_plugin_dock_widget("napari-prdit", MENUS[-1])
    dock.walk.device.setCurrentText("cpu")
    dock.model.size_choice.choose(32)
    qtbot.waitUntil(lambda: planes_of(viewer) is not None, timeout=PATIENCE_MS)

    def side_pictures(seed: int) -> list[Any]:
        dock.walk.seed.setValue(seed)
        dock.panel.controls.go.click()
        qtbot.waitUntil(lambda: not dock.panel.job.running, timeout=PATIENCE_MS)
        qtbot.wait(1500)  # twins of a new layer come one by one
        planes = planes_of(viewer)
        assert planes is not None
        return [picture.view.screenshot(flash=False) for picture in planes._pictures]

    for one, other in zip(side_pictures(0), side_pictures(1), strict=True):
        assert shows_tissue(one) and shows_tissue(other)
        assert np.abs(one.astype(float) - other).mean() > 2
    dock.shut_down()


def answer(button: str, seen: list[str]) -> None:
    """Press a button of the question that is open, and note what it asks."""
    question = QApplication.activeModalWidget()
    assert isinstance(question, QMessageBox)
    seen.append(question.text())
    (found,) = [b for b in question.buttons() if b.text().replace("&", "") == button]
    found.click()


def press_cross(dock: QWidget, button: str | None = None) -> str:
    """Close a dock as users do, and answer what is asked; the question, if there is one."""
    place, seen = dock.parentWidget(), []
    assert place is not None
    if button is not None:
        QTimer.singleShot(200, lambda: answer(button, seen))
    (cross,) = place.findChildren(QPushButton, "QTitleBarCloseButton")
    cross.click()
    return "".join(seen)


@pytest.mark.slow
def test_a_closed_dock_is_freed_and_the_next_goes_on_with_its_layer(
    make_napari_viewer: MakeViewer, qtbot: QtBot, chain: Path
) -> None:
    viewer = make_napari_viewer(show=True)
    layers = []

    def generated() -> tuple[ref[GenerateDock], ref[Recording]]:
        menu_action(viewer, *MENUS).trigger()
        (dock,) = viewer.window._qt_window.findChildren(GenerateDock)
        dock.walk.device.setCurrentText("cpu")
        dock.choose_checkpoint(str(chain))
        dock.walk.seed.setValue(len(layers))
        dock.panel.controls.go.click()
        qtbot.waitUntil(lambda: not dock.panel.job.running, timeout=PATIENCE_MS)
        (layer,) = viewer.layers
        layers.append(layer)
        assert layer.metadata["prdit"]["seed"] == len(layers) - 1
        dead = ref(dock), ref(dock.panel.recording)
        # What would be lost is asked about, and can be hidden instead.
        assert "20 steps to go back to" in press_cross(dock, "Cancel") and dock.isVisible()
        press_cross(dock, "Hide instead")
        assert not dock.isVisible() and len(dock.panel.recording.indices) == 20
        menu_action(viewer, *MENUS).trigger()
        qtbot.waitUntil(dock.isVisible)
        press_cross(dock, "Close")
        return dead

    def gone(dock: ref[GenerateDock], recording: ref[Recording]) -> bool:
        gc.collect()
        return dock() is None and recording() is None

    for _ in range(2):
        dead = generated()
        qtbot.waitUntil(lambda: gone(*dead), timeout=10_000)  # noqa: B023
    assert layers[0] is layers[1]
    assert not viewer.window._qt_window.findChildren(GenerateDock)


@pytest.mark.slow
def test_closing_a_dock_ends_its_own_work_alone_and_keeps_what_it_showed(
    make_napari_viewer: MakeViewer, qtbot: QtBot, chain: Path
) -> None:
    from napari.qt.threading import create_worker

    over: list[None] = []

    def foreign() -> Iterator[int]:
        while not over:
            time.sleep(0.01)
            yield 1

    viewer = make_napari_viewer(show=True)
    menu_action(viewer, *MENUS).trigger()
    (dock,) = viewer.window._qt_window.findChildren(GenerateDock)
    theirs = create_worker(foreign, _start_thread=True)
    dock.walk.device.setCurrentText("cpu")
    dock.choose_checkpoint(str(chain))
    dock.walk.steps.setValue(5000)
    dock.panel.controls.go.click()
    qtbot.waitUntil(lambda: len(viewer.layers) == 1, timeout=PATIENCE_MS)
    control = dock.panel.job.control
    assert "being made" in press_cross(dock, "Close")
    qtbot.waitUntil(control.ended.is_set, timeout=PATIENCE_MS)
    assert theirs.is_running and not theirs.abort_requested
    (layer,) = viewer.layers
    assert layer.data.std() > 0 and layer.metadata["prdit"]["estimate_at_step"] < 5000
    over.append(None)
    qtbot.waitUntil(lambda: not theirs.is_running, timeout=PATIENCE_MS)


QUIT = """
import sys
import napari
from qtpy.QtCore import QTimer
viewer = napari.Viewer()
_, dock = viewer.window.add_plugin_dock_widget("napari-prdit", {title!r})
dock.choose_checkpoint({checkpoint!r})
dock.walk.device.setCurrentText("cpu")
dock.walk.steps.setValue(100_000)
watch = QTimer()

def look():
    if dock.panel.job.running and (dock.panel.controls.progress.value() > 1 or {loading}):
        watch.stop()
        viewer.close()
        print("closed", dock.panel.job.running, flush=True)

watch.timeout.connect(look)
watch.start(20)
QTimer.singleShot(500, dock.generate)
napari.run()
print("ended", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("loading", [True, False])
def test_napari_ends_cleanly_in_the_middle_of_a_volume(
    display: None, chain: Path, loading: bool
) -> None:
    code = QUIT.format(title=MENUS[-1], checkpoint=str(chain), loading=loading)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.split() == ["closed", "False", "ended"], done.stderr
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("state", ["working", "paused"])
def test_closing_napari_while_it_generates_leaves_no_thread(
    make_napari_viewer: MakeViewer, qtbot: QtBot, state: str
) -> None:
    viewer = make_napari_viewer(show=True)
    menu_action(viewer, *MENUS).trigger()
    (dock,) = viewer.window._qt_window.findChildren(GenerateDock)
    dock.walk.device.setCurrentText("cpu")
    dock.model.size_choice.choose(32)
    dock.walk.steps.setValue(5000)
    dock.panel.controls.go.click()
    qtbot.waitUntil(lambda: dock.panel.controls.progress.value() > 1, timeout=PATIENCE_MS)
    if state == "paused":
        dock.panel.controls.pause.click()
        qtbot.waitUntil(lambda: "paused" in dock.panel.message.text(), timeout=PATIENCE_MS)
    worker = dock.panel.job._worker
    assert worker is not None
    viewer.close()
    qtbot.waitUntil(lambda: not worker.is_running, timeout=PATIENCE_MS)

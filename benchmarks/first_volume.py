"""Clicks and seconds from opening napari to the first volume, as a newcomer goes: all defaults.

Needs a display; without one:
xvfb-run -a -s "-screen 0 1920x1080x24 +extension GLX" python benchmarks/first_volume.py
Settings and caches are fresh ones, so that it is the first time on this machine.
"""

from __future__ import annotations

import os
import tempfile
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

BEGUN = time.perf_counter()
MENUS = ("Plugins", "PRDiT CT synthesis", "Generate CT volume")
LOOK_S = 6.0  # that a newcomer looks at the dock before the click


def main() -> None:
    with tempfile.TemporaryDirectory() as home:
        os.environ["NAPARI_CONFIG"] = f"{home}/settings.yaml"  # before napari loads
        os.environ["XDG_CACHE_HOME"] = home
        measure()


def measure() -> None:
    import napari
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    from napari_prdit.widgets.generate import GenerateDock

    viewer = napari.Viewer()
    settle(lambda: viewer.window._qt_window.isVisible())
    opened = time.perf_counter()
    clicks = 0
    items: Any = viewer.window._qt_window.menuBar().actions()
    for title in MENUS:
        (action,) = [item for item in items if item.text().replace("&", "") == title]
        clicks += 1
        if (menu := action.menu()) is None:
            action.trigger()
        else:
            menu.aboutToShow.emit()
            items = menu.actions()
    (dock,) = viewer.window._qt_window.findChildren(GenerateDock)
    settle(dock.isVisible)
    shown = time.perf_counter()
    QTest.qWait(round(1000 * LOOK_S))
    size, said = dock.request().size, dock.model.size_choice.currentText()
    clicked, worked = time.perf_counter(), time.process_time()
    QTest.mouseClick(dock.panel.controls.go, Qt.MouseButton.LeftButton)
    clicks += 1
    first: list[float] = []
    viewer.layers.events.inserted.connect(lambda _event: first.append(time.perf_counter()))
    settle(lambda: not dock.panel.job.running)
    done = time.perf_counter()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    print(f"{clicks} clicks, size {size} ({said}), load {load:.1f} on {os.cpu_count()} cores")
    print(f"{'napari opens':<28}{opened - BEGUN:6.1f} s")
    print(f"{'menu to dock':<28}{shown - opened:6.1f} s")
    print(f"{'click to first picture':<28}{first[0] - clicked:6.1f} s")
    print(f"{'click to finished volume':<28}{done - clicked:6.1f} s")
    print(f"{'of that, CPU of all threads':<28}{time.process_time() - worked:6.1f} s")
    print(dock.panel.message.text())
    dock.shut_down()
    viewer.close()


def settle(reached: Callable[[], bool]) -> None:
    from qtpy.QtTest import QTest

    while not reached():
        QTest.qWait(10)


if __name__ == "__main__":
    main()

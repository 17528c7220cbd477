"""`python -m napari_prdit`: napari with three planes, and a chest of the bundled model emerging."""

from __future__ import annotations

import sys

SOON_MS = 500  # after the window has been painted once
WIDTH, HEIGHT = 1500, 950  # room for three planes and the dock, where the screen has it
SHARE = 0.9  # of the screen at most


def main() -> None:
    """Open the dock "Generate CT volume" in a new window, press its button, stay until closed."""
    try:
        import napari
        from qtpy.QtCore import QTimer
        from qtpy.QtGui import QGuiApplication

        from napari_prdit.widgets.dock_place import open_dock
        from napari_prdit.widgets.generate import GenerateDock
    except ModuleNotFoundError as error:
        sys.exit(f'{error.name} is not installed here; in the clone: pip install ".[all]"')

    viewer = napari.Viewer(title="napari-prdit")
    screen = QGuiApplication.primaryScreen()
    assert screen is not None  # there is a window on it
    room = screen.availableSize()
    wanted = zip((WIDTH, HEIGHT), (room.width(), room.height()), strict=True)
    viewer.window.resize(*(min(edge, round(SHARE * there)) for edge, there in wanted))
    dock = open_dock(viewer, GenerateDock, "Generate CT volume")
    QTimer.singleShot(SOON_MS, dock.generate)
    napari.run()


if __name__ == "__main__":
    main()

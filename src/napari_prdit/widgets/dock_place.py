"""How our docks open, and where: as tabs of each other, or below the picture.

napari reads neither `tabify` nor `default_dock_area` of a manifest.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakSet

from qtpy.QtCore import QEvent, QObject, Qt, QTimer
from qtpy.QtWidgets import QDockWidget, QMainWindow, QWidget

if TYPE_CHECKING:
    import napari

T = TypeVar("T")
D = TypeVar("D", bound=QWidget)

MENU = "PRDiT CT synthesis"  # as napari's menu calls us
BELOW_SHARE = 0.4  # of the height of the window
_settled: WeakSet[QWidget] = WeakSet()


class OpensAsTab(QObject):
    """Lets a dock share the place of those of ours that are open at its side already."""

    def __init__(self, content: QWidget) -> None:
        super().__init__(content)
        content.installEventFilter(self)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Wait until napari has put the dock where it thinks that it belongs."""
        if event is not None and event.type() == QEvent.Type.Show and isinstance(watched, QWidget):
            watched.removeEventFilter(self)
            soon = QTimer(watched)  # which is forgotten with the dock
            soon.setSingleShot(True)
            soon.timeout.connect(partial(_join_tabs, watched))
            soon.timeout.connect(soon.deleteLater)
            soon.start(0)
        return super().eventFilter(watched, event)


def bare(wrapped: T) -> T:
    """The thing itself: docks are handed a viewer that is a proxy and gives proxies of layers.

    A proxy is not the one that events name, and no member of a list that compares by identity.
    """
    itself: T = getattr(wrapped, "__wrapped__", wrapped)
    return itself


def open_dock(viewer: napari.viewer.Viewer, kind: type[D], title: str) -> D:
    """Open a dock as a click in the menu does, or bring to the front what is open already."""
    window = bare(viewer).window
    dock = next((one for one in window.dock_widgets.values() if isinstance(one, kind)), None)
    if dock is None:
        dock = kind(bare(viewer))
        window.add_dock_widget(dock, name=f"{title} ({MENU})")
    place = place_of(dock)
    assert place is not None
    place.show()
    place.raise_()
    return dock


def place_of(content: QWidget) -> QDockWidget | None:
    """The dock that `content` lies in; None for a widget of its own."""
    above = content.parentWidget()
    while above is not None and not isinstance(above, QDockWidget):
        above = above.parentWidget()
    return above


def leave_corners(place: QDockWidget) -> None:
    """Let docks at the left and right reach down beside what lies below the picture."""
    main = place.parentWidget()
    sides = (
        (Qt.Corner.BottomLeftCorner, Qt.DockWidgetArea.LeftDockWidgetArea),
        (Qt.Corner.BottomRightCorner, Qt.DockWidgetArea.RightDockWidgetArea),
    )
    if isinstance(main, QMainWindow):
        for corner, area in sides:
            main.setCorner(corner, area)


def put_below(place: QDockWidget) -> None:
    """Move a dock below the picture."""
    main = place.parentWidget()
    if not isinstance(main, QMainWindow):
        return
    main.addDockWidget(Qt.DockWidgetArea.BottomDockWidgetArea, place)
    main.resizeDocks([place], [round(BELOW_SHARE * main.height())], Qt.Orientation.Vertical)


def is_at_right(place: QDockWidget) -> bool:
    """Whether a dock lies where napari puts those of plugins."""
    main, right = place.parentWidget(), Qt.DockWidgetArea.RightDockWidgetArea
    at_right = isinstance(main, QMainWindow) and main.dockWidgetArea(place) == right
    return at_right and not place.isFloating()


def _join_tabs(content: QWidget) -> None:
    _settled.add(content)
    place = place_of(content)
    main = None if place is None else place.parentWidget()
    if place is None or not isinstance(main, QMainWindow):
        return
    if place.isFloating() or main.tabifiedDockWidgets(place):
        return
    area = main.dockWidgetArea(place)
    beside = [
        other
        for other in main.findChildren(QDockWidget)
        if other is not place
        and other.isVisible()
        and not other.isFloating()
        and main.dockWidgetArea(other) == area
        and other.widget() in _settled
    ]
    if beside:
        main.tabifyDockWidget(beside[-1], place)
        place.show()
        place.raise_()

"""The dock "Coronal and sagittal planes": three synchronised planes with the main view."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from napari.qt import QtViewer
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QApplication,
    QCheckBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QSplitter,
    QVBoxLayout,
    QWidget,
)
from vispy.scene.visuals import Line

from napari_prdit.ortho import (
    DIRECTIONS,
    SIDES,
    WHOLE_RANGE,
    WINDOWS_HU,
    Planes,
    crosshair,
    our_layers,
    set_window,
    show_volume,
    value_at,
)
from napari_prdit.widgets.parts import Message, button

if TYPE_CHECKING:
    import napari
    from napari.components import ViewerModel
    from napari.layers import Image
    from qtpy.QtGui import QHideEvent, QShowEvent

    from napari_prdit.ortho import Plane

PLUGIN, TITLE = "napari-prdit", "Coronal and sagittal planes"
_EMPTY = "Open a scan or generate a volume to see its planes here."
_LINE_COLOUR = (1.0, 0.8, 0.0, 0.6)
_ABOVE_LAYERS = 10_000
_docks: WeakSet[PlanesDock] = WeakSet()


class PlanesDock(QWidget):
    """Coronal and sagittal planes beside the axial one; closed or hidden it leaves no trace."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        # napari hands out a proxy, which is not the viewer that its events speak of.
        self.viewer: ViewerModel = getattr(napari_viewer, "__wrapped__", napari_viewer)
        self.planes: Planes | None = None
        self._pictures: list[Picture] = []
        self._crosshairs: list[Crosshair] = []
        self._had_scale_bar = False
        self.reading = Message()
        self.reading.setToolTip(
            "Where the planes cross, from the zero point of the scan, and the value there"
        )
        self._lines = QCheckBox("Crosshair")
        self._solid = QPushButton("Turn in 3D")
        self._stack = QSplitter(Qt.Orientation.Vertical)
        self._lay_out()
        self._tell()
        _docks.add(self)

    def refresh(self) -> None:
        """Look again at all volumes, whose arrays have changed in place; GUI thread only."""
        for layer in our_layers(self.viewer):
            self.refresh_layer(layer)

    def refresh_layer(self, layer: Image) -> None:
        """Look again at one volume; cheap, and nothing while the dock is hidden."""
        if self.planes is not None:
            self.planes.refresh(layer)
            self._tell()

    def showEvent(self, event: QShowEvent | None) -> None:
        """Build the two views."""
        super().showEvent(event)
        if self.planes is None:
            self._open()

    def hideEvent(self, event: QHideEvent | None) -> None:
        """Take them down; a minimised window keeps them."""
        super().hideEvent(event)
        if self.planes is not None and not (event is not None and event.spontaneous()):
            self._close()

    def _lay_out(self) -> None:
        self._lines.setChecked(True)
        self._lines.setToolTip("Show in every view where the other two planes cut it")
        self._lines.toggled.connect(lambda _on: self._draw())
        self._solid.setCheckable(True)
        self._solid.setToolTip(
            "Show the whole volume in the main view and turn it with the mouse; "
            "press again to return to the axial plane"
        )
        self._solid.toggled.connect(lambda on: show_volume(self.viewer, "3D" if on else "axial"))
        column = QVBoxLayout(self)
        column.setContentsMargins(6, 6, 6, 6)
        column.addLayout(_row(*(self._window_button(name) for name in (*WINDOWS_HU, WHOLE_RANGE))))
        column.addLayout(_row(self._lines, self._solid))
        column.addWidget(self.reading)
        column.addWidget(self._stack, stretch=1)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)

    def _window_button(self, name: str) -> QPushButton:
        limits = WINDOWS_HU.get(name)
        shown = f"from {limits[0]:.0f} to {limits[1]:.0f} HU" if limits else "whole range of values"
        return button(
            name,
            f"Grey values: {shown}, in all views. Residuals keep their own.",
            lambda: set_window(our_layers(self.viewer), name),
        )

    def _open(self) -> None:
        self.planes = Planes(self.viewer, self._follow)
        self._pictures = [Picture(plane, side) for plane, side in self.planes.sides.items()]
        for picture in self._pictures:
            self._stack.addWidget(picture)
        views = [picture.view for picture in self._pictures]
        self._crosshairs = [Crosshair(view) for view in (*_views_of(self.viewer), *views)]
        scale_bar = self.viewer.canvas.overlays.scale_bar
        self._had_scale_bar, scale_bar.visible = scale_bar.visible, True
        for emitter in self._view_changes():
            emitter.connect(self._follow)
        self._follow()

    def _close(self) -> None:
        assert self.planes is not None
        for emitter in self._view_changes():
            emitter.disconnect(self._follow)
        self.viewer.canvas.overlays.scale_bar.visible = self._had_scale_bar
        for lines in self._crosshairs:
            lines.remove()
        self.planes.close()
        for picture in self._pictures:
            picture.take_down()
        self.planes, self._pictures, self._crosshairs = None, [], []

    def _view_changes(self) -> tuple[Any, ...]:
        events = self.viewer.dims.events
        return events.order, events.ndisplay

    def _follow(self) -> None:
        self._solid.blockSignals(True)
        self._solid.setChecked(self.viewer.dims.ndisplay == 3)
        self._solid.blockSignals(False)
        self._draw()
        self._tell()

    def _draw(self) -> None:
        if self.planes is not None:
            for lines in self._crosshairs:
                lines.draw(self.planes, shown=self._lines.isChecked())

    def _tell(self) -> None:
        """Say where the planes cross and what is there."""
        if self.planes is None or not self.planes.layers:
            self.reading.say(_EMPTY)
            return
        point = self.planes.point
        place = ", ".join(_placed(axis, point[axis]) for axis in (2, 1, 0))
        here = value_at(self.planes.layers, point)
        self.reading.say(f"{place}: {here[0]:.0f} HU in {here[1]}" if here else place)
        for picture in self._pictures:
            picture.say(point[picture.plane.across])


class Picture(QWidget):
    """One plane with its name, and what lies at its edges."""

    def __init__(self, plane: Plane, side: ViewerModel) -> None:
        super().__init__()
        self.plane = plane
        self.view = QtViewer(side)
        self.view.setAcceptDrops(False)
        # Keys would act on this plane alone, and turn it.
        self.view.canvas.native.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.view.setMinimumSize(160, 160)
        self._caption = QLabel(plane.name)
        self._caption.setToolTip("Click in any view to move the planes there; drag to shift it")
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        for place, edge in zip((0, 2), plane.edges, strict=True):
            grid.addWidget(_edge_label(edge), 1, place)
        grid.addWidget(self._caption, 0, 1)
        grid.addWidget(self.view, 1, 1)
        grid.setColumnStretch(1, 1)

    def say(self, mm: float) -> None:
        """Name the plane and where it lies."""
        self._caption.setText(f"{self.plane.name}, {_placed(self.plane.across, mm)}")

    def take_down(self) -> None:
        """Close the canvas before its widget goes."""
        self.view.close()
        self.setParent(None)
        self.deleteLater()


class Crosshair:
    """Thin lines in one canvas.

    napari has no such overlay, and a layer of lines would stand in the layer list and be saved
    with it; these lie in the canvas, and no model knows of them.
    """

    def __init__(self, view: QtViewer) -> None:
        self._dims = view.viewer.dims
        self._lines = Line(
            connect="segments", color=_LINE_COLOUR, parent=view.canvas.view.scene, method="gl"
        )
        self._lines.order = _ABOVE_LAYERS
        self._lines.set_gl_state("translucent", depth_test=False)

    def draw(self, planes: Planes, *, shown: bool) -> None:
        """Lines through the point of the planes, if there is something to cut."""
        displayed = [axis - (self._dims.ndim - 3) for axis in self._dims.displayed]
        self._lines.visible = shown and bool(planes.layers) and min(displayed) >= 0
        if self._lines.visible:
            self._lines.set_data(pos=crosshair(planes.point, planes.bounds, displayed))

    def remove(self) -> None:
        """Take the lines out of the canvas."""
        self._lines.parent = None


def planes_of(viewer: ViewerModel) -> PlanesDock | None:
    """The dock of a viewer if it is open."""
    model = getattr(viewer, "__wrapped__", viewer)
    return next((d for d in _docks if d.viewer is model and d.planes is not None), None)


def show_planes(viewer: ViewerModel) -> PlanesDock | None:
    """Open the dock, or bring it to the front; None for a viewer without a window."""
    window = getattr(viewer, "window", None)
    if window is None:
        return None
    place, dock = window.add_plugin_dock_widget(PLUGIN, TITLE)
    place.show()
    place.raise_()
    assert isinstance(dock, PlanesDock)
    return dock


def _views_of(viewer: ViewerModel) -> list[QtViewer]:
    """The canvas of a viewer's window; none for a bare model."""
    widgets = QApplication.allWidgets()
    return [w for w in widgets if isinstance(w, QtViewer) and w.viewer is viewer]


def _placed(axis: int, mm: float) -> str:
    return f"{DIRECTIONS[axis]} {round(mm, 1) + 0.0:.1f} mm"


def _row(*widgets: QWidget) -> QHBoxLayout:
    row = QHBoxLayout()
    for widget in widgets:
        row.addWidget(widget)
    return row


def _edge_label(edge: str) -> QLabel:
    made = QLabel({"right": "R", "left": "L", "front": "A", "back": "P"}[edge])
    made.setToolTip(f"Towards the patient's {edge}")
    return made

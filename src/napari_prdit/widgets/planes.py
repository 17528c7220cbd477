"""The dock "Coronal and sagittal planes": three synchronised planes with the main view."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import (
    QBoxLayout,
    QCheckBox,
    QHBoxLayout,
    QPushButton,
    QSizePolicy,
    QSplitter,
    QVBoxLayout,
    QWidget,
)

from napari_prdit.looking import (
    RAS_AXIS,
    WHOLE_RANGE,
    WINDOWS_HU,
    distance_in_words,
    our_layers,
    patient_point,
    position_in_words,
    set_window,
    show_volume,
    tilt,
    value_at,
)
from napari_prdit.ortho import Planes
from napari_prdit.widgets.dock_place import (
    bare,
    is_at_right,
    leave_corners,
    open_dock,
    place_of,
    put_below,
)
from napari_prdit.widgets.help import HelpButton
from napari_prdit.widgets.one_by_one import OneByOne
from napari_prdit.widgets.parts import Message, button
from napari_prdit.widgets.plane_picture import Crosshair, EdgeLetters, Picture, views_of

if TYPE_CHECKING:
    import napari
    from napari.components import ViewerModel
    from napari.layers import Image
    from napari.qt import QtViewer
    from qtpy.QtGui import QHideEvent, QResizeEvent, QShowEvent

TITLE = "Coronal and sagittal planes"
_EMPTY = "Open a scan or generate a volume\nto see its planes here."
_TILTED = (
    "Oblique scan, tilted by {:.0f} degrees: it is shown along its own planes, not along those of "
    "the body; positions are those in the patient."
)
_docks: WeakSet[PlanesDock] = WeakSet()


class PlanesDock(QWidget):
    """Coronal and sagittal planes beside the axial one; closed or hidden it leaves no trace."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.viewer = bare(napari_viewer)
        self.planes: Planes | None = None
        self._building = self._placed = False
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.timeout.connect(self._open)
        self._pictures: list[Picture] = []
        self._crosshairs: list[Crosshair] = []
        self.letters: list[EdgeLetters] = []
        self._had_scale_bar = False
        self.reading, self.note = Message(), Message()
        self.lines = QCheckBox("Crosshair")
        self.solid = QPushButton("Turn in 3D")
        self._controls = QBoxLayout(QBoxLayout.Direction.TopToBottom)
        self._stack = QSplitter(Qt.Orientation.Vertical)
        self._explain()
        self._lay_out()
        self._tell()
        _docks.add(self)

    @property
    def views(self) -> list[QtViewer]:
        """Main, coronal and sagittal view, as far as they are there."""
        return [*views_of(self.viewer), *(picture.view for picture in self._pictures)]

    def refresh(self) -> None:
        """Look again at all volumes, whose arrays have changed in place; GUI thread only."""
        for layer in our_layers(self.viewer):
            self.refresh_layer(layer)

    def refresh_layer(self, layer: Image) -> None:
        """Look again at one volume; cheap, and nothing while the dock is hidden."""
        if self.planes is not None:
            self.planes.refresh(bare(layer))
            self._tell()

    def showEvent(self, event: QShowEvent | None) -> None:
        """Build the two views, once the dock has found its place."""
        super().showEvent(event)
        self._soon.start()

    def hideEvent(self, event: QHideEvent | None) -> None:
        """Take them down at once, for a canvas that changes its window ends napari.

        A minimised window keeps them, and so does one that Qt hides to give it its first canvas.
        """
        super().hideEvent(event)
        minimised = event is not None and event.spontaneous()
        if self.planes is not None and not minimised and not self._building:
            self._close()

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Planes lie beside each other where the dock is wide, and so do the controls."""
        super().resizeEvent(event)
        wide = self.width() > self.height()
        self._stack.setOrientation(Qt.Orientation.Horizontal if wide else Qt.Orientation.Vertical)
        across, down = QBoxLayout.Direction.LeftToRight, QBoxLayout.Direction.TopToBottom
        self._controls.setDirection(across if wide else down)

    def _explain(self) -> None:
        self.reading.setToolTip(
            "Where the planes cross, in mm from the zero point of the scan towards the patient's "
            "right or left (R, L), front or back (A, P), head or feet (S, I), and the value there"
        )
        # Always two lines and never wider than the dock: the pictures below keep their size.
        self.reading.setWordWrap(False)
        self.reading.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.lines.setToolTip("Show in every view where the other two planes cut it")
        self.lines.setChecked(True)
        self.lines.toggled.connect(lambda _on: self._draw())
        self.solid.setToolTip(
            "Show the whole volume in the main view and turn it with the mouse; "
            "press again to return to the axial plane"
        )
        self.solid.setCheckable(True)
        self.solid.clicked.connect(lambda on: show_volume(self.viewer, "3D" if on else "axial"))

    def _lay_out(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(6, 6, 6, 6)
        windows = (self._window_button(name) for name in (*WINDOWS_HU, WHOLE_RANGE))
        self._controls.addLayout(_row(*windows))
        self._controls.addLayout(_row(self.lines, self.solid, HelpButton("planes")))
        column.addLayout(self._controls)
        column.addWidget(self.reading)
        column.addWidget(self.note)
        column.addWidget(self._stack, stretch=1)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)

    def _window_button(self, name: str) -> QPushButton:
        limits = WINDOWS_HU.get(name)
        shown = f"from {limits[0]:.0f} to {limits[1]:.0f} HU" if limits else "all there are"
        return button(
            name,
            f"Grey values {shown}, in all views; residuals, and MR but for Full, keep their own.",
            lambda: set_window(our_layers(self.viewer), name),
        )

    def _open(self) -> None:
        if self.planes is not None or not self.isVisible():
            return
        if self._moves_below():  # which shows it anew
            return
        self._building = True
        self.planes = Planes(self.viewer, self._follow, OneByOne(self).later)
        self._pictures = [Picture(plane, side) for plane, side in self.planes.sides.items()]
        for picture in self._pictures:
            self._stack.addWidget(picture)
        self._crosshairs = [Crosshair(view) for view in self.views]
        self.letters = [EdgeLetters(view) for view in self.views]
        scale_bar = self.viewer.canvas.overlays.scale_bar
        self._had_scale_bar, scale_bar.visible = scale_bar.visible, True
        for emitter in self._view_changes():
            emitter.connect(self._follow)
        self._building = False
        self._follow()

    def _moves_below(self) -> bool:
        """Leave the narrow side where napari opens docks, once; later the user knows better."""
        place = place_of(self)
        if self._placed or place is None:
            return False
        self._placed = True
        leave_corners(place)  # also where napari put it back below, as it was in another session
        if not is_at_right(place):
            return False
        put_below(place)
        self._soon.start()
        return True

    def _close(self) -> None:
        assert self.planes is not None
        for emitter in self._view_changes():
            emitter.disconnect(self._follow)
        self.viewer.canvas.overlays.scale_bar.visible = self._had_scale_bar
        for lines in self._crosshairs:
            lines.remove()
        for letters in self.letters:
            letters.remove()
        self.planes.close()
        for picture in self._pictures:
            picture.take_down()
        self.planes, self._pictures, self._crosshairs, self.letters = None, [], [], []

    def _view_changes(self) -> tuple[Any, ...]:
        events = self.viewer.dims.events
        return events.order, events.ndisplay

    def _follow(self) -> None:
        self.solid.setChecked(self.viewer.dims.ndisplay == 3)
        self._draw()
        self._tell()

    def _draw(self) -> None:
        if self.planes is not None:
            for lines in self._crosshairs:
                lines.draw(self.planes, shown=self.lines.isChecked())
            for letters in self.letters:
                letters.draw(self.planes)

    def _tell(self) -> None:
        """Say where the planes cross and what is there."""
        if self.planes is None or not self.planes.layers:
            self.reading.say(_EMPTY)
            self._say_tilt(0.0)
            return
        layers, point = self.planes.layers, self.planes.point
        here, place = value_at(layers, point), patient_point(layers, point)
        value = f"{here[0]:.0f} {here[1]} in {here[2]}" if here else "outside of what is shown"
        self.reading.say(f"Crosshair: {position_in_words(place.tolist())}\n{value}")
        degrees = tilt(layers, point)
        for picture in self._pictures:
            axis = RAS_AXIS[picture.plane.across]
            # A tilted plane lies at no one position.
            picture.say("tilted" if degrees else distance_in_words(axis, place[axis]))
        self._say_tilt(degrees)

    def _say_tilt(self, degrees: float) -> None:
        """A note while an oblique scan is shown; without one it takes no room."""
        self.note.say(_TILTED.format(degrees) if degrees else "", "warning")
        self.note.setVisible(bool(degrees))


def planes_of(viewer: ViewerModel) -> PlanesDock | None:
    """The dock of a viewer if it is open."""
    model = bare(viewer)
    return next((d for d in _docks if d.viewer is model and d.planes is not None), None)


def show_planes(viewer: ViewerModel) -> PlanesDock | None:
    """Open the dock, or bring it to the front; None for a viewer without a window.

    It opens below the axial plane, beside the docks at the right.
    """
    has_window = getattr(bare(viewer), "window", None) is not None
    return open_dock(viewer, PlanesDock, TITLE) if has_window else None


def _row(*widgets: QWidget) -> QHBoxLayout:
    row = QHBoxLayout()
    for widget in widgets:
        row.addWidget(widget)
    return row

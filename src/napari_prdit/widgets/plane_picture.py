"""One plane in the dock, and the crosshair that every view has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from napari.qt import QtViewer
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QLabel, QVBoxLayout, QWidget
from vispy.scene.visuals import Line, Text  # type: ignore[import-untyped]

from napari_prdit.looking import crosshair, edge_letters

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_prdit.ortho import Plane, Planes

_LINE_COLOUR = (1.0, 0.8, 0.0, 0.6)
_LETTER_COLOUR, _LETTER_SIZE, _FROM_EDGE = (0.1, 0.6, 1.0, 1.0), 11, 14.0
_ABOVE_LAYERS = 10_000


class Picture(QWidget):
    """One plane with its name."""

    def __init__(self, plane: Plane, side: ViewerModel) -> None:
        super().__init__()
        self.plane = plane
        self.view = QtViewer(side)
        self.view.setAcceptDrops(False)
        # Keys would act on this plane alone, and turn it.
        self.view.canvas.native.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.view.setMinimumSize(160, 160)
        self.caption = QLabel(plane.name)
        self.caption.setToolTip("Click in any view to move the planes there; drag to shift it")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.caption)
        column.addWidget(self.view, stretch=1)

    def say(self, where: str) -> None:
        """Name the plane and say where it lies."""
        self.caption.setText(f"{self.plane.name}, {where}")

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


class EdgeLetters:
    """R, L, A, P, S and I at the edges of one canvas: which side of the patient lies there."""

    def __init__(self, view: QtViewer) -> None:
        self._viewer, self._frame = view.viewer, view.canvas.view
        self._text = Text(
            ["", "", "", ""],
            pos=np.zeros((4, 2)),
            color=_LETTER_COLOUR,
            bold=True,
            font_size=_LETTER_SIZE,
            parent=self._frame,
        )
        self._text.order = _ABOVE_LAYERS
        self._text.set_gl_state("translucent", depth_test=False)
        self._frame.events.resize.connect(self._place)
        self._place()

    @property
    def places(self) -> dict[str, tuple[float, float]]:
        """(column, row) of each letter that is shown, in pixels of the canvas."""
        if not self._text.visible:
            return {}
        pairs = zip(self._text.text, self._text.pos, strict=True)
        return {letter: (float(at[0]), float(at[1])) for letter, at in pairs}

    def draw(self, planes: Planes) -> None:
        """Say what lies where, if a plane of our volumes is shown."""
        dims = self._viewer.dims
        displayed = [axis - (dims.ndim - 3) for axis in dims.displayed]
        flat = dims.ndisplay == 2 and bool(planes.layers) and min(displayed) >= 0
        self._text.visible = flat
        if flat:
            rows, columns = (str(way) for way in self._viewer.scene.camera.orientation2d)
            self._text.text = list(edge_letters(displayed, (rows, columns)))

    def remove(self) -> None:
        """Take the letters out of the canvas."""
        self._frame.events.resize.disconnect(self._place)
        self._text.parent = None

    def _place(self, _event: object = None) -> None:
        width, height = self._frame.size
        middle, centre = width / 2, height / 2
        near, right, bottom = _FROM_EDGE, width - _FROM_EDGE, height - _FROM_EDGE
        self._text.pos = [(near, centre), (right, centre), (middle, near), (middle, bottom)]


def views_of(viewer: ViewerModel) -> list[QtViewer]:
    """The canvas of a viewer's window; none for a bare model."""
    widgets = QApplication.allWidgets()
    return [w for w in widgets if isinstance(w, QtViewer) and w.viewer is viewer]

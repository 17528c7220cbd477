"""One plane in the dock, and the crosshair that every view has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.qt import QtViewer
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QGridLayout, QLabel, QWidget
from vispy.scene.visuals import Line  # type: ignore[import-untyped]

from napari_prdit.looking import crosshair

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_prdit.ortho import Plane, Planes

DIRECTIONS = ("up", "back", "left")  # in which z, y and x grow
_LETTERS = {"right": "R", "left": "L", "front": "A", "back": "P"}
_LINE_COLOUR = (1.0, 0.8, 0.0, 0.6)
_ABOVE_LAYERS = 10_000


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
        self.caption = QLabel(plane.name)
        self.caption.setToolTip("Click in any view to move the planes there; drag to shift it")
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        for place, edge in zip((0, 2), plane.edges, strict=True):
            grid.addWidget(_edge_label(edge), 1, place)
        grid.addWidget(self.caption, 0, 1)
        grid.addWidget(self.view, 1, 1)
        grid.setColumnStretch(1, 1)

    def say(self, mm: float) -> None:
        """Name the plane and where it lies."""
        self.caption.setText(f"{self.plane.name}, {placed(self.plane.across, mm)}")

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


def views_of(viewer: ViewerModel) -> list[QtViewer]:
    """The canvas of a viewer's window; none for a bare model."""
    widgets = QApplication.allWidgets()
    return [w for w in widgets if isinstance(w, QtViewer) and w.viewer is viewer]


def placed(axis: int, mm: float) -> str:
    """Position along one axis in words."""
    return f"{DIRECTIONS[axis]} {round(mm, 1) + 0.0:.1f} mm"


def _edge_label(edge: str) -> QLabel:
    made = QLabel(_LETTERS[edge])
    made.setToolTip(f"Towards the patient's {edge}")
    return made

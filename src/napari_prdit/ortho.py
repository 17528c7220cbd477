"""Coronal and sagittal companions of a viewer that shows axial planes.

napari has no orthogonal views. Each plane is therefore a viewer model of its own, with a twin of
every image layer of ours that looks at the same array: nothing is copied, and a volume that
changes in place only has to be looked at again.

Positions are (z, y, x) in mm: superior, posterior, left. Superior is up, the patient's right is on
the left of a coronal plane, and the front is on the left of a sagittal one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image, Layer
from napari.utils.events import disconnect_events

from napari_prdit.layers import OURS

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence

    from napari.utils.events import Event
    from numpy.typing import NDArray

    Point = tuple[float, float, float]

# What twins have in common with their layer; each name is also that of its event.
SHARED = (
    *("name", "data", "scale", "translate", "visible", "opacity", "blending"),
    *("contrast_limits", "gamma", "colormap", "interpolation2d"),
)
WINDOWS_HU = {"Lung": (-1000.0, 200.0), "Soft tissue": (-160.0, 240.0), "Bone": (-200.0, 1000.0)}
WHOLE_RANGE = "Full"
# Kinds of our layers that hold no HU of tissue, and keep their own limits.
NO_TISSUE = ("residual", "spread")
DIRECTIONS = ("up", "back", "left")
_STILL_PIXELS = 4.0
_FROM_THE_FRONT = ((0.0, 1.0, 0.0), (1.0, 0.0, 0.0))  # towards the back, superior up


@dataclass(frozen=True)
class Plane:
    """A plane of the body.

    Attributes
    ----------
    name : as radiologists call it
    across : the axis it moves along, of (z, y, x)
    edges : what lies at the left and the right edge of its picture
    """

    name: str
    across: int
    edges: tuple[str, str]

    @property
    def order(self) -> tuple[int, ...]:
        """Axes as napari wants them: the one across, then rows, then columns."""
        return (self.across, *(axis for axis in range(3) if axis != self.across))


SIDES = (
    Plane("Coronal", 1, ("right", "left")),
    Plane("Sagittal", 2, ("front", "back")),
)


def is_ours(layer: Layer) -> bool:
    """Whether a layer is one of our volumes."""
    plain = isinstance(layer, Image) and layer.ndim == 3 and not (layer.rgb or layer.multiscale)
    return plain and OURS in layer.metadata


def our_layers(viewer: ViewerModel) -> list[Image]:
    """Our volumes in a viewer, from bottom to top."""
    return [layer for layer in viewer.layers if is_ours(layer)]


def set_window(layers: Iterable[Image], name: str) -> None:
    """Show layers of HU through one of `WINDOWS_HU`, or each in its `WHOLE_RANGE`."""
    for layer in layers:
        if layer.metadata[OURS].get("kind") not in NO_TISSUE:
            layer.contrast_limits = WINDOWS_HU.get(name) or _whole_range(layer.data)


def _whole_range(voxels: NDArray[Any]) -> tuple[float, float]:
    low, high = float(np.nanmin(voxels)), float(np.nanmax(voxels))
    return low, max(high, low + 1.0)


def show_volume(viewer: ViewerModel, view: Literal["axial", "3D"]) -> None:
    """Show our volumes as axial planes, or whole and from the front, to be turned."""
    viewer.dims.ndisplay = 3 if view == "3D" else 2
    if view == "3D":
        for layer in our_layers(viewer):
            layer.rendering = "attenuated_mip"
        viewer.scene.camera.set_view_direction(*_FROM_THE_FRONT)
    viewer.fit_to_view()


def value_at(layers: Sequence[Image], point: Point) -> tuple[float, str] | None:
    """HU at a point and the name of the topmost visible layer there; None outside of all."""
    for layer in reversed(layers):
        index = np.round(layer.world_to_data(point)).astype(int)
        if layer.visible and np.all((index >= 0) & (index < layer.data.shape)):
            return float(layer.data[tuple(index)]), layer.name
    return None


def crosshair(
    point: Sequence[float], bounds: Sequence[tuple[float, float]], displayed: Sequence[int]
) -> NDArray[np.float32]:
    """Ends of lines through a point along each displayed axis.

    Parameters
    ----------
    point, bounds
        In mm, for all axes.
    displayed
        Axes of the picture, the last being its columns.

    Returns
    -------
    (2 * n, 3) array for n displayed axes
        Two ends for each line, (column, row, depth) as canvases count; depth is 0 in a plane.
    """
    ends = np.zeros((2 * len(displayed), 3), dtype=np.float32)
    for number, axis in enumerate(reversed(displayed)):
        ends[:, number] = point[axis]
        ends[2 * number : 2 * number + 2, number] = bounds[axis]
    return ends


def _without_echo(act: Callable[[Planes, Event], None]) -> Callable[[Planes, Event], None]:
    """Let the outermost change through; what it sets in motion is not answered."""

    @wraps(act)
    def acted(self: Planes, event: Event) -> None:
        if self.busy:
            return
        self.busy = True
        try:
            act(self, event)
        finally:
            self.busy = False
        self.changed()

    return acted


class Planes:
    """Coronal and sagittal models that follow a viewer, and lead it where one clicks.

    Parameters
    ----------
    main
        The viewer whose volumes are shown.
    changed
        Is called after point, layers or their looks have changed.

    Attributes
    ----------
    sides : the viewer model of each plane
    """

    def __init__(self, main: ViewerModel, changed: Callable[[], None]) -> None:
        self.main = main
        self.changed = changed
        self.busy = False
        self.sides = {plane: _side_view(main.theme) for plane in SIDES}
        self._families: dict[Image, tuple[Image, ...]] = {}
        for emitter in self._list_changes():
            emitter.connect(self._match)
        for viewer in self._viewers():
            viewer.dims.events.point.connect(self._follow)
            viewer.mouse_drag_callbacks.append(self._click)
        self._match(None)

    @property
    def point(self) -> Point:
        """Where the planes cross, in mm."""
        z, y, x = self.main.dims.point[-3:] if self.main.dims.ndim >= 3 else (0.0, 0.0, 0.0)
        return z, y, x

    @property
    def layers(self) -> list[Image]:
        """Our volumes that have twins, from bottom to top."""
        return [layer for layer in our_layers(self.main) if layer in self._families]

    @property
    def bounds(self) -> list[tuple[float, float]]:
        """Where our volumes begin and end along (z, y, x), in mm."""
        ranges = self.sides[SIDES[0]].dims.range
        return [(start - step / 2, stop + step / 2) for start, stop, step in ranges]

    def move_to(self, point: Sequence[float]) -> None:
        """Let the planes cross at a point, or at the nearest one of our volumes."""
        if self._families:
            inside = np.clip(point[-3:], *np.transpose(self.bounds))
            _put(self.main, inside.tolist())

    def refresh(self, layer: Image) -> None:
        """Look again at a volume that has changed in place."""
        for twin in self._families.get(layer, ()):
            twin.refresh(extent=False, thumbnail=False, highlight=False)

    def close(self) -> None:
        """Leave the viewer as if nobody had ever followed it."""
        for emitter in self._list_changes():
            emitter.disconnect(self._match)
        for viewer in self._viewers():
            viewer.dims.events.point.disconnect(self._follow)
            viewer.mouse_drag_callbacks.remove(self._click)
        for layer in list(self._families):
            self._part(layer)

    def _viewers(self) -> tuple[ViewerModel, ...]:
        return (self.main, *self.sides.values())

    def _list_changes(self) -> tuple[Any, ...]:
        events = self.main.layers.events
        return events.inserted, events.removed, events.reordered, self.main.events.theme

    @_without_echo
    def _match(self, event: Event) -> None:
        """Twins for every volume of ours, for none else, in the same order."""
        ours = our_layers(self.main)
        for layer in [layer for layer in self._families if layer not in ours]:
            self._part(layer)
        for layer in [layer for layer in ours if layer not in self._families]:
            self._pair(layer)
        for number, (plane, side) in enumerate(self.sides.items()):
            side.theme = self.main.theme
            for place, layer in enumerate(ours):
                side.layers.move(side.layers.index(self._families[layer][number]), place)
            if ours:
                side.dims.order = plane.order
        self._meet()

    def _pair(self, layer: Image) -> None:
        twins = tuple(Layer.create(*layer.as_layer_data_tuple()) for _ in self.sides)
        for side, twin in zip(self.sides.values(), twins, strict=True):
            side.layers.append(twin)
        self._families[layer] = twins
        for one in (layer, *twins):
            for name in SHARED:
                getattr(one.events, name).connect(self._share)

    def _part(self, layer: Image) -> None:
        disconnect_events(layer.events, self)
        for side, twin in zip(self.sides.values(), self._families.pop(layer), strict=True):
            side.layers.remove(twin)

    @_without_echo
    def _share(self, event: Event) -> None:
        """What one of a family shows anew, the others show too."""
        for layer, twins in self._families.items():
            if event.source in (layer, *twins):
                for other in (layer, *twins):
                    if other is not event.source:
                        setattr(other, event.type, getattr(event.source, event.type))
        self._meet()

    @_without_echo
    def _follow(self, event: Event) -> None:
        for viewer in self._viewers():
            if viewer.dims is not event.source:
                _put(viewer, event.source.point[-3:])

    def _meet(self) -> None:
        for side in self.sides.values():
            _put(side, self.point)

    def _click(self, viewer: ViewerModel, event: Event) -> Generator[None]:
        """Move to where the left button is pressed and let go at the same place."""
        active = viewer.layers.selection.active
        looking = active is None or active.mode == "pan_zoom"
        if not looking or event.button != 1 or event.modifiers or viewer.dims.ndisplay != 2:
            return
        pressed = np.array(event.pos)
        yield
        while event.type == "mouse_move":
            yield
        if np.linalg.norm(event.pos - pressed) < _STILL_PIXELS:
            self.move_to(event.position)


def _side_view(theme: str) -> ViewerModel:
    """An empty model with superior up, a scale bar, and none of the gestures that assume axial."""
    made = ViewerModel()
    made.theme = theme
    made.scene.camera.orientation2d = ("up", "right")
    made.canvas.overlays.scale_bar.visible = True
    made.mouse_drag_callbacks.clear()
    made.mouse_double_click_callbacks.clear()
    made.dims.events.range.connect(made.fit_to_view)
    return made


def _put(viewer: ViewerModel, point: Sequence[float]) -> None:
    """Set the last three coordinates of a viewer that has them."""
    if viewer.dims.ndim >= 3:
        viewer.dims.point = (*viewer.dims.point[:-3], *point)

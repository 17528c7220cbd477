"""Coronal and sagittal companions of a viewer that shows axial planes.

napari has no orthogonal views. Each plane is therefore a viewer model of its own, with a twin of
every volume of ours that looks at the same array: nothing is copied, and what changes in place
only has to be looked at again.

Positions are (z, y, x) in mm: superior, posterior, left. Superior is up, the patient's right is on
the left of a coronal plane, and the front is on the left of a sagittal one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Layer
from napari.utils.events import disconnect_events

from napari_prdit.looking import our_layers

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from napari.layers import Image
    from napari.utils.events import Event

# What twins have in common with their layer; each name is also that of its event.
SHARED = (
    *("name", "data", "scale", "translate", "visible", "opacity", "blending"),
    *("contrast_limits", "gamma", "colormap", "interpolation2d"),
)
_STILL_PIXELS = 4.0


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


SIDES = (Plane("Coronal", 1, ("right", "left")), Plane("Sagittal", 2, ("front", "back")))


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
        Is called after the point, the layers or their looks have changed.

    Attributes
    ----------
    sides : the viewer model of each plane
    busy : whether a change is being passed on
    """

    def __init__(self, main: ViewerModel, changed: Callable[[], None]) -> None:
        self.main = main
        self.changed = changed
        self.busy = False
        self.sides = {plane: _side_view() for plane in SIDES}
        self._families: dict[Image, tuple[Image, ...]] = {}
        for emitter in self._list_changes():
            emitter.connect(self._match)
        for viewer in self._viewers():
            viewer.dims.events.point.connect(self._follow)
            viewer.mouse_drag_callbacks.append(self._click)
        self._match(None)

    @property
    def layers(self) -> list[Image]:
        """Our volumes that have twins, from bottom to top."""
        return [layer for layer in our_layers(self.main) if layer in self._families]

    @property
    def point(self) -> tuple[float, ...]:
        """Where the planes cross, (z, y, x) in mm."""
        return tuple(self.main.dims.point[-3:])

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
            side.canvas.overlays.scale_bar.visible = bool(ours)
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
        twins = self._families.pop(layer)
        for one in (layer, *twins):
            disconnect_events(one.events, self)
        for side, twin in zip(self.sides.values(), twins, strict=True):
            side.layers.remove(twin)

    @_without_echo
    def _share(self, event: Event) -> None:
        """What one of a family shows anew, the others show too."""
        families = ((layer, *twins) for layer, twins in self._families.items())
        for other in next(family for family in families if event.source in family):
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


def _side_view() -> ViewerModel:
    """An empty model with superior up and no gesture that assumes axial planes."""
    made = ViewerModel()
    made.scene.camera.orientation2d = ("up", "right")
    made.mouse_drag_callbacks.clear()
    made.mouse_double_click_callbacks.clear()
    for emitter in (made.dims.events.range, made.canvas.events.size):
        emitter.connect(made.fit_to_view)
    return made


def _put(viewer: ViewerModel, point: Sequence[float]) -> None:
    """Set the last three coordinates of a viewer that has them."""
    if viewer.dims.ndim >= 3 and len(point) == 3:
        viewer.dims.point = (*viewer.dims.point[:-3], *point)

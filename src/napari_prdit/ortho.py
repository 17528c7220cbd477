"""Coronal and sagittal companions of a viewer that shows axial planes.

napari has no orthogonal views. Each plane is therefore a viewer model of its own, with a twin of
every volume of ours that looks at the same array: nothing is copied, and what changes in place
only has to be looked at again.

Positions are (z, y, x) in mm: superior, posterior, left. Superior is up, the patient's right is on
the left of a coronal plane, and the front is on the left of a sagittal one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial, wraps
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
    """

    name: str
    across: int

    @property
    def order(self) -> tuple[int, ...]:
        """Axes as napari wants them: the one across, then rows, then columns."""
        return (self.across, *(axis for axis in range(3) if axis != self.across))


SIDES = (Plane("Coronal", 1), Plane("Sagittal", 2))


def _without_echo(act: Callable[[Planes, Any], None]) -> Callable[[Planes, Any], None]:
    """Let the outermost change through; what it sets in motion is not answered."""

    @wraps(act)
    def acted(self: Planes, what: Any) -> None:
        if self.busy:
            return
        self.busy = True
        try:
            act(self, what)
        finally:
            self.busy = False
        self.changed()

    return acted


def _at_once(act: Callable[[], None]) -> None:
    act()


class Planes:
    """Coronal and sagittal models that follow a viewer, and lead it where one clicks.

    Parameters
    ----------
    main
        The viewer whose volumes are shown.
    changed
        Is called after the point, the layers or their looks have changed.
    soon
        Calls what it is given when there is time. The first picture of a canvas costs a third of a
        second, so the twins of a new layer need not keep the layer itself from being painted.

    Attributes
    ----------
    sides : the viewer model of each plane
    busy : whether a change is being passed on
    """

    def __init__(
        self,
        main: ViewerModel,
        changed: Callable[[], None],
        soon: Callable[[Callable[[], None]], None] = _at_once,
    ) -> None:
        self.main = main
        self.changed = changed
        self._soon = soon
        self._open = True
        self.busy = False
        self.sides = {plane: _side_view() for plane in SIDES}
        self._twins: dict[Plane, dict[Image, Image]] = {plane: {} for plane in SIDES}
        for emitter in self._list_changes():
            emitter.connect(self._match_soon)
        for viewer in self._viewers():
            viewer.dims.events.point.connect(self._follow)
            viewer.mouse_drag_callbacks.append(self._click)
        for plane in self.sides:
            self._match(plane)

    @property
    def layers(self) -> list[Image]:
        """Our volumes that have twins, from bottom to top; none until the viewer has three axes."""
        if self.main.dims.ndim < 3:  # it learns of a layer after us
            return []
        paired = [layer for twins in self._twins.values() for layer in twins]
        return [layer for layer in our_layers(self.main) if layer in paired]

    @property
    def point(self) -> tuple[float, ...]:
        """Where the planes cross, (z, y, x) in mm."""
        return tuple(self.main.dims.point[-3:])

    @property
    def bounds(self) -> list[tuple[float, float]]:
        """Where our volumes, of which there is at least one, begin and end along (z, y, x), in mm.

        The layers know, while views get and lose their twins one after the other.
        """
        extents = [layer.extent for layer in self.layers]
        lows = np.min([extent.world[0] - extent.step / 2 for extent in extents], axis=0)
        highs = np.max([extent.world[1] + extent.step / 2 for extent in extents], axis=0)
        return list(zip(lows.tolist(), highs.tolist(), strict=True))

    def move_to(self, point: Sequence[float]) -> None:
        """Let the planes cross at a point, or at the nearest one of our volumes."""
        if self.layers:
            inside = np.clip(point[-3:], *np.transpose(self.bounds))
            _put(self.main, inside.tolist())

    def refresh(self, layer: Image) -> None:
        """Look again at a volume that has changed in place."""
        for twin in self._family(layer)[1:]:
            twin.refresh(extent=False, thumbnail=False, highlight=False)

    def close(self) -> None:
        """Leave the viewer as if nobody had ever followed it."""
        self._open = False
        for emitter in self._list_changes():
            emitter.disconnect(self._match_soon)
        for viewer in self._viewers():
            viewer.dims.events.point.disconnect(self._follow)
            viewer.mouse_drag_callbacks.remove(self._click)
        for plane, twins in self._twins.items():
            for layer in list(twins):
                self._part(plane, layer)

    def _viewers(self) -> tuple[ViewerModel, ...]:
        return (self.main, *self.sides.values())

    def _list_changes(self) -> tuple[Any, ...]:
        events = self.main.layers.events
        return events.inserted, events.removed, events.reordered, self.main.events.theme

    def _match_soon(self, _event: Event) -> None:
        for plane in self.sides:
            self._soon(partial(self._match_if_open, plane))

    def _match_if_open(self, plane: Plane) -> None:
        if self._open:
            self._match(plane)

    @_without_echo
    def _match(self, plane: Plane) -> None:
        """Twins for every volume of ours, for none else, in the same order."""
        ours, side, twins = our_layers(self.main), self.sides[plane], self._twins[plane]
        for layer in [layer for layer in twins if layer not in ours]:
            self._part(plane, layer)
        for layer in [layer for layer in ours if layer not in twins]:
            self._pair(plane, layer)
        side.theme = self.main.theme
        side.canvas.overlays.scale_bar.visible = bool(ours)
        for place, layer in enumerate(ours):
            side.layers.move(side.layers.index(twins[layer]), place)
        if ours:
            side.dims.order = plane.order
        self._meet()

    def _pair(self, plane: Plane, layer: Image) -> None:
        twin = Layer.create(*layer.as_layer_data_tuple())
        self.sides[plane].layers.append(twin)
        self._twins[plane][layer] = twin
        for one in (layer, twin):
            for name in SHARED:
                getattr(one.events, name).connect(self._share)

    def _part(self, plane: Plane, layer: Image) -> None:
        twin = self._twins[plane].pop(layer)
        for one in (layer, twin):
            disconnect_events(one.events, self)
        self.sides[plane].layers.remove(twin)

    def _family(self, member: Image) -> list[Image]:
        """A volume and its twins, found by any of them."""
        for layer in our_layers(self.main):
            twins = [twins[layer] for twins in self._twins.values() if layer in twins]
            if member is layer or member in twins:
                return [layer, *twins]
        return []

    @_without_echo
    def _share(self, event: Event) -> None:
        """What one of a family shows anew, the others show too."""
        for other in self._family(event.source):
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

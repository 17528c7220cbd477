"""A set of layers that belong together: used again by the next result, unless it was kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Layer

from napari_prdit.layers import OURS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari.components import ViewerModel
    from napari.layers import Image

    from napari_prdit.layers import LayerData


class LayerSet:
    """Image layers of a viewer by key, of which one is visible at a time.

    Layers that the user deleted come back with the next result. Those of images keep the window
    the user gave them.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self.viewer = viewer
        self._layers: dict[str, Image] = {}

    @property
    def present(self) -> list[Image]:
        """The layers of the set that nobody deleted."""
        return [layer for key in self._layers if (layer := self.get(key)) is not None]

    def get(self, key: str) -> Image | None:
        """The layer of a key; None if there is none, or it was deleted."""
        layer = self._layers.get(key)
        return layer if layer is not None and layer in self.viewer.layers else None

    def put(self, key: str, made: LayerData) -> Image:
        """Show a result in the layer of a key, or in a new one."""
        data, attributes, _ = made
        layer = self.get(key)
        if layer is None:
            layer = self._layers[key] = Layer.create(*made)
            self.viewer.add_layer(layer)
            return layer
        if attributes["colormap"] != "gray" or _window(layer.metadata) != _window(
            attributes["metadata"]
        ):
            layer.contrast_limits = attributes["contrast_limits"]
        layer.data = data
        for name in ("scale", "translate"):
            setattr(layer, name, attributes[name])
        _describe(layer, attributes)
        return layer

    def update(self, key: str, made: LayerData) -> None:
        """Fill a layer in place with what comes about; nothing happens if it was deleted."""
        from napari_prdit.widgets.planes import planes_of

        data, attributes, _ = made
        layer = self.get(key)
        if layer is None or layer.data.shape != data.shape:
            return
        np.copyto(layer.data, data)
        _describe(layer, attributes)
        layer.refresh(extent=False, thumbnail=False, highlight=False)
        planes = planes_of(self.viewer)
        if planes is not None:
            planes.refresh_layer(layer)

    def drop(self, key: str) -> None:
        """Take a layer away."""
        layer = self.get(key)
        if layer is not None:
            self.viewer.layers.remove(layer)
        self._layers.pop(key, None)

    def flip(self, visible: str) -> bool:
        """Show this one alone; False if its layer is not there."""
        for key, layer in self._layers.items():
            layer.visible = key == visible
        shown = self.get(visible)
        if shown is not None:
            self.viewer.layers.selection.active = shown  # its value is in napari's status line
        return shown is not None

    def keep(self, suffix: str) -> int:
        """Leave the set to the user, renamed; the next result makes its own. Number of layers."""
        present = self.present
        for layer in present:
            layer.name = f"{layer.name}, {suffix}"
        self._layers = {}
        return len(present)

    def look_inside(self, key: str) -> None:
        """Move to the middle of a layer if the plane at hand does not cut it."""
        layer = self.get(key)
        if layer is None:
            return
        low, high = layer.extent.world
        point = np.array(self.viewer.dims.point[-3:])
        if np.any((point < low) | (point > high)):
            self.viewer.dims.point = (*self.viewer.dims.point[:-3], *((low + high) / 2))


def _describe(layer: Image, attributes: Mapping[str, Any]) -> None:
    layer.metadata = attributes["metadata"]
    if layer.name != attributes["name"]:
        layer.name = attributes["name"]


def _window(metadata: Mapping[str, Any]) -> Any:
    return metadata.get(OURS, {}).get("window_hu")

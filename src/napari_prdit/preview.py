"""Results as layers: filled in place while they emerge, as often as painting allows."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
from qtpy.compat import isalive
from qtpy.QtCore import QObject, QTimer

from napari_prdit.layers import OURS, image_layer
from prdit_core.provenance import CLASS, ESTIMATE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from napari.components import ViewerModel
    from napari.layers import Image

    from prdit_core.volume import Volume

NAME = "PRDiT volume"
VOLUME, MEAN, SPREAD, REGENERATED = "volume", "mean", "spread", "regenerated"
# Which layers hold results that the next run replaces, whichever dock made them.
_kinds: WeakKeyDictionary[Image, str] = WeakKeyDictionary()


class ResultLayer:
    """The layer of one kind of result: reused by the next run of the same grid, unless kept.

    It belongs to the viewer, not to a dock: a dock that is opened anew goes on with it.

    Parameters
    ----------
    kind : `VOLUME`, `REGENERATED`, `MEAN` or `SPREAD`
    """

    def __init__(self, viewer: ViewerModel, kind: str) -> None:
        self.viewer = viewer
        self.kind = kind
        self._may_make = False

    @property
    def layer(self) -> Image | None:
        """The layer, if there is one in the viewer."""
        ours = (layer for layer in self.viewer.layers if _kinds.get(layer) == self.kind)
        return next(ours, None)

    def begin(self) -> None:
        """Let the next picture make a layer; later ones do not, since users may delete it."""
        self._may_make = True

    def show(self, volume: Volume) -> None:
        """A picture with what it is; nothing happens if the layer was deleted meanwhile."""
        layer = self.layer
        if self._may_make or (layer is not None and _fits(layer, volume)):
            layer = self._filled(layer, volume)
            layer.refresh(extent=False, thumbnail=False, highlight=False)
            self._refresh_planes(layer)
        self._may_make = False

    def finish(self, volume: Volume) -> Image:
        """The final result, chosen and visible; a deleted layer comes back."""
        layer = self._filled(self.layer, volume)
        layer.visible = True
        self.viewer.layers.selection.active = layer
        layer.refresh()
        self._refresh_planes(layer)
        return layer

    def keep(self) -> str | None:
        """Leave the layer to the user under the name of what it is; the next run makes its own."""
        layer = self.layer
        if layer is None:
            return None
        layer.name = kept_name(layer.metadata.get(OURS, {}))
        del _kinds[layer]
        return str(layer.name)

    def _filled(self, layer: Image | None, volume: Volume) -> Image:
        data, attributes, _ = image_layer(volume, _name(volume.metadata))
        attributes |= self._look(volume)
        if layer is not None and _fits(layer, volume):
            np.copyto(layer.data, data)
            layer.metadata = attributes["metadata"]
            for place in ("scale", "translate"):
                if not np.array_equal(getattr(layer, place), attributes[place]):
                    setattr(layer, place, attributes[place])
            if self.kind != VOLUME:
                layer.name = attributes["name"]
            if self.kind == SPREAD or list(layer.contrast_limits_range) != list(_range(attributes)):
                self._set_limits(layer, attributes)
            return layer
        if layer is not None:
            self.viewer.layers.remove(layer)
        layer = self.viewer.add_image(np.array(data), **attributes)
        self._set_limits(layer, attributes)
        _kinds[layer] = self.kind
        if self.kind == VOLUME:
            self._look_at_the_middle()
        return layer

    def _look(self, volume: Volume) -> dict[str, Any]:
        if self.kind == SPREAD:
            most = float(volume.voxels_hu.max()) or 1.0
            return {"colormap": "inferno", "contrast_limits": (0.0, most)}
        if self.kind == REGENERATED:
            return {}  # as the scan, of which most is the same
        window = tuple(volume.metadata["window_hu"])
        # Coarse voxels look like what they are: samples.
        return {"interpolation2d": "linear", "contrast_limits": window}

    def _set_limits(self, layer: Image, attributes: Mapping[str, Any]) -> None:
        layer.contrast_limits_range = attributes["contrast_limits"]
        layer.contrast_limits = attributes["contrast_limits"]

    def _refresh_planes(self, layer: Image) -> None:
        from napari_prdit.widgets.planes import planes_of

        planes = planes_of(self.viewer)
        if planes is not None:
            planes.refresh_layer(layer)

    def _look_at_the_middle(self) -> None:
        dims = self.viewer.dims
        dims.point = tuple((low + high) / 2 for low, high, _ in dims.range)
        if hasattr(self.viewer, "reset_view"):
            self.viewer.reset_view()


def kept_name(metadata: Mapping[str, Any]) -> str:
    """What a volume is, in a few words."""
    words = ["regenerated,"] if "region" in metadata else []
    words += [f"PRDiT {metadata[CLASS]}" if CLASS in metadata else "PRDiT"]
    words += [f"seed {metadata.get('seed', '?')}"]
    words += [f"index {metadata['index']}"] if "index" in metadata else []
    words += [f"branch {text}" for text in metadata.get("branches", ())]
    words += [f"step {metadata[ESTIMATE]}"] if ESTIMATE in metadata else []
    words += [f"{metadata['kind']} of {metadata['volumes']}"] if "volumes" in metadata else []
    return " ".join(words)


def _name(metadata: Mapping[str, Any]) -> str:
    if "volumes" in metadata:
        return f"{metadata['kind']} of {metadata['volumes']} volumes"
    return "regenerated scan" if "region" in metadata else NAME


def _fits(layer: Image, volume: Volume) -> bool:
    """Whether the layer can be filled with the volume; another type of numbers would be rounded."""
    same_type: bool = layer.data.dtype == volume.voxels_hu.dtype
    return same_type and layer.data.shape == volume.shape


def _range(attributes: Mapping[str, Any]) -> tuple[float, float]:
    low, high = attributes["contrast_limits"]
    return float(low), float(high)


class Refresher(QObject):
    """Calls `paint` at a rate that leaves the window at least as much time as painting takes.

    `paint` may handle events that wait, as bars of napari do: it may be stopped or deleted there.
    """

    def __init__(self, paint: Callable[[], Any], frames_per_second: float, parent: QObject) -> None:
        super().__init__(parent)
        self._paint = paint
        self._least_ms = 1000.0 / frames_per_second
        self._going = False
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._tick)

    def start(self) -> None:
        """Begin, or go on."""
        self._going = True
        self._timer.start(round(self._least_ms))

    def stop(self) -> None:
        """No more calls."""
        self._going = False
        self._timer.stop()

    def _tick(self) -> None:
        begun = time.perf_counter()
        self._paint()
        spent_ms = 1000 * (time.perf_counter() - begun)
        if self._going and isalive(self):
            self._timer.start(round(max(self._least_ms, 2 * spent_ms)))

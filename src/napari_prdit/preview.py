"""The live picture: an image layer filled in place, as often as painting allows."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer

from napari_prdit.layers import OURS, image_layer
from prdit_core.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.components import ViewerModel
    from napari.layers import Image
    from numpy.typing import NDArray

    from napari_prdit.generation import Prepared

NAME = "PRDiT volume"


class LiveLayer:
    """The result layer of a run: reused by the next run of the same grid, unless it was kept."""

    def __init__(self, viewer: ViewerModel) -> None:
        self.viewer = viewer
        self._layer: Image | None = None

    @property
    def layer(self) -> Image | None:
        """The layer, while it is still in the viewer."""
        return self._layer if self._layer in self.viewer.layers else None

    def prepare(self, run: Prepared) -> None:
        """Have a layer of this grid and window, filled with air."""
        window = run.intensity.window_hu
        air = np.full(run.shape, window[0], dtype=np.float32)
        volume = Volume(air, run.affine, {})
        data, attributes, _ = image_layer(volume, NAME)
        attributes["interpolation2d"] = "linear"  # coarse voxels look like what they are: samples
        layer = self.layer
        if layer is not None and layer.data.shape == run.shape:
            np.copyto(layer.data, air)
            layer.scale, layer.translate = attributes["scale"], attributes["translate"]
        else:
            if layer is not None:
                self.viewer.layers.remove(layer)
            self._layer = layer = self.viewer.add_image(data, **attributes)
            self._look_at_the_middle()
        layer.contrast_limits_range = window
        layer.contrast_limits = window
        layer.metadata = {OURS: {"kind": "image"}}
        self._refresh(layer)

    def show(self, voxels_hu: NDArray[np.float32]) -> None:
        """Another picture of the same grid; nothing happens if the layer was deleted."""
        layer = self.layer
        if layer is not None and layer.data.shape == voxels_hu.shape:
            np.copyto(layer.data, voxels_hu)
            self._refresh(layer)

    def finish(self, volume: Volume) -> Image:
        """The final volume with its provenance; a deleted layer comes back."""
        data, attributes, _ = image_layer(volume, NAME)
        layer = self.layer
        if layer is None:
            self._layer = layer = self.viewer.add_image(np.array(data), **attributes)
        else:
            np.copyto(layer.data, data)
            layer.metadata = attributes["metadata"]
            layer.refresh()
            self._refresh_planes(layer)
        return layer

    def keep(self, name: str) -> None:
        """Leave the layer to the user under another name; the next run makes its own."""
        if self.layer is not None:
            self.layer.name = name
        self._layer = None

    def _refresh(self, layer: Image) -> None:
        layer.refresh(extent=False, thumbnail=False, highlight=False)
        self._refresh_planes(layer)

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


class Refresher(QObject):
    """Calls `paint` at a rate that leaves the window at least as much time as painting takes."""

    def __init__(self, paint: Callable[[], Any], frames_per_second: float, parent: QObject) -> None:
        super().__init__(parent)
        self._paint = paint
        self._least_ms = 1000.0 / frames_per_second
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._tick)

    def start(self) -> None:
        """Begin, or go on."""
        self._timer.start(round(self._least_ms))

    def stop(self) -> None:
        """No more calls."""
        self._timer.stop()

    def _tick(self) -> None:
        begun = time.perf_counter()
        self._paint()
        spent_ms = 1000 * (time.perf_counter() - begun)
        self._timer.start(round(max(self._least_ms, 2 * spent_ms)))

"""Ways to look at our volumes: through a window of grey values, in 3D, at and around a point."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from napari.layers import Image

from napari_prdit.layers import OURS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from napari.components import ViewerModel
    from napari.layers import Layer
    from numpy.typing import NDArray

WINDOWS_HU = {"Lung": (-1000.0, 200.0), "Soft tissue": (-160.0, 240.0), "Bone": (-200.0, 1000.0)}
WHOLE_RANGE = "Full"
# Kinds of our layers that hold no HU of tissue, and keep their own limits.
NO_TISSUE = ("residual", "spread")
_FROM_THE_FRONT = ((0.0, 1.0, 0.0), (1.0, 0.0, 0.0))  # towards the back, superior up


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


def show_volume(viewer: ViewerModel, view: Literal["axial", "3D"]) -> None:
    """Show our volumes as axial planes, or whole and from the front, to be turned."""
    point = viewer.dims.point
    viewer.dims.ndisplay = 3 if view == "3D" else 2
    viewer.dims.point = point  # napari takes the centre of its 3D camera instead
    if view == "3D":
        for layer in our_layers(viewer):
            layer.rendering = "attenuated_mip"
        viewer.scene.camera.set_view_direction(*_FROM_THE_FRONT)
    viewer.fit_to_view()


def value_at(layers: Sequence[Image], point: Sequence[float]) -> tuple[float, str] | None:
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


def _whole_range(voxels: NDArray[Any]) -> tuple[float, float]:
    low, high = float(np.nanmin(voxels)), float(np.nanmax(voxels))
    return low, max(high, low + 1.0)

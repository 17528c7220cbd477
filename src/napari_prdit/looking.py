"""Ways to look at our volumes: through a window of grey values, in 3D, at and around a point."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from napari.layers import Image

from napari_prdit.layers import OURS, SINOGRAM, layer_volume
from prdit_core.data.grid import oblique_degrees
from prdit_core.errors import InputRejected
from prdit_core.intensity import HU
from prdit_core.provenance import UNITS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from napari.components import ViewerModel
    from napari.layers import Layer
    from numpy.typing import NDArray

WINDOWS_HU = {"Lung": (-1000.0, 200.0), "Soft tissue": (-160.0, 240.0), "Bone": (-200.0, 1000.0)}
WHOLE_RANGE = "Full"
# Kinds of our layers that hold no HU of tissue, and keep their own limits.
NO_TISSUE = ("residual", "spread", "imagined")
# Letters of the two ways along each axis of RAS+, the positive one first.
_WAYS = (("R", "L"), ("A", "P"), ("S", "I"))
_RIGHT, _ANTERIOR, _SUPERIOR = range(3)
RAS_AXIS = {0: _SUPERIOR, 1: _ANTERIOR, 2: _RIGHT}  # by the axis of our world, (z, y, x)
# What lies where (z, y, x) of our world are low, and where they are high.
_ENDS = (("I", "S"), ("A", "P"), ("R", "L"))
_OBLIQUE_DEGREES = 0.5
_FROM_THE_FRONT = ((0.0, 1.0, 0.0), (1.0, 0.0, 0.0))  # towards the back, superior up


def is_ours(layer: Layer) -> bool:
    """Whether a layer is one of our volumes."""
    plain = isinstance(layer, Image) and layer.ndim == 3 and not (layer.rgb or layer.multiscale)
    kind = layer.metadata.get(OURS, {}).get("kind")
    return plain and OURS in layer.metadata and kind != SINOGRAM


def our_layers(viewer: ViewerModel) -> list[Image]:
    """Our volumes in a viewer, from bottom to top."""
    return [layer for layer in viewer.layers if is_ours(layer)]


def set_window(layers: Iterable[Image], name: str) -> None:
    """Show layers of HU through one of `WINDOWS_HU`, or each in its `WHOLE_RANGE`.

    Layers of other units are shown in the latter only.
    """
    for layer in layers:
        if layer.metadata[OURS].get("kind") in NO_TISSUE:
            continue
        if name == WHOLE_RANGE:
            layer.contrast_limits = _whole_range(layer.data)
        elif units_of(layer) == HU:
            layer.contrast_limits = WINDOWS_HU[name]


def units_of(layer: Image) -> str:
    """Units of one of our volumes."""
    return str(layer.metadata[OURS].get(UNITS, HU))


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


def value_at(layers: Sequence[Image], point: Sequence[float]) -> tuple[float, str, str] | None:
    """Value at a point, its units and the topmost visible layer's name; None outside of all."""
    for layer in reversed(layers):
        index = _voxel_at(layer, point)
        if layer.visible and index is not None:
            return float(layer.data[index]), units_of(layer), layer.name
    return None


def patient_point(layers: Sequence[Image], point: Sequence[float]) -> NDArray[np.float64]:
    """Where a point of the viewer lies in the patient, RAS+ (x, y, z) in mm.

    Parameters
    ----------
    layers
        Our volumes, at least one. The topmost visible one at the point tells, for napari shows
        oblique scans unturned; where there is none, the topmost.
    point
        (z, y, x) in mm, as napari shows the layers.
    """
    layer = _leading(layers, point)
    affine = _affine_of(layer)
    if affine is None:
        up, back, left = point
        return np.array([-left, -back, up])
    index: NDArray[np.float64] = np.asarray(layer.world_to_data(point), dtype=np.float64)
    return np.asarray((affine @ [*index[::-1], 1.0])[:3])


def tilt(layers: Sequence[Image], point: Sequence[float]) -> float:
    """Degrees by which the volume that `patient_point` asks is oblique; 0 where hardly any."""
    affine = _affine_of(_leading(layers, point))
    degrees = 0.0 if affine is None else oblique_degrees(affine)
    return degrees if degrees > _OBLIQUE_DEGREES else 0.0


def position_in_words(point_mm: Sequence[float]) -> str:
    """A place in RAS+ mm from the zero point, such as "R 34 mm, A 12 mm, S 80 mm"."""
    return ", ".join(distance_in_words(axis, mm) for axis, mm in enumerate(point_mm))


def distance_in_words(axis: int, mm: float) -> str:
    """A coordinate of RAS+, such as "R 34 mm"; `axis` is 0 for x."""
    rounded = round(float(mm), 1)
    return f"{_WAYS[axis][rounded < 0]} {abs(rounded):g} mm"


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


def _leading(layers: Sequence[Image], point: Sequence[float]) -> Image:
    """The topmost visible volume at a point, else the topmost visible, else the topmost."""
    visible = [layer for layer in layers if layer.visible]
    here = [layer for layer in visible if _voxel_at(layer, point) is not None]
    return (here or visible or layers)[-1]


def _voxel_at(layer: Image, point: Sequence[float]) -> tuple[int, ...] | None:
    """Index of the voxel at a point; None outside of the layer."""
    index = np.round(layer.world_to_data(point)).astype(int)
    inside = np.all((index >= 0) & (index < layer.data.shape))
    return tuple(index.tolist()) if inside else None


def _affine_of(layer: Image) -> NDArray[np.float64] | None:
    """RAS+ affine of a layer's voxels; None if it was turned in napari since."""
    names = ("name", "scale", "translate", "rotate", "shear", "affine", "units", "metadata")
    attributes = {name: getattr(layer, name) for name in names}
    try:
        return layer_volume(layer.data, attributes | {"affine": layer.affine.affine_matrix}).affine
    except InputRejected:
        return None


def edge_letters(displayed: Sequence[int], orientation: tuple[str, str]) -> tuple[str, ...]:
    """What of the patient lies at the left, right, top and bottom edge of a picture.

    Parameters
    ----------
    displayed
        Axes of the picture of (z, y, x): that of its rows, then that of its columns.
    orientation
        Where they grow, as `camera.orientation2d` has it: ("down" or "up", "right" or "left").
    """
    rows, columns = (_ENDS[axis] for axis in displayed)
    top, bottom = rows if orientation[0] == "down" else rows[::-1]
    left, right = columns if orientation[1] == "right" else columns[::-1]
    return left, right, top, bottom


def _whole_range(voxels: NDArray[Any]) -> tuple[float, float]:
    low, high = float(np.nanmin(voxels)), float(np.nanmax(voxels))
    return low, max(high, low + 1.0)

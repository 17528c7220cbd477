"""Between CT volumes and napari layers.

The world of our layers is the patient: millimetres along (z, y, x) = (superior, posterior, left).
So the plane that napari shows first is an axial one, seen as radiologists look at it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from prdit_core.errors import InputRejected
from prdit_core.intensity import HU
from prdit_core.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    LayerData = tuple[Any, dict[str, Any], str]

OURS = "prdit"
SINOGRAM = "sinogram"  # kind of a layer of ours that is no volume
CHEST_WINDOW_HU = (-1000.0, 400.0)
# What a 2D viewer cannot show and a file of ours does not keep, and its value in a layer at rest.
_MOVES = {"rotate": np.eye(3), "shear": np.zeros(3), "affine": np.eye(4)}
_OF_THE_PATIENT = "patient_key"
_UNITS = ("millimeter", "mm", "pixel")


def image_layer(volume: Volume, name: str) -> LayerData:
    """An image layer in HU with a fixed window, or of other units in their whole range.

    Its metadata has, under "prdit", the metadata of the volume and its affine, but nothing of
    whose scan it is, since layers are saved and shared.
    """
    shareable = {key: value for key, value in volume.metadata.items() if key != _OF_THE_PATIENT}
    limits = CHEST_WINDOW_HU
    if volume.units != HU:
        low = float(volume.voxels_hu.min())
        limits = (low, max(float(volume.voxels_hu.max()), low + 1))
    attributes = {
        "name": name,
        "colormap": "gray",
        "contrast_limits": limits,
        "metadata": {OURS: {**shareable, "affine": volume.affine.tolist()}},
        **placement(volume.affine),
    }
    return volume.voxels_hu, attributes, "image"


def placement(affine: NDArray[np.float64]) -> dict[str, Any]:
    """Where a layer lies, in mm; the rotation of an oblique affine is not shown."""
    x, y, z = np.linalg.norm(affine[:3, :3], axis=0)
    right, front, up = affine[:3, 3]  # RAS+ of the first voxel
    return {
        "scale": (float(z), float(y), float(x)),
        "translate": (float(up), float(-front), float(-right)),
        "units": ("mm", "mm", "mm"),
        "axis_labels": ("z", "y", "x"),
    }


def layer_volume(data: Any, attributes: Mapping[str, Any]) -> Volume:
    """The volume of an image layer whose world is the patient, as that of our layers is.

    Parameters
    ----------
    data
        (D, H, W) HU, or what the layer's units are.
    attributes
        As napari hands them to writers. A layer of ours that was not moved since keeps its exact,
        perhaps oblique, affine.

    Raises
    ------
    InputRejected
        If the layer is no single grey volume in mm along its own axes.
    """
    _check(data, attributes)
    ours = dict(attributes.get("metadata", {}).get(OURS, {}))
    shown = _affine(attributes)
    exact = np.asarray(ours.pop("affine", shown), dtype=np.float64)
    placed = placement(exact)
    unmoved = np.allclose(_affine(placed), shown, rtol=1e-6, atol=1e-6)
    return Volume(np.asarray(data), exact if unmoved else shown, ours)


def _check(data: Any, attributes: Mapping[str, Any]) -> None:
    name = attributes.get("name", "layer")
    if attributes.get("multiscale") or attributes.get("rgb") or np.ndim(data) != 3:
        raise InputRejected(f"layer {name!r} is no single grey 3D volume; choose another layer")
    if any(not np.allclose(attributes.get(move, still), still) for move, still in _MOVES.items()):
        raise InputRejected(f"layer {name!r} is rotated or sheared; save it without its transform")
    units = {str(unit) for unit in attributes.get("units", ())}
    if not units.issubset(_UNITS):
        raise InputRejected(
            f"layer {name!r} is in {', '.join(sorted(units))}; give its scale in mm"
        )


def _affine(attributes: Mapping[str, Any]) -> NDArray[np.float64]:
    """RAS+ affine of a layer's scale and translate; without them, voxels of 1 mm at the origin."""
    z, y, x = attributes.get("scale", (1.0, 1.0, 1.0))
    up, back, left = attributes.get("translate", (0.0, 0.0, 0.0))
    affine = np.diag([-x, -y, z, 1.0]).astype(np.float64)
    affine[:3, 3] = -left, -back, up
    return affine

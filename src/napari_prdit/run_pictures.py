"""Pictures of a run as layers of the viewer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_prdit.layers import OURS
from prdit_core.errors import InputRejected
from prdit_core.files import shown

if TYPE_CHECKING:
    from pathlib import Path

    from napari.components import ViewerModel
    from napari.layers import Image

PICTURE_OF = "picture_of"


def open_picture(viewer: ViewerModel, file: Path, run: str) -> Image:
    """Show a picture of a run; it takes the place of the one that was opened before.

    Raises
    ------
    InputRejected
        If it is gone, or no picture.
    """
    from PIL import Image as Picture

    try:
        with Picture.open(file) as picture:
            pixels = np.asarray(picture.convert("RGB"))
    except OSError as error:
        raise InputRejected(f"{shown(file)} cannot be opened as a picture: {error}") from error
    name = f"{run}: {file.stem}"
    for layer in viewer.layers:
        if layer.metadata.get(OURS, {}).get(PICTURE_OF) == run:
            layer.data, layer.name, layer.visible = pixels, name, True
            return layer
    note = {OURS: {PICTURE_OF: run}}
    place = _beside(viewer, pixels.shape[0])
    layer = viewer.add_image(pixels, rgb=True, name=name, metadata=note, **place)
    viewer.reset_view()
    return layer


def _beside(viewer: ViewerModel, height: int) -> dict[str, Any]:
    """To the right of all layers, as high as they are, and in their units."""
    units = ("mm", "mm")  # where units differ, napari uses none
    if not viewer.layers:
        return {"units": units}
    low, high = viewer.layers.extent.world[:, -2:]
    edge = (high[0] - low[0]) / height
    return {"units": units, "scale": (edge, edge), "translate": (low[0], high[1])}

"""Labels layers to paint in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari.components import ViewerModel
    from napari.layers import Labels


def add_paint(
    viewer: ViewerModel,
    name: str,
    shape: tuple[int, ...],
    place: Mapping[str, Any],
    brush_mm: float,
) -> Labels:
    """An empty layer with a round brush in hand that paints in all three planes.

    Parameters
    ----------
    place : scale, translate, units and axis labels
    """
    layer = viewer.add_labels(np.zeros(shape, np.uint8), name=name, opacity=0.5, **place)
    layer.n_edit_dimensions = 3
    layer.brush_size = max(2, round(brush_mm / float(min(np.abs(layer.scale)))))
    layer.mode = "paint"
    viewer.layers.selection.active = layer
    return layer

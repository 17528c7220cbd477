"""Layers of a split prediction: one set, used again by the next unless it was kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.colormaps import Colormap

from napari_prdit.inspector import PART
from napari_prdit.layer_set import LayerSet
from napari_prdit.layers import OURS, image_layer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from napari.components import ViewerModel

    from napari_prdit.layers import LayerData
    from prdit_core import Volume

# Below zero blue, zero black, above zero orange.
SIGNED = Colormap([[0.35, 0.75, 1.0], [0.0, 0.0, 0.0], [1.0, 0.65, 0.3]], name="below and above 0")
_SHOWN_PERCENTILE = 99.0


@dataclass(frozen=True)
class Part:
    """How one volume of a result is shown.

    Attributes
    ----------
    layer : name of its layer
    says : what one sees there
    signed : a difference, in colours symmetric about zero; else an image in the model's window
    """

    layer: str
    says: str
    signed: bool = False


PARTS = {
    "scan": Part("scan, as the model sees it", "The scan on the grid of the model: the truth."),
    "noisy": Part("noisy scan", "What the model is given: the scan under noise."),
    "x0-local": Part("local part", "Each small block cleaned on its own, blind to all others."),
    "x0-no-context": Part(
        "without context", "Tiles that know their place and see nothing of the volume as a whole."
    ),
    "x0-no-coordinates": Part(
        "without coordinates", "Tiles that see the whole volume, small, and not where they lie."
    ),
    "x0-global-residual": Part(
        "global residual",
        "What the global part adds (orange) or takes away (blue), since it sees the whole volume.",
        signed=True,
    ),
    "x0-refiner": Part(
        "refiner",
        "Details that half the resolution cannot show: what the refiner adds (orange) or takes "
        "away (blue).",
        signed=True,
    ),
    "x0-total": Part("local + global", "Both added: what the model takes the clean scan to be."),
    "x0-error": Part(
        "error", "Prediction minus scan: orange too dense, blue not dense enough.", signed=True
    ),
    "eps-local": Part("noise, local part", "The noise each small block finds alone.", signed=True),
    "eps-no-context": Part(
        "noise, without context", "The noise that tiles find without the whole.", signed=True
    ),
    "eps-no-coordinates": Part(
        "noise, without coordinates", "The noise that tiles find anywhere.", signed=True
    ),
    "eps-global-residual": Part(
        "noise, global residual", "How the global part corrects that noise.", signed=True
    ),
    "eps-refiner": Part(
        "noise, refiner", "How the refiner corrects that noise voxel by voxel.", signed=True
    ),
    "eps-total": Part(
        "noise, local + global", "Both added: what the model takes the noise to be.", signed=True
    ),
    "eps-error": Part("noise, error", "Predicted minus true noise.", signed=True),
}
# A chain has a third part, and its base works at the lowest resolution.
CHAIN_PARTS = PARTS | {
    "x0-local": Part(
        "local part",
        "Each small block cleaned on its own at the lowest resolution, blind to all others, then "
        "enlarged.",
    ),
    "x0-total": Part(
        "local + global + refiner", "All added: what the model takes the clean scan to be."
    ),
    "eps-total": Part(
        "noise, local + global + refiner",
        "All added: what the model takes the noise to be.",
        signed=True,
    ),
}
# A patch prior is no sum, but can be shown less than it was trained with.
PATCH_PARTS = PARTS | {
    "x0-local": Part(
        "tile alone", "Every tile without context and coordinates, blind to all else."
    ),
    "x0-global-residual": Part(
        "context and coordinates",
        "What these two add (orange) or take away (blue), together.",
        signed=True,
    ),
    "x0-total": Part("with both", "What the model takes the clean scan to be."),
    "eps-local": Part("noise, tile alone", "The noise every tile finds alone.", signed=True),
    "eps-global-residual": Part(
        "noise, context and coordinates", "How the two correct that noise.", signed=True
    ),
    "eps-total": Part("noise, with both", "What the model takes the noise to be.", signed=True),
}


def parts_of(volumes: Mapping[str, Volume]) -> Mapping[str, Part]:
    """How the volumes of a result are shown."""
    if "x0-no-context" in volumes:
        return PATCH_PARTS
    return CHAIN_PARTS if "x0-refiner" in volumes else PARTS


class SplitLayers(LayerSet):
    """The parts of a result as layers."""

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__(viewer)
        self._parts: Mapping[str, Part] = PARTS

    def show(self, volumes: Mapping[str, Volume], wanted: Iterable[str], visible: str) -> None:
        """Have a layer for each part that is wanted and there, and no other of this set."""
        keys, parts = [key for key in wanted if key in volumes], parts_of(volumes)
        kept = keys if parts is self._parts else []  # else their names would lie
        for key in set(self._layers) - set(kept):
            self.drop(key)
        self._parts = parts
        for key in keys:
            self.put(key, _layer_data(key, parts[key], volumes[key]))
        self.flip(visible)
        self.look_inside(keys[0])

    def full_colour_hu(self, key: str) -> float | None:
        """Difference that gets the full colour; None for images and for what is not there."""
        layer = self.get(key)
        return layer.contrast_limits[1] if layer is not None and PARTS[key].signed else None


def _layer_data(key: str, part: Part, volume: Volume) -> LayerData:
    """An image layer in the model's window, or a difference in colours symmetric about zero."""
    data, attributes, kind = image_layer(volume, part.layer)
    ours: dict[str, Any] = attributes["metadata"][OURS]
    attributes["metadata"] = {
        OURS: {**ours, "kind": "residual" if part.signed else "image", PART: key}
    }
    attributes["contrast_limits"] = _limits(part, volume)
    if part.signed:
        attributes["colormap"] = SIGNED
    return data, attributes, kind


def _limits(part: Part, volume: Volume) -> tuple[float, float]:
    if not part.signed:
        low, high = volume.metadata["window_hu"]
        return low, high
    half = max(float(np.percentile(np.abs(volume.voxels_hu), _SHOWN_PERCENTILE)), 1.0)
    return -half, half

"""Layers of a reconstruction: what was measured, what came of it, and what of that is imagined."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_prdit.layer_set import LayerSet
from napari_prdit.layers import CHEST_WINDOW_HU, OURS, SINOGRAM, image_layer, placement
from napari_prdit.reconstruction import DETERMINED, IMAGINED, MEAN, MODEL, SPREAD, TRUTH
from napari_prdit.split_layers import SIGNED
from prdit_core.intensity import HU

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_prdit.layers import LayerData
    from napari_prdit.measuring import MeasuredData
    from prdit_core import Measurement
    from prdit_core.volume import Volume

MEASURED = "measured"
_SHOWN_PERCENTILE = 99.5


@dataclass(frozen=True)
class Shown:
    """How one volume of a reconstruction is shown.

    Attributes
    ----------
    layer : name of its layer
    says : what one sees there
    colours : "grey" in the window of the model, "signed" about zero, or "size" from zero up
    """

    layer: str
    says: str
    colours: str = "grey"


LOOKS: Mapping[str, Shown] = {
    TRUTH: Shown("truth", "The scan on the grid that is reconstructed, before it was measured."),
    MEASURED: Shown("measured data", "What the methods are given."),
    MODEL: Shown(
        "model, one sample",
        "One volume that fits the data. Others fit as well; click through the samples.",
    ),
    MEAN: Shown(
        "model, mean",
        "The mean of all samples: smoother, and often nearer to the truth than one of them.",
    ),
    SPREAD: Shown(
        "uncertainty",
        "How much the samples differ (standard deviation): bright where the data leave it open. "
        "Where it is dark they agree, and may still all be wrong.",
        "size",
    ),
    DETERMINED: Shown("what the data say", "The part of it that the data alone determine."),
    IMAGINED: Shown(
        "what the model imagined",
        "The rest, which the scanner cannot see: blue is less dense, orange denser than what the "
        "data say.",
        "signed",
    ),
    "fbp": Shown("FBP", "Filtered backprojection: what scanners have long done."),
    "sirt": Shown("SIRT", "200 algebraic iterations. It knows no anatomy."),
    "zero-filling": Shown("zero filling", "The k-space that was sampled, and 0 for the rest."),
    "cg": Shown("CG", "20 steps of conjugate gradients, of least squares. It knows no anatomy."),
    "tv": Shown("TV", "Total variation: few edges. The one to beat; it knows no anatomy."),
}


class ReconstructionLayers(LayerSet):
    """The layers that belong to one measurement."""

    def show(self, key: str, volume: Volume) -> None:
        """Have a layer for a volume; a grey one in the window of those that are there."""
        data, attributes, kind = _layer_data(key, volume)
        grey = next((one for one in self.present if _is_grey(one)), None)
        if grey is not None and LOOKS[key].colours == "grey":
            attributes["contrast_limits"] = tuple(grey.contrast_limits)
        self.put(key, (np.array(data), attributes, kind))

    def show_live(self, key: str, volume: Volume) -> None:
        """Show what comes about; nothing happens if its layer was deleted."""
        self.update(key, _layer_data(key, volume))

    def show_measured(self, measured: MeasuredData) -> None:
        """The data in the place of the volume; projections are stretched to it.

        Of k-space, which nobody looks at, what it shows by itself.
        """
        measurement = measured.measurement
        if measurement.spec.kind == "kspace":
            from prdit_core import reconstruct_classically

            self.show(MEASURED, reconstruct_classically(measurement, "zero-filling"))
        elif measurement.values.ndim == 3:  # known voxels of a mask are a list
            self.put(MEASURED, measured_layer(measurement))
        if measured.truth is not None:
            self.show(TRUTH, measured.truth)


def measured_layer(measurement: Measurement) -> LayerData:
    """What was measured, where the volume lies.

    Projections, (slices, views, bins), are a sinogram for each slice: views run down and bins to
    the right, both stretched to the edges of the volume, so their mm mean nothing.
    """
    from prdit_core.verbs.classical import place_of

    sinogram = measurement.sinogram
    rays, spec = sinogram is not None, measurement.spec
    values = measurement.values if sinogram is None else sinogram
    place = placement(place_of(measurement))
    wide = np.multiply(spec.shape, place["scale"])
    scale = wide / values.shape
    place["translate"] = np.asarray(place["translate"]) + (scale - place["scale"]) / 2
    place["scale"] = scale
    look = LOOKS[MEASURED]
    what: dict[str, Any] = {"unit": measurement.units}
    if rays:
        what = {"axes": ["slice", "view", "bin"], "unit": "line integrals"}
    low, high = np.percentile(values, (0, _SHOWN_PERCENTILE)).tolist()
    limits = (low, max(high, low + 1e-6))
    if not rays and measurement.units == HU:
        limits = CHEST_WINDOW_HU
    attributes: dict[str, Any] = {
        "name": "sinogram" if rays else look.layer,
        "colormap": "gray",
        "contrast_limits": limits,
        "metadata": {OURS: {**measurement.about(), **what, "kind": SINOGRAM}},
        **place,
    }
    return values, attributes, "image"


def _layer_data(key: str, volume: Volume) -> LayerData:
    look, voxels = LOOKS[key], volume.voxels_hu
    data, attributes, kind = image_layer(volume, _name(key, volume))
    attributes["interpolation2d"] = "linear"  # coarse voxels look like what they are: samples
    match look.colours:
        case "grey":
            attributes["contrast_limits"] = _window(volume)
        case "signed":
            half = max(float(np.percentile(np.abs(voxels), _SHOWN_PERCENTILE)), 1.0)
            attributes |= {"colormap": SIGNED, "contrast_limits": (-half, half)}
        case _:
            most = max(float(np.percentile(voxels, _SHOWN_PERCENTILE)), 1.0)
            attributes |= {"colormap": "inferno", "contrast_limits": (0.0, most)}
    return data, attributes, kind


def _name(key: str, volume: Volume) -> str:
    if key == MEAN:
        return f"model, mean of {volume.metadata['volumes']}"
    if key == MODEL:
        return f"model, sample {volume.metadata['index'] + 1}"
    return LOOKS[key].layer


def _window(volume: Volume) -> tuple[float, float]:
    low, high = volume.metadata.get("window_hu", CHEST_WINDOW_HU)
    return low, high


def _is_grey(layer: Any) -> bool:
    kind = layer.metadata[OURS].get("kind")
    return bool(kind != SINOGRAM and layer.colormap.name == "gray")

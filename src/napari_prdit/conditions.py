"""A painted labels layer that volumes belong to: what its numbers mean, and where volumes lie."""

from __future__ import annotations

import colorsys
import hashlib
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils import DirectLabelColormap

from napari_prdit.brush import add_paint
from napari_prdit.layers import OURS, layer_volume, placement
from prdit_core.errors import InputRejected
from prdit_core.volume import Volume, axial_affine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from napari.components import ViewerModel
    from napari.layers import Labels
    from numpy.typing import NDArray

    from napari_prdit.layers import LayerData
    from prdit_core import Prior
    from prdit_core.geometry import Geometry
    from prdit_core.verbs.paint import Painting

    Seen = Callable[[NDArray[np.float32]], NDArray[np.float32]]
    Colour = tuple[float, float, float, float]

PAINTED = "painted organs"
LABEL_NAMES = "label_names"  # in metadata["prdit"] of a labels layer: name to number
UNKNOWN = "white"  # what a model does not know
_BRUSH_MM = 40.0
_GOLDEN = 0.618034  # hues that stay far apart however many there are


@dataclass(frozen=True, eq=False)
class Condition:
    """A labels layer, and how much it weighs.

    Attributes
    ----------
    layer : as napari hands it to writers, as it was when it was asked
    scale : see `Prior.under`
    """

    layer: LayerData
    scale: float

    @property
    def name(self) -> str:
        """Of the layer."""
        return str(self.layer[1]["name"])

    @property
    def _file(self) -> str:
        return f"{self.name.replace('/', '-')}.nii.gz"

    def words(self) -> list[str]:
        """Options of the command, once the layer is saved under its name."""
        return ["--condition", self._file, "--control-scale", f"{self.scale:g}"]

    @property
    def saved_first(self) -> str:
        """What the command needs."""
        return f"save the labels as {self._file} before, where you call it"

    def painting(self, prior: Prior) -> Painting:
        """The prior under the labels.

        Raises
        ------
        UsageError, InputRejected
            If the model has no control for its class and grid; if the layer is no 3D volume in mm,
            is empty, or has a label that the model does not know.
        """
        from prdit_core.verbs.paint import painting_of

        return painting_of(prior, self.labels(prior.labels), self.scale)

    def labels(self, names: Sequence[str]) -> Volume:
        """The labels numbered as `names` are, from 1; raises as `painting`."""
        from prdit_core.data.label_maps import SOURCE, numbered, renumbered
        from prdit_core.data.paired_labels import whole_numbers

        volume, where = layer_volume(*self.layer[:2]), f"layer {self.name!r}"
        drawn = whole_numbers(np.asarray(volume.voxels_hu), where)
        if not drawn.any():
            raise InputRejected(f"{where} is empty; paint at least one label there")
        numbers = volume.metadata.get(LABEL_NAMES) or numbered(names)
        known = renumbered(drawn, numbers, names, where)
        sha256 = hashlib.sha256(np.ascontiguousarray(known).tobytes()).hexdigest()
        return Volume(known, volume.affine, {SOURCE: {"layer": self.name, "sha256": sha256}})


@dataclass(frozen=True, eq=False)
class Target:
    """A prior, and where its volumes lie: on its own grid, or on that of painted labels."""

    prior: Prior
    painting: Painting | None = None

    def finished(self, volume: Volume) -> Volume:
        """A volume of the prior, where it belongs."""
        return volume if self.painting is None else self.painting.on_labels(volume)

    def emerging(self, volume: Volume) -> Volume:
        """The same cheaply: in its place, on the prior's own grid."""
        return volume if self.painting is None else replace(volume, affine=self.painting.affine)

    def seen(self) -> Seen:
        """What shows a recorded state where the finished volume lies; it keeps no network."""
        from prdit_core.verbs.paint import on_grid_of
        from prdit_core.verbs.step_volume import previewer

        seen, painting = previewer(self.prior), self.painting
        if painting is None:
            return seen
        lying = partial(
            on_grid_of, painting.labels, affine=painting.affine, outside=painting.outside
        )
        return lambda state: lying(seen(state))


def target_of(prior: Prior, condition: Condition | None) -> Target:
    """A prior under a condition; raises as `Condition.painting`."""
    if condition is None:
        return Target(prior)
    painting = condition.painting(prior)
    return Target(painting.prior, painting)


# --- palettes -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Organ:
    """What to paint with: a number of a layer, what it means, and its colour as RGBA of 0 to 1."""

    number: int
    name: str
    colour: Colour


def palette(names: Sequence[str], own: Mapping[str, int] | None = None) -> list[Organ]:
    """A model's labels, each with a colour of its own.

    Parameters
    ----------
    own : numbers that names have in a layer already; others get numbers that are free
    """
    taken = dict(own or {})
    free = (number for number in range(1, 256) if number not in taken.values())
    return [
        Organ(taken[name] if name in taken else next(free), name, _colour(place))
        for place, name in enumerate(names)
    ]


def wear(layer: Labels, names: Sequence[str]) -> list[Organ]:
    """Show a layer in the colours of a model's labels, and keep what its numbers mean."""
    ours = layer.metadata.get(OURS, {})
    own = ours.get(LABEL_NAMES, {})
    organs = palette(names, own)
    colours: dict[int | None, Any] = {organ.number: organ.colour for organ in organs}
    colours |= {None: UNKNOWN, 0: "transparent"}
    layer.colormap = DirectLabelColormap(color_dict=colours)
    meant = {**own, **{organ.name: organ.number for organ in organs}}
    layer.metadata = {**layer.metadata, OURS: {**ours, LABEL_NAMES: meant}}
    return organs


def new_labels(viewer: ViewerModel, grid: Geometry) -> Labels:
    """An empty labels layer where a model's volumes lie, with a brush in hand."""
    place = placement(axial_affine(grid.spacing_mm, grid.shape))
    return add_paint(viewer, PAINTED, grid.shape, place, _BRUSH_MM)


def _colour(place: int) -> Colour:
    """Far from those of its neighbours."""
    red, green, blue = colorsys.hsv_to_rgb(
        place * _GOLDEN % 1, (0.9, 0.55)[place % 2], (1.0, 1.0, 0.65)[place % 3]
    )
    return red, green, blue, 1.0

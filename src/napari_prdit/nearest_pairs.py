"""Generated volumes beside the training volumes nearest to them, as layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import prdit_core
from napari_prdit.layers import OURS, image_layer
from prdit_core.errors import InputRejected, UsageError
from prdit_core.files import shown
from prdit_core.verbs.report import CONTENT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from napari.components import ViewerModel

    from napari_prdit.layers import LayerData
    from prdit_core import Evaluation
    from prdit_core.data.volume_sets import VolumeSet

PAIR = "nearest_pair"  # under metadata["prdit"] of these layers: the set that a layer is of
GAP_MM = 10.0


@dataclass(frozen=True)
class LayerPair:
    """A generated volume and the training volume nearest to it, as layers to be placed."""

    generated: LayerData
    training: LayerData


def nearest_pairs(report: Path) -> Iterator[LayerPair]:
    """Read the nearest pairs of an evaluation, the nearest first.

    Raises
    ------
    UsageError
        If copies were not looked for.
    InputRejected
        If the evaluation or one of the volumes cannot be read.
    """
    evaluation = prdit_core.read_evaluation(report / CONTENT)
    pairs = [
        (name, pair)
        for name, fake in evaluation.fakes.items()
        if fake.nearest is not None
        for pair in fake.nearest.pairs
    ]
    if not pairs:
        raise UsageError("the nearest training volumes are not known: no training data was there")
    sets: dict[str, VolumeSet] = {}
    training = next(name for name, entry in evaluation.sets.items() if entry.role == "training")
    nearest_first = sorted(pairs, key=lambda named: named[1].distance)
    for rank, (name, pair) in enumerate(nearest_first, start=1):
        apart = f"{pair.distance:.3g} HU apart"
        yield LayerPair(
            _layer(evaluation, sets, name, pair.fake, f"{rank} generated: {pair.fake}, {apart}"),
            _layer(evaluation, sets, training, pair.training, f"{rank} training: {pair.training}"),
        )


def show_pairs(viewer: ViewerModel, pairs: list[LayerPair]) -> None:
    """Add pairs beside each other, the generated volume above its training volume.

    Pairs of an earlier evaluation go; other layers stay, and the pairs lie to their right.
    """
    for layer in [layer for layer in viewer.layers if PAIR in layer.metadata.get(OURS, {})]:
        viewer.layers.remove(layer)
    left = float(viewer.layers.extent.world[1, -1]) + GAP_MM if viewer.layers else 0.0
    for pair in pairs:
        width, height = np.max([_size_mm(pair.generated), _size_mm(pair.training)], axis=0)
        for row, (voxels, attributes, _) in enumerate((pair.generated, pair.training)):
            at = (_middle_mm(voxels, attributes), row * (height + GAP_MM), left)
            viewer.add_image(voxels, **{**attributes, "translate": at})
        left += width + GAP_MM
    viewer.reset_view()


def _layer(
    evaluation: Evaluation, sets: dict[str, VolumeSet], of: str, volume: str, name: str
) -> LayerData:
    """A volume of a set; sets that were opened stay so."""
    from prdit_core.data.volume_sets import VolumeSet

    entry = evaluation.sets[of]
    if of not in sets:
        sets[of] = VolumeSet.open(entry.path, entry.part)
    try:
        number = sets[of].find(volume)
    except ValueError as error:
        raise InputRejected(f"{sets[of]} holds {shown(volume)} no more; evaluate again") from error
    voxels, attributes, kind = image_layer(sets[of].read(number), shown(name))
    attributes["metadata"][OURS][PAIR] = of
    return voxels, attributes, kind


def _size_mm(layer: LayerData) -> tuple[float, float]:
    """Width and height of an axial plane."""
    voxels, attributes, _ = layer
    _, height, width = np.multiply(voxels.shape, attributes["scale"])
    return float(width), float(height)


def _middle_mm(voxels: Any, attributes: dict[str, Any]) -> float:
    """Where a volume begins so that all have their middle at one height."""
    return float(-(len(voxels) - 1) / 2 * attributes["scale"][0])

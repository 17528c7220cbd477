"""Imagining a painted region anew beside the window: what is wished, and the events that follow."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils import DirectLabelColormap

from napari_prdit.brush import add_paint
from napari_prdit.generation import loaded, watched
from napari_prdit.inspector import scan_of
from napari_prdit.layers import OURS, layer_volume, placement
from napari_prdit.saving import FORMATS, SavedFile, save_work
from napari_prdit.writer import NIFTI
from prdit_core.errors import UsageError
from prdit_core.geometry import by
from prdit_core.provenance import SYNTHETIC

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari.components import ViewerModel
    from napari.layers import Image, Labels
    from numpy.typing import NDArray

    from napari_prdit.jobs import Control, Mailbox
    from napari_prdit.layers import LayerData
    from prdit_core import SampleStep
    from prdit_core.verbs.regenerate import Forgotten
    from prdit_core.volume import Volume

REGION = "region to forget"
IMAGINED = "imagined"
# Voxels of the model around the region in the picture of a proposal.
_AROUND = 4
_BRUSH_MM = 40.0


@dataclass(frozen=True, eq=False)
class Wish:
    """Everything that the proposals depend on.

    Attributes
    ----------
    scan, region : layers as napari hands them to writers, as they were when it was asked
    earlier : (D, H, W) bool, what of the scan was imagined before; None: nothing
    seed : of the first proposal; all have the same, and differ by their index
    """

    checkpoint: str
    size: int | None
    device: str
    scan: LayerData
    region: LayerData
    earlier: NDArray[np.bool_] | None
    steps: int
    seed: int
    count: int

    def parts(self) -> tuple[Volume, NDArray[Any]]:
        """The scan, and what is painted on its grid.

        Raises
        ------
        InputRejected, UsageError
            If the layer is no CT scan, or the region lies elsewhere.
        """
        scan, painted = scan_of(*self.scan[:2]), layer_volume(*self.region[:2])
        if not _same_place(painted, scan):
            sizes = (by(one.shape) for one in (painted, scan))
            raise UsageError(
                "the painted layer ({} voxels) does not lie on the grid of the scan ({}); press "
                "Paint for one that does".format(*sizes)
            )
        return scan, np.asarray(painted.voxels_hu)


@dataclass(frozen=True, eq=False)
class Begun:
    """The model is loaded and the scan lies on its grid."""

    wish: Wish
    forgotten: Forgotten


@dataclass(frozen=True, eq=False)
class Proposal:
    """One is finished, or was stopped on the way; on the grid of the model."""

    number: int
    imagined: Volume


@dataclass(eq=False)
class Regeneration:
    """A region of a scan and what was proposed for it.

    Attributes
    ----------
    proposals : on the model's grid, which is small, by number
    shown : number of the one in the layer
    """

    wish: Wish
    forgotten: Forgotten
    proposals: dict[int, Volume] = field(default_factory=dict)
    shown: int = 0

    @property
    def imagined(self) -> NDArray[np.bool_]:
        """All of the scan that a model imagined, now or earlier."""
        region, earlier = self.forgotten.region, self.wish.earlier
        return region if earlier is None else region | earlier

    @property
    def centre(self) -> tuple[float, ...]:
        """Middle of the region in the world of the viewer."""
        attributes = placement(self.forgotten.scan.affine)
        middle = [(part.start + part.stop - 1) / 2 for part in self.forgotten.box]
        return tuple(np.multiply(middle, attributes["scale"]) + attributes["translate"])

    def result(self) -> Volume:
        """The scan with the proposal that is shown."""
        from prdit_core.verbs.regenerate import put_back

        return put_back(self.forgotten, self.proposals[self.shown])

    def mask(self) -> LayerData:
        """What was imagined, as a labels layer: an outline."""
        scan, proposal = self.forgotten.scan, self.proposals[self.shown]
        described = f"{SYNTHETIC}; where a region of a scan was imagined"
        ours = {**proposal.metadata, "kind": IMAGINED, "description": described}
        attributes = {
            "name": IMAGINED,
            "colormap": DirectLabelColormap(color_dict={None: "transparent", 1: "orange"}),
            "opacity": 1.0,
            "metadata": {OURS: {**ours, "affine": scan.affine.tolist()}},
            **placement(scan.affine),
        }
        return self.imagined.astype(np.uint8), attributes, "labels"

    def picture(self, number: int) -> Volume:
        """A proposal around the region, of which a small picture shows enough."""
        from prdit_core.verbs.regenerate import around

        return around(self.forgotten, self.proposals[number], _AROUND)


def regenerate_work(wish: Wish, frames: Mailbox[Volume], control: Control) -> Generator[Any]:
    """Load the model and make all proposals; where it is stopped the last one is partial."""
    scan, region = wish.parts()
    prior = loaded(wish.checkpoint, wish.size, wish.device)
    from prdit_core.verbs.reconstruct import WALK
    from prdit_core.verbs.regenerate import forget, imagined_volume, put_back, regenerate_steps

    config = WALK.model_copy(update={"steps": wish.steps})
    forgotten = forget(prior, scan, region)
    yield Begun(wish, forgotten)
    for number in range(wish.count):

        def imagined(step: SampleStep, index: int = number) -> Volume:
            return imagined_volume(prior, forgotten, config, step, seed=wish.seed, index=index)

        def put(step: SampleStep) -> Volume:
            return put_back(forgotten, imagined(step))

        walk = regenerate_steps(prior, forgotten, config, seed=wish.seed, index=number)
        last = yield from watched(walk, put, control, frames, number, wish.count)
        yield Proposal(number, imagined(last))
        if control.stopped:
            return


def save_work_with_mask(
    result: LayerData, mask: LayerData, format_name: str, place: Path
) -> Generator[SavedFile]:
    """As `save_work`, and beside it NAME-imagined.nii.gz says what of it was imagined."""
    from napari_prdit.writer import write_labels

    (saved,) = save_work(result, format_name, place)
    yield saved
    name = saved.place.name
    stem = next((name[: -len(end)] for end in FORMATS[format_name] if name.endswith(end)), name)
    beside = saved.place.with_name(f"{stem}-{IMAGINED}{NIFTI[0]}")
    (written,) = write_labels(str(beside), *mask[:2])
    yield SavedFile(Path(written))


def paint_on(viewer: ViewerModel, scan: Image) -> Labels:
    """A labels layer on the very grid of a scan, with a round brush in hand."""
    place = {
        "scale": scan.scale,
        "translate": scan.translate,
        "units": scan.units,
        "axis_labels": scan.axis_labels,
    }
    return add_paint(viewer, REGION, scan.data.shape, place, _BRUSH_MM)


def show_mask(viewer: ViewerModel, mask: LayerData | None) -> None:
    """Show what was imagined as an outline, in the layer of the result before; None: nothing."""
    now = mask_layer(viewer)
    if now is not None:
        viewer.layers.remove(now)
    if mask is not None:
        data, attributes, _ = mask
        active = viewer.layers.selection.active
        viewer.add_labels(data, **attributes).contour = 1
        viewer.layers.selection.active = active


def keep_mask(viewer: ViewerModel, name: str) -> None:
    """Leave the outline to the user."""
    layer = mask_layer(viewer)
    if layer is not None:
        layer.name = f"{name}, {IMAGINED}"
        layer.metadata = {OURS: {**layer.metadata[OURS], "kind": f"{IMAGINED}, kept"}}


def mask_layer(viewer: ViewerModel) -> Labels | None:
    """The outline that the next result replaces."""
    kinds = ((layer, layer.metadata.get(OURS, {}).get("kind")) for layer in viewer.layers)
    return next((layer for layer, kind in kinds if kind == IMAGINED), None)


def _same_place(one: Volume, other: Volume) -> bool:
    if one.shape != other.shape:
        return False
    shown = (placement(volume.affine) for volume in (one, other))
    (a, b) = ((*place["scale"], *place["translate"]) for place in shown)
    return np.allclose(a, b, atol=1e-3)

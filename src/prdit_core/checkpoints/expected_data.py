"""How scans become the cubes that a trained model expects: its window, field of view and grid."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from prdit_core.checkpoints.catalog import find
from prdit_core.checkpoints.store import read_header
from prdit_core.data.presets import Preset
from prdit_core.data.transforms import check_size
from prdit_core.errors import UsageError
from prdit_core.files import shown
from prdit_core.geometry import by
from prdit_core.intensity import HU

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from prdit_core.checkpoints.header import Header
    from prdit_core.geometry import Geometry
    from prdit_core.intensity import Intensity

RECORDED = "preset"  # where the record of a checkpoint keeps it, as JSON


@dataclass(frozen=True)
class ExpectedData:
    """What `conform` and `preprocess` need to prepare scans for a model.

    Attributes
    ----------
    preset : window, field of view and grid rule
    size : voxels along each edge of the cube
    exact : False where the authors' release does not record its window or its spacing
    """

    preset: Preset
    size: int
    exact: bool


def expected_data(
    intensity: Intensity, geometry: Geometry, record: Mapping[str, Any]
) -> ExpectedData:
    """Preset and size of a model's training data, from parts of its header.

    The preset is the recorded one if it has the model's window and field of view. Imported and
    older checkpoints record none: theirs fits the grid to each scan.

    Raises
    ------
    UsageError
        If no preset has this window, or the geometry is no cube that scans can become.
    """
    fitted, size = _fitted(intensity, geometry), geometry.shape[1]
    _check_grid(geometry, fitted)
    recorded = _recorded(record)
    if recorded is None or _extent(recorded) != _extent(fitted):
        recorded = fitted
    return ExpectedData(recorded, size, intensity.exact and geometry.exact)


def expected_by(checkpoint: str | Path, size: int | None = None) -> ExpectedData:
    """As `expected_data`, for a catalogue name, checkpoint or run folder; reads its header alone.

    Parameters
    ----------
    size : voxels along each edge of the same cube, one of `sizes_for`; None: those of the model

    Raises
    ------
    UsageError
        If there is no such checkpoint, or no scan can be prepared for it at this size.
    CheckpointError
        If its header cannot be trusted.
    """
    header = read_header(find(checkpoint))
    try:
        if header.model.channels != 1:
            raise UsageError(f"a model of {header.model.channels} channels has no HU volumes")
        expected = expected_data(header.intensity, header.geometry, header.record)
        return expected if size is None else replace(expected, size=_checked(header, size))
    except UsageError as error:
        raise UsageError(f"no scan can be prepared for {shown(checkpoint)}: {error}") from error


def sizes_for(checkpoint: str | Path) -> tuple[int, ...]:
    """Sizes of data that are like those of a checkpoint, lowest first; errors as `expected_by`.

    They are the resolutions of the model, and twice the highest, to train a refiner on.
    """
    return _sizes(read_header(find(checkpoint)))


def _sizes(header: Header) -> tuple[int, ...]:
    edge = header.geometry.shape[1]
    return (*header.model.sizes(edge), 2 * edge)


def _checked(header: Header, size: int) -> int:
    *own, finer = _sizes(header)
    if size not in (*own, finer):
        known = ", ".join(map(str, own))
        raise UsageError(f"its data are of size {known}, or {finer} for a refiner, not {size}")
    check_size(size)
    return size


def _check_grid(geometry: Geometry, preset: Preset) -> None:
    size, field_of_view = geometry.shape[1], geometry.field_of_view_mm
    if geometry.shape[0] > size or geometry != preset.geometry(size).model_copy(
        update={"exact": geometry.exact}
    ):
        spacing = " x ".join(f"{mm:g}" for mm in geometry.spacing_mm)
        raise UsageError(
            f"{by(geometry.shape)} voxels of {spacing} mm are no cube of {field_of_view:g} mm, nor "
            "a slab of one; use another model"
        )
    check_size(size)


def _fitted(intensity: Intensity, geometry: Geometry) -> Preset:
    settings = {
        "name": "model",
        "window_hu": intensity.window_hu,
        "field_of_view_mm": geometry.field_of_view_mm,
        "grid": "fitted",
        "centre": "body" if intensity.units == HU else "volume",
        "units": intensity.units,
    }
    depth, height, _ = geometry.shape
    if depth < height:
        settings["slab_mm"] = depth * geometry.spacing_mm[0]
    try:
        return Preset.model_validate(settings)
    except ValidationError as error:
        low, high = intensity.window_hu
        raise UsageError(
            f"the window {low:g} to {high:g} {intensity.units} is none that scans are prepared in "
            "(HU are whole numbers of 16 bits); use another model"
        ) from error


def _recorded(record: Mapping[str, Any]) -> Preset | None:
    """The preset of the record; None if it has none, or one that is damaged."""
    try:
        return Preset.model_validate(record.get(RECORDED))
    except ValidationError:
        return None


def _extent(preset: Preset) -> tuple[tuple[int, int], float, str, float | None]:
    return preset.window_hu, preset.field_of_view_mm, preset.units, preset.slab_mm

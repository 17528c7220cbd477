"""From any CT volume to the cube a model is trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from prdit_core.data.resampling import (
    LPS_FROM_RAS,
    WorkingGrid,
    averaged,
    image_of,
    pool_majority,
    pool_mean,
    resample,
    resample_labels,
)
from prdit_core.data.signal import windowed
from prdit_core.errors import InputRejected, UsageError
from prdit_core.intensity import HU
from prdit_core.provenance import RESEARCH, UNITS, notice_of
from prdit_core.volume import Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from prdit_core.data.landmarks import Landmarks
    from prdit_core.data.presets import Preset

AIR_HU = -1000
WORKING_EDGE = 256
SMALLEST_SIZE = 8
OUTSIDE = -32768.0  # marks resampled voxels that no scan covers; no window reaches so low
MUCH_PADDING = 0.25
LANDMARK_WINDOW_HU = (-1000, 400)  # so that the window of a preset does not move its crop


@dataclass(frozen=True, eq=False)
class Conformed:
    """A scan as a training cube.

    Attributes
    ----------
    volume : int16 HU, or units of the preset, on the grid of `Preset.geometry`, axial, in its true
        place in the patient
    labels : uint8 array of the same shape, or None
    record : JSON-serialisable account of what was done
    notes : what a user should know, one line each, those of reading first
    """

    volume: Volume
    labels: NDArray[np.uint8] | None
    record: dict[str, Any]
    notes: tuple[str, ...]


def conform(
    volume: Volume, preset: Preset, size: int, labels: NDArray[np.uint8] | None = None
) -> Conformed:
    """Clip, resample to an axial cube around the body, average-pool and round to HU.

    What the scan does not cover is air (-1000 HU, or the window's lower end if that is higher).
    MR signal is brought to the preset's window by the percentiles of the scan, see `windowed`.
    A scan at least twice as fine as the working grid is averaged by whole factors first, so
    that it does not alias. The cube's affine is that of its pooled voxels.

    Parameters
    ----------
    volume
        Any orientation and spacing; oblique scans are resampled to axial.
    size
        Voxels along each edge: 8, 16, 32, 64, 128 or 256.
    labels
        Label map on the grid of `volume`: nearest label on the working grid, then the most
        frequent of each pooled voxel, the lowest number where several are.

    Raises
    ------
    UsageError
        If `size` does not divide the working grid, or the slab does not fit it.
    InputRejected
        If the volume holds NaN or infinity, is of other units than the preset, or `labels` are on
        another grid.
    """
    check_size(size)
    slices = preset.geometry(size).shape[0]
    _check_input(volume, preset, labels)
    is_ct = volume.units == HU
    volume, signal = (volume, {}) if is_ct else windowed(volume)
    landmarks = _landmarks(volume)
    edge = working_edge(preset, size, min(volume.spacing_mm))
    centre, centred_on = _centre(landmarks, preset)
    grid = WorkingGrid(edge, preset.field_of_view_mm / edge, centre).on_lattice(volume.affine)
    image = image_of(_clipped(volume, preset.window_hu), volume.affine)
    cube = resample(averaged(image, grid.spacing_mm), grid, OUTSIDE)
    padded_fraction = _fill_with_air(cube, preset)
    factor = edge // size
    record = {
        "centre_mm": _rounded(grid.centre_mm),
        "centred_on": centred_on,
        "field_of_view_mm": preset.field_of_view_mm,
        "working_edge": edge,
        "source_spacing_mm": _rounded(volume.spacing_mm),
        "source_shape": list(volume.shape),
        "padded_fraction": round(padded_fraction, 6),
        "clipped_below": int(np.count_nonzero(volume.voxels_hu < preset.window_hu[0])),
        "clipped_above": int(np.count_nonzero(volume.voxels_hu > preset.window_hu[1])),
        **({"lung_ml": round(landmarks.lung_ml)} if is_ct else signal),
    }
    if (notice := notice_of(volume.metadata)) != RESEARCH:
        record["notice"] = notice  # a data set of synthetic volumes says so
    affine = grid.pooled(factor).affine
    affine[:3, 3] += middle(size, slices).start * affine[:3, 2]  # columns are x, y, z
    voxels = np.rint(pool_mean(cube, factor)).astype(np.int16)[middle(size, slices)]
    return Conformed(
        Volume(voxels, affine, {} if is_ct else {UNITS: preset.units}),
        None
        if labels is None
        else _conformed_labels(labels, volume, grid, factor)[middle(size, slices)],
        record,
        (*volume.metadata.get("notes", ()), *_notes(landmarks, grid, padded_fraction)),
    )


def middle(size: int, slices: int) -> slice:
    """The slices of a slab, of the `size` of the cube."""
    first = (size - slices) // 2
    return slice(first, first + slices)


def check_size(size: int) -> None:
    """Raise `UsageError` unless `size` divides the working grid."""
    if size < SMALLEST_SIZE or WORKING_EDGE % size:
        raise UsageError(f"size {size} does not fit: use 8, 16, 32, 64, 128 or 256")


def working_edge(preset: Preset, size: int, finest_mm: float) -> int:
    """Voxels along each edge before pooling, by the rule `preset.grid` names."""
    edge = WORKING_EDGE if preset.grid == "fixed" else size
    while edge < WORKING_EDGE and preset.field_of_view_mm / edge > finest_mm * (1 + 1e-6):
        edge *= 2
    return edge


def _landmarks(volume: Volume) -> Landmarks:
    """Of a CT; of other modalities only the extent is known."""
    from prdit_core.data.landmarks import Landmarks, extent_of, find_landmarks

    image = image_of(_clipped(volume, LANDMARK_WINDOW_HU), volume.affine)
    if volume.units == HU:
        return find_landmarks(image)
    return Landmarks(extent_of(image), body=None, lungs=None, lung_ml=0.0)


def _check_input(volume: Volume, preset: Preset, labels: NDArray[np.uint8] | None) -> None:
    if volume.units != preset.units:
        raise InputRejected(
            f"the scan is in {volume.units}, but preset {preset.name} is for {preset.units}; "
            "choose the preset of its modality"
        )
    if not np.all(np.isfinite(volume.voxels_hu)):
        raise InputRejected(
            "the volume holds NaN or infinity; mend it or read it with a fill value"
        )
    if labels is not None and labels.shape != volume.shape:
        raise InputRejected(
            f"labels of shape {labels.shape} do not lie on a scan of {volume.shape}"
        )


def _clipped(volume: Volume, window_hu: tuple[int, int]) -> NDArray[Any]:
    """Voxels within the window; int16 stays int16, since scans are large."""
    voxels = volume.voxels_hu
    kept = voxels if voxels.dtype == np.int16 else voxels.astype(np.float32)
    clipped: NDArray[Any] = np.clip(kept, *window_hu)
    return clipped


def _centre(landmarks: Landmarks, preset: Preset) -> tuple[NDArray[np.float64], str]:
    """RAS+ middle of the cube and what it was taken from.

    Along z nothing is cut where the scan fits, so only a longer scan needs its lungs found; the
    cube then stays within the scan.
    """
    extent, body, lungs = landmarks.extent, landmarks.body, landmarks.lungs
    centre, centred_on = extent.centre.copy(), "volume"
    if preset.centre == "body" and body is not None:
        centre[:2], centred_on = body.centre[:2], "body"
    half = preset.field_of_view_mm / 2
    low, high = extent.low[2] + half, extent.high[2] - half
    if preset.centre == "body" and lungs is not None and low < high:
        centre[2], centred_on = np.clip(lungs.centre[2], low, high), "body and lungs"
    return LPS_FROM_RAS @ centre, centred_on


def _fill_with_air(cube: NDArray[np.float32], preset: Preset) -> float:
    """Replace `OUTSIDE` in place; the share of voxels that were."""
    outside = cube == OUTSIDE
    cube[outside] = np.clip(AIR_HU, *preset.window_hu)
    return float(outside.mean())


def _conformed_labels(
    labels: NDArray[np.uint8], volume: Volume, grid: WorkingGrid, factor: int
) -> NDArray[np.uint8]:
    nearest = resample_labels(image_of(labels.astype(np.uint8), volume.affine), grid)
    return pool_majority(nearest, factor)


def _notes(landmarks: Landmarks, grid: WorkingGrid, padded_fraction: float) -> list[str]:
    notes = []
    if padded_fraction > MUCH_PADDING:
        notes.append(f"{padded_fraction:.0%} of the field of view lies outside the scan: air")
    width = 0.0 if landmarks.body is None else float(landmarks.body.size[:2].max())
    if width > grid.edge * grid.spacing_mm:
        notes.append(f"the body is {width:.0f} mm wide, more than the field of view: cut")
    return notes


def _rounded(values: Any) -> list[float]:
    return [round(float(value), 6) + 0.0 for value in values]

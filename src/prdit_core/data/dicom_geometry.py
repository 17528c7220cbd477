"""Whether DICOM slices form a volume, from orientation and positions alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from prdit_core.data.grid import MIN_VOXELS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prdit_core.data.dicom_slices import Slice

Vector = NDArray[np.float64]

SAME_PLACE_MM = 0.01
DIRECTION_TOLERANCE = 1e-3
SIDEWAYS_MM, TILT_DEGREES = 0.1, 0.1
_EXPORT = "export the series again"


@dataclass(frozen=True)
class Fault:
    """Why a series is refused, and what to do about it."""

    why: str
    remedy: str


def geometry_faults(slices: list[Slice]) -> Iterator[Fault]:
    """Everything that keeps slices from forming one evenly spaced volume."""
    if len(slices) == 1:
        yield Fault("one slice is no volume", "give the folder of the whole series")
        return
    missing = sum(
        s.position is None or s.orientation is None or s.spacing_mm is None for s in slices
    )
    if missing:
        tags = "ImagePositionPatient, ImageOrientationPatient or PixelSpacing"
        yield Fault(f"{tags} is missing in {missing} of {len(slices)} slices", _EXPORT)
        return
    orientations = _distinct(_known(s.orientation) for s in slices)
    if orientations > 1:
        yield Fault(
            f"{_counted(orientations)} orientations in one folder", "separate the localiser"
        )
    else:
        yield from _plane_faults(slices)
    if len(slices) < MIN_VOXELS:
        yield Fault(f"fewer than 3 slices ({len(slices)})", "give the whole series")
    elif orientations == 1:
        yield from _position_faults(slices)


def stack(slices: list[Slice]) -> tuple[list[list[Slice]], Vector]:
    """The slices of each position along the normal, and the affine to RAS+ mm.

    Returns
    -------
    places
        One list per position, with more than one slice where slices repeat.
    affine
        (4, 4), from the index (column, row, position).
    """
    normal = _normal(slices[0])
    ordered = sorted(slices, key=lambda s: (float(_known(s.position) @ normal), s.name))
    places: list[list[Slice]] = []
    for slice_ in ordered:
        if places and _along(slice_, normal) - _along(places[-1][0], normal) < SAME_PLACE_MM:
            places[-1].append(slice_)
        else:
            places.append([slice_])
    first, last = places[0][0], places[-1][0]
    step = (_along(last, normal) - _along(first, normal)) / max(1, len(places) - 1)
    rows_mm, columns_mm = _known(first.spacing_mm)
    affine = np.eye(4)
    affine[:3, 0] = _known(first.orientation)[:3] * columns_mm
    affine[:3, 1] = _known(first.orientation)[3:] * rows_mm
    affine[:3, 2] = normal * step
    affine[:3, 3] = _known(first.position)
    affine[:2] *= -1  # LPS to RAS
    return places, affine


def _plane_faults(slices: list[Slice]) -> Iterator[Fault]:
    if len({(s.rows, s.columns) for s in slices}) > 1:
        yield Fault("slices differ in their number of rows or columns", "separate the series")
    spacings = np.array([_known(s.spacing_mm) for s in slices])
    if np.ptp(spacings, axis=0).max() > 1e-3:
        text = ", ".join(f"{value:.4g}" for value in np.unique(spacings))
        yield Fault(f"PixelSpacing differs between slices ({text} mm)", _EXPORT)
    directions = np.array([_known(s.orientation).reshape(2, 3) for s in slices])
    products = directions @ directions.transpose(0, 2, 1) - np.eye(2)
    if np.abs(products).max() > DIRECTION_TOLERANCE:
        yield Fault("ImageOrientationPatient is not two unit vectors at right angles", _EXPORT)


def _position_faults(slices: list[Slice]) -> Iterator[Fault]:
    places, _ = stack(slices)
    if len(places) == 1:
        yield Fault(
            f"all {len(slices)} slices lie at one position", "give a series that is a volume"
        )
        return
    if len(places) < MIN_VOXELS:
        yield Fault(f"fewer than 3 slice positions ({len(places)})", "give the whole series")
        return
    normal = _normal(slices[0])
    offsets = np.array([_known(s.position) - _known(places[0][0].position) for s, *_ in places])
    yield from _tilt_faults(offsets, normal)
    yield from _distance_faults(_along(places[0][0], normal) + offsets @ normal)


def _tilt_faults(offsets: Vector, normal: Vector) -> Iterator[Fault]:
    sideways = np.linalg.norm(offsets - np.outer(offsets @ normal, normal), axis=1)
    tilt = float(np.degrees(np.arctan2(sideways[-1], offsets[-1] @ normal)))
    if sideways[-1] > SIDEWAYS_MM and tilt > TILT_DEGREES:
        remedy = "resample it to a grid with right angles"
        yield Fault(f"the gantry is tilted by {tilt:.3g} degrees", remedy)
    elif sideways.max() > 10 * SIDEWAYS_MM:
        yield Fault(f"slices are shifted sideways by up to {sideways.max():.1f} mm", _EXPORT)


def _distance_faults(along: Vector) -> Iterator[Fault]:
    """Slices must lie on an even grid, and apart as is usual among them.

    Positions are often rounded to 0.1 mm, so that much is allowed, but no more than a quarter
    of the distance, so that a missing slice is noticed at any spacing; plus 2 % of it.
    """
    even = np.linspace(along[0], along[-1], len(along))
    gaps = np.diff(along)
    usual = float(np.median(gaps))
    allowed = min(0.1, 0.25 * usual) + 0.02 * usual
    if max(np.abs(along - even).max(), np.abs(gaps - usual).max()) <= allowed:
        return
    worst = int(np.argmax(np.abs(gaps - usual)))
    where = f"between {along[worst]:.2f} and {along[worst + 1]:.2f} mm"
    why = f"uneven slice distance: expected {usual:.4g} mm, found {gaps[worst]:.4g} mm {where}"
    missing = round(float(gaps[worst]) / usual) - 1
    yield Fault(f"{why} ({missing} slices missing?)" if missing > 0 else why, "add what is missing")


def _normal(slice_: Slice) -> Vector:
    orientation = _known(slice_.orientation)
    normal = np.cross(orientation[:3], orientation[3:])
    return np.asarray(normal / np.linalg.norm(normal), dtype=np.float64)


def _along(slice_: Slice, normal: Vector) -> float:
    return float(_known(slice_.position) @ normal)


def _distinct(vectors: Iterator[Vector]) -> int:
    kinds: list[Vector] = []
    for vector in vectors:
        if all(np.abs(vector - kind).max() > DIRECTION_TOLERANCE for kind in kinds):
            kinds.append(vector)
    return len(kinds)


def _counted(count: int) -> str:
    return {2: "two", 3: "three"}.get(count, str(count))


def _known(value: Vector | None) -> Vector:
    """A vector that `geometry_faults` has found to be there."""
    if value is None:
        raise ValueError("the geometry of this slice was not checked")
    return value

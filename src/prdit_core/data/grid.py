"""The grid of a scan: how far apart its voxels lie and where its axes point."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from prdit_core.errors import InputRejected
from prdit_core.files import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

Affine = NDArray[np.float64]

LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])  # signs of x, y and z, and back
MAX_BYTES = 2**31
SPACING_LIMITS_MM = (0.05, 20.0)
MAX_EXTENT_MM = 2500.0
MAX_SHEAR_DEGREES = 0.1
MOST_RESAMPLED_DEGREES = 45.0  # beyond it is no scan
MIN_VOXELS = 3

# Direction in RAS+ that an axis code points to.
_TOWARDS = {
    "R": (1.0, 0.0, 0.0),
    "L": (-1.0, 0.0, 0.0),
    "A": (0.0, 1.0, 0.0),
    "P": (0.0, -1.0, 0.0),
    "S": (0.0, 0.0, 1.0),
    "I": (0.0, 0.0, -1.0),
}


def rejected(name: str, why: str, remedy: str) -> InputRejected:
    """The one-line refusal of the input `name`: why, and what to do about it."""
    return InputRejected(shown(f"{name}: {why}; {remedy}"))


def is_orientation(codes: str) -> bool:
    """Whether `codes` names one direction of each pair R/L, A/P and S/I, as "LPS" does."""
    if len(codes) != 3 or not set(codes) <= set(_TOWARDS):
        return False
    return bool(abs(np.linalg.det(_directions(codes))) > 0)


def affine_towards(codes: str, spacing_mm: Sequence[float] | Affine) -> Affine:
    """Affine of a grid whose x, y, z axes run towards `codes` ("LPS": left, posterior, superior).

    Parameters
    ----------
    codes
        Three letters of R, L, A, P, S, I.
    spacing_mm
        (x, y, z) spacing in mm.
    """
    affine = np.eye(4)
    affine[:3, :3] = _directions(codes) * np.asarray(spacing_mm, dtype=np.float64)
    return affine


def numbers_in(text: str) -> Affine:
    """The numbers of a header line, apart by blanks; none where one of them is no number."""
    try:
        return np.array([float(word) for word in text.split()])
    except ValueError:
        return np.empty(0)


def no_orientation(name: str) -> InputRejected:
    """The refusal of a file that does not say which way its axes run."""
    return rejected(
        name,
        "the file does not say which way its axes run, so left and right are unknown",
        "state it with --assume-orientation, for example LPS",
    )


def check_bytes(count: int, name: str) -> None:
    """Refuse a declared size above `MAX_BYTES`, before anything is allocated.

    Raises
    ------
    InputRejected
    """
    if count > MAX_BYTES:
        raise rejected(
            name,
            f"it declares {count / 2**30:.1f} GiB of voxels, more than the {MAX_BYTES / 2**30:.0f} "
            "GiB a scan may have",
            "check the header, or resample the scan first",
        )


def check_grid(shape: tuple[int, int, int], affine: Affine, name: str) -> None:
    """Refuse a grid that no CT scan has.

    Parameters
    ----------
    shape
        Number of voxels (z, y, x).
    affine
        (4, 4), index (x, y, z) to RAS+ mm.
    name
        What to call the input in the message.

    Raises
    ------
    InputRejected
        Fewer than 3 voxels along an axis, or spacing or extent outside the limits.
    """
    if min(shape) < MIN_VOXELS:
        size = " x ".join(str(n) for n in reversed(shape))
        raise rejected(
            name, f"{size} voxels are no volume", "give a scan with three or more slices"
        )
    check_affine(affine, name)
    check_spacing(np.linalg.norm(affine[:3, :3], axis=0), shape, name)


def check_affine(affine: Affine, name: str) -> None:
    """Refuse a geometry that is none of any grid.

    Raises
    ------
    InputRejected
    """
    if not np.all(np.isfinite(affine)):
        raise rejected(name, "its geometry holds NaN or infinity", "repair the header")


def check_shear(affine: Affine, name: str, most_degrees: float = MAX_SHEAR_DEGREES) -> None:
    """Refuse axes that miss right angles by more than `most_degrees`.

    Raises
    ------
    InputRejected
    """
    if shear_degrees(affine) > most_degrees:
        raise sheared(affine, name)


def sheared(affine: Affine, name: str) -> InputRejected:
    """The refusal of a grid whose axes are not at right angles."""
    why = f"its axes are sheared by {shear_degrees(affine):.3g} degrees"
    return rejected(name, why, "resample it to a grid with right angles")


def check_spacing(spacing_mm: Affine, shape: tuple[int, int, int], name: str) -> None:
    """Refuse (x, y, z) spacings and extents in mm outside the limits."""
    text = " x ".join(f"{value:.4g}" for value in spacing_mm)
    low, high = SPACING_LIMITS_MM
    if not np.all((spacing_mm >= low) & (spacing_mm <= high)):
        why = f"its voxel spacing of {text} mm is outside {low} to {high} mm"
        raise rejected(name, why, "repair the header")
    extent = float(np.max(spacing_mm * np.array(shape[::-1])))
    if extent > MAX_EXTENT_MM:
        why = f"it spans {extent:.0f} mm, more than {MAX_EXTENT_MM:.0f} mm, at {text} mm spacing"
        raise rejected(name, why, "repair the header")


def shear_degrees(affine: Affine) -> float:
    """By how much the axes of a grid miss right angles, in degrees."""
    columns = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    cosines = columns.T @ columns - np.eye(3)
    return float(np.degrees(np.arcsin(min(1.0, np.abs(cosines).max()))))


def nearest_right_angles(affine: Affine) -> Affine:
    """The affine with the same lengths and first voxel whose axes are at right angles."""
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    left, _, right = np.linalg.svd(affine[:3, :3] / lengths)
    straight = affine.copy()
    straight[:3, :3] = (left @ right) * lengths
    return straight


def shear_mm(affine: Affine, shape: tuple[int, int, int]) -> float:
    """How far right angles would move a voxel of a grid of (z, y, x) voxels, at most, in mm."""
    change = (nearest_right_angles(affine) - affine)[:3, :3]
    corners = np.array([(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)])
    moved = (corners * (np.array(shape[::-1]) - 1)) @ change.T
    return float(np.linalg.norm(moved, axis=1).max())


def oblique_degrees(affine: Affine) -> float:
    """Largest angle between an axis of a canonical grid and the patient's axis, in degrees."""
    columns = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return float(np.degrees(np.arccos(min(1.0, np.abs(np.diag(columns)).min()))))


def _directions(codes: str) -> Affine:
    return np.array([_TOWARDS[code] for code in codes]).T

"""Reading and writing scans. This is the only place that flips axes.

Whatever the file, `read_volume` gives HU that run towards the patient's head, back and left.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)

from prdit_core.data import checks
from prdit_core.data.dicom import patient_key
from prdit_core.data.discovery import SUFFIXES, find_cases, suffix_of
from prdit_core.data.formats import read_stored
from prdit_core.data.grid import MOST_RESAMPLED_DEGREES, check_shear, oblique_degrees, rejected
from prdit_core.data.hounsfield import LOWEST_HU, Levels, check_hu, check_stated_units
from prdit_core.data.nifti import LABEL_INTENT, read_nifti
from prdit_core.data.padding import without_padding
from prdit_core.data.read_options import AS_STATED, ReadOptions
from prdit_core.data.records import stated_units
from prdit_core.data.resampling import right_angled
from prdit_core.data.writing import WRITE_SUFFIXES, write_labels, write_volume
from prdit_core.files import shown
from prdit_core.intensity import ARBITRARY, HU
from prdit_core.provenance import UNITS
from prdit_core.volume import Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "AS_STATED",
    "SUFFIXES",
    "WRITE_SUFFIXES",
    "ReadOptions",
    "canonical",
    "check_units",
    "find_cases",
    "read_as_written",
    "read_labels",
    "read_patient_key",
    "read_resampled",
    "read_silently",
    "read_volume",
    "write_labels",
    "write_volume",
]

_CANONICAL = ("L", "P", "S")
_NOTED_DEGREES = 0.5


def read_volume(path: str | Path, options: ReadOptions = AS_STATED) -> Volume:
    """Read one CT scan, or one of MR if the options say that it is, or refuse it.

    Parameters
    ----------
    path
        A file with one of `SUFFIXES`, or a folder with one DICOM series at any depth.
    options
        What the file does not say.

    Returns
    -------
    Volume
        int16 or float32 HU of at least -1024, finite, z to superior, y to posterior, x to
        left; of MR float32 signal, not negative, with its units in `metadata`. That also has
        `source_format`, `notes` (the list of what was changed) and, for DICOM, `patient_key`,
        which tells patients apart. An ID can be guessed from it, so it is not to be written
        anywhere.

    Raises
    ------
    InputRejected
        With one line that says what is wrong with which file and what to do.
    """
    volume = read_silently(Path(path), options)
    return _with_notes(volume, _remarks(volume))


def read_resampled(path: str | Path, options: ReadOptions = AS_STATED) -> Volume:
    """As `read_volume`, but a volume with sheared axes is brought to right angles, and noted."""
    name = shown(Path(path).absolute().name)
    stored = read_stored(Path(path), options, name)
    check_shear(stored.affine, name, MOST_RESAMPLED_DEGREES)
    empty = LOWEST_HU if options.modality == "ct" else 0
    volume = right_angled(_canonical_voxels(stored, options, name), empty)
    return _with_notes(volume, _remarks(volume))


def read_silently(path: Path, options: ReadOptions = AS_STATED) -> Volume:
    """As `read_volume`, without its remarks on the content, which take longer than small files."""
    units = stated_units(path)
    if units == HU:  # a weak model makes what looks like no scan
        return read_as_written(path)
    if units is not None:  # ours, and no CT
        volume = read_as_written(path)
        return replace(volume, metadata={**volume.metadata, UNITS: units})
    name = shown(path.absolute().name)
    stored = read_stored(path, options, name)
    check_shear(stored.affine, name)
    return _canonical_voxels(stored, options, name)


def read_as_written(path: Path) -> Volume:
    """A volume that is known to be ours: its file and geometry are checked, its HU believed.

    So what a weak model made is read like all else, and values below -1024 HU stay.

    Raises
    ------
    InputRejected
        If the file is damaged or its geometry is none that a CT has.
    """
    name = shown(path.absolute().name)
    stored = read_stored(path, AS_STATED, name)
    check_shear(stored.affine, name)
    voxels, _ = checks.without_nan(checks.stored_as_hu(stored.voxels_hu), None, name)
    return canonical(Volume(voxels, stored.affine, stored.metadata))


def read_labels(path: Path, *, as_stored: bool = False) -> Volume:
    """A label map as `write_labels` writes it, NIfTI, in canonical orientation.

    Parameters
    ----------
    as_stored : leave its axes as the file has them

    Raises
    ------
    InputRejected
        If the file is damaged, of another format, or its geometry is none that a CT has.
    """
    name = shown(path.absolute().name)
    if suffix_of(path) not in (".nii", ".nii.gz"):
        raise rejected(name, "it is no NIfTI file", "give the label map as .nii.gz")
    stored = read_nifti(path, frame=None, assume_orientation=None, intent=LABEL_INTENT)
    check_shear(stored.affine, name)
    return stored if as_stored else canonical(stored)


def check_units(voxels: NDArray[Any], name: str, options: ReadOptions = AS_STATED) -> None:
    """Refuse finite voxels of any shape that are no CT in HU.

    More strictly where the user stated how to make them HU.

    Raises
    ------
    InputRejected
        With one line that says why.
    """
    if voxels.min() == voxels.max():
        raise rejected(name, f"every voxel is {voxels.flat[0]}", "give a scan with content")
    levels = Levels.of(voxels)
    check_hu(levels, name, options.hu_offset)
    if options.hu_offset or options.assume_rescale:
        check_stated_units(levels, name)


def _canonical_signal(stored: Volume, options: ReadOptions, name: str) -> Volume:
    """MR signal in units of its own, in canonical orientation; none is negative."""
    with np.errstate(over="ignore"):
        voxels = stored.voxels_hu.astype(np.float32)
    voxels, filled = checks.without_nan(voxels, options.nan_fill, name)
    below = int(np.count_nonzero(voxels < 0))
    voxels = np.maximum(voxels, np.float32(0))
    if voxels.min() == voxels.max():
        raise rejected(name, f"every voxel is {voxels.flat[0]}", "give a scan with content")
    volume = canonical(Volume(voxels, stored.affine, stored.metadata))
    raised = (
        [f"{below} voxels were below 0, which no signal is, and were set to 0"] if below else []
    )
    notes = [*stored.metadata["notes"], *filled, *raised]
    metadata = {**stored.metadata, "notes": notes, UNITS: ARBITRARY}
    return Volume(volume.voxels_hu, volume.affine, metadata)


def _canonical_voxels(stored: Volume, options: ReadOptions, name: str) -> Volume:
    """Voxels as stored become HU, judged, in canonical orientation; those of MR stay signal."""
    if options.modality == "mr":
        return _canonical_signal(stored, options, name)
    voxels = checks.as_hu(stored.voxels_hu, options.hu_offset)
    voxels, filled = checks.without_nan(voxels, options.nan_fill, name)
    check_units(voxels, name, options)
    voxels, clamped = without_padding(voxels)
    volume = canonical(Volume(voxels, stored.affine, stored.metadata))
    notes = [*stored.metadata["notes"], *filled, *clamped]
    return Volume(volume.voxels_hu, volume.affine, {**stored.metadata, "notes": notes})


def read_patient_key(path: Path, options: ReadOptions) -> str | None:
    """`metadata["patient_key"]` of a scan that `read_volume` accepts, without its voxels.

    Raises
    ------
    InputRejected
        If it is DICOM that cannot be read.
    """
    if path.is_file() and suffix_of(path) in SUFFIXES:
        return None
    return patient_key(path, options.series)


def canonical(volume: Volume) -> Volume:
    """The same volume with axes permuted and flipped to z superior, y posterior, x left.

    Oblique volumes take the closest orientation; the rest of the rotation stays in the affine.
    """
    change = ornt_transform(io_orientation(volume.affine), axcodes2ornt(_CANONICAL))
    voxels = apply_orientation(volume.voxels_hu.T, change).T
    affine = volume.affine @ inv_ornt_aff(change, volume.voxels_hu.T.shape) + 0.0
    return Volume(np.ascontiguousarray(voxels), affine, volume.metadata)


def _with_notes(volume: Volume, notes: list[str]) -> Volume:
    """The volume with more in its list of notes."""
    known = {**volume.metadata, "notes": [*volume.metadata["notes"], *notes]}
    return Volume(volume.voxels_hu, volume.affine, known)


def _remarks(volume: Volume) -> list[str]:
    notes = []
    angle = oblique_degrees(volume.affine)
    if angle > _NOTED_DEGREES:
        notes.append(f"oblique by {angle:.1f} degrees, which the affine keeps")
    if volume.units != HU:
        return notes
    if background := checks.dense_background(volume):
        notes.append(background)
    if checks.little_lung(volume):
        notes.append("little lung in the field of view")
    return notes

"""Reading and writing scans. This is the only place that flips axes.

Whatever the file, `read_volume` gives HU that run towards the patient's head, back and left.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, NonNegativeInt, field_validator
from pydantic_core import PydanticCustomError

from prdit_core.data import checks
from prdit_core.data.dicom import patient_key, read_dicom
from prdit_core.data.dicom_slices import looks_like_dicom, short_name
from prdit_core.data.discovery import SUFFIXES, find_cases, suffix_of
from prdit_core.data.grid import (
    MOST_RESAMPLED_DEGREES,
    check_grid,
    check_shear,
    is_orientation,
    oblique_degrees,
    rejected,
)
from prdit_core.data.hounsfield import LOWEST_HU, Levels, check_hu, check_stated_units
from prdit_core.data.metaimage import data_file_of, metaimage_header, read_metaimage
from prdit_core.data.nifti import LABEL_INTENT, read_nifti, write_nifti
from prdit_core.data.npz import read_npz
from prdit_core.data.nrrd import nrrd_header, read_nrrd
from prdit_core.data.padding import without_padding
from prdit_core.data.payload import gzipped
from prdit_core.data.records import says_hu
from prdit_core.data.resampling import right_angled
from prdit_core.data.signatures import check_signature
from prdit_core.errors import InputRejected, OutputError, UsageError
from prdit_core.files import shown, write_atomically
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
    "read_patient_key",
    "read_resampled",
    "read_silently",
    "read_volume",
    "write_labels",
    "write_volume",
]

WRITE_SUFFIXES = (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd")
_CANONICAL = ("L", "P", "S")
_NOTED_DEGREES = 0.5


Millimetres = Annotated[FiniteFloat, Field(gt=0)]


class ReadOptions(BaseModel):
    """What a file does not say, stated by the user; the defaults assume nothing.

    Attributes
    ----------
    series : SeriesInstanceUID, or its short name as a refusal lists it; kept as the latter
    frame : which volume of a 4D NIfTI to take, from 0
    assume_orientation : where x, y, z run to ("LPS"), for files that do not say
    assume_rescale : DICOM (slope, intercept) where the tags are missing
    hu_offset : added to every voxel, for example -1024
    nan_fill : HU for NaN and infinite voxels
    npz_spacing_mm : (z, y, x) of RAD-ChestCT files, as published
    npz_clip_hu : range of RAD-ChestCT files, as published
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    series: str | None = None
    frame: NonNegativeInt | None = None
    assume_orientation: str | None = None
    assume_rescale: tuple[FiniteFloat, FiniteFloat] | None = None
    hu_offset: FiniteFloat = 0.0
    nan_fill: FiniteFloat | None = None
    npz_spacing_mm: tuple[Millimetres, Millimetres, Millimetres] = (0.8, 0.8, 0.8)
    npz_clip_hu: tuple[FiniteFloat, FiniteFloat] = (-1000.0, 1000.0)

    @field_validator("npz_clip_hu")
    @classmethod
    def _low_to_high(cls, clip: tuple[float, float]) -> tuple[float, float]:
        if not clip[0] < clip[1]:
            raise PydanticCustomError("range", "give the lower HU first, then the higher")
        return clip

    @field_validator("series")
    @classmethod
    def _name_no_patient(cls, series: str | None) -> str | None:
        return None if series is None else short_name(series)

    @field_validator("assume_orientation")
    @classmethod
    def _three_directions(cls, codes: str | None) -> str | None:
        if codes is not None and not is_orientation(codes.upper()):
            why = "give one letter each of R/L, A/P and S/I, for example LPS"
            raise PydanticCustomError("orientation", why)
        return None if codes is None else codes.upper()


AS_STATED = ReadOptions()


def read_volume(path: str | Path, options: ReadOptions = AS_STATED) -> Volume:
    """Read one CT scan, or refuse it.

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
        left. `metadata` has `source_format`, `notes` (the list of what was changed) and, for
        DICOM, `patient_key`, which tells patients apart. An ID can be guessed from it, so it is
        not to be written anywhere.

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
    stored = _read_stored(Path(path), options, name)
    check_shear(stored.affine, name, MOST_RESAMPLED_DEGREES)
    volume = right_angled(_canonical_hu(stored, options, name), LOWEST_HU)
    return _with_notes(volume, _remarks(volume))


def read_silently(path: Path, options: ReadOptions = AS_STATED) -> Volume:
    """As `read_volume`, without its remarks on the content, which take longer than small files."""
    if says_hu(path):  # a weak model makes what looks like no scan
        return read_as_written(path)
    name = shown(path.absolute().name)
    stored = _read_stored(path, options, name)
    check_shear(stored.affine, name)
    return _canonical_hu(stored, options, name)


def read_as_written(path: Path) -> Volume:
    """A volume that is known to be ours: its file and geometry are checked, its HU believed.

    So what a weak model made is read like all else, and values below -1024 HU stay.

    Raises
    ------
    InputRejected
        If the file is damaged or its geometry is none that a CT has.
    """
    name = shown(path.absolute().name)
    stored = _read_stored(path, AS_STATED, name)
    check_shear(stored.affine, name)
    voxels, _ = checks.without_nan(checks.stored_as_hu(stored.voxels_hu), None, name)
    return canonical(Volume(voxels, stored.affine, stored.metadata))


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


def _canonical_hu(stored: Volume, options: ReadOptions, name: str) -> Volume:
    """Voxels as stored become HU, judged, in canonical orientation."""
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


def write_volume(volume: Volume, path: str | Path) -> Path:
    """Write HU as int16; equal volumes give equal bytes.

    The file is written beside the target, read back, compared and renamed. HU outside int16
    saturate with a warning. `metadata["description"]` goes into the header.

    Parameters
    ----------
    volume
        Finite HU on a grid with right angles.
    path
        Ends in one of `WRITE_SUFFIXES`; for .mhd the voxels go to a .raw file beside it.

    Raises
    ------
    UsageError
        For another suffix.
    NumericalError
        If a voxel is NaN or infinite.
    OutputError
        If the target cannot be written, or does not read back, or the .raw file is another's.
    """
    path = Path(path)
    suffix = suffix_of(path)
    if suffix not in WRITE_SUFFIXES:
        raise UsageError(f"cannot write {shown(path.name)}: choose {', '.join(WRITE_SUFFIXES)}")
    check_grid(volume.shape, volume.affine, shown(path.name))
    check_shear(volume.affine, shown(path.name))
    voxels = checks.as_int16(volume.voxels_hu, shown(path.name))
    stored = Volume(voxels, volume.affine, volume.metadata)
    if suffix != ".mhd":
        return write_atomically(path, lambda part: _write_file(stored, part, suffix))
    raw = path.with_suffix(".raw")
    if raw.exists() and data_file_of(path) != raw.name:
        raise OutputError(
            f"{shown(raw)} is there and is not of {shown(path.name)}; choose another name"
        )
    write_atomically(raw, lambda part: _write_raw(stored, part))
    return write_atomically(path, lambda part: _write_mhd(stored, part, raw.name))


def write_labels(labels: Volume, path: str | Path) -> Path:
    """Write a label map as uint8 NIfTI, marked as one, so that nobody takes it for a scan.

    Parameters
    ----------
    labels
        Whole numbers of 0 to 255 in the place of HU, on a grid with right angles.
    path
        Ends in .nii or .nii.gz.

    Raises
    ------
    UsageError
        For another suffix, or a label that is out of range.
    OutputError
        If the target cannot be written.
    """
    path = Path(path)
    suffix, name = suffix_of(path), shown(path.name)
    if suffix not in (".nii", ".nii.gz"):
        raise UsageError(f"cannot write labels to {name}: choose .nii.gz or .nii")
    check_grid(labels.shape, labels.affine, name)
    check_shear(labels.affine, name)
    if labels.voxels_hu.min() < 0 or labels.voxels_hu.max() > 255:
        raise UsageError(f"cannot write {name}: it has labels beyond 0 to 255; number them anew")
    stored = Volume(labels.voxels_hu.astype(np.uint8), labels.affine)
    description = str(labels.metadata.get("description", ""))
    return write_atomically(
        path,
        lambda part: write_nifti(
            stored,
            part,
            compressed=suffix == ".nii.gz",
            description=description,
            intent=LABEL_INTENT,
        ),
    )


def _read_stored(path: Path, options: ReadOptions, name: str) -> Volume:
    """The volume with axes as stored, nothing judged but the file and its geometry."""
    assumed = options.assume_orientation
    suffix = "" if path.is_dir() else suffix_of(path)
    if not path.is_dir() and not path.is_file():
        raise rejected(name, "there is no such file or folder", "check the path")
    if path.is_file():
        check_signature(path, suffix, name)
    if suffix in (".nii", ".nii.gz"):
        return read_nifti(path, frame=options.frame, assume_orientation=assumed)
    if suffix in (".nrrd", ".nhdr"):
        return read_nrrd(path, assume_orientation=assumed)
    if suffix in (".mha", ".mhd"):
        return read_metaimage(path, assume_orientation=assumed)
    if suffix == ".npz":
        return read_npz(
            path,
            spacing_mm=options.npz_spacing_mm,
            clip_hu=options.npz_clip_hu,
            hu_offset=options.hu_offset,
            assume_orientation=assumed,
        )
    if path.is_dir() or looks_like_dicom(path):
        return read_dicom(path, series=options.series, assume_rescale=options.assume_rescale)
    raise rejected(name, "its format is unknown", f"give DICOM or one of {', '.join(SUFFIXES)}")


def _with_notes(volume: Volume, notes: list[str]) -> Volume:
    """The volume with more in its list of notes."""
    known = {**volume.metadata, "notes": [*volume.metadata["notes"], *notes]}
    return Volume(volume.voxels_hu, volume.affine, known)


def _remarks(volume: Volume) -> list[str]:
    notes = []
    angle = oblique_degrees(volume.affine)
    if angle > _NOTED_DEGREES:
        notes.append(f"oblique by {angle:.1f} degrees, which the affine keeps")
    if background := checks.dense_background(volume):
        notes.append(background)
    if checks.little_lung(volume):
        notes.append("little lung in the field of view")
    return notes


def _write_file(volume: Volume, part: Path, suffix: str) -> None:
    description = str(volume.metadata.get("description", ""))
    if suffix == ".mha":
        header = metaimage_header(volume, data_file="LOCAL", description=description)
        part.write_bytes(header + _little_endian(volume))
    elif suffix == ".nrrd":
        header = nrrd_header(volume, description=description)
        part.write_bytes(header + gzipped(_little_endian(volume)))
    else:
        write_nifti(volume, part, compressed=suffix == ".nii.gz", description=description)
    _check_written(volume, part)


def _write_raw(volume: Volume, part: Path) -> None:
    part.write_bytes(_little_endian(volume))
    if part.read_bytes() != _little_endian(volume):
        raise _not_as_written(part)


def _write_mhd(volume: Volume, part: Path, data_file: str) -> None:
    description = str(volume.metadata.get("description", ""))
    part.write_bytes(metaimage_header(volume, data_file=data_file, description=description))
    _check_written(volume, part)


def _little_endian(volume: Volume) -> bytes:
    return volume.voxels_hu.astype("<i2").tobytes()


def _check_written(volume: Volume, part: Path) -> None:
    """Read back voxels and affine, of which NIfTI keeps the digits of float32."""
    try:
        found = _read_stored(part, AS_STATED, part.name)
    except InputRejected as error:
        raise _not_as_written(part) from error
    same_place = np.allclose(found.affine, volume.affine, rtol=1e-6, atol=1e-6)
    if not same_place or not np.array_equal(found.voxels_hu, volume.voxels_hu):
        raise _not_as_written(part)


def _not_as_written(part: Path) -> OutputError:
    return OutputError(f"{shown(part.name)} does not read back as written; check the disk")

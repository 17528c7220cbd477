"""DICOM files of a folder and what their headers say; no pixels are read here."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from prdit_core.data.dicom_dataset import (
    SUFFIXES,
    invalid_header_named,
    lacks_preamble,
    read_dataset,
    start_of,
)
from prdit_core.data.grid import rejected
from prdit_core.data.read_options import short_name
from prdit_core.data.signatures import check_not_pointer, is_pointer
from prdit_core.errors import InputRejected
from prdit_core.files import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pydicom
    from numpy.typing import NDArray

_DIRECTORY_CLASS = b"1.2.840.10008.1.3.10"
_NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
_TAGS: list[str] = [
    "Modality",
    "SeriesInstanceUID",
    "PatientID",
    "FrameOfReferenceUID",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "Rows",
    "Columns",
    "BitsAllocated",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "RescaleSlope",
    "RescaleIntercept",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "SyntheticData",
]


@dataclass(frozen=True, eq=False)
class Slice:
    """The header of one slice, positions in LPS mm as DICOM states them.

    Attributes
    ----------
    name : file name that is safe to print
    series : `short_name` of SeriesInstanceUID
    patient, frame_of_reference : compared with those of other slices, never shown
    position : (3,) ImagePositionPatient, None where absent
    orientation : (6,) ImageOrientationPatient, row then column direction, None where absent
    spacing_mm : (2,) PixelSpacing between rows, then columns, None where absent
    rescale : (slope, intercept), None where absent
    padding : PixelPaddingValue and the other end of its range, None where absent
    synthetic : whether Synthetic Data (0008,001C) is YES
    """

    path: Path
    name: str
    modality: str
    series: str
    patient: str
    frame_of_reference: str
    frames: int
    greyscale: str
    rows: int
    columns: int
    position: NDArray[np.float64] | None
    orientation: NDArray[np.float64] | None
    spacing_mm: NDArray[np.float64] | None
    rescale: tuple[float, float] | None
    padding: tuple[int, int] | None
    synthetic: bool


def looks_like_dicom(path: Path) -> bool:
    """Whether a file is, or claims to be, DICOM. A DICOMDIR, whatever its name, is not a slice.

    A file without suffix that holds nothing, only zeros or a pointer to what was not fetched
    counts, so that a slice that was lost in copying is noticed.
    """
    name = path.name.lower()
    if name.startswith(".") or name == "dicomdir" or (path.exists() and not path.is_file()):
        return False
    try:
        start = start_of(path)
    except OSError:
        return name.endswith(SUFFIXES)
    if _DIRECTORY_CLASS in start:
        return False
    if name.endswith(SUFFIXES) or start[128:132] == b"DICM" or lacks_preamble(start):
        return True
    nameless = path.suffix == "" or path.suffix[1:].isdecimal()
    return nameless and (not start[:132].strip(b"\0") or is_pointer(path))


def walk_files(root: Path) -> Iterator[Path]:
    """All files below `root` in a fixed order, links to files among them.

    Hidden folders are left out, and links to folders, since they can lead in circles or out of
    `root`; see `linked_folders`.

    Raises
    ------
    InputRejected
        Naming a folder that cannot be listed, so that no scan goes missing unnoticed.
    """
    for folder, _, files in _walk(root):
        yield from (folder / file for file in sorted(files))


def linked_folders(root: Path) -> list[Path]:
    """The links to folders below `root`, which `walk_files` does not follow."""
    if not root.is_dir():
        return []
    folders = [folder / name for folder, names, _ in _walk(root) for name in names]
    return [folder for folder in folders if folder.is_symlink()]


def each_once(paths: Iterable[Path]) -> Iterator[Path]:
    """Leave out paths that lead to the file or folder of an earlier one."""
    seen = set()
    for path in paths:
        real = os.path.realpath(path)
        if real not in seen:
            seen.add(real)
            yield path


def dicom_files(path: Path) -> tuple[list[Path], int]:
    """The DICOM files at or below `path` and how many other files were ignored."""
    if path.is_file():
        return [path], 0
    files = list(each_once(walk_files(path)))
    slices = [file for file in files if looks_like_dicom(file)]
    return slices, len(files) - len(slices)


def read_slice(path: Path) -> Slice | None:
    """The header of one file; None for objects that hold no image, such as reports.

    Raises
    ------
    InputRejected
        If the header cannot be read or the file is shorter than its header says.
    """
    name = shown(path.name)
    check_not_pointer(path, name)
    dataset = read_dataset(path, name, tags=_TAGS)
    with invalid_header_named(name, modality=""):
        modality = _text(dataset, "Modality")
    with invalid_header_named(name, modality):
        if dataset.get("Rows") is None or dataset.get("Columns") is None:
            if modality not in ("", "CT"):
                return None
            why = "it is not readable as a DICOM image"
            raise rejected(name, why, "copy it again, or remove it")
        header = _parsed(dataset, path, name, modality)
        _check_length(dataset, header)
    return header


def _walk(root: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Folder, its folders and files; hidden folders are left out."""
    for folder, names, files in os.walk(root, onerror=_raise_unlisted):
        names[:] = sorted(name for name in names if not name.startswith("."))
        yield Path(folder), names, files


def _raise_unlisted(error: OSError) -> None:
    name = shown(Path(str(error.filename)).name)
    why = f"the folder cannot be listed ({error.strerror})"
    raise rejected(name, why, "check its permissions, or move it elsewhere") from error


def _parsed(dataset: pydicom.Dataset, path: Path, name: str, modality: str) -> Slice:
    slope, intercept = (
        _numbers(dataset, "RescaleSlope", 1),
        _numbers(dataset, "RescaleIntercept", 1),
    )
    return Slice(
        path=path,
        name=name,
        modality=modality,
        series=short_name(_text(dataset, "SeriesInstanceUID")),
        patient=_text(dataset, "PatientID"),
        frame_of_reference=_text(dataset, "FrameOfReferenceUID"),
        frames=int(dataset.get("NumberOfFrames") or 1),
        greyscale=_greyscale(dataset),
        rows=int(dataset.Rows),
        columns=int(dataset.Columns),
        position=_numbers(dataset, "ImagePositionPatient", 3),
        orientation=_numbers(dataset, "ImageOrientationPatient", 6),
        spacing_mm=_numbers(dataset, "PixelSpacing", 2),
        rescale=None if slope is None or intercept is None else (slope[0], intercept[0]),
        padding=_padding(dataset),
        synthetic=_text(dataset, "SyntheticData") == "YES",
    )


def _padding(dataset: pydicom.Dataset) -> tuple[int, int] | None:
    value = _numbers(dataset, "PixelPaddingValue", 1)
    limit = _numbers(dataset, "PixelPaddingRangeLimit", 1)
    if value is None:
        return None
    return int(value[0]), int(value[0] if limit is None else limit[0])


def _greyscale(dataset: pydicom.Dataset) -> str:
    colours = int(dataset.get("SamplesPerPixel") or 1)
    return _text(dataset, "PhotometricInterpretation") if colours == 1 else f"{colours} colours"


def _text(dataset: pydicom.Dataset, tag: str) -> str:
    return str(dataset.get(tag) or "").strip()


def _numbers(dataset: pydicom.Dataset, tag: str, count: int) -> NDArray[np.float64] | None:
    """`count` finite numbers, None where the tag is absent, empty or of another length."""
    value: Any = dataset.get(tag)
    if value is None or str(value).strip() in ("", "[]"):
        return None
    numbers = np.atleast_1d(np.asarray(value, dtype=np.float64))
    return numbers if numbers.shape == (count,) and np.all(np.isfinite(numbers)) else None


def _check_length(dataset: pydicom.Dataset, header: Slice) -> None:
    """Notice a truncated uncompressed slice before any geometry is judged."""
    syntax = str(getattr(dataset, "file_meta", {}).get("TransferSyntaxUID", ""))
    bits = int(dataset.get("BitsAllocated") or 0)
    size = header.path.stat().st_size
    declared = header.rows * header.columns * bits // 8 * header.frames
    if syntax in _NATIVE and size < declared:
        why = f"its header declares {declared} bytes of pixels, the file has {size} bytes"
        raise rejected(header.name, why, "it is cut short, copy it again from its source")


def series_and_instance(path: Path) -> tuple[str | None, str]:
    """Short name of the series of a file (None where it states none) and its instance UID."""
    try:
        dataset = read_dataset(path, path.name, tags=["SeriesInstanceUID", "SOPInstanceUID"])
    except InputRejected:
        return None, ""
    uid = _text(dataset, "SeriesInstanceUID")
    return short_name(uid) if uid else None, _text(dataset, "SOPInstanceUID")

"""A DICOM series as one volume: its geometry is judged first, then its pixels."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from prdit_core.data.checks import stored_as_hu
from prdit_core.data.dicom_geometry import Fault, geometry_faults, stack
from prdit_core.data.dicom_pixels import read_pixels
from prdit_core.data.dicom_slices import (
    Slice,
    dicom_files,
    linked_folders,
    read_slice,
)
from prdit_core.data.grid import check_bytes, check_grid, rejected
from prdit_core.data.hounsfield import LOWEST_HU
from prdit_core.data.padding import (
    VoxelMask,
    check_blanks,
    equal_to_padding,
    touching_edges,
    wrapped_padding,
)
from prdit_core.data.read_options import short_name
from prdit_core.files import shown
from prdit_core.provenance import SYNTHETIC
from prdit_core.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

Rescale = tuple[float, float]
_MAX_STEP_HU = 500
PATIENT_KEY = "patient_key"


def read_dicom(
    path: Path, *, series: str | None, assume_rescale: Rescale | None, modality: str = "CT"
) -> Volume:
    """The one CT series at or below a folder, slices along their normal.

    Parameters
    ----------
    path
        A folder, searched recursively, or a single file.
    series
        SeriesInstanceUID or the short name that the refusal of several series lists.
    assume_rescale
        (slope, intercept) for slices that state none.
    modality
        What the series is of, "CT" or "MR"; the voxels of the latter are no HU.

    Raises
    ------
    InputRejected
        Naming everything that is wrong with the headers, or the file with damaged pixels.
    """
    name = shown(path.absolute().name)
    headers, ignored = _headers(path, name)
    chosen = _choose_series(headers, series, name)
    _check_headers(chosen, assume_rescale, modality, name)
    places, affine = stack(chosen)
    shape = (len(places), chosen[0].rows, chosen[0].columns)
    check_bytes(2 * math.prod(shape), name)
    check_grid(shape, affine, name)
    voxels, padding = _read_voxels(places, shape, assume_rescale)
    blurred = check_blanks(voxels, padding, name)
    counts = {
        "files that are no DICOM image were ignored": ignored,
        "links to folders were not followed": len(linked_folders(path)),
        "slices of other series were left out": len(headers) - len(chosen),
        "repeated slices were left out": len(chosen) - len(places),
        "slices had their rescale assumed": sum(s.rescale is None for s in chosen),
        f"voxels of padding became air ({LOWEST_HU} HU)": int(np.count_nonzero(padding)),
    }
    notes = [f"{count} {text}" for text, count in counts.items() if count]
    notes += [*blurred, *_check_rescales(places, voxels)]
    metadata = {"source_format": "dicom", "notes": notes, **_patient_key(chosen[0].patient)}
    if any(header.synthetic for header in chosen):
        metadata["notice"] = SYNTHETIC
    return Volume(voxels, affine, metadata)


def series_slices(path: Path, series: str | None) -> list[Slice]:
    """The headers of the one series at or below `path`, or of the one chosen.

    Raises
    ------
    InputRejected
        If there is no such series, or a header cannot be read.
    """
    name = shown(path.absolute().name)
    headers, _ = _headers(path, name)
    return _choose_series(headers, series, name)


def patient_key(path: Path, series: str | None) -> str | None:
    """The key that `read_dicom` gives, from the headers alone; None where they do not say.

    Raises
    ------
    InputRejected
        If there is no such series, or a header cannot be read.
    """
    return _patient_key(series_slices(path, series)[0].patient).get(PATIENT_KEY)


def _headers(path: Path, name: str) -> tuple[list[Slice], int]:
    """The slices of all series at or below `path`, and how many files are none."""
    files, ignored = dicom_files(path)
    headers = [header for file in files if (header := read_slice(file)) is not None]
    if not headers:
        raise rejected(name, "it holds no DICOM images", "give the folder of a CT series")
    return headers, ignored + len(files) - len(headers)


def _patient_key(patient_id: str) -> dict[str, str]:
    """What tells two patients apart; nothing where the file does not say.

    It is for memory alone: IDs are few enough to be guessed, and their hashes compared.
    """
    if not patient_id:
        return {}
    return {PATIENT_KEY: hashlib.sha256(f"patient {patient_id}".encode()).hexdigest()[:16]}


def _check_headers(slices: list[Slice], assumed: Rescale | None, modality: str, name: str) -> None:
    """Refuse slices that are no volume of the modality, with all reasons at once."""
    faults = [
        *_content_faults(slices, modality),
        *geometry_faults(slices),
        *_rescale_faults(slices, assumed),
    ]
    if faults:
        raise rejected(name, ", and ".join(fault.why for fault in faults), faults[0].remedy)


def _choose_series(headers: list[Slice], series: str | None, name: str) -> list[Slice]:
    counts = Counter(header.series for header in headers)
    if series is None and len(counts) == 1:
        return headers
    wanted = "" if series is None else short_name(series)
    if wanted in counts:
        return [header for header in headers if header.series == wanted]
    listed = ", ".join(_described(key, headers) for key in sorted(counts))
    why = f"it holds {len(counts)} series: {listed}"
    if series is not None:
        why = f"it does not hold the series {wanted}; {why}"
    raise rejected(name, why, "choose one with --series")


def _described(key: str, headers: list[Slice]) -> str:
    members = [header for header in headers if header.series == key]
    return f"{key} ({len(members)} slices, {'/'.join(sorted({m.modality for m in members}))})"


def _content_faults(slices: list[Slice], modality: str) -> Iterator[Fault]:
    others = sorted({s.modality or "unknown" for s in slices} - {modality})
    if others:
        remedy = f"give a {modality} series"
        if others == ["MR"]:
            remedy += ", or state --modality mr"
        yield Fault(f"not {modality} (Modality {', '.join(others)})", remedy)
    if max(s.frames for s in slices) > 1:
        remedy = "export it as one file per slice"
        yield Fault("multi-frame DICOM objects are not supported", remedy)
    tones = sorted({s.greyscale for s in slices} - {"MONOCHROME2"})
    if tones:
        yield Fault(f"its pixels are {', '.join(tones)}, not MONOCHROME2", "export the original CT")
    if len({s.patient for s in slices}) > 1:
        yield Fault("slices of several patients in one series", "separate the patients")
    if len({s.frame_of_reference for s in slices}) > 1:
        yield Fault("slices of several frames of reference in one series", "separate the scans")


def _rescale_faults(slices: list[Slice], assumed: Rescale | None) -> Iterator[Fault]:
    missing = sum(s.rescale is None and s.modality == "CT" for s in slices)
    if missing and assumed is None:
        why = f"RescaleSlope or RescaleIntercept is missing in {missing} of {len(slices)} slices"
        yield Fault(why, "state them with --assume-rescale 1 -1024")


def _read_voxels(
    places: list[list[Slice]], shape: tuple[int, int, int], assumed: Rescale | None
) -> tuple[NDArray[Any], VoxelMask]:
    """HU of all slices, and where padding became air."""
    rescales = {slice_.rescale or assumed for place in places for slice_ in place}
    whole = all(float(number).is_integer() for pair in rescales if pair for number in pair)
    voxels = np.empty(shape, dtype=np.int16 if whole else np.float32)
    padding = np.empty(shape, dtype=bool)
    for index, (first, *repeated) in enumerate(places):
        voxels[index], padding[index] = _hounsfield(first, assumed)
        for other in repeated:
            if not np.array_equal(_hounsfield(other, assumed)[0], voxels[index]):
                why = "it lies where another slice lies, with different pixels"
                raise rejected(other.name, why, "keep the slices of one reconstruction")
    return voxels, padding


def _hounsfield(header: Slice, assumed: Rescale | None) -> tuple[NDArray[Any], VoxelMask]:
    """One slice in HU, its own slope and intercept applied once; padding became air."""
    slope, intercept = header.rescale or assumed or (1.0, 0.0)
    pixels = read_pixels(header)
    padding = touching_edges(equal_to_padding(pixels, header.padding))
    padding |= wrapped_padding(pixels, slope, intercept)
    if float(slope).is_integer() and float(intercept).is_integer():
        hu = stored_as_hu(pixels.astype(np.int64) * int(slope) + int(intercept))
    else:
        hu = pixels.astype(np.float32) * np.float32(slope) + np.float32(intercept)
    return np.where(padding, hu.dtype.type(LOWEST_HU), hu), padding


def _check_rescales(places: list[list[Slice]], voxels: NDArray[Any]) -> list[str]:
    """Note differing rescale values; refuse a slice that they lift away from the others."""
    rescales = [place[0].rescale for place in places]
    usual, count = Counter(rescales).most_common(1)[0]
    odd = [index for index, rescale in enumerate(rescales) if rescale != usual]
    if not odd:
        return []
    level = float(np.median([_air_level(voxels[i]) for i in range(len(places)) if i not in odd]))
    for index in odd:
        step = _air_level(voxels[index]) - level
        if abs(step) > _MAX_STEP_HU:
            why = f"its rescale values place it {step:+.0f} HU from the other slices"
            raise rejected(places[index][0].name, why, "correct RescaleIntercept")
    return [
        f"{len(odd)} of {count + len(odd)} slices have a rescale of their own, which was applied"
    ]


def _air_level(axial: NDArray[Any]) -> float:
    return float(np.percentile(np.maximum(axial[::8, ::8], LOWEST_HU), 10))

"""Take a volume away as a DICOM series that says what it is.

docs/decisions/0017-dicom-out.md has the rules: what is called synthetic, whose it is, which UIDs.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from prdit_core.data.datasets import MANIFEST, VOLUMES, PreparedData, read_manifest
from prdit_core.data.dicom_dataset import quiet, read_dataset
from prdit_core.data.dicom_header import MANUFACTURER, is_synthetic, series_header
from prdit_core.data.dicom_seg import write_segmentation
from prdit_core.data.dicom_source import read_source
from prdit_core.data.dicom_writer import SLICE_NAME, axial_slices, write_slices
from prdit_core.data.grid import rejected
from prdit_core.data.io import (
    AS_STATED,
    read_as_written,
    read_labels,
    read_resampled,
    read_volume,
)
from prdit_core.data.records import recorded, refuse_stale
from prdit_core.data.sources import content_hash, named, refuse_overlap
from prdit_core.errors import InputRejected, OutputError, UsageError
from prdit_core.files import check_new, shown, write_folder_atomically
from prdit_core.intensity import HU
from prdit_core.provenance import RESEARCH, SYNTHETIC, notice_of
from prdit_core.volume import Volume

if TYPE_CHECKING:
    from prdit_core.data.dicom_source import SourceScan
    from prdit_core.data.io import ReadOptions


@dataclass(frozen=True)
class ExportedSeries:
    """A DICOM series that was written.

    Attributes
    ----------
    folder : where its files are, one a slice
    slices : how many
    series_uid : its SeriesInstanceUID
    synthetic : whether Synthetic Data (0008,001C) is YES; otherwise the attribute is not there
    """

    folder: Path
    slices: int
    series_uid: str
    synthetic: bool


def open_volume(
    path: str | Path, options: ReadOptions = AS_STATED, *, resample: bool = False
) -> Volume:
    """A volume with all that is known of how it came about.

    Parameters
    ----------
    path
        What `read_volume` reads, with its record (.json) if that lies beside it, which is
        believed: a weak model's volume need not look like CT. Or DATA/volumes/ID.npy of a
        prepared data set.
    options
        What the file does not say.
    resample
        Whether a volume with sheared axes is resampled to right angles, or refused.

    Raises
    ------
    UsageError
        If the path is empty, or a whole data set.
    InputRejected
        If it cannot be read, or was changed since its record was written.
    """
    place = named(path)
    if (place / MANIFEST).is_file():
        example = place / VOLUMES / "ID.npy"
        raise UsageError(f"{shown(place)} is a data set; name one of its cases, {shown(example)}")
    if place.suffix.lower() == ".npy":
        return _case(place)
    refuse_stale(place)
    record = recorded(place)
    if notice_of(record) != RESEARCH:
        volume = read_as_written(place)
    else:
        volume = read_resampled(place, options) if resample else read_volume(place, options)
    return replace(volume, metadata={**volume.metadata, **record})


def export_dicom(
    volume: Volume,
    folder: str | Path,
    *,
    source: str | Path | None = None,
    series: str | None = None,
    keep_identity: bool = False,
    overwrite: bool = False,
) -> ExportedSeries:
    """Write a volume as CT images, one file a slice; equal volumes give equal bytes and UIDs.

    The folder is written beside its place, read back, compared and renamed. The images are
    axial, or as close to it as the volume lies; int16 HU.

    Parameters
    ----------
    volume
        Of `open_volume`, `generate` or `decompose`; its metadata say whether it is synthetic.
    folder
        Where the series goes; new, or empty.
    source
        The DICOM scan it was made from, to which the images then refer.
    series
        SeriesInstanceUID or short name where `source` holds several.
    keep_identity
        Whether patient, study and frame of reference are those of `source`. Otherwise nobody's.
    overwrite
        Whether a series that an earlier export wrote to `folder` is replaced.

    Raises
    ------
    UsageError
        If options contradict each other or the volume, the volume is no CT, or `folder` lies in
        `source`.
    InputRejected
        If the axes are sheared, or `source` is not what the volume was made from.
    NumericalError
        If a voxel is NaN or infinite.
    OutputError
        If `folder` holds something, cannot be written, or does not read back.
    """
    place = Path(os.path.abspath(named(folder)))
    if volume.units != HU:
        raise UsageError(
            f"the volume is in {volume.units}, and only CT in HU is exported as DICOM; keep it as "
            "NIfTI"
        )
    if keep_identity and source is None:
        raise UsageError("to keep the identity, state the DICOM scan that has it with --source")
    _check_place(place, overwrite=overwrite)
    axial = axial_slices(volume, place.name)
    scan = None
    if source is not None:
        refuse_overlap([named(source)], place)
        scan = _source_of(axial, named(source), series)
        if keep_identity:
            scan.check_identity()
        if scan.synthetic and not is_synthetic(axial.metadata):
            axial = replace(axial, metadata={**axial.metadata, "notice": SYNTHETIC})

    def fill(part: Path) -> None:
        write_slices(axial, part, header)
        _check_place(place, overwrite=overwrite)  # somebody may have come first

    with quiet():
        header = series_header(axial, scan, keep_identity=keep_identity)
        write_folder_atomically(place.resolve(), fill)
    uid, synthetic = str(header.SeriesInstanceUID), is_synthetic(axial.metadata)
    return ExportedSeries(place, axial.shape[0], uid, synthetic)


def export_mask(mask: str | Path, exported: ExportedSeries, *, overwrite: bool = False) -> Path:
    """Write what was imagined of a volume, kept as a label map, as a DICOM segmentation.

    It lies beside the series of the volume, to whose images it refers, and needs highdicom.

    Parameters
    ----------
    mask
        NIfTI on the grid of the volume, not 0 where voxels were imagined.

    Raises
    ------
    UsageError
        If highdicom is not installed, or nothing was imagined.
    InputRejected
        If the mask cannot be read, or lies on another grid.
    OutputError
        If the file is there and not to be replaced, or cannot be written.
    """
    file = exported.folder.with_name(f"{exported.folder.name}-imagined.dcm")
    check_new(file, overwrite=overwrite)
    return write_segmentation(read_labels(named(mask)), exported.folder, file)


def _case(path: Path) -> Volume:
    """A case of a prepared data set by its file."""
    folder = path.absolute().parent.parent
    data = PreparedData(folder, read_manifest(folder))
    cases = [case for case in data.cases if path.parent.name == VOLUMES and case.id == path.stem]
    if not cases:
        raise rejected(path.name, "its data set names no such case", f"see {MANIFEST}")
    case, manifest = cases[0], data.manifest
    phantom = manifest.settings.get("kind") == "phantoms"
    notice = SYNTHETIC if phantom else notice_of(case.record)
    metadata = {
        "notice": notice,
        "description": f"{notice}; prepared {'phantom' if phantom else 'CT volume'}",
        "source_format": "prepared",
        "case": case.id,
        "preset": manifest.preset.name,
        "window_hu": list(manifest.preset.window_hu),
        "size": manifest.size,
        "version": manifest.made_with,
        "notes": list(case.notes),
    }
    if notice == RESEARCH:
        metadata["source_sha256"] = case.source_sha256
    return Volume(data.checked(case), np.array(case.affine), metadata)


def _source_of(volume: Volume, path: Path, series: str | None) -> SourceScan:
    """The scan at `path`, as far as can be told the one the volume was made from."""
    if notice_of(volume.metadata) == SYNTHETIC and "seed" in volume.metadata:
        raise UsageError("a generated volume was made from no scan; leave out --source")
    scan = read_source(path, series)
    wanted = volume.metadata.get("source_sha256")
    if wanted is not None and wanted != content_hash(path):
        why = f"it is not the scan that {volume.metadata['case']} was prepared from"
        raise rejected(scan.name, why, "give that scan, its files as they were")
    scan.check_place(volume)
    return scan


def _check_place(folder: Path, *, overwrite: bool) -> None:
    """Refuse a folder that holds anything but, where it may be replaced, a series of ours."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{shown(folder)} is a file; choose a folder")
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not overwrite:
        raise OutputError(f"{shown(folder)} is not empty; choose another, or add --overwrite")
    if not all(_is_ours(file) for file in folder.iterdir()):
        raise OutputError(
            f"{shown(folder)} holds more than an earlier export, which --overwrite would replace; "
            "choose another"
        )


def _is_ours(file: Path) -> bool:
    name = shown(file.name)
    try:
        number = int(file.stem.removeprefix(SLICE_NAME.partition("{")[0]))
        if not file.is_file() or file.name != SLICE_NAME.format(number):
            return False
        header = read_dataset(file, name, tags=["Manufacturer"])
    except (ValueError, InputRejected):
        return False
    return str(header.get("Manufacturer")) == MANUFACTURER

"""Writing scans and label maps, whole or not at all, and seen to read back as written."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from prdit_core.data import checks
from prdit_core.data.discovery import suffix_of
from prdit_core.data.formats import read_file
from prdit_core.data.grid import check_affine, check_grid, check_shear
from prdit_core.data.metaimage import data_file_of, metaimage_header
from prdit_core.data.nifti import LABEL_INTENT, write_nifti
from prdit_core.data.nrrd import nrrd_header
from prdit_core.data.payload import gzipped
from prdit_core.data.read_options import AS_STATED
from prdit_core.errors import InputRejected, OutputError, UsageError
from prdit_core.files import not_as_written, shown, write_atomically
from prdit_core.volume import Volume

WRITE_SUFFIXES = (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd")


def write_volume(volume: Volume, path: str | Path) -> Path:
    """Write HU as int16; equal volumes give equal bytes.

    The file is written beside the target, read back, compared and renamed. HU outside int16
    saturate with a warning. `metadata["description"]` goes into the header.

    Parameters
    ----------
    volume
        Finite HU on a grid with right angles; one slice is enough, though no scan.
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
    check_affine(volume.affine, shown(path.name))
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
        raise not_as_written(part)


def _write_mhd(volume: Volume, part: Path, data_file: str) -> None:
    description = str(volume.metadata.get("description", ""))
    part.write_bytes(metaimage_header(volume, data_file=data_file, description=description))
    _check_written(volume, part)


def _little_endian(volume: Volume) -> bytes:
    return volume.voxels_hu.astype("<i2").tobytes()


def _check_written(volume: Volume, part: Path) -> None:
    """Read back voxels and affine, of which NIfTI keeps the digits of float32."""
    try:
        written = read_file(part, AS_STATED, part.name)
    except InputRejected as error:
        raise not_as_written(part) from error
    same_place = np.allclose(written.affine, volume.affine, rtol=1e-6, atol=1e-6)
    if not same_place or not np.array_equal(written.voxels_hu, volume.voxels_hu):
        raise not_as_written(part)

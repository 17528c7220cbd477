"""The formats of scans: which reader a file is for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prdit_core.data.dicom import read_dicom
from prdit_core.data.dicom_slices import looks_like_dicom
from prdit_core.data.discovery import SUFFIXES, suffix_of
from prdit_core.data.grid import check_grid, rejected
from prdit_core.data.metaimage import read_metaimage
from prdit_core.data.nifti import read_nifti
from prdit_core.data.npz import read_npz
from prdit_core.data.nrrd import read_nrrd
from prdit_core.data.signatures import check_signature

if TYPE_CHECKING:
    from pathlib import Path

    from prdit_core.data.read_options import ReadOptions
    from prdit_core.volume import Volume


def read_stored(path: Path, options: ReadOptions, name: str) -> Volume:
    """The volume with axes as stored, nothing judged but the file and its geometry."""
    stored = read_file(path, options, name)
    check_grid(stored.shape, stored.affine, name)
    return stored


def read_file(path: Path, options: ReadOptions, name: str) -> Volume:
    """As `read_stored`, of any grid: also of one slice, or of voxels that no CT has."""
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
        return read_dicom(
            path,
            series=options.series,
            assume_rescale=options.assume_rescale,
            modality=options.modality.upper(),
        )
    raise rejected(name, "its format is unknown", f"give DICOM or one of {', '.join(SUFFIXES)}")

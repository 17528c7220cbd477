"""Small scans for the tests of reading: one asymmetric chest, as array, file and series."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pydicom
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from prdit_core.volume import Volume, axial_affine

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SPACING_MM = (2.0, 1.5, 1.25)
SERIES, PATIENT, FRAME = generate_uid(), "SECRET^PATIENT", generate_uid()
Edit = Callable[[Dataset, int], None]


def chest_hu(shape: tuple[int, int, int] = (10, 24, 28)) -> NDArray[np.int16]:
    """Air around a body with two unequal lungs, and one dense marker that breaks all symmetry."""
    depth, height, width = shape
    hu = np.full(shape, -1000, dtype=np.int16)
    hu[:, height // 8 : -height // 8, width // 8 : -width // 8] = 40
    hu[:, height // 4 : -height // 4, width // 4 : width // 2 - 1] = -820
    hu[:, height // 4 : -height // 3, width // 2 + 1 : -width // 4] = -780
    hu[depth // 2 : depth // 2 + 2, 4:6, 5:9] = 900
    hu += np.arange(hu.size, dtype=np.int16).reshape(shape) % 7
    return hu


def chest() -> Volume:
    hu = chest_hu()
    return Volume(hu, axial_affine(SPACING_MM, hu.shape, (3.0, -20.0, 100.0)))


def as_nifti(volume: Volume) -> nib.Nifti1Image:
    image = nib.Nifti1Image(volume.voxels_hu.T.copy(), volume.affine)
    image.set_sform(volume.affine, 1)
    image.set_qform(volume.affine, 1)
    image.header.set_xyzt_units("mm")
    return image


def reoriented(volume: Volume, codes: str) -> Volume:
    """The same volume stored with axes that run towards `codes`."""
    change = ornt_transform(io_orientation(volume.affine), axcodes2ornt(tuple(codes)))
    stored = nib.orientations.apply_orientation(volume.voxels_hu.T, change)
    affine = volume.affine @ inv_ornt_aff(change, stored_from(volume))
    return Volume(np.ascontiguousarray(stored.T), affine)


def stored_from(volume: Volume) -> tuple[int, ...]:
    return volume.voxels_hu.T.shape


def write_series(
    folder: Path, hu: NDArray[np.int16] | None = None, *, edit: Edit | None = None
) -> list[Path]:
    """An axial CT series; `edit` may change each dataset (by index) before it is saved."""
    hu = chest_hu() if hu is None else hu
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for index, axial in enumerate(hu):
        dataset = one_slice(axial, index)
        if edit is not None:
            edit(dataset, index)
        path = folder / f"slice {index:03d}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        files.append(path)
    return files


def one_slice(axial: NDArray[np.int16], index: int) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, generate_uid()
    dataset.Modality, dataset.PatientName, dataset.PatientID = "CT", PATIENT, PATIENT
    dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = SERIES, FRAME
    dataset.ImagePositionPatient = [-15.0, -20.0, 100.0 + index * SPACING_MM[0]]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing = list(SPACING_MM[1:])
    dataset.Rows, dataset.Columns = axial.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
    dataset.PixelData = (axial.astype(np.int32) + 1024).astype("<u2").tobytes()
    return dataset


def compressed(folder: Path, syntax: str, encoder: Callable[[Dataset], bytes]) -> None:
    """Rewrite the slices of a folder with encapsulated pixels."""
    for path in sorted(folder.glob("*.dcm")):
        dataset = pydicom.dcmread(path)
        dataset.PixelData = pydicom.encaps.encapsulate([encoder(dataset)])
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.save_as(path)

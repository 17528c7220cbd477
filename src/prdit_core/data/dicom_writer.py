"""A volume as a series of CT images: one DICOM file a slice, axial or as close to it as it lies."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid5

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian
from pydicom.valuerep import format_number_as_ds

from prdit_core.data.checks import as_int16
from prdit_core.data.dicom_geometry import geometry_faults, stack
from prdit_core.data.dicom_pixels import read_pixels
from prdit_core.data.dicom_slices import read_slice
from prdit_core.data.grid import check_grid, nearest_right_angles, shear_mm, sheared
from prdit_core.data.io import canonical
from prdit_core.data.resampling import LPS_FROM_RAS, SHEAR_LEFT_MM
from prdit_core.files import not_as_written
from prdit_core.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SLICE_NAME = "slice-{:04d}.dcm"
# Of our own, for UIDs of the root 2.25, which needs no registration.
_NAMESPACE = UUID("3f6b8f0a-7c55-4b0e-9d1a-2c1f5e0b64d7")
_SAME_MM = 1e-4


def axial_slices(volume: Volume, name: str) -> Volume:
    """The volume as a series of images can hold it: int16 HU, axial-most, axes at right angles.

    Raises
    ------
    InputRejected
        If its grid is none that a CT has, or its axes are sheared, which images cannot state.
    NumericalError
        If a voxel is NaN or infinite.
    """
    check_grid(volume.shape, volume.affine, name)
    if shear_mm(volume.affine, volume.shape) > SHEAR_LEFT_MM:
        raise sheared(volume.affine, name)
    voxels = as_int16(volume.voxels_hu, name)
    return canonical(Volume(voxels, nearest_right_angles(volume.affine), volume.metadata))


def write_slices(volume: Volume, folder: Path, header: Dataset) -> None:
    """Write the files of `axial_slices` into `folder`, and see that they read back.

    Parameters
    ----------
    volume
        Of `axial_slices`.
    header
        What is the same in all files, with the UIDs of study, series and frame of reference.

    Raises
    ------
    OutputError
        If a file does not read back as written.
    """
    for index, dataset in enumerate(_datasets(volume, header)):
        dataset.save_as(folder / SLICE_NAME.format(index + 1), enforce_file_format=True)
    _check_written(volume, folder)


def content_digest(volume: Volume, header: Dataset) -> str:
    """SHA-256 of all that is written but for the UIDs that are made from it."""
    content = hashlib.sha256(f"{volume.shape} {header.to_json()}".encode())
    content.update(volume.affine.astype("<f8").tobytes())
    content.update(volume.voxels_hu.astype("<i2").tobytes())
    return content.hexdigest()


def derived_uid(kind: str, digest: str) -> UID:
    """A UID under 2.25 that depends on `kind` ("study", "series", ...) and `digest` alone."""
    return UID(f"2.25.{uuid5(_NAMESPACE, f'{kind} {digest}').int}")


def _datasets(volume: Volume, header: Dataset) -> Iterator[Dataset]:
    """One data set a slice, from the patient's feet to the head."""
    columns = LPS_FROM_RAS @ volume.affine[:3, :3]
    x, y, z = (float(length) for length in np.linalg.norm(columns, axis=0))
    rows = columns / (x, y, z)
    normal = np.cross(rows[:, 0], rows[:, 1])
    first = LPS_FROM_RAS @ volume.affine[:3, 3]
    for index, axial in enumerate(volume.voxels_hu):
        dataset = Dataset()
        dataset.update(header)
        position = first + columns[:, 2] * index
        dataset.SOPClassUID = CTImageStorage
        dataset.SOPInstanceUID = derived_uid(f"image {index}", header.SeriesInstanceUID)
        dataset.InstanceNumber = index + 1
        dataset.ImagePositionPatient = _decimals(position)
        dataset.ImageOrientationPatient = _decimals([*rows[:, 0], *rows[:, 1]])
        dataset.PixelSpacing = _decimals([y, x])
        dataset.SliceThickness = dataset.SpacingBetweenSlices = _decimals([z])[0]
        dataset.SliceLocation = _decimals([position @ normal])[0]
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.Rows, dataset.Columns = axial.shape
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
        dataset.PixelRepresentation = 1
        dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = "0", "1", "HU"
        dataset.PixelData = axial.astype("<i2").tobytes()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        yield dataset


def _decimals(numbers: Any) -> list[str]:
    """Numbers in the 16 characters that DICOM has for one."""
    return [format_number_as_ds(float(number) + 0.0) for number in numbers]


def _check_written(volume: Volume, folder: Path) -> None:
    headers = [read_slice(file) for file in sorted(folder.iterdir())]
    slices = [header for header in headers if header is not None]
    if len(slices) == volume.shape[0] and not list(geometry_faults(slices)):
        places, affine = stack(slices)
        voxels = np.stack([read_pixels(first) for first, *_ in places])
        read = canonical(Volume(voxels, affine))
        same_place = np.allclose(read.affine, volume.affine, rtol=0, atol=_SAME_MM)
        if same_place and np.array_equal(read.voxels_hu, volume.voxels_hu):
            return
    raise not_as_written(folder)

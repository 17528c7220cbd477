"""Stored pixels of one DICOM slice, decoded but not rescaled."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from prdit_core.data.dicom_dataset import invalid_header_named, read_dataset
from prdit_core.data.grid import rejected
from prdit_core.data.padding import equal_to_padding

if TYPE_CHECKING:
    from prdit_core.data.dicom_slices import Slice

Pixels = NDArray[Any]
_COPIED = (
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
)


def read_pixels(header: Slice) -> Pixels:
    """The stored values of a slice, (rows, columns), before slope and intercept.

    Raises
    ------
    InputRejected
        If pixels are missing or too few, contradict the bits the header states, or are
        compressed in a way that cannot be decoded.
    """
    dataset = read_dataset(header.path, header.name, tags=None)
    with invalid_header_named(header.name, header.modality):
        if "PixelData" not in dataset or not isinstance(dataset.PixelData, bytes):
            raise rejected(header.name, "its pixels are missing or cut short", "copy it again")
        syntax = UID(dataset.file_meta.get("TransferSyntaxUID", ImplicitVRLittleEndian))
        if syntax.is_compressed:
            return _decoded(dataset, syntax, header)
        big_endian = syntax == ExplicitVRBigEndian or dataset.original_encoding[1] is False
        pixels = _native(dataset, header.name, big_endian=big_endian)
        _check_bits(pixels[~equal_to_padding(pixels, header.padding)], dataset, header.name)
    return pixels


def _native(dataset: Dataset, name: str, *, big_endian: bool) -> Pixels:
    bits = int(dataset.BitsAllocated)
    if bits not in (8, 16, 32):
        raise rejected(name, f"it stores {bits} bits per pixel", "convert it to 16 bits")
    kind = "i" if int(dataset.get("PixelRepresentation") or 0) else "u"
    dtype = np.dtype(f"{'>' if big_endian else '<'}{kind}{bits // 8}")
    shape = (int(dataset.Rows), int(dataset.Columns))
    declared, held = shape[0] * shape[1] * dtype.itemsize, len(dataset.PixelData)
    if held not in (declared, declared + declared % 2):
        why = f"its header declares {declared} bytes of pixels, found {held}"
        raise rejected(name, why, "it is damaged, copy it again from its source")
    return np.frombuffer(dataset.PixelData, dtype, shape[0] * shape[1]).reshape(shape)


def _check_bits(pixels: Pixels, dataset: Dataset, name: str) -> None:
    """Refuse values that do not fit BitsStored: then its sign or its size is stated wrongly.

    Padding, which need not fit, is left out of `pixels`.
    """
    stored = int(dataset.get("BitsStored") or dataset.BitsAllocated)
    signed = int(dataset.get("PixelRepresentation") or 0) == 1
    low, high = (-(2 ** (stored - 1)), 2 ** (stored - 1) - 1) if signed else (0, 2**stored - 1)
    least, most = int(pixels.min(initial=high)), int(pixels.max(initial=low))
    if least < low or most > high:
        why = (
            f"its pixels run from {least} to {most}, which {stored} "
            f"{'signed' if signed else 'unsigned'} bits cannot hold"
        )
        raise rejected(name, why, "correct PixelRepresentation or BitsStored")


def _decoded(dataset: Dataset, syntax: UID, header: Slice) -> Pixels:
    try:
        pixels = dataset.pixel_array if syntax == RLELossless else _by_gdcm(dataset, syntax)
    except Exception as error:
        why = f"its pixels cannot be decoded ({syntax.name})"
        raise rejected(header.name, why, "copy it again, or export it uncompressed") from error
    if pixels.shape != (header.rows, header.columns):
        why = f"its pixels decode to {pixels.shape}, not {(header.rows, header.columns)}"
        raise rejected(header.name, why, "export it uncompressed")
    return pixels


def _by_gdcm(dataset: Dataset, syntax: UID) -> Pixels:
    """Decode through ITK from a nameless copy that holds nothing but the pixels.

    Without rescale tags in the copy ITK leaves the stored values alone.
    """
    import SimpleITK as sitk

    copy = Dataset()
    for tag in _COPIED:
        setattr(copy, tag, dataset.get(tag))
    copy.SOPClassUID, copy.SOPInstanceUID = CTImageStorage, pydicom.uid.generate_uid()
    copy["PixelData"] = dataset["PixelData"]
    copy.file_meta = FileMetaDataset()
    copy.file_meta.TransferSyntaxUID = syntax
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "pixels.dcm")
        copy.save_as(path, enforce_file_format=True)
        decoded = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    pixels: Pixels = decoded[0]
    return pixels

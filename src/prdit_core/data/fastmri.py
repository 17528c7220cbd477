"""k-space as fastMRI keeps it: HDF5 of one volume, 2D slices that were measured one by one.

`kspace` (slices, H, W), complex, its rows along the readout; `mask` (W,) of the columns that were
measured, where not all were; and `ismrmrd_header`, the XML of ISMRMRD (F. Knoll et al., Radiol.
Artif. Intell. 2, e190007 (2020)). Who the patient is stands in attributes that are not read.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from prdit_core.data.grid import check_bytes, rejected
from prdit_core.data.hdf5 import opened, own_dataset
from prdit_core.files import shown

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

KSPACE, MASK, HEADER = "kspace", "mask", "ismrmrd_header"
_HEADER_BYTES = 2**22


@dataclass(frozen=True)
class Matrix:
    """Voxels of a space of ISMRMRD and how far they reach, (x, y, z): readout, phase, slice."""

    count: tuple[int, int, int]
    field_mm: tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class RawKspace:
    """What a single coil measured.

    Attributes
    ----------
    name : of the file, for messages
    values : (slices, H, W) complex64, frequency 0 at H // 2, W // 2; 0 where nothing was measured
    sampled : (H, W), the same in all slices
    encoded, reconstructed : the grids that were measured and that the scanner shows; None: the file
        does not say
    """

    name: str
    values: NDArray[np.complex64]
    sampled: NDArray[np.bool_]
    encoded: Matrix | None
    reconstructed: Matrix | None


def holds_kspace(path: Path) -> bool:
    """Whether an HDF5 file is one of these; errors as of `read_kspace`."""
    with opened(path) as file:
        return KSPACE in file


def read_kspace(path: Path) -> RawKspace:
    """Read a file, or refuse it.

    Raises
    ------
    UsageError
        If h5py is not installed.
    InputRejected
        If the file is damaged, refers to other files, is of several coils, or its slices were not
        measured alike.
    """
    name = shown(path.name)
    with opened(path) as file:
        values = _values(own_dataset(file, KSPACE, name, "c"), name)
        sampled = _sampled(values, own_dataset(file, MASK, name, "biuf"), name)
        text = own_dataset(file, HEADER, name, "OS")
        encoded, reconstructed = (None, None) if text is None else _spaces(text, name)
    return RawKspace(name, values, sampled, encoded, reconstructed)


def _values(dataset: Any, name: str) -> NDArray[np.complex64]:
    if dataset is None:
        raise rejected(name, f"it has no `{KSPACE}`", "give k-space of fastMRI's layout")
    if dataset.ndim == 4:
        why = f"its k-space is of {dataset.shape[1]} coils"
        raise rejected(name, why, "combine them to one, as fastMRI's single-coil files have it")
    if dataset.ndim != 3:
        why = f"its `{KSPACE}` is {dataset.ndim}D, not (slices, rows, columns)"
        raise rejected(name, why, "check how it was written")
    # Held as they are, as complex64, and at work as complex128.
    check_bytes(dataset.size * (dataset.dtype.itemsize + 40), name)
    values: NDArray[np.complex64] = np.asarray(dataset[...]).astype(np.complex64)
    unknown = int(np.count_nonzero(~np.isfinite(values)))
    if unknown:
        raise rejected(name, f"{unknown} of its values are NaN or infinite", "repair them")
    return values


def _sampled(values: NDArray[np.complex64], mask: Any, name: str) -> NDArray[np.bool_]:
    """Which places were measured, as the file says, or else those that are not 0."""
    there = values != 0
    empty = np.flatnonzero(~there.any((1, 2)))
    if len(empty):
        why = f"{len(empty)} of its {len(values)} slices are all zero, the first is {empty[0]}"
        raise rejected(name, why, "leave them out")
    if mask is not None:
        columns = np.asarray(mask[...]).ravel() != 0
        if len(columns) != values.shape[2]:
            why = f"its mask is of {len(columns)} columns, its k-space of {values.shape[2]}"
            raise rejected(name, why, "check how it was written")
        stated: NDArray[np.bool_] = np.broadcast_to(columns, values.shape[1:]).copy()
        if there[:, ~stated].any():
            why = "it has values where its mask says that nothing was measured"
            raise rejected(name, why, "repair the mask")
        return stated
    sampled: NDArray[np.bool_] = there.any(0)
    if np.count_nonzero(there) < 0.99 * len(values) * np.count_nonzero(sampled):
        why = "its slices were not measured at the same places"
        raise rejected(name, why, "give slices of one pattern")
    return sampled


def _spaces(text: Any, name: str) -> tuple[Matrix, Matrix]:
    content = text[()]
    content = content if isinstance(content, bytes) else str(content).encode()
    try:
        if len(content) > _HEADER_BYTES or b"<!" in content:
            raise ValueError
        root = ElementTree.fromstring(content)
        return _matrix(root, "encodedSpace"), _matrix(root, "reconSpace")
    except (ElementTree.ParseError, ValueError) as error:
        why = f"its `{HEADER}` is no header of ISMRMRD"
        raise rejected(name, why, "repair or remove it") from error


def _matrix(root: ElementTree.Element, space: str) -> Matrix:
    matrix = root.find(f".//{{*}}{space}")
    if matrix is None:
        raise ValueError(space)
    x, y, z = (int(matrix.findtext(f"{{*}}matrixSize/{{*}}{axis}", "")) for axis in "xyz")
    far = [float(matrix.findtext(f"{{*}}fieldOfView_mm/{{*}}{axis}", "")) for axis in "xyz"]
    if min(x, y, z) < 1 or not all(0 < mm <= 2000 for mm in far):
        raise ValueError(space)
    return Matrix((x, y, z), (far[0], far[1], far[2]))

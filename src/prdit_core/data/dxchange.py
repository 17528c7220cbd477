"""DXchange files (HDF5), in which synchrotrons keep raw parallel projections.

`exchange/data`, `data_white`, `data_dark` and `theta` (F. De Carlo et al., J. Synchrotron Rad. 21,
1224 (2014)). They say no pixel size, so lengths are in pixels of the detector.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from prdit_core.data.grid import check_bytes, rejected
from prdit_core.data.projections import Projections
from prdit_core.errors import UsageError
from prdit_core.files import shown

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_PICTURES = ("exchange/data", "exchange/data_white", "exchange/data_dark")
_ANGLES = "exchange/theta"


def read_dxchange(path: Path, rows: tuple[int, int] | None = None) -> Projections:
    """Read the projections of a DXchange file, or those of some rows of the detector.

    Parameters
    ----------
    rows : first and last + 1; None: all

    Raises
    ------
    UsageError
        If h5py is not installed.
    InputRejected
        If the file is damaged, refers to other files, lacks something, or is too large.
    """
    try:
        import h5py
    except ImportError as error:
        raise UsageError("HDF5 files need a package: pip install h5py") from error
    name = shown(path.name)
    try:
        with h5py.File(path, "r") as file:
            sets = {key: _own(file, key, name) for key in (*_PICTURES, _ANGLES)}
            counts, flats, darks = (_picture(sets[key], key, rows, name) for key in _PICTURES)
            angles = _angles(sets[_ANGLES], name)
    except OSError as error:
        # Of h5py, only those of the system have a number.
        if error.errno:
            why = f"it cannot be read ({os.strerror(error.errno)})"
            raise rejected(name, why, "check the file and its permissions") from error
        raise rejected(name, "it is no whole HDF5 file", "copy it again from its source") from error
    return Projections(name, counts, flats, darks, angles)


def _own(file: Any, key: str, name: str) -> Any:
    """A dataset of numbers whose values lie in this file: links could lead anywhere."""
    import h5py

    parts = key.split("/")
    for depth in range(1, len(parts) + 1):
        link = file.get("/".join(parts[:depth]), getlink=True)
        if isinstance(link, h5py.ExternalLink | h5py.SoftLink):
            raise rejected(name, f"its `{key}` is a link", "copy the data into one file")
    found = file.get(key)
    if not isinstance(found, h5py.Dataset):
        why = f"it has no `{key}`, so it is no whole DXchange file"
        raise rejected(name, why, "give raw projections with flats, darks and angles")
    if found.is_virtual or found.external:
        raise rejected(name, f"its `{key}` lies in another file", "copy the data into one file")
    if found.dtype.kind not in "iuf" or not found.size:
        raise rejected(name, f"its `{key}` holds no numbers", "check the file")
    return found


def _picture(dataset: Any, key: str, rows: tuple[int, int] | None, name: str) -> NDArray[Any]:
    if dataset.ndim != 3:
        why = f"its `{key}` is {dataset.ndim}D, not (pictures, rows, bins)"
        raise rejected(name, why, "check how it was written")
    first, end = rows or (0, dataset.shape[1])
    if not 0 <= first < end <= dataset.shape[1]:
        raise UsageError(f"rows {first} to {end} are not among the {dataset.shape[1]} of {name}")
    count = dataset.shape[0] * (end - first) * dataset.shape[2]
    # Counts are held once as they are and once in float64.
    check_bytes(count * (dataset.dtype.itemsize + 8), f"{name} ({key}; take fewer rows)")
    picture: NDArray[Any] = dataset[:, first:end]
    return picture


def _angles(dataset: Any, name: str) -> NDArray[np.float64]:
    """In degrees, as DXchange has them where it does not say radians."""
    angles = np.asarray(dataset[...], dtype=np.float64).ravel()
    unit = dataset.attrs.get("units", "degrees")
    unit = unit.decode("ascii", "replace") if isinstance(unit, bytes) else str(unit)
    if unit.startswith("rad"):
        return np.degrees(angles)
    if not unit.startswith("deg"):
        raise rejected(name, f"its angles are in {unit!r}", "give degrees or radians")
    return angles

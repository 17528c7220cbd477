"""DXchange files (HDF5), in which synchrotrons keep raw parallel projections.

`exchange/data`, `data_white`, `data_dark` and `theta` (F. De Carlo et al., J. Synchrotron Rad. 21,
1224 (2014)). They say no pixel size, so lengths are in pixels of the detector.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from prdit_core.data.grid import check_bytes, rejected
from prdit_core.data.hdf5 import opened, own_dataset
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
    name = shown(path.name)
    with opened(path) as file:
        sets = {key: _own(file, key, name) for key in (*_PICTURES, _ANGLES)}
        counts, flats, darks = (_picture(sets[key], key, rows, name) for key in _PICTURES)
        angles = _angles(sets[_ANGLES], name)
    return Projections(name, counts, flats, darks, angles)


def _own(file: Any, key: str, name: str) -> Any:
    dataset = own_dataset(file, key, name, "iuf")
    if dataset is None:
        why = f"it has no `{key}`, so it is no whole DXchange file"
        raise rejected(name, why, "give raw projections with flats, darks and angles")
    return dataset


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

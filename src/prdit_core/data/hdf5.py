"""HDF5 files, opened only for what they hold themselves."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from prdit_core.data.grid import rejected
from prdit_core.errors import UsageError
from prdit_core.files import shown

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The file as `h5py.File`, to read from.

    Raises
    ------
    UsageError
        If h5py is not installed.
    InputRejected
        If the file cannot be read, or is damaged, now or while it is read.
    """
    try:
        import h5py
    except ImportError as error:
        raise UsageError("HDF5 files need a package: pip install h5py") from error
    name = shown(path.name)
    try:
        with h5py.File(path, "r") as file:
            yield file
    except OSError as error:
        # Of h5py, only those of the system have a number.
        if error.errno:
            why = f"it cannot be read ({os.strerror(error.errno)})"
            raise rejected(name, why, "check the file and its permissions") from error
        raise rejected(name, "it is no whole HDF5 file", "copy it again from its source") from error


def own_dataset(file: Any, key: str, name: str, kinds: str) -> Any:
    """A dataset whose values lie in this file, since links could lead anywhere; None: not there.

    Parameters
    ----------
    name : of the file, for messages
    kinds : of the values, as numpy's `dtype.kind`

    Raises
    ------
    InputRejected
        If it is a link, lies elsewhere, is empty, or of another kind.
    """
    import h5py

    parts = key.split("/")
    for depth in range(1, len(parts) + 1):
        link = file.get("/".join(parts[:depth]), getlink=True)
        if isinstance(link, h5py.ExternalLink | h5py.SoftLink):
            raise rejected(name, f"its `{key}` is a link", "copy the data into one file")
    dataset = file.get(key)
    if not isinstance(dataset, h5py.Dataset):
        return None
    if dataset.is_virtual or dataset.external:
        raise rejected(name, f"its `{key}` lies in another file", "copy the data into one file")
    if dataset.dtype.kind not in kinds or not dataset.size:
        what = {"c": "complex numbers", "OS": "text"}.get(kinds, "numbers")
        raise rejected(name, f"its `{key}` holds no {what}", "check the file")
    return dataset

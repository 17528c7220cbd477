"""Arrays in .npy files: written whole or not at all, proved sound before they are mapped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from prdit_core.errors import InputRejected
from prdit_core.files import sha256_of, shown, write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

HEADER_BYTES = 4096


def write_array(path: Path, array: NDArray[Any]) -> str:
    """Write an array in C order; the SHA-256 of the file.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """

    def write(part: Path) -> None:
        with part.open("wb") as stream:
            np.lib.format.write_array(
                stream, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False
            )

    return sha256_of(write_atomically(path, write))


def map_array(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Map a file into memory, read-only, if header and length are those of such an array.

    Nothing is allocated or unpickled before.

    Raises
    ------
    InputRejected
        If the file is missing or holds anything else.
    """
    try:
        with path.open("rb") as stream:
            found = _header(stream)
            offset = stream.tell()
        length = path.stat().st_size
        expected = offset + dtype.itemsize * int(np.prod(shape))
        if found != (shape, False, dtype) or length != expected:
            raise InputRejected(
                f"{shown(path)} should hold {dtype} of shape {shape} in {expected} bytes, "
                f"found {found[2]} of shape {found[0]} in {length}; prepare the data again"
            )
        return np.memmap(path, dtype, "r", offset, shape)
    except (OSError, ValueError) as error:
        raise InputRejected(
            f"cannot read {shown(path)}: {error}; prepare the data again"
        ) from error


def _header(stream: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, Fortran order and type; `ValueError` if it is no .npy header of version 1."""
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("not a .npy file of version 1.0")
    return np.lib.format.read_array_header_1_0(stream, max_header_size=HEADER_BYTES)

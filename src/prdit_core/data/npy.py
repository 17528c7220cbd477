"""Arrays in .npy files: written whole or not at all, proved sound before they are mapped."""

from __future__ import annotations

import errno
import math
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from prdit_core.errors import InputRejected, MemoryLimit
from prdit_core.files import sha256_of, shown, write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

MAGIC = b"\x93NUMPY\x01\x00"


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
    MemoryLimit
        If this process may map no more.
    """
    expected = f"{{'descr': {dtype.str!r}, 'fortran_order': False, 'shape': {shape}, }}"
    try:
        with path.open("rb") as stream:
            header = _header(stream)
            offset = stream.tell()
        length = path.stat().st_size
        if header != expected or length != offset + dtype.itemsize * math.prod(shape):
            raise InputRejected(
                f"{shown(path)} is no whole {dtype} array of shape {shape}; prepare the data again"
            )
        return np.memmap(path, dtype, "r", offset, shape)
    except OSError as error:
        if error.errno == errno.ENOMEM:
            raise MemoryLimit(f"no memory is left to map {shown(path)}") from error
        raise InputRejected(
            f"cannot read {shown(path)}: {error.strerror}; prepare the data again"
        ) from error


def _header(stream: BinaryIO) -> str:
    """The header's text, compared and never parsed: numpy's parser can be made to fail."""
    if stream.read(len(MAGIC)) != MAGIC:
        return ""
    length = int.from_bytes(stream.read(2), "little")
    return stream.read(length).decode("latin-1").rstrip()

"""Reading exactly as many bytes as a header declares, and noticing when they are not there."""

from __future__ import annotations

import gzip
import io
import re
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

import numpy as np

from prdit_core.data.grid import check_bytes, rejected
from prdit_core.data.signatures import check_not_pointer
from prdit_core.files import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from prdit_core.errors import InputRejected

CHUNK = 2**20
_RESTORE = "copy it again from its source"


class Readable(Protocol):
    """A stream of bytes; an empty answer is its end."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes."""
        ...


class Inflated:
    """A zlib or gzip stream that is decompressed in bounded pieces and checked to its end."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._inflate = zlib.decompressobj(wbits=47)

    def read(self, size: int, /) -> bytes:
        """At most `size` decompressed bytes; raises EOFError where the stream was cut short."""
        while not self._inflate.eof:
            compressed = self._inflate.unconsumed_tail or self._stream.read(CHUNK)
            piece = self._inflate.decompress(compressed, size)
            if piece:
                return piece
            if not compressed:
                raise EOFError("the compressed stream ends early")
        return b""


def ascii_line(text: str) -> str:
    """A text as headers can hold it: one line of ASCII."""
    return " ".join(text.encode("ascii", "replace").decode().split())


def gzipped(content: bytes) -> bytes:
    """The bytes as a gzip stream without time stamp or file name: equal bytes, equal stream."""
    packed = io.BytesIO()
    with gzip.GzipFile("", "wb", compresslevel=3, fileobj=packed, mtime=0) as stream:
        stream.write(content)
    return packed.getvalue()


@contextmanager
def damage_named(name: str) -> Iterator[None]:
    """Turn what a damaged or unreadable file raises into `InputRejected`."""
    try:
        yield
    except EOFError as error:
        raise rejected(name, "it is cut short", _RESTORE) from error
    except (zlib.error, gzip.BadGzipFile) as error:
        raise rejected(name, f"its compressed stream is damaged ({error})", _RESTORE) from error
    except OSError as error:
        why = f"it cannot be read ({error.strerror or type(error).__name__})"
        raise rejected(name, why, "check the file and its permissions") from error


def read_declared(stream: Readable, size: int, name: str) -> NDArray[np.uint8]:
    """The `size` bytes that must be all that is left of `stream`.

    The stream is drained, so that the checksum of a compressed one is verified.

    Raises
    ------
    InputRejected
        If the size is above the limit, if there are fewer bytes or more, or on damage.
    """
    check_bytes(size, name)
    payload = np.empty(size, dtype=np.uint8)
    filled = 0
    with damage_named(name):
        while filled < size:
            piece = _piece(stream, min(CHUNK, size - filled))
            if not piece:
                raise _wrong_size(name, size, str(filled))
            payload[filled : filled + len(piece)] = np.frombuffer(piece, dtype=np.uint8)
            filled += len(piece)
        if stream.read(1):
            raise _wrong_size(name, size, "more")
    return payload


def without_dot_slash(value: str) -> str:
    """The name of a data file as a header may spell it, ./ before it or not."""
    return re.sub(r"^(\.[/\\]+)+", "", value)


def sibling(header: Path, value: str, name: str) -> Path:
    """The detached data file `value` of a header, which must lie beside it; ./ may say so.

    Raises
    ------
    InputRejected
        If it is a list or pattern of files, lies elsewhere, is not there, or a pointer to it is.
    """
    value = without_dot_slash(value)
    elsewhere = value in ("", "..") or value != Path(value).name or "\\" in value
    if elsewhere or "%" in value or value.split()[:1] == ["LIST"]:
        why = "its voxels are not in one file beside the header"
        raise rejected(name, why, "convert it to a single file")
    path = header.with_name(value)
    if not path.is_file():
        raise rejected(name, "the file with its voxels is missing", "put it beside the header")
    check_not_pointer(path, shown(path.name))
    return path


def _piece(stream: Readable, size: int) -> bytes:
    """The next bytes; none where a compressed stream was cut short."""
    try:
        return stream.read(size)
    except EOFError:
        return b""


def _wrong_size(name: str, declared: int, actual: str) -> InputRejected:
    why = f"its header declares {declared} bytes of voxels, found {actual}"
    return rejected(name, why, f"it is damaged, {_RESTORE}")

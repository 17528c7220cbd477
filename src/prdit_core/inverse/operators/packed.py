"""Arrays inside of a spec's JSON: deflated, as base64."""

from __future__ import annotations

import base64
import binascii
import math
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def packed_bits(known: NDArray[Any]) -> str:
    """Which entries are not 0: bits in C order."""
    return packed_bytes(np.packbits(np.asarray(known) != 0).tobytes())


def unpacked_bits(text: str, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The mask of `packed_bits`; `ValueError` if it is damaged or of another shape."""
    count = math.prod(shape)
    content = unpacked_bytes(text, (count + 7) // 8, "mask")
    bits = np.unpackbits(np.frombuffer(content, dtype=np.uint8), count=count)
    return bits.astype(bool).reshape(shape)


def packed_bytes(content: bytes) -> str:
    """Any bytes."""
    return base64.b64encode(zlib.compress(content)).decode("ascii")


def unpacked_bytes(text: str, size: int, what: str) -> bytes:
    """So many bytes of `packed_bytes`; `ValueError` if they are damaged, fewer or more.

    Parameters
    ----------
    what : they are, for the message
    """
    try:
        inflate = zlib.decompressobj()
        content = inflate.decompress(base64.b64decode(text, validate=True), size + 1)
    except (zlib.error, binascii.Error) as error:
        raise ValueError(f"the {what} is damaged ({error})") from error
    if len(content) != size or not inflate.eof:
        raise ValueError(f"the {what} is not one of this shape")
    return content

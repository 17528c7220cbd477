"""MetaImage files (.mha, .mhd with one data file beside it), raw or zlib."""

from __future__ import annotations

import math
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from prdit_core.data.grid import (
    LPS_TO_RAS,
    Affine,
    affine_towards,
    check_affine,
    check_bytes,
    no_orientation,
    numbers_in,
    rejected,
)
from prdit_core.data.payload import (
    Inflated,
    Readable,
    ascii_line,
    damage_named,
    read_declared,
    sibling,
    without_dot_slash,
)
from prdit_core.errors import InputRejected
from prdit_core.files import shown
from prdit_core.provenance import stated_notice
from prdit_core.volume import Volume

if TYPE_CHECKING:
    from pathlib import Path

_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_MAX_LINE = 2**12
_MAX_LINES = 200


def read_metaimage(path: Path, *, assume_orientation: str | None) -> Volume:
    """The voxels and geometry of a MetaImage, axes as they are stored.

    Parameters
    ----------
    path
        A .mha file, or a .mhd header with its data file beside it.
    assume_orientation
        Axis codes such as "LPS" for files without a TransformMatrix.

    Raises
    ------
    InputRejected
        On damage, on anything but one scalar volume, and on geometry that no CT has.
    """
    name = shown(path.name)
    with ExitStack() as stack, damage_named(name):
        file = stack.enter_context(path.open("rb"))
        fields = _fields(file, name)
        shape = _shape(fields, name)
        affine, notes = _affine(fields, assume_orientation, name)
        dtype = _dtype(fields, name)
        size = math.prod(shape) * dtype.itemsize
        check_bytes(size, name)
        check_affine(affine, name)
        if fields["ElementDataFile"] != "LOCAL":
            file = stack.enter_context(sibling(path, fields["ElementDataFile"], name).open("rb"))
        payload = read_declared(_decoded(file, fields, name), size, name)
    voxels = payload.view(dtype).reshape(shape)
    stated = stated_notice(fields.get("Comment", ""))
    return Volume(voxels, affine, {"source_format": "metaimage", "notes": notes, **stated})


def data_file_of(path: Path) -> str | None:
    """What a MetaImage header names as the file with its voxels; None if it is no header."""
    try:
        with path.open("rb") as file:
            return without_dot_slash(_fields(file, shown(path.name))["ElementDataFile"])
    except (OSError, InputRejected):
        return None


def metaimage_header(volume: Volume, *, data_file: str, description: str) -> bytes:
    """The header of an uncompressed int16 MetaImage whose voxels are in `data_file` (or LOCAL).

    Parameters
    ----------
    volume
        Its affine must have right angles.
    data_file
        Name of the file with the voxels, or "LOCAL" where they follow the header.
    description
        Goes into the Comment line, as one line of ASCII.
    """
    lengths = np.linalg.norm(volume.affine[:3, :3], axis=0)
    directions = (volume.affine[:3, :3] / lengths) * LPS_TO_RAS[:, None] + 0.0
    comment = ascii_line(description)
    lines = [
        "ObjectType = Image",
        "NDims = 3",
        *([f"Comment = {comment}"] if comment else []),
        "BinaryData = True",
        "BinaryDataByteOrderMSB = False",
        "CompressedData = False",
        f"TransformMatrix = {_spelled(directions.T.ravel())}",
        f"Offset = {_spelled(volume.affine[:3, 3] * LPS_TO_RAS + 0.0)}",
        "CenterOfRotation = 0 0 0",
        f"ElementSpacing = {_spelled(lengths)}",
        f"DimSize = {' '.join(str(n) for n in reversed(volume.shape))}",
        "ElementType = MET_SHORT",
        f"ElementDataFile = {data_file}",
    ]
    return ("\n".join(lines) + "\n").encode("utf-8")


def _spelled(numbers: Affine) -> str:
    return " ".join(repr(float(number)) for number in numbers)


def _fields(file: BinaryIO, name: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    for _ in range(_MAX_LINES):
        key, separator, value = file.readline(_MAX_LINE).decode("utf-8", "replace").partition("=")
        if not separator:
            break
        fields[key.strip()] = value.strip()
        if key.strip() == "ElementDataFile":
            return fields
    raise rejected(name, "it is not a complete MetaImage header", "restore it from its source")


def _shape(fields: dict[str, str], name: str) -> tuple[int, int, int]:
    sizes = [int(word) for word in fields.get("DimSize", "").split() if word.isdecimal()]
    if fields.get("ElementNumberOfChannels", "1") != "1":
        raise rejected(name, "it holds vectors or colours", "give one scalar volume")
    if len(sizes) != 3 or fields.get("NDims") != "3" or min(sizes) == 0:
        raise rejected(name, "its header does not state three axes", "give one scalar volume")
    return sizes[2], sizes[1], sizes[0]


def _affine(fields: dict[str, str], assume: str | None, name: str) -> tuple[Affine, list[str]]:
    spacing = _first(fields, "ElementSpacing", "ElementSize")
    matrix = _first(fields, "TransformMatrix", "Rotation", "Orientation")
    origin = _first(fields, "Offset", "Position", "Origin")
    if spacing.shape != (3,) or not np.all(spacing > 0):
        raise rejected(name, "its header states no positive spacing", "repair the header")
    if matrix.shape != (9,) and assume is None:
        raise no_orientation(name)
    stated_mm = origin * LPS_TO_RAS if origin.shape == (3,) else np.zeros(3)
    if matrix.shape != (9,):
        affine, notes = affine_towards(str(assume), spacing), ["orientation assumed"]
    else:
        affine, notes = np.eye(4), []
        affine[:3, :3] = matrix.reshape(3, 3).T * spacing * LPS_TO_RAS[:, None]
        _check_unit_length(matrix, name)
    affine[:3, 3] = stated_mm
    return affine, notes


def _check_unit_length(matrix: Affine, name: str) -> None:
    lengths = np.linalg.norm(matrix.reshape(3, 3), axis=1)
    if not np.allclose(lengths, 1.0, atol=1e-3):
        raise rejected(name, "its TransformMatrix is no rotation", "repair the header")


def _first(fields: dict[str, str], *keys: str) -> Affine:
    """The numbers of the first of several spellings that is there."""
    return numbers_in(next((fields[key] for key in keys if key in fields), ""))


def _dtype(fields: dict[str, str], name: str) -> np.dtype[Any]:
    code = _TYPES.get(fields.get("ElementType", ""))
    if code is None:
        raise rejected(name, "its ElementType is unknown", "convert it to MET_SHORT")
    order = fields.get("BinaryDataByteOrderMSB", fields.get("ElementByteOrderMSB", "False"))
    return np.dtype((">" if order.lower() == "true" else "<") + code)


def _decoded(file: BinaryIO, fields: dict[str, str], name: str) -> Readable:
    if fields.get("BinaryData", "True").lower() != "true" or fields.get("HeaderSize", "0") != "0":
        raise rejected(name, "only binary voxels right after the header can be read", "convert it")
    return Inflated(file) if fields.get("CompressedData", "False").lower() == "true" else file

"""NRRD files (.nrrd, .nhdr with one data file beside it), raw or gzip."""

from __future__ import annotations

import math
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
)
from prdit_core.files import shown
from prdit_core.provenance import stated_notice
from prdit_core.volume import Volume

if TYPE_CHECKING:
    from pathlib import Path

_TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
_CODES = {spelling: code for code, spellings in _TYPES.items() for spelling in spellings}
# From the named space to RAS+.
_SPACES = {
    "right-anterior-superior": (1, 1, 1),
    "ras": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1),
    "las": (-1, 1, 1),
    "left-posterior-superior": (-1, -1, 1),
    "lps": (-1, -1, 1),
}
_MAX_HEADER = 2**20


def read_nrrd(path: Path, *, assume_orientation: str | None) -> Volume:
    """The voxels and geometry of an NRRD file, axes as they are stored.

    Parameters
    ----------
    path
        A .nrrd file, or a .nhdr header with its data file beside it.
    assume_orientation
        Axis codes such as "LPS" for files that state no space directions.

    Raises
    ------
    InputRejected
        On damage, on anything but one scalar volume, and on geometry that no CT has.
    """
    name = shown(path.name)
    with damage_named(name), path.open("rb") as file:
        fields = _fields(file, name)
        shape = _shape(fields, name)
        affine, notes = _affine(fields, assume_orientation, name)
        dtype = _dtype(fields, name)
        size = math.prod(shape) * dtype.itemsize
        check_bytes(size, name)
        check_affine(affine, name)
        detached = fields.get("data file", fields.get("datafile"))
        if detached is None:
            payload = read_declared(_decoded(file, fields, name), size, name)
        else:
            with sibling(path, detached, name).open("rb") as data:
                payload = read_declared(_decoded(data, fields, name), size, name)
    voxels = payload.view(dtype).reshape(shape)
    stated = stated_notice(fields.get("content", ""))
    return Volume(voxels, affine, {"source_format": "nrrd", "notes": notes, **stated})


def nrrd_header(volume: Volume, *, description: str) -> bytes:
    """The header of an int16 NRRD in LPS whose voxels follow as a gzip stream.

    Parameters
    ----------
    volume
        Its affine must have right angles.
    description
        Goes into the content field, as one line of ASCII.
    """
    content = ascii_line(description)
    columns = volume.affine[:3, :3].T * LPS_TO_RAS + 0.0
    lines = [
        "NRRD0004",
        *([f"content: {content}"] if content else []),
        "type: short",
        "dimension: 3",
        "space: left-posterior-superior",
        f"sizes: {' '.join(str(n) for n in reversed(volume.shape))}",
        f"space directions: {' '.join(_spelled(column) for column in columns)}",
        "kinds: domain domain domain",
        "endian: little",
        "encoding: gzip",
        f"space origin: {_spelled(volume.affine[:3, 3] * LPS_TO_RAS + 0.0)}",
    ]
    return ("\n".join(lines) + "\n\n").encode("ascii")


def _spelled(vector: Affine) -> str:
    return f"({','.join(repr(float(number)) for number in vector)})"


def _fields(file: BinaryIO, name: str) -> dict[str, str]:
    """The header's fields by lower-case name; the key/value pairs of users are left out."""
    if not file.readline(_MAX_HEADER).startswith(b"NRRD000"):
        raise rejected(name, "it is not an NRRD file", "restore it from its source")
    fields = {}
    while (line := file.readline(_MAX_HEADER).decode("utf-8", "replace").strip()) != "":
        key, separator, value = line.partition(": ")
        if separator and not line.startswith("#"):
            fields[key.strip().lower()] = value.strip()
    return fields


def _shape(fields: dict[str, str], name: str) -> tuple[int, int, int]:
    try:
        sizes = [int(size) for size in fields.get("sizes", "").split()]
    except ValueError:
        sizes = []
    kinds = set(fields.get("kinds", "domain").split()) - {"domain", "space", "???", "none"}
    if kinds:
        raise rejected(name, "it holds vectors, colours or a list", "give one scalar volume")
    if len(sizes) != 3 or min(sizes) <= 0 or fields.get("dimension") != "3":
        raise rejected(name, "its header does not state three axes", "give one scalar volume")
    return sizes[2], sizes[1], sizes[0]


def _affine(fields: dict[str, str], assume: str | None, name: str) -> tuple[Affine, list[str]]:
    if "space" in fields and "space directions" in fields:
        return _stated_affine(fields, name), []
    if assume is None:
        raise no_orientation(name)
    spacing = numbers_in(fields.get("spacings", ""))
    if spacing.shape != (3,):
        raise rejected(name, "its header states no spacings", "repair the header")
    affine = affine_towards(assume, np.abs(spacing))
    affine[:3, 3] = _stated_origin(fields, affine)
    return affine, ["orientation assumed"]


def _stated_origin(fields: dict[str, str], affine: Affine) -> Affine:
    """RAS+ mm of the first voxel of a file without directions: its origin, or its axes' minima.

    Axis minima lie along the axes, whatever these run to; those of cells are outer faces.
    """
    origin = _vectors(fields.get("space origin", ""))
    towards_ras = _SPACES.get(fields.get("space", "").lower())
    if origin.shape == (3,) and towards_ras is not None:
        return origin * towards_ras
    minima = numbers_in(fields.get("axis mins", fields.get("axismins", "")))
    if minima.shape != (3,) or not np.all(np.isfinite(minima)):
        return np.zeros(3)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    centres = fields.get("centers", fields.get("centerings", "")).lower().split()
    cells = np.array([centre == "cell" for centre in centres] if len(centres) == 3 else [False])
    first: Affine = affine[:3, :3] @ ((minima + cells * spacing / 2) / spacing)
    return first


def _stated_affine(fields: dict[str, str], name: str) -> Affine:
    towards_ras = _SPACES.get(fields["space"].lower())
    units = set(fields.get("space units", '"mm"').replace('"', " ").split())
    if towards_ras is None or units - {"mm", "millimeter", "millimetre"}:
        raise rejected(name, "its space or unit of length is unknown", "convert it to LPS in mm")
    directions = _vectors(fields["space directions"])
    origin = _vectors(fields.get("space origin", "(0,0,0)"))
    if directions.shape != (9,) or origin.shape != (3,):
        raise rejected(name, "its space directions are invalid", "repair the header")
    affine = np.eye(4)
    affine[:3, :3] = directions.reshape(3, 3).T
    affine[:3, 3] = origin
    affine[:3] *= np.array(towards_ras)[:, None]
    return affine


def _vectors(text: str) -> Affine:
    """The numbers of vectors such as (1,0,0) (0,1,0), in one row."""
    return numbers_in(text.translate(str.maketrans("(),", "   ")))


def _dtype(fields: dict[str, str], name: str) -> np.dtype[Any]:
    code = _CODES.get(fields.get("type", "").lower())
    endian = {"little": "<", "big": ">"}.get(fields.get("endian", ""))
    if code is None or (endian is None and code[1] != "1"):
        raise rejected(name, "its number type is unknown", "convert it to short, little endian")
    return np.dtype((endian or "<") + code)


def _decoded(file: BinaryIO, fields: dict[str, str], name: str) -> Readable:
    skips = [fields.get(key, "0") for key in ("line skip", "lineskip", "byte skip", "byteskip")]
    encoding = fields.get("encoding", "").lower()
    if encoding not in ("raw", "gzip", "gz") or set(skips) != {"0"}:
        why = "only raw and gzip encoding without skipped bytes can be read"
        raise rejected(name, why, "convert it")
    return file if encoding == "raw" else Inflated(file)

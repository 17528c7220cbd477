"""RAD-ChestCT files (.npz): voxels under the key `ct`, with stated geometry instead of a header."""

from __future__ import annotations

import math
import zipfile
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from prdit_core.data.grid import affine_towards, check_grid, rejected
from prdit_core.data.payload import damage_named, read_declared
from prdit_core.files import shown
from prdit_core.volume import Volume

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

# The program that made the data set stacks slices from the head down, then rows and columns
# (github.com/rachellea/ct-volume-preprocessing: descending slice position, then transposed).
_STATED_ORIENTATION = "LPI"


def read_npz(
    path: Path,
    *,
    spacing_mm: tuple[float, float, float],
    clip_hu: tuple[float, float],
    hu_offset: float,
    assume_orientation: str | None,
) -> Volume:
    """The voxels of an RAD-ChestCT file, slices first, with the geometry its authors published.

    Parameters
    ----------
    path
        An .npz archive with a 3D array `ct` of HU.
    spacing_mm
        (z, y, x) spacing in mm.
    clip_hu
        Lowest and highest HU; the published files are clipped to -1000, 1000.
    hu_offset
        What will be added to the voxels to make them HU; it moves the clip with them.
    assume_orientation
        Axis codes (x, y, z) such as "LPS"; head first ("LPI") where None, as published.

    Raises
    ------
    InputRejected
        On damage, on arrays of objects, and on a declared size above the limit.
    """
    name = shown(path.name)
    try:
        with damage_named(name), zipfile.ZipFile(path) as archive:
            if "ct.npy" not in archive.namelist():
                raise rejected(name, "it holds no array `ct`", "give an RAD-ChestCT file")
            voxels = read_member(archive, "ct", name, "iuf", (3,))
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        raise rejected(name, "its zip archive is damaged", "copy it again") from error
    affine = affine_towards(assume_orientation or _STATED_ORIENTATION, spacing_mm[::-1])
    depth, height, width = voxels.shape
    check_grid((depth, height, width), affine, name)
    note = f"geometry not in the file: {spacing_mm} mm and HU clipped to {clip_hu} as stated"
    limits = np.finfo(voxels.dtype) if voxels.dtype.kind == "f" else np.iinfo(voxels.dtype)
    stored = np.clip(np.subtract(clip_hu, hu_offset), limits.min, limits.max)
    voxels = np.clip(voxels, *stored.astype(voxels.dtype))
    return Volume(voxels, affine, {"source_format": "npz", "notes": [note]})


def read_member(
    archive: zipfile.ZipFile, key: str, name: str, kinds: str, dimensions: tuple[int, ...]
) -> NDArray[Any]:
    """The array `key` of an .npz archive, after judging the size its header declares.

    Nothing is ever unpickled.

    Parameters
    ----------
    name : of the file, for messages
    kinds : of the numbers, as numpy's `dtype.kind`
    dimensions : that it may have

    Raises
    ------
    InputRejected
        On damage, on other arrays than these, and on a declared size above the limit.
    """
    with archive.open(f"{key}.npy") as member:
        shape, fortran, dtype = _header(member, name)
        if dtype.kind not in kinds or len(shape) not in dimensions or min(shape, default=1) <= 0:
            why = f"its array `{key}` is {len(shape)}D of type {dtype.kind}"
            wanted = " or ".join(f"{count}D" for count in dimensions)
            what = "text" if kinds == "U" else "numbers"
            raise rejected(name, why, f"give a {wanted} array of {what}")
        payload = read_declared(member, math.prod(shape) * dtype.itemsize, name)
    return np.ndarray(shape, dtype, payload, order="F" if fortran else "C")


def _header(member: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether in Fortran order, and type."""
    try:
        version = np.lib.format.read_magic(member)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, fortran, dtype = read(member)
    except Exception as error:  # numpy parses the header as Python: it can fail in any way
        raise rejected(name, "its array header is damaged", "copy it again") from error
    return shape, fortran, dtype

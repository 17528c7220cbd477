"""Pictures of a detector as TIFF: one stack, or a folder with a file for each."""

from __future__ import annotations

import re
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from prdit_core.data.grid import check_bytes, rejected
from prdit_core.data.payload import damage_named
from prdit_core.errors import UsageError
from prdit_core.files import shown

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

SUFFIXES = (".tif", ".tiff")
# What Pillow calls pictures of one number a pixel, integer or real.
_GREY = ("L", "I", "F", "I;16", "I;16B")
_DIGITS = re.compile(r"(\d+)")


def is_pictures(place: Path) -> bool:
    """Whether a path names what `read_pictures` reads: a stack, a pattern, or a folder of them."""
    return place.suffix.lower() in SUFFIXES or (place.is_dir() and bool(_in_folder(place, "*")))


def read_pictures(place: Path, rows: tuple[int, int] | None = None) -> NDArray[Any]:
    """All pictures in their order, (pictures, rows, bins).

    Parameters
    ----------
    place : a stack, a folder of pictures, or a pattern for their names, such as `scan_*.tif`;
        files are taken in the order of the numbers in their names
    rows : of the detector, first and last + 1; None: all

    Raises
    ------
    InputRejected
        If there is none, or one is damaged, in colour, too large, or not of the size of the first.
    UsageError
        If there are no such rows.
    """
    files, name = _files(place), shown(place.name)
    if not files:
        why = "there is no TIFF picture of this name"
        raise rejected(name, why, "check the path, or its pattern")
    pictures: list[NDArray[Any]] = []
    size, held = None, 0
    for file in files:
        for picture in _pages(file):
            if size is None:
                size = picture.shape
                first, end = rows or (0, size[0])
                if not 0 <= first < end <= size[0]:
                    raise UsageError(f"rows {first} to {end} are not among the {size[0]} of {name}")
            elif picture.shape != size:
                why = f"it is {picture.shape}, the first picture {size}"
                raise rejected(shown(file.name), why, "give pictures of one detector")
            pictures.append(picture[first:end])
            held += pictures[-1].nbytes + 8 * pictures[-1].size
            # Counts are held once as they are and once in float64.
            check_bytes(held, f"{name} (take fewer rows)")
    return np.stack(pictures)


def _files(place: Path) -> list[Path]:
    if place.is_dir():
        return _in_folder(place, "*")
    if "*" in place.name:
        return _in_folder(place.parent, place.name)
    return [place]


def _in_folder(folder: Path, pattern: str) -> list[Path]:
    files = (file for file in folder.glob(pattern) if file.suffix.lower() in SUFFIXES)
    return sorted(files, key=_by_number)


def _by_number(file: Path) -> list[tuple[int, str]]:
    """So that view 10 comes after view 9."""
    parts = _DIGITS.split(file.name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _pages(file: Path) -> Iterator[NDArray[Any]]:
    name = shown(file.name)
    with _picture_named(name), Image.open(file, formats=["TIFF"]) as image:
        assert isinstance(image, TiffImagePlugin.TiffImageFile)
        for page in range(image.n_frames):
            image.seek(page)
            if image.mode not in _GREY:
                why = f"its pictures are of kind {image.mode}, not one number a pixel"
                raise rejected(name, why, "give counts as 16-bit or float TIFF")
            yield np.asarray(image)


@contextmanager
def _picture_named(name: str) -> Iterator[None]:
    """Turn what Pillow raises on what it cannot read into `InputRejected`."""
    remedy = "copy it again, or save it as 16-bit or 32-bit float TIFF"
    try:
        with damage_named(name), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                yield
            except (UnidentifiedImageError, Image.DecompressionBombError) as error:
                raise rejected(name, "it is no TIFF picture that can be read", remedy) from error
            except OSError as error:
                if error.errno:
                    raise
                raise rejected(name, "it is damaged or cut short", remedy) from error
    except (ValueError, SyntaxError, KeyError, TypeError) as error:  # of a damaged directory
        raise rejected(name, "it is damaged or cut short", remedy) from error

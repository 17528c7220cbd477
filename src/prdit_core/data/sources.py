"""The scans behind a data set: which files they are, and hashes that tell them apart."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prdit_core.data.dicom_slices import walk_files
from prdit_core.data.io import find_cases
from prdit_core.errors import UsageError
from prdit_core.files import sha256_of, shown

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

DETACHED_SUFFIXES = (".mhd", ".nhdr")


@dataclass(frozen=True, order=True)
class Source:
    """One scan.

    Attributes
    ----------
    name : its path from the folder the user gave on, fit to be printed
    path : its file, or the folder of its DICOM slices
    """

    name: str
    path: Path


def find_sources(places: Iterable[Path]) -> list[Source]:
    """All scans at or below `places`, sorted, so that no listing order matters.

    Raises
    ------
    InputRejected
        If a place does not exist.
    """
    return sorted(
        {
            Source(shown(place.resolve().name / case.relative_to(place)), case.resolve())
            for place in places
            for case in find_cases(place)
        }
    )


def refuse_overlap(places: Iterable[Path], out: Path) -> None:
    """Raise `UsageError` if `out` is one of `places` or lies inside one."""
    target = out.resolve()
    for place in places:
        if target.is_relative_to(place.resolve()):
            raise UsageError(
                f"output {shown(out)} lies in input {shown(place)}; choose a folder elsewhere"
            )


def content_hash(path: Path) -> str:
    """SHA-256 of a scan's bytes, whatever its files are called.

    Raises
    ------
    OSError
        If a file cannot be read.
    """
    hashes = sorted(sha256_of(file) for file in _files_of(path))
    if len(hashes) == 1:
        return hashes[0]
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def _files_of(path: Path) -> list[Path]:
    """A folder's files, or a file with those beside it that a detached header names."""
    if path.is_dir():
        return list(walk_files(path))
    if path.suffix.lower() not in DETACHED_SUFFIXES:
        return [path]
    header = path.read_bytes()
    named = [f for f in path.parent.iterdir() if f.is_file() and f.name.encode() in header]
    return [path, *(file for file in named if file != path)]

"""The scans behind a data set: which files they are, and hashes that tell them apart."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from prdit_core.data.dicom_slices import each_once, linked_folders, walk_files
from prdit_core.data.io import find_cases
from prdit_core.errors import UsageError
from prdit_core.files import sha256_of, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

DETACHED_SUFFIXES = (".mhd", ".nhdr")


@dataclass(frozen=True, order=True)
class ScanSource:
    """One scan.

    Attributes
    ----------
    name : its path from the folder the user gave on, fit to be printed
    path : its file as it was found (a link stays one, for it has the suffix), or the folder of
        its DICOM slices
    """

    name: str
    path: Path


def find_sources(places: Iterable[Path]) -> list[ScanSource]:
    """All scans at or below `places`, sorted, so that no listing order matters, each file once.

    Raises
    ------
    InputRejected
        If a place does not exist, or a folder in it cannot be listed.
    """
    kept: dict[str, ScanSource] = {}
    for source in sorted(_source(place, case) for place in places for case in find_cases(place)):
        kept.setdefault(os.path.realpath(source.path), source)
    return list(kept.values())


def named(place: str | Path) -> Path:
    """A path that a user gave.

    Raises
    ------
    UsageError
        If it is empty, as an unset variable of a shell is; `Path` would take the current folder.
    """
    if str(place) == "":
        raise UsageError("an empty path was given; name a file or folder, or . for this folder")
    return Path(place)


def links_left_out(places: Sequence[Path]) -> list[str]:
    """A note on the links to folders below `places`, which are not followed."""
    links = [shown(link.name) for place in places for link in linked_folders(place)]
    return [f"links to folders are not followed: {', '.join(links)}"] if links else []


def refuse_overlap(places: Iterable[Path], out: Path, what: str = "output") -> None:
    """Raise `UsageError` if `out`, which is `what`, is one of `places` or lies inside one."""
    target = out.resolve()
    for place in places:
        if target.is_relative_to(place.resolve()):
            raise UsageError(
                f"{what} {shown(out)} lies in input {shown(place)}; choose a folder elsewhere"
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
        return list(each_once(walk_files(path)))
    if path.suffix.lower() not in DETACHED_SUFFIXES:
        return [path]
    header = path.read_bytes()
    named = [f for f in path.parent.iterdir() if f.is_file() and f.name.encode() in header]
    return [path, *(file for file in named if file != path)]


def _source(place: Path, case: Path) -> ScanSource:
    place, case = (Path(os.path.abspath(path)) for path in (place, case))
    return ScanSource(shown(Path(place.name) / case.relative_to(place)), case)

"""Writing that either happens whole or not at all, and names that are safe to print."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from typing import TYPE_CHECKING, Any

from prdit_core.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def shown(path: str | Path) -> str:
    """A path as it may be printed: control characters escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(path))


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_writable(folder: Path) -> None:
    """Raise `OutputError` unless files can be created in `folder` (made if it is not there).

    Called before any computation, so that no hours are lost on a read-only target.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"0")
    except OSError as error:
        raise OutputError(_cannot_write(folder, error)) from error


def check_new(file: Path, *, overwrite: bool) -> None:
    """Raise `OutputError` if something is at `file` that is not to be replaced."""
    if file.exists() and not overwrite:
        raise OutputError(f"{shown(file)} exists; choose another name, or add --overwrite")


def write_atomically(path: Path, write: Callable[[Path], None]) -> Path:
    """Let `write` fill a temporary sibling of `path`, sync it and rename it into place.

    The sibling keeps the suffixes of `path`, since some writers choose a format by them.

    Raises
    ------
    OutputError
        If the target cannot be written; nothing is left behind.
    """
    temporary = _sibling(path, "partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    except OSError as error:
        raise OutputError(_cannot_write(path, error)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return path


def write_folder_atomically(path: Path, write: Callable[[Path], None]) -> Path:
    """As `write_atomically`, for a folder. An existing folder at `path` is replaced."""
    temporary, retired = _sibling(path, "partial"), _sibling(path, "retired")
    try:
        temporary.mkdir(parents=True)
        write(temporary)
        for file in temporary.rglob("*"):
            sync(file)
        sync(temporary)
        if path.exists():
            os.replace(path, retired)
        os.replace(temporary, path)
        sync(path.parent)
    except OSError as error:
        if retired.exists() and not path.exists():
            os.replace(retired, path)
        raise OutputError(_cannot_write(path, error)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    shutil.rmtree(retired, ignore_errors=True)
    return path


def sweep(folder: Path) -> None:
    """Remove temporary files and folders that a killed process left in `folder`.

    Only for a folder that no other process writes to.
    """
    for left in (*folder.glob(".*.partial*"), *folder.glob(".*.retired*")):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> Path:
    """Write JSON atomically, with sorted keys so that equal content gives equal bytes."""
    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    return write_text(path, text)


def read_json(path: Path) -> dict[str, Any] | None:
    """An object that `write_json` wrote; None if there is none that can be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def write_text(path: Path, text: str) -> Path:
    """Write UTF-8 text atomically, with the same line ends on every system."""
    return write_atomically(path, lambda part: _write_text(part, text))


def _sibling(path: Path, state: str) -> Path:
    """A hidden neighbour with the same suffixes, its name short enough for any file system."""
    suffixes = "".join(path.suffixes[-2:])[-32:]
    stem = hashlib.sha256(path.name.encode()).hexdigest()[:12]
    return path.with_name(f".{stem}.{os.getpid()}.{state}{suffixes}")


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def sync(path: Path) -> None:
    """Flush a file or folder to disk; Windows opens no folders, and needs no flush of them."""
    if path.is_dir() and os.name == "nt":
        return
    # Windows flushes only what is open for writing; folders can only be opened for reading.
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def not_as_written(path: Path) -> OutputError:
    """What to raise where a file or folder does not hold what was put into it."""
    return OutputError(f"{shown(path.name)} does not read back as written; check the disk")


def _cannot_write(path: Path, error: OSError) -> str:
    why = error.strerror or error
    return f"cannot write {shown(path)}: {why}; choose another target or free some space"

"""What a file really is, by its first bytes, where its name says something else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prdit_core.data.grid import rejected

if TYPE_CHECKING:
    from pathlib import Path

_PEEK = 512
# What `_kind_of` tells a file with a suffix to be, and the suffix a file of a kind should have.
_EXPECTED = {
    ".nii": "NIfTI",
    ".nii.gz": "gzip",
    ".nrrd": "NRRD",
    ".nhdr": "NRRD",
    ".mha": "MetaImage",
    ".mhd": "MetaImage",
    ".npz": "zip",
}
_SUFFIX = {"NIfTI": ".nii", "NRRD": ".nrrd", "MetaImage": ".mha", "DICOM": ".dcm"}
_POINTERS = {
    "git-lfs pointer": (b"version https://git-lfs", "fetch the file with `git lfs pull`"),
    "git-annex pointer": (b"/annex/objects/", "fetch the file with `git annex get`"),
    "web page": (b"<!doctype html", "download the file itself"),
}


def is_pointer(path: Path) -> bool:
    """Whether a file stands for another that was not fetched."""
    return _kind_of(_start_of(path)) in _POINTERS


def check_not_pointer(path: Path, name: str) -> None:
    """Refuse a file that stands for another that was not fetched.

    Raises
    ------
    InputRejected
        Saying what it is and how to get the file.
    """
    kind = _kind_of(_start_of(path))
    if kind in _POINTERS:
        raise rejected(name, f"it is a {kind}, not the file itself", _POINTERS[kind][1])


def check_signature(path: Path, suffix: str, name: str) -> None:
    """Refuse a file that is a pointer, or soundly of another format than its suffix says.

    Parameters
    ----------
    path
        A file that is there.
    suffix
        Its lower-case suffix, "" for none.
    name
        What to call it in the message.

    Raises
    ------
    InputRejected
        Saying what it is and what to call it.
    """
    check_not_pointer(path, name)
    kind = _kind_of(_start_of(path))
    expected = _EXPECTED.get(suffix, "DICOM")
    if kind in ("", expected) or (suffix not in _EXPECTED and kind not in _SUFFIX):
        return
    remedy = "unpack it"
    if (kind, suffix) == ("gzip", ".nii"):
        remedy = "rename it to end in .nii.gz"
    elif kind in _SUFFIX:
        remedy = f"rename it to end in {_SUFFIX[kind]}"
    says = f", not {expected}, as its name says" if suffix in _EXPECTED else " by another name"
    raise rejected(name, f"it is {kind}{says}", remedy)


def _kind_of(start: bytes) -> str:
    """What the first bytes are of; "" if nothing known."""
    lowered = start.lstrip().lower()
    for kind, (beginning, _) in _POINTERS.items():
        if lowered.startswith(beginning):
            return kind
    if start.startswith(b"\x1f\x8b"):
        return "gzip"
    if start.startswith(b"PK\x03\x04"):
        return "zip"
    if start.startswith(b"NRRD000"):
        return "NRRD"
    if start[128:132] == b"DICM":
        return "DICOM"
    if start[344:346] in (b"n+", b"ni") or start[4:6] in (b"n+", b"ni"):
        return "NIfTI"
    if lowered.startswith((b"objecttype", b"ndims")):
        return "MetaImage"
    return ""


def _start_of(path: Path) -> bytes:
    """The first bytes; none where they cannot be read, which the reader will say."""
    try:
        with path.open("rb") as file:
            return file.read(_PEEK)
    except OSError:
        return b""

"""The one place that lets pydicom parse a file, and turns whatever it raises into a refusal."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pydicom

from prdit_core.data.grid import rejected
from prdit_core.errors import PrditError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SUFFIXES = (".dcm", ".dicom", ".ima")
_ROOT = b"1.2.840.10008."
_START = 1024


def read_dataset(path: Path, name: str, *, tags: list[str] | None) -> pydicom.Dataset:
    """The header (`tags` given: these only, no pixels) or all of a DICOM file.

    Raises
    ------
    InputRejected
        If it cannot be parsed.
    """
    try:
        force = path.name.lower().endswith(SUFFIXES) or lacks_preamble(start_of(path))
        with quiet():
            return pydicom.dcmread(
                path, force=force, specific_tags=tags, stop_before_pixels=tags is not None
            )
    except Exception as error:
        why = f"it is not readable as DICOM ({type(error).__name__})"
        if path.exists() and path.stat().st_size == 0:
            why = "it is empty (0 bytes)"
        raise rejected(name, why, "copy it again from its source") from error


def start_of(path: Path) -> bytes:
    """Enough of a file to tell what it is."""
    with path.open("rb") as file:
        return file.read(_START)


def lacks_preamble(start: bytes) -> bool:
    """Whether a file begins at once with elements of group 2 or 8, and names a class of DICOM."""
    groups = (b"\x02\x00", b"\x08\x00", b"\x00\x08")
    return start[:2] in groups and start[128:132] != b"DICM" and _ROOT in start


@contextmanager
def invalid_header_named(name: str, modality: str) -> Iterator[None]:
    """Turn what pydicom raises on invalid values, which can be anything, into `InputRejected`."""
    try:
        with quiet():
            yield
    except PrditError:
        raise
    except Exception as error:
        why = "its DICOM header is invalid"
        if modality not in ("", "CT"):
            why = f"not CT (Modality {modality}), and {why}"
        raise rejected(name, why, "export the series again, or remove the file") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Silence pydicom's warnings: they quote values of the header, which may name the patient."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield

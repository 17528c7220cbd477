"""How a saved volume came about: a JSON record beside it, as `prdit-core generate` leaves one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prdit_core.data.discovery import suffix_of
from prdit_core.data.grid import rejected
from prdit_core.errors import OutputError
from prdit_core.files import read_json, sha256_of, shown, write_json
from prdit_core.intensity import HU
from prdit_core.provenance import DIGEST, FILE, MAKER, UNITS, volume_record

if TYPE_CHECKING:
    from pathlib import Path

    from prdit_core.volume import Volume

# What a record says of the file, which speaks for itself.
_OF_THE_FILE = (FILE, DIGEST, UNITS, "shape", "spacing_mm", "affine")


def check_place(file: Path) -> None:
    """Raise `OutputError` if a JSON file of somebody else lies where the record would.

    Converters of DICOM leave such files beside a scan.
    """
    place = _place(file)
    if place.exists() and _read(place) is None:
        raise OutputError(f"{shown(place)} is there and is no record of ours; choose another name")


def write_record(volume: Volume, file: Path) -> Path:
    """Write the metadata of a volume beside the file it was written to."""
    return write_json(_place(file), volume_record(volume, file, _voxels_of(file)))


def recorded(file: Path) -> dict[str, Any]:
    """Metadata from the record beside a file; nothing unless it is of this very file."""
    record = _record_of(file) or {}
    other = {UNITS: record[UNITS]} if record.get(UNITS, HU) != HU else {}
    return {k: v for k, v in record.items() if k not in _OF_THE_FILE} | other


def stated_units(file: Path) -> str | None:
    """Units of a volume that are to be believed, however bad it looks; None: to be checked.

    Its record must be of this very file. HU are believed if a model made them; records of before
    0.2 name no units, as those of all their volumes were HU.
    """
    record = _record_of(file)
    if record is None:
        return None
    units = str(record.get(UNITS, HU))
    return units if MAKER in record or units != HU else None


def maker_of(file: Path) -> str | None:
    """SHA-256 of the checkpoint that made a volume, if the record beside it says so."""
    made = (_read(_place(file)) or {}).get(MAKER)
    return made if isinstance(made, str) else None


def refuse_stale(file: Path) -> None:
    """Raise `InputRejected` if the record beside a file is of other bytes under its name.

    Whether a volume is synthetic is then unknown, and must not be guessed.
    """
    record, voxels = _read(_place(file)), _voxels_of(file)
    if record is None or record[FILE] != file.name or not voxels.is_file():
        return
    if record[DIGEST] != sha256_of(voxels):
        why = f"it was changed after its record {_place(file).name} was written"
        raise rejected(file.name, why, "restore it, or move the record elsewhere")


def _place(file: Path) -> Path:
    return file.with_name(file.name[: len(file.name) - len(suffix_of(file))] + ".json")


def _voxels_of(file: Path) -> Path:
    return file.with_suffix(".raw") if suffix_of(file) == ".mhd" else file


def _record_of(file: Path) -> dict[str, Any] | None:
    """The record beside a file; None unless it is of this very file, byte for byte."""
    record, voxels = _read(_place(file)), _voxels_of(file)
    if record is None or record[FILE] != file.name or not voxels.is_file():
        return None
    return record if record[DIGEST] == sha256_of(voxels) else None


def _read(place: Path) -> dict[str, Any] | None:
    """A record of ours; None if there is none."""
    content = read_json(place)
    return content if content is not None and {FILE, DIGEST} <= content.keys() else None

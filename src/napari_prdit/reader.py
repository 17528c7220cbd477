"""Opens CT scans and saved sessions that are dropped onto napari."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_prdit.layers import LayerData

# A dropped folder may be a whole disk: this many files decide whether it holds DICOM.
_LOOKED_AT = 200
SESSION = ".prdit"


def get_reader(path: str | list[str]) -> Callable[[str], list[LayerData]] | None:
    """A reader for a volume file, a folder with a DICOM series or a session, else None.

    Lists, which napari gives for stacks of files, are left to other readers.
    """
    if not isinstance(path, str):
        return None
    from prdit_core.data.io import SUFFIXES

    place = Path(path)
    if place.suffix.lower() == SESSION:
        return read_session
    # An .npz may hold anything.
    files = tuple(suffix for suffix in SUFFIXES if suffix != ".npz")
    ours = _holds_dicom(place) if place.is_dir() else place.name.lower().endswith(files)
    return read_scan if ours else None


def read_scan(path: str) -> list[LayerData]:
    """One image layer in HU, with what was noted in reading, and nothing of the patient.

    If a record of ours lies beside the file, the layer carries how the volume came about.

    Raises
    ------
    InputRejected
        With one line that says what is wrong with the scan.
    """
    from napari_prdit.layers import image_layer
    from prdit_core.data.io import read_volume
    from prdit_core.data.records import recorded
    from prdit_core.files import shown

    file, volume = Path(path), read_volume(path)
    known = {**volume.metadata, **recorded(file)}
    return [image_layer(replace(volume, metadata=known), shown(file.name))]


def read_session(path: str) -> list[LayerData]:
    """The layers of a .prdit file, as they were saved.

    Raises
    ------
    InputRejected
        If it is damaged or something else.
    """
    from napari_prdit.session import open_session

    return open_session(Path(path))


def _holds_dicom(folder: Path) -> bool:
    from prdit_core.data.dicom_slices import walk_files
    from prdit_core.errors import InputRejected

    try:
        files = list(islice(walk_files(folder), _LOOKED_AT))
    except InputRejected:  # a folder within cannot be listed; then other readers may try
        return False
    return any(_is_dicom(file) for file in files)


def _is_dicom(file: Path) -> bool:
    """More than a guess by the name or by zeros; de-identified slices may not name their series."""
    from prdit_core.data.dicom_slices import looks_like_dicom, series_and_instance

    if not looks_like_dicom(file):
        return False
    if series_and_instance(file)[0] is not None:
        return True
    try:
        with file.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False

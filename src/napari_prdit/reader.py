"""Opens CT scans that are dropped onto napari."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_prdit.layers import LayerData

SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
# A dropped folder may be a whole disk: this many files decide whether it holds DICOM.
_LOOKED_AT = 200
_SHAREABLE = ("source_format", "notes")


def get_reader(path: str | list[str]) -> Callable[[str], list[LayerData]] | None:
    """`read_scan` for a volume file or a folder with a DICOM series, else None.

    Lists, which napari gives for stacks of files, are left to other readers.
    """
    if not isinstance(path, str):
        return None
    place = Path(path)
    ours = _holds_dicom(place) if place.is_dir() else place.name.lower().endswith(SUFFIXES)
    return read_scan if ours else None


def read_scan(path: str) -> list[LayerData]:
    """One image layer in HU; of the scan's metadata it takes what tells nothing of the patient.

    Raises
    ------
    InputRejected
        With one line that says what is wrong with the scan.
    """
    from napari_prdit.layers import image_layer
    from prdit_core.data.io import read_volume
    from prdit_core.files import shown
    from prdit_core.volume import Volume

    scan = read_volume(path)
    shareable = {name: scan.metadata[name] for name in _SHAREABLE}
    volume = Volume(scan.voxels_hu, scan.affine, shareable)
    return [image_layer(volume, shown(Path(path).name))]


def _holds_dicom(folder: Path) -> bool:
    from prdit_core.data.dicom_slices import looks_like_dicom, series_and_instance, walk_files

    files = islice(walk_files(folder), _LOOKED_AT)
    return any(looks_like_dicom(file) and series_and_instance(file)[0] for file in files)

"""Taking a volume away in one of the formats that others read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_prdit.writer import METAIMAGE, NIFTI, NRRD, named_file, write_volume_layer

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari_prdit.layers import LayerData

DICOM = "DICOM series"
# What people call a format, and the suffixes of its files; a DICOM series is a folder.
FORMATS: dict[str, tuple[str, ...]] = {
    "NIfTI": NIFTI,
    DICOM: (),
    "MetaImage": METAIMAGE,
    "NRRD": NRRD,
}


@dataclass(frozen=True)
class SavedFile:
    """A volume was written there."""

    place: Path


def save_work(layer: LayerData, format_name: str, place: Path) -> Generator[SavedFile]:
    """Write a layer, as napari hands it to writers, with its place and its record.

    Parameters
    ----------
    format_name : one of `FORMATS`
    place : a file, which gets the suffix if it has none; for DICOM a folder that is new or empty

    Raises
    ------
    PrditError
        With one line that says why it cannot be written.
    """
    data, attributes, _ = layer
    if format_name == DICOM:
        from napari_prdit.layers import layer_volume
        from prdit_core import export_dicom

        yield SavedFile(export_dicom(layer_volume(data, attributes), place).folder)
        return
    file = named_file(str(place), FORMATS[format_name])
    first, *_ = write_volume_layer(file, data, attributes)
    yield SavedFile(Path(first))

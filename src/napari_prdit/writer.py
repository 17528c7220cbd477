"""Saves layers: an image as a CT volume, labels, or all of them as a session."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_prdit.layers import LayerData

NIFTI = (".nii.gz", ".nii")
METAIMAGE = (".mha", ".mhd")
NRRD = (".nrrd",)


def write_nifti(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write an image layer as int16 HU with its place in the patient.

    What is known of how a layer of ours came about goes into a .json file beside it.

    Parameters
    ----------
    path
        Without .nii or .nii.gz it gets the latter.
    data, attributes
        A layer as napari hands it to writers; see `layer_volume` for what can be written.

    Raises
    ------
    PrditError
        With one line that says why it cannot be written.
    """
    return write_volume_layer(named_file(path, NIFTI), data, attributes)


def write_metaimage(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """As `write_nifti`, with the suffixes .mha and .mhd."""
    return write_volume_layer(named_file(path, METAIMAGE), data, attributes)


def write_nrrd(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """As `write_nifti`, with the suffix .nrrd."""
    return write_volume_layer(named_file(path, NRRD), data, attributes)


def write_labels(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write a labels layer, such as what was imagined of a scan, as NIfTI with its place."""
    from napari_prdit.layers import layer_volume
    from prdit_core.data import io

    labels = layer_volume(data, attributes)
    return [str(io.write_labels(labels, named_file(path, NIFTI)))]


def write_session(path: str, layers: list[LayerData]) -> list[str]:
    """Write image and labels layers, with what they carry, into one file; see `save_session`."""
    from napari_prdit.session import SUFFIX, save_session

    return [str(save_session(named_file(path, (SUFFIX,)), layers))]


def write_volume_layer(file: Path, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write an image layer to a file of any format that `write_volume` knows; see `write_nifti`."""
    from napari_prdit.layers import layer_volume
    from prdit_core.data.io import write_volume
    from prdit_core.data.records import check_place, write_record

    volume = layer_volume(data, attributes)
    if not volume.metadata:
        return [str(write_volume(volume, file))]
    check_place(file)
    return [str(write_volume(volume, file)), str(write_record(volume, file))]


def named_file(path: str, suffixes: tuple[str, ...]) -> Path:
    """The file to write; napari's dialog adds no suffix, nor asks whether to replace that file."""
    from prdit_core.errors import OutputError
    from prdit_core.files import shown

    if path.lower().endswith(suffixes):
        return Path(path)
    file = Path(path + suffixes[0])
    if file.exists():
        raise OutputError(f"{shown(file)} is there already; give its whole name to replace it")
    return file

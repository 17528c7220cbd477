"""Saves image layers as CT volumes."""

from __future__ import annotations

from typing import Any


def write_scan(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write an image layer as int16 HU with its place in the patient.

    Parameters
    ----------
    path
        Ends in .nii, .nii.gz, .mha or .mhd.
    data, attributes
        A layer as napari hands it to writers; see `layer_volume` for what can be written.

    Raises
    ------
    PrditError
        With one line that says why it cannot be written.
    """
    from napari_prdit.layers import layer_volume
    from prdit_core.data.io import write_volume

    return [str(write_volume(layer_volume(data, attributes), path))]

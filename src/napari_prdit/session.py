"""Layers in one file, with all that they carry, to go on with another day.

A .prdit file is a numpy archive: the array of each layer as it is, and as JSON how it is shown and
how it came about.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
from napari.utils.notifications import show_warning

from napari_prdit.layers import OURS
from prdit_core.errors import InputRejected
from prdit_core.files import shown, write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from napari_prdit.layers import LayerData

SUFFIX = ".prdit"
_FORMAT = 1
_PLACE = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")
_LOOK = ("name", "visible", "opacity", "blending", "rendering")
_KEPT = {
    "image": (*_PLACE, *_LOOK, "rgb", "colormap", "contrast_limits", "gamma", "interpolation2d"),
    "labels": (*_PLACE, *_LOOK),
}


def save_session(file: Path, layers: Sequence[LayerData]) -> Path:
    """Write image and labels layers; what else there is stays out, and a warning names it.

    Of the metadata only ours are kept, of other plugins' none.

    Raises
    ------
    InputRejected
        If no layer is left.
    OutputError
        If the file cannot be written.
    """
    reasons = [_left_out(attributes, kind) for _, attributes, kind in layers]
    held = [layer for layer, reason in zip(layers, reasons, strict=True) if not reason]
    left_out = ", ".join(filter(None, reasons))
    if not held:
        raise InputRejected(f"a session holds images and labels, but {left_out}; save them apart")
    arrays: dict[str, Any] = {
        _entry(number): np.asarray(data) for number, (data, _, _) in enumerate(held)
    }
    described = [(kind, _kept(attributes, kind)) for _, attributes, kind in held]
    content = {"format": _FORMAT, "layers": described}
    text = json.dumps(content, default=_plain, allow_nan=False)

    def write(part: Path) -> None:
        with part.open("wb") as stream:
            np.savez(stream, session=np.array(text), **arrays)

    written = write_atomically(file, write)
    if left_out:
        show_warning(f"Not in {shown(file.name)}, which holds images and labels: {left_out}.")
    return written


def open_session(file: Path) -> list[LayerData]:
    """The layers as they were saved.

    Raises
    ------
    InputRejected
        If it is damaged or something else.
    """
    name = shown(file.name)
    try:
        with np.load(file, allow_pickle=False) as archive:
            content = json.loads(str(archive["session"]))
            if content["format"] == _FORMAT:
                return [
                    (archive[_entry(number)], shown_as, kind)
                    for number, (kind, shown_as) in enumerate(content["layers"])
                ]
    except (OSError, ValueError, LookupError, TypeError, EOFError, BadZipFile) as error:
        raise InputRejected(f"{name} is damaged or no session; take another copy of it") from error
    raise InputRejected(f"{name} was saved by a later version of napari-prdit; update it")


def _entry(number: int) -> str:
    return f"layer_{number}"


def _left_out(attributes: Mapping[str, Any], kind: str) -> str:
    """Why a layer cannot be in a session; empty if it can."""
    name = f"layer {attributes.get('name')!r}"
    if kind not in _KEPT:
        return f"{name} holds {kind}"
    return f"{name} has several resolutions" if attributes.get("multiscale") else ""


def _kept(attributes: Mapping[str, Any], kind: str) -> dict[str, Any]:
    ours = {key: value for key, value in attributes.get("metadata", {}).items() if key == OURS}
    return {key: attributes[key] for key in _KEPT[kind] if key in attributes} | {"metadata": ours}


def _plain(value: Any) -> Any:
    """Arrays as lists; units and the choices of napari by their names."""
    return value.tolist() if hasattr(value, "tolist") else str(value)

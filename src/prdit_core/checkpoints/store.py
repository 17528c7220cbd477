"""Our checkpoint: one folder of safetensors and JSON that is verified before it is believed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from prdit_core.checkpoints.header import (
    CODEC_WEIGHTS,
    CONTROL_WEIGHTS,
    FORMAT_VERSION,
    HEADER,
    WEIGHTS,
    Header,
)
from prdit_core.errors import CheckpointError
from prdit_core.files import sha256_of, shown, write_folder_atomically, write_json
from prdit_core.models.families import expected_shapes
from prdit_core.models.tensor_files import (
    WIDTHS,
    check_tensor_header,
    invalid,
    load_tensors,
    read_header_json,
    save_tensors,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from prdit_core.config import NetworkConfig


class OtherFormat(CheckpointError):
    """A checkpoint of another format version; it may be whole."""


def save_checkpoint(
    path: Path,
    header: Header,
    weights: Mapping[str, Tensor],
    add: Callable[[Path], None] = lambda _: None,
    *,
    codec: Mapping[str, Tensor] | None = None,
    control: Mapping[str, Tensor] | None = None,
) -> Path:
    """Write a checkpoint folder, whole or not at all.

    Parameters
    ----------
    header : its `files` are filled in here
    weights, codec, control : in the number format they shall have on disk; the latter two if the
        header has them
    add : writes further payloads into the folder, which are hashed as well
    """

    def fill(folder: Path) -> None:
        save_tensors(weights, folder / WEIGHTS)
        for part, name in ((codec, CODEC_WEIGHTS), (control, CONTROL_WEIGHTS)):
            if part is not None:
                save_tensors(part, folder / name)
        add(folder)

    return write_checkpoint(path, header, fill)


def write_checkpoint(path: Path, header: Header, fill: Callable[[Path], None]) -> Path:
    """Write what `fill` puts into a folder and the header with its hashes, whole or not at all."""

    def sealed(folder: Path) -> None:
        fill(folder)
        files = {file.name: sha256_of(file) for file in sorted(folder.iterdir())}
        content = header.model_copy(update={"files": files}).model_dump(mode="json")
        write_json(folder / HEADER, content)

    return write_folder_atomically(path, sealed)


def read_header(path: Path) -> Header:
    """Header of a checkpoint folder, without reading its weights.

    Raises
    ------
    CheckpointError
        If it is missing, too large, of another format or version, or not valid, or has a control
        that was trained on another base.
    """
    file = path / HEADER
    try:
        content = read_header_json(file)
    except OSError as error:
        raise CheckpointError(f"{shown(path)} is no checkpoint: cannot read {HEADER}") from error
    try:
        version = content.get("version")
        if version != FORMAT_VERSION:
            raise OtherFormat(
                f"{shown(file)} has format version {version!r}, this program reads "
                f"{FORMAT_VERSION}; upgrade napari-prdit"
            )
        header = Header.model_validate(content)
    except ValidationError as error:
        raise invalid(file, error) from error
    except (ValueError, RecursionError, AttributeError) as error:
        raise CheckpointError(f"{shown(file)} is damaged: {error}") from error
    for name in header.payloads:
        if name not in header.files:
            raise CheckpointError(f"{shown(file)} names no {name}")
    if header.control is not None and header.control.base != header.base_digest:
        raise CheckpointError(
            f"{shown(file)}: its control was trained on the base {header.control.base[:12]}, which "
            f"is not the one here, {header.base_digest[:12]}; take the control with its own base"
        )
    return header


def verify(path: Path, header: Header) -> None:
    """Compare every payload with its recorded SHA-256.

    Raises
    ------
    CheckpointError
        Naming the file that is missing or differs, or that lies outside the folder.
    """
    for name, expected in header.files.items():
        if Path(name).name != name or name in (".", ".."):
            raise CheckpointError(f"{shown(path)} names a file outside its folder: {shown(name)}")
        try:
            digest = sha256_of(path / name)
        except OSError as error:
            raise CheckpointError(f"{shown(path / name)} is missing or unreadable") from error
        if digest != expected:
            raise CheckpointError(
                f"{shown(path / name)} is damaged: its SHA-256 is {digest[:12]}, not "
                f"{expected[:12]}; copy the checkpoint again"
            )


def read_weights(path: Path, header: Header) -> dict[str, Tensor]:
    """Verified weights of a checkpoint folder, float32.

    Raises
    ------
    CheckpointError
        If a hash, a name, a shape or a number format is not what the header promises, or a value
        is not finite.
    """
    return _read(path, header, header.model, WEIGHTS)


def read_codec(path: Path, header: Header) -> dict[str, Tensor] | None:
    """Verified weights of the codec in a checkpoint folder, float32; None if it has none.

    Raises
    ------
    CheckpointError
        As `read_weights`.
    """
    return None if header.codec is None else _read(path, header, header.codec, CODEC_WEIGHTS)


def codec_weights(path: Path, header: Header) -> dict[str, Tensor]:
    """Verified weights of `Header.codec_alone`.

    Raises
    ------
    CheckpointError
        As `read_weights`.
    """
    beside = read_codec(path, header)
    return read_weights(path, header) if beside is None else beside


def read_control(path: Path, header: Header) -> dict[str, Tensor] | None:
    """Verified weights of the control in a checkpoint folder, float32; None if it has none.

    Raises
    ------
    CheckpointError
        As `read_weights`.
    """
    control = header.control
    return None if control is None else _read(path, header, control.config, CONTROL_WEIGHTS)


def _read(path: Path, header: Header, config: NetworkConfig, name: str) -> dict[str, Tensor]:
    _check_size(path / name, config)
    check_tensor_header(path / name, expected_shapes(config))
    verify(path, header)
    return load_tensors(path / name)


def _check_size(file: Path, config: NetworkConfig) -> None:
    """Refuse a file that cannot even hold the blocks, before describing the network."""
    least = config.least_parameters * min(WIDTHS.values())
    if file.is_file() and os.path.getsize(file) < least:
        raise CheckpointError(
            f"{shown(file)} does not fit its configuration: {os.path.getsize(file)} bytes cannot "
            f"hold a network of {config.least_parameters} weights or more"
        )

"""A control beside its base: one folder with the base's own files, byte for byte."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from prdit_core.checkpoints.header import CONTROL_WEIGHTS, ControlPart
from prdit_core.checkpoints.store import read_header, write_checkpoint
from prdit_core.errors import CheckpointError
from prdit_core.files import sha256_of, shown
from prdit_core.models.tensor_files import save_tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from torch import Tensor

    from prdit_core.checkpoints.header import Header
    from prdit_core.config import NetworkConfig


def controlled(base: Header, config: NetworkConfig, record: Mapping[str, Any]) -> Header:
    """The header of a base with a control that was trained on it.

    Parameters
    ----------
    record : of the control; that of the base is kept in it as "base"
    """
    part = ControlPart(config=config, base=base.base_digest)
    content = {name: getattr(base, name) for name in type(base).model_fields}
    both = {"base": record_of_base(base), **record}
    return type(base)(**content | {"control": part, "record": both, "files": {}})


def record_of_base(header: Header) -> dict[str, Any]:
    """How a model came about, without the control that may be beside it."""
    return header.record if header.control is None else header.record.get("base", {})


def save_control(
    path: Path,
    base: Path,
    config: NetworkConfig,
    weights: Mapping[str, Tensor],
    record: Mapping[str, Any],
    add: Callable[[Path], None] = lambda _: None,
) -> Path:
    """Write a control and its base as one checkpoint folder, whole or not at all.

    Parameters
    ----------
    base : folder of the checkpoint that it was trained on; a control there is left out
    weights : of the control, in the number format they shall have on disk
    add : writes further payloads into the folder

    Raises
    ------
    CheckpointError
        If a file of the base is missing or was changed.
    """
    header = read_header(base)
    names = [name for name in header.payloads if name != CONTROL_WEIGHTS]

    def fill(folder: Path) -> None:
        for name in names:
            _copy(base / name, folder / name, header.files[name])
        save_tensors(weights, folder / CONTROL_WEIGHTS)
        add(folder)

    return write_checkpoint(path, controlled(header, config, record), fill)


def _copy(file: Path, to: Path, digest: str) -> None:
    try:
        shutil.copyfile(file, to)
    except FileNotFoundError as error:
        raise CheckpointError(f"{shown(file)} of the control's base is missing") from error
    if sha256_of(to) != digest:
        raise CheckpointError(f"{shown(file)} of the control's base was changed; restore it")

"""Tensors on disk: safetensors of ours and PyTorch files of others, believed only when checked."""

from __future__ import annotations

import argparse
import collections
import errno
import json
import math
import os
import pickle
import zipfile
from typing import TYPE_CHECKING, Any

from prdit_core.errors import CheckpointError, NumericalError, UsageError
from prdit_core.files import shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pydantic import ValidationError
    from torch import Tensor

HEADER_LIMIT = 1 << 20
LARGEST_FILE = 16 * 2**30
_PLAIN = (int, float, str, bool, list, dict, tuple, collections.defaultdict)
# safetensors' names of the number formats we store, and bytes of each
WIDTHS = {"F32": 4, "F16": 2, "BF16": 2}


def save_tensors(tensors: Mapping[str, Tensor], file: Path) -> None:
    """Write tensors as safetensors; a full disk is an `OSError` like any other."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, file)
    except SafetensorError as error:
        raise OSError(errno.EIO, str(error)) from error


def load_tensors(file: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file as float32, refused unless finite."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = {name: weight.float() for name, weight in load_file(file).items()}
        check_finite(state, shown(file))
    except (SafetensorError, NumericalError) as error:
        raise CheckpointError(f"{shown(file)} cannot be used: {error}") from error
    return state


def check_finite(tensors: Mapping[str, Tensor], source: str) -> None:
    """Raise `NumericalError` naming the first tensor that holds NaN or infinity."""
    import torch

    for name, weight in tensors.items():
        if not torch.isfinite(weight).all():
            raise NumericalError(f"{source}: weight {name} holds NaN or infinite values")


def check_tensors(
    tensors: Mapping[str, Tensor],
    expected: Mapping[str, tuple[int, ...]],
    network: str,
    source: Path,
) -> None:
    """Refuse what somebody else's file held unless it is a network's, whole and finite.

    Parameters
    ----------
    expected : shapes of all weights by name
    network : what the file should fit, for people
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    unlike = sorted(
        name for name in expected.keys() | shapes.keys() if expected.get(name) != shapes.get(name)
    )
    if unlike:
        name = unlike[0]
        raise CheckpointError(
            f"{shown(source)} does not fit {network}: {shown(name)} is "
            f"{shapes.get(name, 'missing')}, expected {expected.get(name, 'nothing')}"
            + (f" (and {len(unlike) - 1} more)" if len(unlike) > 1 else "")
        )
    try:
        check_finite(tensors, shown(source))
    except NumericalError as error:
        raise CheckpointError(str(error)) from error


def check_tensor_header(file: Path, expected: Mapping[str, tuple[int, ...]]) -> None:
    """Compare a safetensors file's own header with what the network needs, before loading it.

    The library accepts huge headers and any names; here the header is capped, and names, shapes
    and the file's length must be exactly the expected ones.
    """
    entries = _tensor_header(file)
    missing, unknown = expected.keys() - entries.keys(), entries.keys() - expected.keys()
    if missing or unknown:
        raise CheckpointError(
            f"{shown(file)} does not fit its configuration: missing {_some(missing)}, "
            f"unexpected {_some(unknown)}"
        )
    size = 0
    for name, entry in entries.items():
        if tuple(entry["shape"]) != expected[name] or entry["dtype"] not in WIDTHS:
            raise CheckpointError(
                f"{shown(file)}: {shown(name)} is {entry['dtype']} {entry['shape']}, "
                f"expected {list(expected[name])}"
            )
        size += WIDTHS[entry["dtype"]] * math.prod(expected[name])
    declared = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
    if size != declared:
        raise CheckpointError(
            f"{shown(file)} declares {declared} bytes of weights, expected {size}"
        )


class _Nothing:
    """Stands for an object of a package that is not looked at."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        del state


def read_pytorch(source: Path, ignored: Sequence[str] = ()) -> dict[str, Any]:
    """Content of a PyTorch file, read with `weights_only`: nothing in it is run.

    Parameters
    ----------
    ignored : packages whose objects are read as nothing, whatever is in them

    Raises
    ------
    UsageError
        If there is no such file.
    CheckpointError
        If it is damaged, holds code or is no dictionary.
    """
    import torch

    if not source.is_file():
        raise UsageError(f"there is no file {shown(source)}")
    if source.stat().st_size > LARGEST_FILE:
        raise CheckpointError(f"{shown(source)} is larger than {LARGEST_FILE >> 30} GiB: refused")
    _check_archive(source)
    try:
        # Some releases keep their command-line arguments, a plain container, beside the weights.
        with torch.serialization.safe_globals([argparse.Namespace, *_stand_ins(source, ignored)]):
            content = torch.load(source, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{shown(source)} holds code or is no PyTorch file; only plain weights are read"
        ) from error
    except Exception as error:  # torch raises almost anything on a damaged file
        raise CheckpointError(f"{shown(source)} is damaged or no PyTorch file") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{shown(source)} holds no dictionary of weights")
    return content


def _stand_ins(source: Path, ignored: Sequence[str]) -> list[Any]:
    """For classes of ignored packages, and the plain types that their objects name."""
    import torch

    if not ignored:
        return []
    named = torch.serialization.get_unsafe_globals_in_checkpoint(source)
    theirs = [one for one in named if one.partition(".")[0] in ignored]
    return [(_Nothing, one) for one in (*theirs, "typing.Any")] + [*_PLAIN] if theirs else []


def read_header_json(file: Path) -> Any:
    """Content of a JSON file beside tensors; its size is capped, and no name may come twice.

    Raises
    ------
    OSError
        If it cannot be read.
    CheckpointError
        If it is too large, or no JSON.
    """
    with file.open("rb") as stream:
        text = stream.read(HEADER_LIMIT + 1)
    if len(text) > HEADER_LIMIT:
        raise CheckpointError(f"{shown(file)} is larger than {HEADER_LIMIT} bytes: refused")
    try:
        return json.loads(text, object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{shown(file)} is damaged: {error}") from error


def invalid(file: Path, error: ValidationError) -> CheckpointError:
    """What to raise where the content of such a file is not valid."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return CheckpointError(f"{shown(file)} is not valid: {where}: {first['msg']}")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a name appears twice")
    return content


def _tensor_header(file: Path) -> dict[str, dict[str, Any]]:
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if not 0 < length <= HEADER_LIMIT:
                raise CheckpointError(f"{shown(file)} is damaged: its header claims {length} bytes")
            header = json.loads(stream.read(length), object_pairs_hook=_no_duplicates)
        header.pop("__metadata__", None)
        end = max(entry["data_offsets"][1] for entry in header.values())
        if os.path.getsize(file) != 8 + length + end:
            raise CheckpointError(
                f"{shown(file)} is damaged: {8 + length + end} bytes declared, "
                f"{os.path.getsize(file)} found"
            )
        return {
            name: {key: entry[key] for key in ("dtype", "shape", "data_offsets")}
            for name, entry in header.items()
        }
    except OSError as error:
        raise CheckpointError(f"{shown(file)} is missing or unreadable") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{shown(file)} is damaged: its header cannot be read") from error


def _some(names: set[str]) -> str:
    listed = sorted(names)
    more = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
    return (", ".join(shown(name) for name in listed[:3]) or "nothing") + more


def _check_archive(source: Path) -> None:
    """Compare the checksums that a PyTorch archive carries and torch does not look at."""
    if not zipfile.is_zipfile(source):
        return
    try:
        with zipfile.ZipFile(source) as archive:
            damaged = archive.testzip()
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError) as error:
        raise CheckpointError(f"{shown(source)} is damaged: its archive cannot be read") from error
    if damaged is not None:
        raise CheckpointError(f"{shown(source)} is damaged: checksum of {shown(damaged)}")

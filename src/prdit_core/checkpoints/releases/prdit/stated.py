"""What the user and a file of the authors' releases itself say about it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from prdit_core.errors import CheckpointError, UsageError
from prdit_core.files import shown
from prdit_core.models.prdit.zoo import model_config

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from prdit_core.prdit_config import Norm

# keys under which the files' own configuration may hold what is asked for
_KEYS = {
    "size": ("input_size", "image_size"),
    "patch": ("patch_size",),
    "stride": ("stride",),
    "padding": ("padding",),
    "channels": ("in_channels",),
    "heads": ("num_heads",),
    "noise_std": ("noise_std",),
}
# A high-resolution file names its refiner's so, and its base's as above in an entry "base".
_CHAIN_KEYS = {
    **_KEYS,
    "size": ("target_input_size",),
    "refiner_patch": ("sr_patch_size",),
    "refiner_stride": ("sr_stride",),
    "refiner_padding": ("sr_padding",),
}


@dataclass(frozen=True)
class Stated:
    """What the user states about a file, as `import_official` takes it."""

    norm: Norm | None = None
    size: int | None = None
    patch: int | None = None
    stride: int | None = None
    padding: int | None = None
    channels: int | None = None
    heads: int | None = None
    noise_std: float | None = None
    refiner_patch: int | None = None
    refiner_stride: int | None = None
    refiner_padding: int | None = None


def agreed_of_base(stated: Stated, own: Mapping[str, Any], source: Path) -> Stated:
    """What the user and a file without refiner say.

    Parameters
    ----------
    own : the file's own configuration, empty if it has none

    Raises
    ------
    UsageError
        If they disagree, or something is stated about a refiner.
    """
    for name, value in asdict(stated).items():
        if name.startswith("refiner_") and value is not None:
            raise UsageError(f"{shown(source)} has no refiner: leave out {option(name)}")
    return _agreed(stated, own, _KEYS, source)


def agreed_of_chain(stated: Stated, own: Mapping[str, Any], source: Path) -> Stated:
    """What the user and a high-resolution file say.

    Parameters
    ----------
    own : the file's own configuration, empty if it has none

    Raises
    ------
    UsageError
        If they disagree.
    CheckpointError
        If the file does not double the size of its base.
    """
    base = own.get("base")
    base = base if isinstance(base, dict) else {}
    agreed = _agreed(stated, {**own, **base}, _CHAIN_KEYS, source)
    for size in (own.get("base_input_size"), base.get("input_size")):
        if isinstance(size, int) and agreed.size not in (None, 2 * size):
            kind = CheckpointError if stated.size is None else UsageError
            raise kind(
                f"{shown(source)} says that its base sees {size}^3 voxels, which a refiner "
                f"doubles: its size cannot be {agreed.size}"
            )
    return agreed


def _agreed(
    stated: Stated, own: Mapping[str, Any], keys: Mapping[str, tuple[str, ...]], source: Path
) -> Stated:
    """What the user and the file say, refused where they disagree."""
    from_file: dict[str, Any] = {}
    for name, known in keys.items():
        values = [own[key] for key in known if isinstance(own.get(key), int | float)]
        if values:
            from_file[name] = values[0]
    named = own.get("model")
    if isinstance(named, str) and "-" in named:
        from_file["norm"] = "layer" if named.startswith("PRDiT-") else "rms"
        for name, value in _of_name(named, stated).items():
            from_file.setdefault(name, value)
    merged = {}
    for name, value in asdict(stated).items():
        other = from_file.get(name)
        if value is not None and other is not None and value != other:
            raise UsageError(
                f"{shown(source)} says {name} {other}, but {option(name)} {value} was given"
            )
        merged[name] = other if value is None else value
    return Stated(**merged)


def _of_name(named: str, stated: Stated) -> dict[str, int]:
    """What a model's name implies; nothing where the user gives the whole geometry."""
    if None not in (stated.patch, stated.stride, stated.padding, stated.heads):
        return {}
    known = model_config(named)
    return {n: getattr(known, n) for n in ("patch", "stride", "padding", "heads")}


def option(name: str) -> str:
    """The command's option for a field of `Stated`."""
    return f"--{name.replace('_', '-')}"

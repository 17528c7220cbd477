"""Convert a checkpoint file of the authors' releases into one of ours, refusing to guess."""

from __future__ import annotations

import argparse
import pickle
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from prdit_core.checkpoints.official import renamed_state
from prdit_core.checkpoints.store import Header, expected_shapes, save_checkpoint
from prdit_core.config import ModelConfig, Norm
from prdit_core.errors import CheckpointError, NumericalError, OutputError, UsageError
from prdit_core.files import check_writable, sha256_of, shown
from prdit_core.geometry import cubic
from prdit_core.intensity import Intensity
from prdit_core.models.prdit import check_finite
from prdit_core.models.zoo import model_config
from prdit_core.schedule import CosineSchedule, LinearSchedule

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from prdit_core.config import Output, WeightsName

# The releases draw t from 0..999.
LAST_T = 999.0
LARGEST_FILE = 16 * 2**30
# Facts of the releases: noise_std of PRDiT, and of TF-PRDiT and PRDiT-FM.
NOISE_STD = {"layer": 0.5, "rms": 1.0}
FIELD_OF_VIEW_MM = {"layer": 256.0, "rms": 320.0}
# TF-PRDiT z-scores (HU + 1000) / 2500.
TF_MEAN, TF_STD, TF_WINDOW = 0.202013, 0.200640, (-1000.0, 1500.0)

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


def import_official(
    source: str | Path,
    out: str | Path,
    *,
    norm: Norm | None = None,
    size: int | None = None,
    patch: int | None = None,
    stride: int | None = None,
    padding: int | None = None,
    channels: int | None = None,
    heads: int | None = None,
    noise_std: float | None = None,
    weights: WeightsName = "ema",
) -> Path:
    """Convert an official `.pt` file. What is None here, the file's own configuration must say.

    Parameters
    ----------
    source : file as the authors' training wrote it; read with `weights_only`, nothing in it is run
    out : checkpoint folder to write; must not exist
    norm : "layer" (PRDiT, PRDiT-FM) or "rms" (TF-PRDiT): same names and shapes, another network
    size : edge of the volumes
    patch, stride, padding, channels, heads : as in `ModelConfig`
    noise_std : of the training noise; else the release's own (0.5 for PRDiT, 1 for the others)
    weights : ``ema`` samples best; ``model`` takes the raw weights

    Returns
    -------
    Path of the new checkpoint folder.

    Raises
    ------
    UsageError
        If something is ambiguous, or stated otherwise than the file says.
    CheckpointError
        If the file is damaged, unsafe or of another kind.
    """
    source, out = Path(source), Path(out)
    if out.exists():
        raise OutputError(f"{shown(out)} exists; choose another --out")
    check_writable(out.parent)
    content = _read(source)
    state = _official_state(content, weights, source)
    stated = Stated(norm, size, patch, stride, padding, channels, heads, noise_std)
    said = _agreed(stated, _own_config(content), source)
    config = _model_config(said, state, source)
    ours = renamed_state(state)
    _check_shapes(ours, config, source)
    header = _header(config, said, source, weights)
    return save_checkpoint(out, header, {name: weight.float() for name, weight in ours.items()})


def _read(source: Path) -> dict[str, Any]:
    import torch

    if not source.is_file():
        raise UsageError(f"there is no file {shown(source)}")
    if source.stat().st_size > LARGEST_FILE:
        raise CheckpointError(f"{shown(source)} is larger than {LARGEST_FILE >> 30} GiB: refused")
    _check_archive(source)
    try:
        # Some releases keep their command-line arguments, a plain container, beside the weights.
        with torch.serialization.safe_globals([argparse.Namespace]):
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


def _official_state(
    content: dict[str, Any], weights: WeightsName, source: Path
) -> dict[str, Tensor]:
    import torch

    state = content.get(weights)
    if state is None and weights == "model" and _is_state(content):
        state = content
    if not isinstance(state, dict) or not state:
        others = [name for name in ("ema", "model") if isinstance(content.get(name), dict)]
        raise CheckpointError(
            f"{shown(source)} has no {weights!r} weights; it has {', '.join(others) or 'none'}"
            " (choose with --weights)"
        )
    state = {str(name).removeprefix("module."): weight for name, weight in state.items()}
    if any(name.startswith(("base.", "sr.")) for name in state):
        raise CheckpointError(
            f"{shown(source)} is a high-resolution model (base.*, sr.*), which is not read yet"
        )
    if not all(isinstance(weight, torch.Tensor) for weight in state.values()):
        raise CheckpointError(f"{shown(source)}: its {weights!r} entry is no dictionary of tensors")
    return state


def _is_state(content: Mapping[str, Any]) -> bool:
    return any(str(name).removeprefix("module.").startswith("t_embedder.") for name in content)


def _own_config(content: Mapping[str, Any]) -> dict[str, Any]:
    own = content.get("config", content.get("args", {}))
    if isinstance(own, argparse.Namespace):
        own = vars(own)
    return own if isinstance(own, dict) else {}


def _agreed(stated: Stated, own: Mapping[str, Any], source: Path) -> Stated:
    """What the user and the file say, refused where they disagree."""
    from_file: dict[str, Any] = {}
    for name, keys in _KEYS.items():
        found = [own[key] for key in keys if isinstance(own.get(key), int | float)]
        if found:
            from_file[name] = found[0]
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
                f"{shown(source)} says {name} {other}, but "
                f"--{name.replace('_', '-')} {value} was given"
            )
        merged[name] = other if value is None else value
    return Stated(**merged)


def _of_name(named: str, stated: Stated) -> dict[str, int]:
    """What a model's name implies; nothing where the user gives the whole geometry."""
    if None not in (stated.patch, stated.stride, stated.padding, stated.heads):
        return {}
    known = model_config(named)
    return {n: getattr(known, n) for n in ("patch", "stride", "padding", "heads")}


def _model_config(said: Stated, state: Mapping[str, Tensor], source: Path) -> ModelConfig:
    """Configuration that fits statement and shapes; exactly one must."""
    shapes = {name: tuple(weight.shape) for name, weight in state.items()}
    try:
        width = shapes["t_embedder.mlp.0.weight"][0]
        token_width = shapes["t_embedder.coarse_head.weight"][0]
        tile_width = shapes["coarse.mlp_denoise.linear_final.weight"][0]
    except (KeyError, IndexError) as error:
        raise CheckpointError(f"{shown(source)} holds no PRDiT network") from error
    blocks = {int(n.split(".")[2]) for n in shapes if n.startswith("fine.blocks.")}
    depth = len(blocks)
    unsaid = [
        f"--{name}"
        for name, value in (
            ("norm", said.norm),
            ("size", said.size),
            ("heads", said.heads if depth else 1),
        )
        if value is None
    ]
    if unsaid:
        raise UsageError(f"{shown(source)} does not say {', '.join(unsaid)}: give them")
    fitting = _fitting(said, token_width, tile_width)
    if len(fitting) != 1:
        options = "; ".join(
            f"--patch {p} --stride {s} --padding {(p - s) // 2} --channels {c}"
            for p, s, c, _ in fitting
        )
        raise UsageError(
            f"{shown(source)}: its shapes fit "
            + (f"several geometries, choose one: {options}" if fitting else "no such geometry")
        )
    patch, stride, channels, output = fitting[0]
    try:
        return ModelConfig(
            patch=patch,
            stride=stride,
            padding=(patch - stride) // 2,
            channels=channels,
            width=width,
            depth=depth,
            heads=said.heads or 1,
            norm=said.norm or "layer",
            output=output,
        )
    except ValidationError as error:
        raise UsageError(f"{shown(source)}: {error.errors()[0]['msg']}") from error


def _fitting(said: Stated, token_width: int, tile_width: int) -> list[tuple[int, int, int, Output]]:
    """All geometries with C p^3 = d and s^3 Cout = o that were not ruled out."""
    found: list[tuple[int, int, int, Output]] = []
    outputs: tuple[tuple[Output, int], ...] = (("image-and-noise", 2), ("velocity", 1))
    for channels in (said.channels,) if said.channels else range(1, 65):
        for patch in (said.patch,) if said.patch else range(1, 65):
            for stride in (said.stride,) if said.stride else range(1, patch + 1):
                padding = (patch - stride) / 2
                if padding < 0 or padding % 1 or said.padding not in (None, padding):
                    continue
                if channels * patch**3 != token_width:
                    continue
                found += [
                    (patch, stride, channels, output)
                    for output, share in outputs
                    if stride**3 * channels * share == tile_width
                ]
    return found


def _check_shapes(ours: Mapping[str, Tensor], config: ModelConfig, source: Path) -> None:
    expected = expected_shapes(config)
    found = {name: tuple(weight.shape) for name, weight in ours.items()}
    unlike = sorted(
        name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)
    )
    if unlike:
        name = unlike[0]
        raise CheckpointError(
            f"{shown(source)} does not fit {config.width} wide, depth {config.depth}: {name} is "
            f"{found.get(name, 'missing')}, expected {expected.get(name, 'nothing')}"
            + (f" (and {len(unlike) - 1} more)" if len(unlike) > 1 else "")
        )
    try:
        check_finite(dict(ours), shown(source))
    except NumericalError as error:
        raise CheckpointError(str(error)) from error


def _header(config: ModelConfig, said: Stated, source: Path, weights: WeightsName) -> Header:
    velocity = config.output == "velocity"
    released = 1.0 if velocity else NOISE_STD[config.norm]
    noise_std = released if said.noise_std is None else said.noise_std
    assert said.size is not None  # asked for before
    if said.size % config.stride or not 0 < noise_std <= 100:
        raise UsageError(
            f"--size {said.size} must be a multiple of the stride {config.stride}, "
            f"and --noise-std {noise_std:g} above 0 and at most 100"
        )
    return Header(
        model=config,
        schedule=LinearSchedule(noise_std=noise_std)
        if velocity
        else CosineSchedule(noise_std=noise_std, last_t=LAST_T),
        intensity=_intensity(config.norm),
        geometry=cubic(said.size, FIELD_OF_VIEW_MM[config.norm], exact=False),
        record={
            "imported": {
                "sha256": sha256_of(source),
                "weights": weights,
                "noise_std": "as in the release" if said.noise_std is None else "stated",
                "hu": "approximate: the release does not record its window",
            }
        },
    )


def _intensity(norm: Norm) -> Intensity:
    """The releases do not record their window, so HU are approximate."""
    if norm == "rms":
        ends = ((0 - TF_MEAN) / TF_STD, (1 - TF_MEAN) / TF_STD)
        return Intensity(window_hu=TF_WINDOW, model_range=ends, exact=False)
    return Intensity(exact=False)

"""Convert a checkpoint file of the authors' releases into one of ours, refusing to guess."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prdit_core.checkpoints.header import Header
from prdit_core.checkpoints.releases.prdit.geometry_of import geometry_of
from prdit_core.checkpoints.releases.prdit.names import is_official, renamed_state
from prdit_core.checkpoints.releases.prdit.stated import Stated
from prdit_core.checkpoints.store import save_checkpoint
from prdit_core.errors import CheckpointError, OutputError, UsageError
from prdit_core.files import check_writable, sha256_of, shown
from prdit_core.geometry import cubic
from prdit_core.intensity import Intensity
from prdit_core.models.families import expected_shapes
from prdit_core.models.tensor_files import check_tensors, read_pytorch
from prdit_core.schedule import CosineSchedule, LinearSchedule

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from prdit_core.config import WeightsName
    from prdit_core.prdit_config import ModelConfig, Norm

# The releases draw t from 0..999.
LAST_T = 999.0
# Facts of the releases: noise_std of PRDiT, and of TF-PRDiT and PRDiT-FM.
NOISE_STD = {"layer": 0.5, "rms": 1.0}
FIELD_OF_VIEW_MM = {"layer": 256.0, "rms": 320.0}
# TF-PRDiT z-scores (HU + 1000) / 2500.
TF_MEAN, TF_STD, TF_WINDOW = 0.202013, 0.200640, (-1000.0, 1500.0)


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
    refiner_patch: int | None = None,
    refiner_stride: int | None = None,
    refiner_padding: int | None = None,
    weights: WeightsName = "ema",
) -> Path:
    """Convert an official `.pt` file. What is None here, file or shapes must say.

    A file of a high-resolution model (``base.*``, ``t_embedder_sr.*``, ``sr.*``) becomes a chain of
    its base and one refiner.

    Parameters
    ----------
    source : file as the authors' training wrote it; read with `weights_only`, nothing in it is run
    out : checkpoint folder to write; must not exist
    norm : "layer" (PRDiT, PRDiT-FM) or "rms" (TF-PRDiT): same names and shapes, another network
    size : edge of the volumes; of a high-resolution model the edge it makes, twice its base's
    patch, stride, padding, channels, heads : as in `ModelConfig`, of the base
    noise_std : of the training noise; else the release's own (0.5 for PRDiT, 1 for the others)
    refiner_patch, refiner_stride, refiner_padding : as in `RefinerConfig`
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
    content = read_pytorch(source)
    state = _official_state(content, weights, source)
    ours = _under_our_names(state, source)
    stated = Stated(
        norm,
        size,
        patch,
        stride,
        padding,
        channels,
        heads,
        noise_std,
        refiner_patch,
        refiner_stride,
        refiner_padding,
    )
    agreed, config = geometry_of(stated, _own_config(content), ours, source)
    network = f"{config.width} wide, depth {config.depth}"
    check_tensors(ours, expected_shapes(config), network, source)
    header = _header(config, agreed, source, weights)
    return save_checkpoint(out, header, {name: weight.float() for name, weight in ours.items()})


def _official_state(
    content: dict[str, Any], weights: WeightsName, source: Path
) -> dict[str, Tensor]:
    import torch

    state = content.get(weights)
    if state is None and weights == "model" and any(is_official(str(n)) for n in content):
        state = content
    if not isinstance(state, dict) or not state:
        others = [name for name in ("ema", "model") if isinstance(content.get(name), dict)]
        raise CheckpointError(
            f"{shown(source)} has no {weights!r} weights; it has {', '.join(others) or 'none'}"
            " (choose with --weights)"
        )
    if not all(isinstance(weight, torch.Tensor) for weight in state.values()):
        raise CheckpointError(f"{shown(source)}: its {weights!r} entry is no dictionary of tensors")
    return {str(name): weight for name, weight in state.items()}


def _under_our_names(state: Mapping[str, Tensor], source: Path) -> dict[str, Tensor]:
    try:
        return renamed_state(state)
    except CheckpointError as error:
        raise CheckpointError(f"{shown(source)}: {error}") from error


def _own_config(content: Mapping[str, Any]) -> dict[str, Any]:
    own = content.get("config", content.get("args", {}))
    if isinstance(own, argparse.Namespace):
        own = vars(own)
    return own if isinstance(own, dict) else {}


def _header(config: ModelConfig, agreed: Stated, source: Path, weights: WeightsName) -> Header:
    velocity = config.output == "velocity"
    released = 1.0 if velocity else NOISE_STD[config.norm]
    noise_std = released if agreed.noise_std is None else agreed.noise_std
    assert agreed.size is not None  # asked for before
    _check_size(agreed.size, config)
    if not 0 < noise_std <= 100:
        raise UsageError(f"--noise-std {noise_std:g} must be above 0 and at most 100")
    return Header(
        model=config,
        schedule=LinearSchedule(noise_std=noise_std)
        if velocity
        else CosineSchedule(noise_std=noise_std, last_t=LAST_T),
        intensity=_intensity(config.norm),
        geometry=cubic(agreed.size, FIELD_OF_VIEW_MM[config.norm], exact=False),
        record={
            "imported": {
                "sha256": sha256_of(source),
                "weights": weights,
                "noise_std": "as in the release" if agreed.noise_std is None else "stated",
                "hu": "approximate: the release does not record its window",
            }
        },
    )


def _check_size(size: int, config: ModelConfig) -> None:
    """Refuse volumes that the network, at any resolution of a chain, could not cut."""
    cuts = zip(config.sizes(size), (config, *config.refiners), strict=True)
    if size % config.edge_multiple or any(edge <= cut.padding for edge, cut in cuts):
        raise UsageError(
            f"--size {size} must be a multiple of {config.edge_multiple}, with more voxels than "
            "the padding at every resolution"
        )


def _intensity(norm: Norm) -> Intensity:
    """The releases do not record their window, so HU are approximate."""
    if norm == "rms":
        ends = ((0 - TF_MEAN) / TF_STD, (1 - TF_MEAN) / TF_STD)
        return Intensity(window_hu=TF_WINDOW, model_range=ends, exact=False)
    return Intensity(exact=False)

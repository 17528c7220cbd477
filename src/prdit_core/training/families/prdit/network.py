"""Which network a stage of PRDiT trains, and what of a checkpoint it goes on from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prdit_core.errors import UsageError
from prdit_core.files import shown
from prdit_core.models.prdit.network import PRDiT, initialise
from prdit_core.models.prdit.zoo import model_config, refiner_config
from prdit_core.prdit_config import ModelConfig, RefinerConfig
from prdit_core.training.families.prdit.stages import PRDIT_STAGES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from prdit_core.checkpoints.header import Header
    from prdit_core.data.datasets import PreparedData
    from prdit_core.prdit_config import StageName, TrainConfig
    from prdit_core.training.families.prdit.stages import PRDiTStage


def prdit_of(start: Header) -> ModelConfig:
    """The network of a checkpoint to go on from.

    Raises
    ------
    UsageError
        If it is of another family than these stages train.
    """
    if not isinstance(start.model, ModelConfig):
        raise UsageError(f"the checkpoint to start from is no PRDiT but {start.model.family}")
    return start.model


def continued(start: Header, stage: StageName, data: PreparedData) -> Header:
    """That part of a chain which the data are for: up to their size, for a refiner half of it."""
    wanted = data.geometry.coarser(2) if stage == "refine" else data.geometry
    parts = [start.stopped_at(number) for number in range(len(prdit_of(start).refiners))]
    return next((part for part in parts if part.geometry.shape == wanted.shape), start)


def network_of(config: TrainConfig, data: PreparedData, start: Header | None) -> ModelConfig:
    """The network that is trained on the data, on top of what `start` is.

    Raises
    ------
    UsageError
        If stage, model, data and checkpoint contradict each other.
    """
    if config.stage == "refine":
        return _refined(config, data, start)
    stage, size = PRDIT_STAGES[config.stage], data.geometry.shape[0]
    name = config.model or ("small" if size < 128 else "PRDiT-B/12/4")
    begun = None if start is None else prdit_of(start)
    taken = begun is not None and config.model is None and (begun.depth or not _deep(config))
    if begun is not None and taken:
        network = begun
    else:
        inherited = begun.output if begun is not None else "image-and-noise"
        network = model_config(name, output=config.objective or inherited)
    if config.heads is not None:
        if network.output != "image-and-noise":
            raise UsageError("heads are image and noise; a velocity has none that could agree")
        network = network.model_copy(update={"base_heads": config.heads})
    if config.objective not in (None, network.output):
        raise UsageError(
            f"{shown(config.start or '')} predicts {network.output}; it cannot go on with "
            f"{config.objective}"
        )
    network = stage.model_config(network)
    if _deep(config) and network.depth == 0:
        raise UsageError(f"{name} has depth 0, so no global part; stage global trains one")
    if network.refiners and config.stage != "finetune":
        raise UsageError(
            f"stage {config.stage} trains the base of a chain: that of "
            f"{shown(config.start or '')} makes volumes of edge {size // network.scale}, the data "
            f"are of edge {size}"
        )
    what = name if not taken else "the checkpoint to start from"
    if any(edge % network.edge_multiple for edge in data.geometry.shape):
        raise UsageError(
            f"volumes of edge {size} do not fit {what}: edges must be multiples of "
            f"{network.edge_multiple}"
        )
    return network


def _refined(config: TrainConfig, data: PreparedData, start: Header | None) -> ModelConfig:
    """The network of `start` with one more refiner, for data of twice its resolution."""
    assert start is not None  # the stage needs one
    below, shape = prdit_of(start), start.geometry.shape
    if data.geometry.shape != tuple(2 * edge for edge in shape):
        sizes = below.sizes(shape[0])
        made, wanted = (" or ".join(str(n * size) for size in sizes) for n in (1, 2))
        raise UsageError(
            f"a refiner doubles the resolution: {shown(config.start or '')} makes volumes of edge "
            f"{made}, so the data must be of edge {wanted}, not {data.geometry.shape[0]}"
        )
    if below.output != "image-and-noise" or config.objective not in (None, below.output):
        raise UsageError("a refiner needs a model that predicts image-and-noise, and does so too")
    own = below if config.model is None else refiner_config(config.model)
    cut = RefinerConfig(
        patch=own.patch,
        stride=own.stride,
        padding=own.padding,
        width=own.width,
        sees=config.sees or "noise",
        shows=config.shows or "voxels",
        heads=config.heads or "apart",
    )
    network = below.refined_by(*below.refiners, cut)
    if any(edge % network.edge_multiple for edge in data.geometry.shape):
        raise UsageError(
            f"volumes of edge {data.geometry.shape[0]} do not fit a refiner of stride {own.stride}"
        )
    return network


def _deep(config: TrainConfig) -> bool:
    return config.stage == "global"


def freeze(model: PRDiT, stage: PRDiTStage) -> None:
    """Let only the stage's own weights take gradients."""
    for name, weight in model.named_parameters():
        weight.requires_grad_(name.startswith(stage.trained(model.config)))


def prepare(
    config: ModelConfig,
    stage: PRDiTStage,
    seed: int,
    start: tuple[ModelConfig, Mapping[str, Tensor]] | None,
) -> PRDiT:
    """A network ready for the stage.

    Parameters
    ----------
    start
        Configuration and weights of the checkpoint to go on from (EMA weights). It may be a whole
        model of the same shape, a local part of the same width, or the chain below the last
        refiner.

    Raises
    ------
    UsageError
        If a local part of another width or patch geometry is offered: it depends on both.
    """
    model = PRDiT(config)
    initialise(model, seed)
    if start is not None:
        begun, weights = start
        _check_same(begun, config)
        whole = begun.depth == config.depth
        kept = dict(weights) if whole else {name: weights[name] for name in model.local_state()}
        missing = model.load_state_dict(kept, strict=False)
        if missing.unexpected_keys:
            raise UsageError(
                f"the checkpoint to start from has unknown weights: {missing.unexpected_keys}"
            )
    freeze(model, stage)
    return model


# Compared apart, or without weights of its own.
_FREE = ("depth", "heads", "refiners", "base_heads")


def _check_same(begun: ModelConfig, config: ModelConfig) -> None:
    ours, theirs = dict(config), dict(begun)
    unlike = [
        f"{name} {theirs[name]} instead of {ours[name]}"
        for name in ours
        if name not in _FREE and ours[name] != theirs[name]
    ]
    if begun.depth and begun.heads != config.heads:
        unlike.append(f"heads {begun.heads} instead of {config.heads}")
    if begun.depth not in (0, config.depth):
        unlike.append(f"depth {begun.depth} instead of 0 or {config.depth}")
    if begun.refiners not in (config.refiners, config.refiners[:-1]):
        known = ", ".join(f"{cut.patch}/{cut.stride}/{cut.padding}" for cut in begun.refiners)
        unlike.append(f"other refiners ({known or 'none'})")
    if unlike:
        raise UsageError(
            f"the checkpoint to start from has {', '.join(unlike)}; a part cannot be shared"
        )

"""How PRDiT is trained: what each stage decides, and the task it makes."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import torch

from prdit_core.data.datasets import PreparedData
from prdit_core.errors import UsageError
from prdit_core.files import shown
from prdit_core.models.prdit.global_residual import Block
from prdit_core.models.prdit.memory import training_memory
from prdit_core.prdit_config import ModelConfig, TrainConfig
from prdit_core.schedule import CosineSchedule, LinearSchedule
from prdit_core.training.contracts import Plan, Player, Recipe, Task, own_or
from prdit_core.training.families.prdit.crop import Crop
from prdit_core.training.families.prdit.network import continued, network_of, prdit_of, prepare
from prdit_core.training.families.prdit.objective import JointError
from prdit_core.training.objective import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor, nn

    from prdit_core.checkpoints.header import Header
    from prdit_core.config import NetworkConfig
    from prdit_core.models.prdit.network import PRDiT
    from prdit_core.schedule import AnySchedule, Schedule
    from prdit_core.training.families.prdit.stages import PRDiTStage

NOISE_STD = 0.5
CONSISTENCY = 0.1  # the paper gives none


class PRDiTRecipe(Recipe[TrainConfig, PreparedData]):
    """A stage of PRDiT."""

    shards = (Block,)

    def __init__(self, stage: PRDiTStage) -> None:
        self.stage = stage
        self.needs_start = stage.needs_start

    def plan(self, config: TrainConfig, data: PreparedData, start: Header | None) -> Plan:
        """Decide on the network, and refuse what does not fit it."""
        begun = None if start is None else continued(start, config.stage, data)
        network = network_of(config, data, begun)
        schedule = _schedule(config, network, start)
        notes: list[str] = []
        if start is not None and begun is not None and begun.model != start.model:
            notes.append(f"the chain to start from is taken up to edge {begun.geometry.shape[0]}")
        if begun is not None and not _same_grid(begun, data, config):
            notes.append("the checkpoint to start from saw another size or spacing than these data")
        if config.stage == "finetune" and network.refiners and not config.lower_sizes:
            edge = data.geometry.shape[0]
            notes.append(
                f"fine-tuning a chain through edge {edge} alone: its lower sizes get worse"
            )
        _check_crop(config, network, data)
        _check_chain_only(config, network)
        stage = self.stage
        resolved = {
            "objective": network.output,
            **own_or(config, stage.iterations, stage.learning_rate(network.depth), stage.clip),
            "consistency": _consistency(config, network),
            "noise_std": schedule.noise_std,
        }
        return Plan(network, schedule, begun, resolved, tuple(notes))

    def memory(
        self, config: TrainConfig, network: NetworkConfig, shape: tuple[int, int, int]
    ) -> int:
        """Counted on the network; see `training_memory`."""
        assert isinstance(network, ModelConfig)
        return training_memory(
            network,
            shape,
            trains=self.stage.trained(network),
            volumes=config.micro_batch or 1,
            activations=config.activations,
            crop=config.crop,
        )

    def lighter(self, config: TrainConfig) -> Iterator[TrainConfig]:
        """Fewer volumes at once, then activations that are computed twice."""
        yield from super().lighter(config)
        yield config.model_copy(update={"micro_batch": 1, "activations": "recompute"})

    def task(self, config: TrainConfig, plan: Plan, weights: Mapping[str, Tensor] | None) -> Task:
        """One player."""
        assert isinstance(plan.network, ModelConfig)
        begun = None
        if plan.begun is not None and weights is not None:
            begun = prdit_of(plan.begun), weights
        network = prepare(plan.network, self.stage, config.seed, begun)
        if network.global_residual is not None:
            network.global_residual.activations = config.activations
        return task_of(
            network,
            plan.schedule,
            consistency=config.consistency or 0.0,
            lower_sizes=config.lower_sizes or 0.0,
            crop=_crop(config, plan.network),
        )


def task_of(
    network: PRDiT,
    schedule: Schedule,
    *,
    consistency: float = 0.0,
    lower_sizes: float = 0.0,
    crop: Crop | None = None,
) -> Task:
    """A network whose trained weights alone take gradients, by `JointError`; see there."""
    objective = JointError(
        network, schedule, consistency=consistency, lower_sizes=lower_sizes, crop=crop
    )
    player = Player("", network, objective, KINDS, adamw)
    return Task((player,), partial(JointError, schedule=schedule))


def adamw(weights: list[nn.Parameter], peak: float) -> torch.optim.Optimizer:
    """The paper's (A.9.2)."""
    return torch.optim.AdamW(weights, lr=peak, betas=(0.9, 0.999), weight_decay=0.0)


def _crop(config: TrainConfig, network: ModelConfig) -> Crop | None:
    if config.crop is None:
        return None
    return Crop(config.seed, config.crop, _crop_multiple(network))


def _check_crop(config: TrainConfig, network: ModelConfig, data: PreparedData) -> None:
    """Refuse a crop where nothing can be cropped, or that cuts tiles."""
    if config.crop is None:
        return
    if config.stage != "refine":
        raise UsageError("crop is for stage refine; the global part sees whole volumes only")
    multiple = _crop_multiple(network)
    if config.crop % multiple or config.crop > min(data.geometry.shape):
        raise UsageError(
            f"crop {config.crop} must be a multiple of {multiple} and at most the edge "
            f"{min(data.geometry.shape)} of the volumes"
        )


def _check_chain_only(config: TrainConfig, network: ModelConfig) -> None:
    """Refuse what only a new refiner, or only the fine-tuning of a chain, can have."""
    for name in ("sees", "shows"):
        if getattr(config, name) is not None and config.stage != "refine":
            raise UsageError(f"{name} is for stage refine; a trained refiner's does not change")
    if config.lower_sizes is not None and not (config.stage == "finetune" and network.refiners):
        raise UsageError("lower_sizes is for stage finetune of a chain")


def _consistency(config: TrainConfig, network: ModelConfig) -> float | None:
    if not network.refiners:
        if config.consistency is not None:
            raise UsageError("consistency is for chains; this model has no refiner")
        return None
    return CONSISTENCY if config.consistency is None else config.consistency


def _crop_multiple(network: ModelConfig) -> int:
    """Limits of a crop lie between tiles, and between voxels of the resolution below."""
    return math.lcm(network.refiners[-1].stride, 2)


def _schedule(config: TrainConfig, network: ModelConfig, start: Header | None) -> AnySchedule:
    """That of the checkpoint to start from; parts learnt on another cannot be shared."""
    std = config.noise_std
    if start is not None:
        if std is not None and std != start.schedule.noise_std:
            raise UsageError(
                f"{shown(config.start or '')} was trained with noise_std="
                f"{start.schedule.noise_std:g}, this run has {std:g}; a part cannot be shared"
            )
        return start.schedule
    if network.output == "velocity":
        return LinearSchedule(noise_std=std or 1.0)
    return CosineSchedule(noise_std=std or NOISE_STD)


def _same_grid(start: Header, data: PreparedData, config: TrainConfig) -> bool:
    """Whether the data are on the grid of the checkpoint, or on that a refiner makes of it."""
    ours, theirs = data.geometry, start.geometry
    if config.stage == "refine":
        ours = ours.coarser(2)
    return (ours.shape, ours.spacing_mm) == (theirs.shape, theirs.spacing_mm)

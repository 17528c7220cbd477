"""What a run is to do, with every default resolved, and whether that is what it did before."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from prdit_core.errors import UsageError
from prdit_core.files import shown
from prdit_core.machine import (
    choose_device,
    default_threads,
    fast_precision,
    package_version,
    processes,
)
from prdit_core.noise import NOISE_KEYS
from prdit_core.provenance import torch_version
from prdit_core.schedule import CosineSchedule, LinearSchedule
from prdit_core.training.crop import Crop
from prdit_core.training.network import continued, network_of, prdit_of
from prdit_core.training.rate import Rate
from prdit_core.training.stages import STAGES

if TYPE_CHECKING:
    from prdit_core.checkpoints.store import Header
    from prdit_core.config import ModelConfig, StageName, TrainConfig
    from prdit_core.data.datasets import PreparedData
    from prdit_core.intensity import Intensity
    from prdit_core.schedule import AnySchedule

N = TypeVar("N", int, float)
NOISE_STD = 0.5
CONSISTENCY = 0.1  # the paper gives none
# What may differ between a run and its continuation. Data and start are compared by their hashes.
_FREE = {"run", "data", "start", "model", "iterations", "preview_every", "save_every", "workers"}
# What may differ too, but then the result is not bit for bit that of one go.
_NOTED = {"threads", "version", "torch", "device", "strategy", "processes", "micro_batch"}
# What no --allow-change can change, since the checkpoint is made of it.
_FIXED = {"stage", "network", "schedule", "intensity", "shape", "objective", "noise_std"}


@dataclass(frozen=True)
class Settings:
    """A resolved run.

    Attributes
    ----------
    config : settings without None, except `model` and `start`
    network, schedule, intensity : what is trained, on which process, in which units
    begun : what is taken from the checkpoint to go on from; None: there is none
    facts : what else decides the result: hashes of data and start, versions, processes
    notes : what was decided for the user
    """

    config: TrainConfig
    network: ModelConfig
    schedule: AnySchedule
    intensity: Intensity
    begun: ModelConfig | None
    facts: dict[str, Any]
    notes: tuple[str, ...]

    def recorded(self) -> dict[str, Any]:
        """Content of config.json."""
        return {"settings": self.config.model_dump(mode="json"), "facts": self.facts}

    def provenance(self) -> dict[str, Any]:
        """What checkpoints carry: everything but folders of this machine."""
        private = ("run", "data", "start")
        settings = {k: v for k, v in self.recorded()["settings"].items() if k not in private}
        return settings | self.facts

    @property
    def iterations(self) -> int:
        """In all."""
        return _resolved(self.config.iterations)

    @property
    def rate(self) -> Rate:
        """Learning rate by iteration."""
        name = self.config.lr_schedule or "constant"
        return Rate(name, _resolved(self.config.lr), self.iterations)

    @property
    def clip(self) -> float:
        """Largest norm of the gradient."""
        return _resolved(self.config.clip)

    @property
    def consistency(self) -> float:
        """Weight of the low-frequency consistency term; 0 where there is no chain."""
        return self.config.consistency or 0.0

    @property
    def crop(self) -> Crop | None:
        """Where the last refiner is trained; None: everywhere."""
        edge = self.config.crop
        if edge is None:
            return None
        return Crop(self.config.seed, edge, _crop_multiple(self.network))

    @property
    def micro_batch(self) -> int:
        """Volumes one process holds at once."""
        return _resolved(self.config.micro_batch)


def resolve(config: TrainConfig, data: PreparedData, start: Header | None) -> Settings:
    """Replace every None.

    Parameters
    ----------
    start : header of the checkpoint to go on from

    Raises
    ------
    UsageError
        If the settings contradict each other, the data or the checkpoint to start from.
    """
    stage, cases, here = STAGES[config.stage], len(data.train), processes()
    if cases == 0:
        raise UsageError(f"{shown(config.data)} has no training case")
    if start is None and stage.needs_start:
        raise UsageError(
            f"stage {stage.name} starts from a checkpoint: give the run or checkpoint with --from"
        )
    part = None if start is None else continued(start, config.stage, data)
    network = network_of(config, data, part)
    schedule = _schedule(config, network, start)
    intensity = data.intensity if start is None else _intensity(config, data, start)
    batch, notes = _batch(config, cases, here.world)
    if not data.validation:
        notes.append("one patient only: nothing is held out, so there is no validation")
    if start is not None and part is not None and part.model != start.model:
        notes.append(f"the chain to start from is taken up to edge {part.geometry.shape[0]}")
    if part is not None and not _same_grid(part, data, config.stage):
        notes.append("the checkpoint to start from saw another size or spacing than these data")
    if config.stage == "finetune" and network.refiners and not config.lower_sizes:
        edge = data.geometry.shape[0]
        notes.append(f"fine-tuning a chain through edge {edge} alone: its lower sizes get worse")
    _check_crop(config, network, data)
    _check_chain_only(config, network)
    device = choose_device(config.device)
    resolved = config.model_copy(
        update={
            "data": config.data.resolve(),
            "run": config.run.resolve(),
            "start": _absolute(config.start),
            "objective": network.output,
            "batch_size": batch,
            "micro_batch": min(config.micro_batch or batch, batch // here.world),
            "iterations": config.iterations or stage.iterations,
            "lr": config.lr or stage.learning_rate(network.depth),
            "clip": config.clip or stage.clip,
            "consistency": _consistency(config, network),
            "noise_std": schedule.noise_std,
            "precision": fast_precision(device, config.precision),
            "device": device,
            "threads": config.threads or default_threads(),
        }
    )
    facts = {
        "data_sha256": data.digest,
        "start_sha256": None if start is None else start.digest,
        "network": network.model_dump(mode="json"),
        "schedule": schedule.model_dump(mode="json"),
        "intensity": intensity.model_dump(mode="json"),
        "shape": list(data.geometry.shape),
        "processes": here.world,
        "noise_keys": NOISE_KEYS,
        "version": package_version(),
        "torch": torch_version(),
    }
    begun = None if part is None else prdit_of(part)
    return Settings(resolved, network, schedule, intensity, begun, facts, tuple(notes))


def compare(before: dict[str, Any], now: Settings, run: Path, *, allowed: bool) -> list[str]:
    """Changes since the run was begun, in words.

    Parameters
    ----------
    before : content of config.json
    allowed : whether the user allows the result to be another than that of one go

    Raises
    ------
    UsageError
        Naming what differs and must not.
    """
    old = before["settings"] | before["facts"]
    if old.get("noise_keys") != NOISE_KEYS:
        raise UsageError(
            f"{shown(run)} was begun by a version that drew batches and noise by other keys, so it "
            "cannot go on as if never stopped; start a new --run with --from this one"
        )
    new = now.recorded()["settings"] | now.facts
    free = _FREE if now.rate.name == "constant" else _FREE - {"iterations"}
    changed = {
        name: f"{name}: {json.dumps(old.get(name))} -> {json.dumps(value)}"
        for name, value in new.items()
        if name not in free and old.get(name) != value
    }
    fixed = [text for name, text in changed.items() if name in _FIXED]
    if fixed:
        raise UsageError(
            f"{shown(run)} was begun with other settings that cannot change ({'; '.join(fixed)}); "
            "start a new --run, with --from this one if it shall go on from there"
        )
    refused = [text for name, text in changed.items() if name not in _NOTED]
    if refused and not allowed:
        raise UsageError(
            f"{shown(run)} was begun with other settings ({'; '.join(refused)}); resume with the "
            "same ones, or add --allow-change, which is recorded"
        )
    return list(changed.values())


def _resolved(value: N | None) -> N:
    assert value is not None
    return value


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


def _intensity(config: TrainConfig, data: PreparedData, start: Header) -> Intensity:
    """Model units of the checkpoint to start from, if the data are in its window."""
    if start.intensity.window_hu != data.intensity.window_hu:
        raise UsageError(
            f"{shown(config.start or '')} was trained in the window {start.intensity.window_hu} "
            f"HU, the data are in {data.intensity.window_hu}; prepare them with "
            f"preprocess --like {shown(config.start or '')}"
        )
    return start.intensity


def _absolute(start: str | None) -> str | None:
    """A folder so that it is found from anywhere; names of the catalogue stay."""
    return str(Path(start).resolve()) if start is not None and Path(start).is_dir() else start


def _same_grid(start: Header, data: PreparedData, stage: StageName) -> bool:
    """Whether the data are on the grid of the checkpoint, or on that a refiner makes of it."""
    ours, theirs = data.geometry, start.geometry
    if stage == "refine":
        ours = ours.coarser(2)
    return (ours.shape, ours.spacing_mm) == (theirs.shape, theirs.spacing_mm)


def _batch(config: TrainConfig, cases: int, world: int) -> tuple[int, list[str]]:
    """Volumes per iteration: no more than there are cases, the same number for each process."""
    if cases < world:
        raise UsageError(f"{world} processes, but only {cases} training cases; start fewer")
    size = min(config.batch_size, cases - cases % world)
    if size % world:
        raise UsageError(
            f"batch size {size} cannot be shared by {world} processes; choose a multiple"
        )
    if size == config.batch_size:
        return size, []
    return size, [f"batch size {size} instead of {config.batch_size}: there are no more cases"]

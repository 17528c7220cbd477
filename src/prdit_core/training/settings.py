"""What a run is to do, with every default resolved, and whether that is what it did before."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from prdit_core.data.datasets import PreparedData
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
from prdit_core.training.contracts import without_start
from prdit_core.training.rate import Rate
from prdit_core.training.stages import stage_of
from prdit_core.training.volumes import leading

if TYPE_CHECKING:
    from prdit_core.checkpoints.header import Header
    from prdit_core.config import TrainingConfig
    from prdit_core.intensity import Intensity
    from prdit_core.training.contracts import Plan, Recipe
    from prdit_core.training.volumes import AnyData

N = TypeVar("N", int, float)
# What may differ between a run and its continuation. Data and start are compared by their hashes.
_FREE = {
    "run",
    "data",
    "start",
    "codec",
    "model",
    "iterations",
    "preview_every",
    "save_every",
    "workers",
}
# What may differ too, but then the result is not bit for bit that of one go.
_NOTED = {"threads", "version", "torch", "device", "strategy", "processes", "micro_batch"}
# What no --allow-change can change, since the checkpoint is made of it.
_FIXED = {"stage", "network", "schedule", "intensity", "shape", "objective", "noise_std", "base"}


@dataclass(frozen=True)
class Settings:
    """A resolved run.

    Attributes
    ----------
    config : settings without None, except `model` and `start`
    recipe, plan : of the stage
    intensity : units of the volumes
    facts : what else decides the result: hashes of data and start, versions, processes
    notes : what was decided for the user
    """

    config: TrainingConfig
    recipe: Recipe[Any, Any]
    plan: Plan
    intensity: Intensity
    facts: dict[str, Any]
    notes: tuple[str, ...]

    def recorded(self) -> dict[str, Any]:
        """Content of config.json."""
        return {"settings": self.config.model_dump(mode="json"), "facts": self.facts}

    def provenance(self) -> dict[str, Any]:
        """What checkpoints carry: everything but folders of this machine."""
        private = ("run", "data", "start", "codec")
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
    def micro_batch(self) -> int:
        """Volumes one process holds at once."""
        return _resolved(self.config.micro_batch)


def resolve(config: TrainingConfig, data: AnyData, start: Header | None) -> Settings:
    """Replace every None.

    Parameters
    ----------
    start : header of the checkpoint to go on from

    Raises
    ------
    UsageError
        If the settings contradict each other, the data or the checkpoint to start from.
    """
    cases, here = len(data.train), processes()
    if cases == 0:
        raise UsageError(f"{shown(config.data)} has no training case")
    recipe = stage_of(config.stage).recipe()
    if start is None and recipe.needs_start:
        raise without_start(config.stage)
    plan = recipe.plan(config, data, start)
    first = leading(data)
    if start is None or not isinstance(data, PreparedData):
        intensity = first.intensity
    else:
        intensity = _intensity(config, data, start)
    batch, notes = _batch(config, cases, here.world)
    if not data.validation:
        notes.append("one patient only: nothing is held out, so there is no validation")
    device = choose_device(config.device)
    resolved = config.model_copy(
        update={
            "data": config.data.resolve(),
            "run": config.run.resolve(),
            "start": _absolute(config.start),
            "batch_size": batch,
            "micro_batch": min(config.micro_batch or batch, batch // here.world),
            "precision": fast_precision(device, config.precision),
            "device": device,
            "threads": config.threads or default_threads(),
            **plan.resolved,
        }
    )
    facts = {
        "data_sha256": data.digest,
        "start_sha256": None if start is None else start.digest,
        "network": plan.network.model_dump(mode="json"),
        "schedule": plan.schedule.model_dump(mode="json"),
        "intensity": intensity.model_dump(mode="json"),
        "shape": list(first.geometry.shape),
        "processes": here.world,
        "noise_keys": NOISE_KEYS,
        "version": package_version(),
        "torch": torch_version(),
    }
    if plan.base is not None and start is not None:
        facts["base"] = start.base_digest
    return Settings(resolved, recipe, plan, intensity, facts, (*notes, *plan.notes))


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


def _intensity(config: TrainingConfig, data: PreparedData, start: Header) -> Intensity:
    """Model units of the checkpoint to start from, if the data are in its window."""
    theirs, ours = start.intensity, data.intensity
    if (theirs.window_hu, theirs.units) != (ours.window_hu, ours.units):
        raise UsageError(
            f"{shown(config.start or '')} was trained in the window {theirs}, the data are in "
            f"{ours}; prepare them with "
            f"preprocess --like {shown(config.start or '')}"
        )
    return start.intensity


def _absolute(start: str | None) -> str | None:
    """A folder so that it is found from anywhere; names of the catalogue stay."""
    return str(Path(start).resolve()) if start is not None and Path(start).is_dir() else start


def _batch(config: TrainingConfig, cases: int, world: int) -> tuple[int, list[str]]:
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

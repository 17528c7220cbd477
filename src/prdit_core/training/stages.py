"""All stages of training: one row each, through which the one loop knows the families."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prdit_core.errors import UsageError
from prdit_core.models.patch.config import PatchTraining
from prdit_core.prdit_config import TrainConfig
from prdit_core.training.families.latent.settings import (
    AutoencoderTraining,
    ControlTraining,
    FlowTraining,
    JointTraining,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from prdit_core.config import TrainingConfig
    from prdit_core.training.contracts import Recipe


@dataclass(frozen=True)
class Stage:
    """One row. Knowing it loads no torch; its recipe does.

    Attributes
    ----------
    name : as settings and commands give it; no two families share one
    family : name of a row of `FAMILIES`
    settings : the family's settings of a run
    recipe : what decides and builds
    """

    name: str
    family: str
    settings: type[TrainingConfig]
    recipe: Callable[[], Recipe[Any, Any]]


def _prdit(name: str) -> Stage:
    def recipe() -> Recipe[Any, Any]:
        from prdit_core.training.families.prdit.recipe import PRDiTRecipe
        from prdit_core.training.families.prdit.stages import PRDIT_STAGES

        return PRDiTRecipe(PRDIT_STAGES[name])

    return Stage(name, "prdit", TrainConfig, recipe)


def _patch() -> Recipe[Any, Any]:
    from prdit_core.training.families.patch import PatchRecipe

    return PatchRecipe()


def _autoencoder() -> Recipe[Any, Any]:
    from prdit_core.training.families.latent.autoencoder import AutoencoderRecipe

    return AutoencoderRecipe()


def _joint() -> Recipe[Any, Any]:
    from prdit_core.training.families.latent.autoencoder import JointRecipe

    return JointRecipe()


def _flow() -> Recipe[Any, Any]:
    from prdit_core.training.families.latent.flow import FlowRecipe

    return FlowRecipe()


def _control() -> Recipe[Any, Any]:
    from prdit_core.training.families.latent.control import ControlRecipe

    return ControlRecipe()


STAGES = {
    stage.name: stage
    for stage in (
        _prdit("local"),
        _prdit("global"),
        _prdit("refine"),
        _prdit("finetune"),
        Stage("patch", "patch", PatchTraining, _patch),
        Stage("autoencoder", "patch-volume", AutoencoderTraining, _autoencoder),
        Stage("autoencoder-joint", "patch-volume", JointTraining, _joint),
        Stage("latent", "latent", FlowTraining, _flow),
        Stage("control", "latent-control", ControlTraining, _control),
    )
}


def stage_of(name: str) -> Stage:
    """Row of a stage.

    Raises
    ------
    UsageError
        If there is none of that name.
    """
    if name not in STAGES:
        raise UsageError(f"stage {name!r} is none of {', '.join(STAGES)}")
    return STAGES[name]

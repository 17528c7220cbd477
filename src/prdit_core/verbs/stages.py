"""What stages of training there are and which settings each has, without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prdit_core.training.stages import stage_of

if TYPE_CHECKING:
    from prdit_core.config import TrainingConfig


def settings_of_stage(stage: str) -> type[TrainingConfig]:
    """Settings that a stage of training has.

    Raises
    ------
    UsageError
        If there is no such stage.
    """
    return stage_of(stage).settings

"""What is asked for: everything that a series of volumes depends on."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from prdit_core.config import Branch
from prdit_core.presets import SAMPLING_PRESETS, sampling_preset

if TYPE_CHECKING:
    from napari_prdit.conditions import Condition
    from prdit_core.config import NetworkConfig, SamplingConfig


@dataclass(frozen=True)
class Request:
    """Everything a series of volumes depends on.

    Attributes
    ----------
    network : of the checkpoint, which says what a preset means; None: not known
    size : one of the model's, else None
    label : class of the volumes, of a model that has several
    index : of the first volume
    branches : where the walk goes on with other noise
    condition : what the volumes belong to; None: to nothing
    """

    checkpoint: str
    size: int | None
    seed: int
    count: int
    config: SamplingConfig
    device: str
    index: int = 0
    branches: tuple[Branch, ...] = ()
    network: NetworkConfig | None = None
    label: str | None = None
    condition: Condition | None = None

    def command(self) -> str:
        """The same volumes by the command line."""
        words = ["prdit-core", "generate", "--checkpoint", self.checkpoint]
        words += [] if self.label is None else ["--class", self.label]
        words += [] if self.size is None else ["--size", str(self.size)]
        words += ["--count", str(self.count), "--seed", str(self.seed), "--device", self.device]
        words += ["--index", str(self.index)] if self.index else []
        words += [] if self.condition is None else self.condition.words()
        words += preset_words(self.config, self.network)
        for branch in self.branches:
            words += ["--branch", str(branch)]
        return shlex.join([*words, "--out", "volumes"])

    def branched(self, volume: int, step: int, seed: int) -> Request:
        """One volume of this series, going on from `step` (from 0) with another seed.

        A branch that leaves after that step is no part of it.
        """
        before = tuple(branch for branch in self.branches if branch.step <= step)
        branches = (*before, Branch(step, seed))
        return replace(self, index=self.index + volume, count=1, branches=branches)

    @property
    def tells_pace(self) -> bool:
        """Whether each of its steps is one evaluation of the whole network."""
        reused = self.config.refresh_every or self.config.refresh_change
        return not reused and self.config.sampler != "heun"


def preset_words(config: SamplingConfig, network: NetworkConfig | None) -> list[str]:
    """Options of the command that give these settings to such a model."""
    for name in SAMPLING_PRESETS:
        if sampling_preset(name, network) == config:
            return ["--preset", name]
    words = ["--preset", "paper"]  # which has no rule of refreshing that could not be undone
    for setting, value in config.model_dump(exclude_none=True).items():
        text = f"{value:g}" if isinstance(value, float) else str(value)
        words += [f"--{setting.replace('_', '-')}", text]
    return words

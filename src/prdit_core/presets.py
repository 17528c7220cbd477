"""Settings of a walk under one name, with what they cost and how near they come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from prdit_core.config import NetworkConfig, SamplingConfig
from prdit_core.errors import UsageError
from prdit_core.models.families import FAMILIES

PresetName = Literal["fast", "balanced", "paper"]


@dataclass(frozen=True)
class SamplingPreset:
    """One row of the table.

    Attributes
    ----------
    times_faster : CPU time of 1000 plain evaluations by that of a volume
    distance, error : Frechet distance to held-out phantoms and its standard error, of the first
        bundled base at 32^3 (`benchmarks/sampling_quality.py`)
    """

    config: SamplingConfig
    description: str
    times_faster: float
    distance: float
    error: float


FLOOR = 5.2  # held-out phantoms against held-out phantoms
SAMPLING_PRESETS: dict[PresetName, SamplingPreset] = {
    "fast": SamplingPreset(
        config=SamplingConfig(steps=10, sampler="increment"),
        description="10 steps, a first look",
        times_faster=132,
        distance=8.7,
        error=0.6,
    ),
    "balanced": SamplingPreset(
        config=SamplingConfig(),
        description="20 steps, the default: second order, or hot where heads agree",
        times_faster=67,
        distance=5.6,
        error=0.6,
    ),
    "paper": SamplingPreset(
        config=SamplingConfig(steps=1000, sampler="euler", k=2.0, grid="release"),
        description="1000 steps of Alg. 1, hot, as the release walks",
        times_faster=1.3,
        distance=7.3,
        error=0.6,
    ),
}


def preset_line(name: PresetName) -> str:
    """What a preset is, costs, and how near it comes, in one line."""
    preset = SAMPLING_PRESETS[name]
    return (
        f"{name}: {preset.description}; {preset.times_faster:g}x, "
        f"distance {preset.distance:.1f} +- {preset.error:.1f}"
    )


def presets_text() -> str:
    """All presets, with what the numbers are."""
    lines = "\n".join(preset_line(name) for name in SAMPLING_PRESETS)
    return (
        f"{lines}\n\nMeasured with 64 volumes of the first bundled base at 32^3: how many times "
        "faster than 1000 plain evaluations; Frechet distance to held-out phantoms, which is "
        f"{FLOOR:.1f} for other held-out phantoms."
    )


def sampling_preset(name: str, network: NetworkConfig | None = None) -> SamplingConfig:
    """Settings of a preset: ``fast``, ``balanced`` or ``paper``.

    Parameters
    ----------
    network : of the prior: ``balanced`` is what suits it, ``paper`` how its own paper walks;
        None: what is usual

    Raises
    ------
    UsageError
        If there is no such preset.
    """
    if network is not None:
        paper = FAMILIES[network.family].paper
        if name == "paper" and paper is not None:
            return paper
        if name == "balanced":
            return network.walk
    for known, preset in SAMPLING_PRESETS.items():
        if known == name:
            return preset.config
    raise UsageError(f"preset {name!r} is not known; choose one of {', '.join(SAMPLING_PRESETS)}")


def paper_reconstruction(network: NetworkConfig | None) -> SamplingConfig | None:
    """How the paper of a network's family walks to fit data; None where it does not."""
    return None if network is None else FAMILIES[network.family].rebuilds

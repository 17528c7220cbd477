"""Typed configuration: what every network, walk and training has; PRDiT's: `prdit_config`."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_serializer

from prdit_core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import SerializerFunctionWrapHandler

    from prdit_core.classes import VolumeClass
    from prdit_core.geometry import Geometry

RawOutput = Literal["image-and-noise", "velocity", "noise"]
Precision = Literal["auto", "bf16-mixed", "32-true"]
Strategy = Literal["ddp", "fsdp"]
RateName = Literal["constant", "cosine", "polynomial"]
WeightsName = Literal["ema", "model"]
ReleaseName = Literal["prdit", "3d-meddiffusion"]
GenerationPrecision = Literal["32-true", "bf16-mixed"]
CouplingName = Literal["cg", "dds", "prox", "pigdm", "posterior", "guidance"]
LastStepName = Literal["tv", "none"]
GridName = Literal["exact", "log-snr", "release"]
OperatorName = Literal["parallel", "fan", "cone", "x-ray", "super-resolution", "blur", "kspace"]
PatternName = Literal["gaussian", "poisson"]
PhaseName = Literal["none", "smooth"]
SamplerName = Literal[
    "increment",
    "increment-2",
    "dpm-2m",
    "euler",
    "heun",
    "resynthesis",
    "noise-only",
    "conventional-hot",
    "ddim",
    "ddim-even",
    "ddpm",
]

# Samplers that take fresh noise by rules of their own, with eta in place of k.
WITHOUT_K: tuple[SamplerName, ...] = ("conventional-hot", "ddim", "ddim-even", "ddpm")


def words_of(settings: type[BaseModel], name: str) -> str:
    """What a setting says of itself, in one line: its option's help and its field's tooltip."""
    return " ".join((settings.model_fields[name].description or "").split())


class NetworkConfig(BaseModel, ABC):
    """Everything that fixes the names and shapes of a network, of whichever family.

    Attributes
    ----------
    family : a name of `FAMILIES`
    channels : image channels C
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: str
    channels: int

    @property
    @abstractmethod
    def edge_multiple(self) -> int:
        """What edges of the volumes must be multiples of, at every resolution it makes."""

    @property
    @abstractmethod
    def least_parameters(self) -> int:
        """A bound below their number that costs nothing, for headers that may lie."""

    @property
    @abstractmethod
    def summary(self) -> str:
        """What the network is made of, in words."""

    @property
    def latent_channels(self) -> int:
        """Of a codec: channels of what it makes of a volume."""
        return self.channels

    def check_grid(self, shape: tuple[int, int, int]) -> None:
        """Raise `ValueError` unless it can predict states (D, H, W)."""
        if any(edge % self.edge_multiple for edge in shape):
            raise ValueError(
                f"a grid of {shape} does not fit the model: edges must be multiples of "
                f"{self.edge_multiple}"
            )

    def sizes(self, edge: int) -> tuple[int, ...]:
        """Edges of the volumes at every resolution it makes, lowest first."""
        return (edge,)

    def grids(self, geometry: Geometry, label: str | None) -> tuple[Geometry, ...]:
        """Grids of the volumes it makes, that of fewest voxels first.

        Parameters
        ----------
        geometry : the finest of a chain of resolutions
        label : a class, whose grids are those that it was trained on
        """
        for one in self.trained_on:
            if one.name == label:
                return one.geometries
        edge = geometry.shape[0]
        return tuple(geometry.coarser(edge // size) for size in self.sizes(edge))

    @property
    def walk(self) -> SamplingConfig:
        """How such a network walks best from noise to a volume, as far as was measured."""
        return SamplingConfig()

    @property
    def trained_on(self) -> tuple[VolumeClass, ...]:
        """Classes of volumes that it holds; none where all are of one kind."""
        return ()

    def padded(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """Of a codec: the volume that it makes of one (D, H, W) before it encodes it."""
        return shape

    def grid(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """Of a codec: grid of what it makes of a volume (D, H, W)."""
        return shape

    def latent_grid(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """The same of a volume that it pads first."""
        return self.grid(self.padded(shape))

    @property
    def label_names(self) -> tuple[str, ...]:
        """Of a control: names of the labels 1, 2, ... that it knows."""
        return ()

    @property
    def image_names(self) -> tuple[str, ...]:
        """Of a control: the images that it needs as well."""
        return ()

    @property
    def by_labels_alone(self) -> bool:
        """Of a control: whether label maps are all that it needs."""
        return bool(self.label_names) and not self.image_names

    def controls(self, model: NetworkConfig) -> bool:
        """Whether it is of a control, and of one of such networks."""
        del model
        return False

    def stopped_at(self, number: int) -> NetworkConfig:
        """The configuration up to resolution `number`, 0 being the lowest."""
        del number  # there is one
        return self


class SamplingConfig(BaseModel):
    """How to walk from noise to a volume; the defaults are those of the preset ``balanced``.

    The words below each are what commands and the plugin tell of it. ``sampler`` is a row of
    `SAMPLERS`, ``grid`` see `time_grid`, ``k`` Table 4, ``renoise`` K of the patch prior's paper.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    steps: int = Field(default=20, ge=1, le=100_000)
    """Network evaluations; more is slower and better."""  # heun takes twice as many
    sampler: SamplerName = "increment-2"
    """How it walks from noise to a volume; euler is Alg. 1 of the paper."""
    k: float = Field(default=1.0, ge=1, allow_inf_nan=False)
    """1 is cold: no noise is added on the way; 2 to 3 is hot."""
    grid: GridName = "log-snr"
    """Times visited; release replays the official sampler."""
    refresh_every: int | None = Field(default=None, ge=1)
    """Evaluate the global residual at every so many steps at least; 1: at every step."""
    refresh_change: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Evaluate it when the local part's image changed by this share since, say 0.1."""
    precision: GenerationPrecision = "32-true"
    """bf16-mixed is faster where the CPU can, and less exact."""
    eta: float | None = Field(default=None, ge=0, le=1, allow_inf_nan=False)
    """Fresh noise of ddim, ddim-even, ddpm: 0 none, 1 most. [the sampler's]"""
    renoise: int = Field(default=1, ge=1, le=64)
    """Patch prior: looks at each state, over other tiles each time. [1]"""
    guidance: float = Field(default=1.0, ge=0, le=100, allow_inf_nan=False)
    """Weight of the class by that of none; above 1 more of it. [1]"""

    def but(self, wishes: Mapping[str, Any]) -> SamplingConfig:
        """The same walk but for what is wished.

        Its k does not go along to a sampler that has none; a k that is wished there stays, and is
        refused when the walk begins.
        """
        settings = {**dict(self), **wishes}
        if "k" not in wishes and settings["sampler"] in WITHOUT_K:
            settings["k"] = 1.0
        return SamplingConfig(**settings)

    @property
    def refreshes(self) -> bool:
        """Whether a rule says when the residual is evaluated anew; otherwise it always is."""
        return self.refresh_every is not None or self.refresh_change is not None

    @model_serializer(mode="wrap")
    def _without_what_is_not_used(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """No word of options that say nothing: older records stay as they are."""
        content: dict[str, Any] = dump(self)
        for name, usual in (("eta", None), ("renoise", 1), ("guidance", 1)):
            if content.get(name) == usual:
                content.pop(name, None)
        return content


@dataclass(frozen=True)
class Branch:
    """Where a walk goes on with other noise; as text ``STEP:SEED``, its steps counted from 1.

    Attributes
    ----------
    step : from 0, as the index of a `SampleStep`
    seed : of the noise from there on
    """

    step: int
    seed: int

    def __str__(self) -> str:
        return f"{self.step + 1}:{self.seed}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The branch that a text such as ``7:4`` names.

        Raises
        ------
        UsageError
            If it is no such text.
        """
        match = re.fullmatch(r"0*([1-9][0-9]*):([0-9]+)", text, re.ASCII)
        if match is None:
            raise UsageError(
                f"branch {text!r} is not STEP:SEED; give the step to go on from, counted from 1, "
                "and the seed of the new noise, such as 7:4"
            )
        return cls(int(match[1]) - 1, int(match[2]))


class TrainingConfig(BaseModel):
    """Settings that every training run has; None means the stage's own value.

    The words below each are what the command and the plugin tell of it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    stage: str
    """What to train: a name of the table of stages."""
    data: Path
    """Prepared data of `preprocess` or `phantoms`, or a classes.json that names several."""
    run: Path
    """Run folder; all results go there."""
    start: str | None = None
    """Run, checkpoint or demo to start from; only the first stage of a family needs none."""
    iterations: int | None = Field(default=None, ge=1, le=100_000_000)
    """Optimiser steps. [the paper's]"""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Of weights, data order and noise."""
    batch_size: int = Field(default=16, ge=1, le=65_536)
    """Volumes per step, of all processes; never more than there are training cases."""
    micro_batch: int | None = Field(default=None, ge=1, le=65_536)
    """Volumes a process holds at once; gradients are accumulated. [all of its share]"""
    lr: float | None = Field(default=None, gt=0, le=1, allow_inf_nan=False)
    """Learning rate. [the paper's]"""
    lr_schedule: RateName | None = None
    """cosine and polynomial (power 0.9) fall to zero over the iterations, which then must not
    change. [constant]"""
    clip: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Largest norm of the gradient. [the paper's]"""
    ema_decay: float = Field(default=0.9999, ge=0, lt=1)
    """Final decay of the averaged weights; it warms up as (1 + i) / (10 + i)."""
    precision: Precision = "auto"
    """auto: bf16 (the papers') where the device is fast at it, else float32."""
    preview_every: int = Field(default=1000, ge=1)
    """Steps between pictures."""
    save_every: int = Field(default=1000, ge=1)
    """Steps between checkpoints, each validated."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    strategy: Strategy = "ddp"
    """For several processes (torchrun, srun); fsdp also splits weights."""
    workers: int = Field(default=0, ge=0, le=64)
    """Processes that prepare batches ahead. Same bytes with any number."""
    threads: int | None = Field(default=None, ge=1, le=1024)
    """CPU threads, part of the seed. [$PRDIT_THREADS, else all cores]"""

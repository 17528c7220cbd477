"""Typed configuration: what a network is and how it is trained."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_serializer, model_validator

from prdit_core.errors import UsageError

if TYPE_CHECKING:
    from pydantic import SerializerFunctionWrapHandler

Norm = Literal["layer", "rms"]
Output = Literal["image-and-noise", "velocity"]
Precision = Literal["auto", "bf16-mixed", "32-true"]
StageName = Literal["local", "global", "refine", "finetune"]
Strategy = Literal["ddp", "fsdp"]
Activations = Literal["keep", "recompute"]
Sees = Literal["noise", "below"]
Shows = Literal["voxels", "averages"]
RateName = Literal["constant", "cosine"]
WeightsName = Literal["ema", "model"]
GenerationPrecision = Literal["32-true", "bf16-mixed"]
CouplingName = Literal["cg", "dds", "prox", "pigdm", "posterior", "guidance"]
GridName = Literal["exact", "log-snr", "release"]
SamplerName = Literal[
    "increment",
    "increment-2",
    "dpm-2m",
    "euler",
    "heun",
    "resynthesis",
    "noise-only",
    "conventional-hot",
]


class PatchGeometry(BaseModel):
    """How a volume is cut: edge of a patch, distance of patches, reflected border, in voxels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    patch: int = Field(ge=1, le=64)
    stride: int = Field(ge=1, le=64)
    padding: int = Field(ge=0, le=32)

    @model_validator(mode="after")
    def _tiles(self) -> Self:
        if self.patch != self.stride + 2 * self.padding:
            raise ValueError(
                f"patch {self.patch} must be stride {self.stride} + 2 x padding {self.padding}, "
                "so that the tiles of all patches fill the volume"
            )
        return self


class RefinerConfig(PatchGeometry):
    """A high-resolution refiner: a Local Denoiser at twice the resolution below it (A.8.1).

    Attributes
    ----------
    width : of its own time embedding
    sees : "noise" (the paper): patches of the noisy state; "below" (ours): also those of the clean
        image that the resolution below predicts, upsampled
    shows : what the resolution below gets of the noisy state: "voxels" (the paper): every second
        one; "averages" (ours): means over 2^3, which are the state of an earlier time
    """

    width: int = Field(ge=6, le=8192)
    sees: Sees = "noise"
    shows: Shows = "voxels"

    @model_serializer(mode="wrap")
    def _without_the_papers(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """No word of what the paper's refiners do: digests of older chains stay valid."""
        content: dict[str, Any] = dump(self)
        for name, papers in (("sees", "noise"), ("shows", "voxels")):
            if content.get(name) == papers:
                content.pop(name)
        return content

    def token_width(self, channels: int) -> int:
        """Numbers in a token: a patch of everything that is seen."""
        return channels * self.patch**3 * (2 if self.sees == "below" else 1)


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

    def sizes(self, edge: int) -> tuple[int, ...]:
        """Edges of the volumes at every resolution it makes, lowest first."""
        return (edge,)

    def stopped_at(self, number: int) -> NetworkConfig:
        """The configuration up to resolution `number`, 0 being the lowest."""
        del number  # there is one
        return self


class ModelConfig(NetworkConfig, PatchGeometry):
    """Everything that fixes the names and shapes of a PRDiT network (Tables 9 and 10).

    Attributes
    ----------
    patch, stride, padding : of the base
    channels : image channels C
    width, depth, heads : transformer width h, number of blocks (0 = Local Denoiser only), heads
    norm : parameter-free normalisation, "layer" (PRDiT, PRDiT-FM) or "rms" (TF-PRDiT)
    output : "image-and-noise" (2C channels, noise first) or "velocity" (C channels)
    refiners : stages of a chain above the base, each doubling the resolution (3.4)
    """

    family: Literal["prdit"] = "prdit"
    channels: int = Field(default=1, ge=1, le=64)
    width: int = Field(ge=6, le=8192)
    depth: int = Field(ge=0, le=128)
    heads: int = Field(ge=1, le=128)
    norm: Norm = "layer"
    output: Output = "image-and-noise"
    refiners: tuple[RefinerConfig, ...] = Field(default=(), max_length=6)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.depth and self.width % 6:
            raise ValueError(
                f"width {self.width} is no multiple of 6, which the position table of the global "
                "part needs (the release's size L, 1024 wide, can only be used with depth 0)"
            )
        if self.depth and self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of {self.heads} heads")
        if self.refiners and self.output != "image-and-noise":
            raise ValueError("a refiner needs a model that predicts image-and-noise")
        return self

    @model_serializer(mode="wrap")
    def _as_of_old(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """No word of a family or an empty chain: digests of older checkpoints stay valid."""
        content: dict[str, Any] = dump(self)
        content.pop("family", None)
        if not self.refiners:
            content.pop("refiners", None)
        return content

    @property
    def token_width(self) -> int:
        """d = C patch^3."""
        return self.channels * self.patch**3

    @property
    def output_channels(self) -> int:
        """2C for image and noise, C for a velocity."""
        return self.channels * (2 if self.output == "image-and-noise" else 1)

    @property
    def tile_width(self) -> int:
        """o = stride^3 times output channels."""
        return self.output_channels * self.stride**3

    @property
    def scale(self) -> int:
        """Edge of the volumes by that of the volumes the base sees."""
        return int(2 ** len(self.refiners))

    @property
    def edge_multiple(self) -> int:
        """What edges of the volumes must be multiples of, at every resolution of the chain."""
        scales = (2**n for n in range(len(self.refiners) - 1, -1, -1))
        above = (r.stride * scale for r, scale in zip(self.refiners, scales, strict=True))
        return math.lcm(self.stride * self.scale, *above)

    def sizes(self, edge: int) -> tuple[int, ...]:
        """Edges of the volumes at every resolution of the chain, lowest first."""
        return tuple(edge // 2**n for n in range(len(self.refiners), -1, -1))

    def stopped_at(self, number: int) -> ModelConfig:
        """The lower part of the chain, with its first `number` refiners."""
        return self.refined_by(*self.refiners[:number])

    @property
    def summary(self) -> str:
        """Its parts."""
        depth, refiners = self.depth, len(self.refiners)
        parts = f"local part and global part of {depth} blocks" if depth else "local part only"
        return f"{parts}, {refiners} refiner{'s' * (refiners > 1)}" if refiners else parts

    @property
    def least_parameters(self) -> int:
        """Those of the blocks."""
        return 12 * self.width**2 * self.depth

    def refined_by(self, *refiners: RefinerConfig) -> ModelConfig:
        """The same base with these stages above it.

        Raises
        ------
        ValidationError
            If the network cannot be refined.
        """
        return ModelConfig(**{**dict(self), "refiners": refiners})


class SamplingConfig(BaseModel):
    """How to walk from noise to a volume; the defaults are those of the preset ``balanced``.

    Attributes
    ----------
    steps : network evaluations (twice as many for ``heun``)
    sampler : name of a row of `SAMPLERS`
    k : predictor multiplier, real; 1 is cold, above it hot (Table 4)
    grid : times visited, see `time_grid`
    refresh_every : the global residual is evaluated at every so many steps at least, and held in
        between
    refresh_change : it is evaluated when the local x0 has changed by this much of its norm since,
        summed over steps; with neither rule at every step
    precision : of the network
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(default=20, ge=1, le=100_000)
    sampler: SamplerName = "increment-2"
    k: float = Field(default=1.0, ge=1, allow_inf_nan=False)
    grid: GridName = "log-snr"
    refresh_every: int | None = Field(default=None, ge=1)
    refresh_change: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    precision: GenerationPrecision = "32-true"


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
        found = re.fullmatch(r"0*([1-9][0-9]*):([0-9]+)", text, re.ASCII)
        if found is None:
            raise UsageError(
                f"branch {text!r} is not STEP:SEED; give the step to go on from, counted from 1, "
                "and the seed of the new noise, such as 7:4"
            )
        return cls(int(found[1]) - 1, int(found[2]))


class TrainConfig(BaseModel):
    """Settings of one training run; None means the paper's value for the stage and depth.

    Attributes
    ----------
    stage : "local" (stage 1), "global" (stage 2), "refine" (stage 3: a refiner on top of a model
        of half the resolution) or "finetune" (everything, at a small rate)
    model : ``small`` or a name such as ``PRDiT-B/12/4``; None takes that of a whole model at
        `start`, else chooses small below 128^3. For "refine" its patches and width are those of
        the refiner, also by numbers as in ``8/4/2/192`` (patch/stride/padding/width); None takes
        those of the model below
    start : checkpoint to go on from; only the stage "local" can do without
    objective : what the network predicts: "image-and-noise" (PRDiT) or "velocity", which is
        flow matching (PRDiT-FM)
    batch_size : volumes per iteration over all processes, never more than there are training cases
    micro_batch : volumes one process holds at once; gradients are accumulated over the batch
    activations : of the global part's blocks; "recompute" computes them twice to hold fewer
    consistency : weight of the low-frequency consistency term of a chain (3.4); None: 0.1
    crop : edge of the box that a refiner is trained on at each iteration, somewhere in the volume;
        None: the whole volume (the paper)
    sees, shows : of a new refiner, as in `RefinerConfig`; None: "noise", "voxels" (the paper)
    lower_sizes : "finetune": weight of the loss at every lower resolution of a chain, which keeps
        them models of their own; None: the highest alone (the paper)
    lr_schedule : "cosine" falls from `lr` to zero over `iterations`, which then must not change;
        None: "constant" (the paper)
    noise_std : standard deviation of the process's noise; None: 0.5, or 1 for flow matching
    precision : "auto" is bf16-mixed (the paper's) where the device computes it fast, else 32-true
    ema_decay : final decay of the averaged weights; it warms up as (1 + i) / (10 + i)
    preview_every : iterations between pictures
    save_every : iterations between checkpoints; each is validated first
    strategy : how several processes share the work; "fsdp" also splits the weights
    workers : processes that prepare batches ahead; 0 prepares them in turn. Same bytes either way
    threads : CPU threads, part of the seed; None: $PRDIT_THREADS, else all cores
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: StageName
    data: Path
    run: Path
    model: str | None = None
    start: str | None = None
    objective: Output | None = None
    iterations: int | None = Field(default=None, ge=1, le=100_000_000)
    seed: int = Field(default=0, ge=0, lt=2**63)
    batch_size: int = Field(default=16, ge=1, le=65_536)
    micro_batch: int | None = Field(default=None, ge=1, le=65_536)
    activations: Activations = "keep"
    lr: float | None = Field(default=None, gt=0, le=1, allow_inf_nan=False)
    lr_schedule: RateName | None = None
    clip: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    ema_decay: float = Field(default=0.9999, ge=0, lt=1)
    consistency: float | None = Field(default=None, ge=0, le=1000, allow_inf_nan=False)
    crop: int | None = Field(default=None, ge=2, le=4096)
    sees: Sees | None = None
    shows: Shows | None = None
    lower_sizes: float | None = Field(default=None, ge=0, le=1000, allow_inf_nan=False)
    noise_std: float | None = Field(default=None, gt=0, le=100, allow_inf_nan=False)
    precision: Precision = "auto"
    preview_every: int = Field(default=1000, ge=1)
    save_every: int = Field(default=1000, ge=1)
    device: str = "auto"
    strategy: Strategy = "ddp"
    workers: int = Field(default=0, ge=0, le=64)
    threads: int | None = Field(default=None, ge=1, le=1024)

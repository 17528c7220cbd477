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
    from collections.abc import Mapping

    from pydantic import SerializerFunctionWrapHandler

    from prdit_core.classes import VolumeClass
    from prdit_core.geometry import Geometry

Norm = Literal["layer", "rms"]
Output = Literal["image-and-noise", "velocity"]
RawOutput = Literal["image-and-noise", "velocity", "noise"]
Precision = Literal["auto", "bf16-mixed", "32-true"]
StageName = Literal["local", "global", "refine", "finetune"]
Strategy = Literal["ddp", "fsdp"]
Activations = Literal["keep", "recompute"]
Sees = Literal["noise", "below"]
Shows = Literal["voxels", "averages"]
Heads = Literal["apart", "agree"]
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
    heads : "apart" (the paper): image and noise as they are predicted; "agree" (ours): moved as
        little as makes them add up to the noisy state, which leaves of both their velocity
    """

    width: int = Field(ge=6, le=8192)
    sees: Sees = "noise"
    shows: Shows = "voxels"
    heads: Heads = "apart"

    @model_serializer(mode="wrap")
    def _without_the_papers(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """No word of what the paper's refiners do: digests of older chains stay valid."""
        content: dict[str, Any] = dump(self)
        for name, papers in (("sees", "noise"), ("shows", "voxels"), ("heads", "apart")):
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

    def controls(self, model: NetworkConfig) -> bool:
        """Whether it is of a control, and of one of such networks."""
        del model
        return False

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
    base_heads : as `RefinerConfig.heads`, of the base
    refiners : stages of a chain above the base, each doubling the resolution (3.4)
    """

    family: Literal["prdit"] = "prdit"
    channels: int = Field(default=1, ge=1, le=64)
    width: int = Field(ge=6, le=8192)
    depth: int = Field(ge=0, le=128)
    heads: int = Field(ge=1, le=128)
    norm: Norm = "layer"
    output: Output = "image-and-noise"
    base_heads: Heads = "apart"
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
        if self.base_heads == "agree" and self.output != "image-and-noise":
            raise ValueError("a velocity has no two heads that could agree")
        return self

    @model_serializer(mode="wrap")
    def _as_of_old(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """No word of a family, heads apart or an empty chain: older digests stay valid."""
        content: dict[str, Any] = dump(self)
        content.pop("family", None)
        if self.base_heads == "apart":
            content.pop("base_heads", None)
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
    def walk(self) -> SamplingConfig:
        """Hot where all heads agree: noise that was not recognised gets another look (0019)."""
        heads = {self.base_heads, *(refiner.heads for refiner in self.refiners)}
        return (
            SamplingConfig(sampler="increment", k=1.5) if heads == {"agree"} else SamplingConfig()
        )

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


class TrainConfig(TrainingConfig):
    """Settings of one training run of PRDiT; None means the paper's value for stage and depth."""

    stage: StageName
    """local: stage 1; global: stage 2, on top of stage 1; refine: stage 3, doubles the resolution
    of a model; finetune: all of a model, at a small rate."""
    iterations: int | None = Field(default=None, ge=1, le=100_000_000)
    """Optimiser steps. [local 104000, global 130000, refine 250000, finetune 50000]"""
    model: str | None = None
    """small (default below 128^3) or size/patch/depth such as PRDiT-B/12/4; for refine the patches
    of the refiner, also as patch/stride/padding/width such as 8/4/2/192. [that of the start]"""
    objective: Output | None = None
    """velocity is flow matching (PRDiT-FM). [image-and-noise]"""
    activations: Activations = "keep"
    """recompute: less memory, about a third slower."""
    consistency: float | None = Field(default=None, ge=0, le=1000, allow_inf_nan=False)
    """Weight of the low-frequency term of a chain (3.4); 0 leaves it out. [0.1]"""
    crop: int | None = Field(default=None, ge=2, le=4096)
    """refine: edge of the box trained on per step. [the whole volume, as in the paper]"""
    sees: Sees | None = None
    """refine: below also shows the refiner the prediction below it. [noise, as in the paper]"""
    shows: Shows | None = None
    """refine: averages instead of every second voxel for what lies below. [voxels, as in the
    paper]"""
    heads: Heads | None = None
    """agree makes image and noise add up to the noisy state; of the base, or in stage refine of
    the refiner. [apart, as in the paper, or that of the start]"""
    lower_sizes: float | None = Field(default=None, ge=0, le=1000, allow_inf_nan=False)
    """finetune: weight of the loss at every lower resolution of a chain, which keeps them models of
    their own. [0, as in the paper]"""
    noise_std: float | None = Field(default=None, gt=0, le=100, allow_inf_nan=False)
    """Standard deviation of the process's noise. [0.5; 1 for flow matching]"""

"""Typed configuration of PRDiT: what its networks are and how they are trained."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_serializer, model_validator

from prdit_core.config import NetworkConfig, SamplingConfig, TrainingConfig

if TYPE_CHECKING:
    from pydantic import SerializerFunctionWrapHandler

Norm = Literal["layer", "rms"]
Output = Literal["image-and-noise", "velocity"]
StageName = Literal["local", "global", "refine", "finetune"]
Activations = Literal["keep", "recompute"]
Sees = Literal["noise", "below"]
Shows = Literal["voxels", "averages"]
Heads = Literal["apart", "agree"]


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

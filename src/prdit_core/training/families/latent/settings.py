"""Settings of the autoencoder's two stages and its networks by name, read without torch."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from prdit_core.config import TrainingConfig
from prdit_core.models.latent.config import AutoencoderConfig, LabelHint

AutoencoderModel = Literal["paper-4x", "paper-8x", "small-4x", "small-8x", "demo-4x"]
FlowModel = Literal["paper", "small", "demo"]
Flows = Literal["both", "inter", "u-net"]
FlowLoss = Literal["l1", "l2"]
ControlVariant = Literal["encoder", "dual"]

AUTOENCODERS: dict[AutoencoderModel, AutoencoderConfig] = {
    "paper-4x": AutoencoderConfig(ratio=4),
    "paper-8x": AutoencoderConfig(ratio=8),
    "small-4x": AutoencoderConfig(ratio=4, width=16, groups=8, codes=256, patch=32),
    "small-8x": AutoencoderConfig(ratio=8, width=16, groups=8, codes=256, patch=32),
    "demo-4x": AutoencoderConfig(ratio=4, width=16, groups=8, codes=512, patch=32),
}
# Networks by name; "patch" is left to the ratio of the codec, classes and channels to the data.
FLOWS: dict[FlowModel, dict[str, Any]] = {
    "paper": {},
    "small": {
        "width": 24,
        "multipliers": (1, 1, 2, 4),
        "attention": (2, 3),
        "heads": 4,
        "intra_heads": 4,
        "groups": 8,
    },
    "demo": {
        "width": 24,
        "multipliers": (1, 1, 2, 3),
        "sub_volume": 4,
        "attention": (2, 3),
        "heads": 4,
        "intra_heads": 4,
        "groups": 8,
    },
}


class AutoencoderTraining(TrainingConfig):
    """Settings of one training run of a Patch-Volume autoencoder, stage 1 (spec 2)."""

    stage: Literal["autoencoder"] = "autoencoder"
    """autoencoder: encoder, codes and decoder, on patches of the volumes."""
    iterations: int | None = Field(default=None, ge=1, le=100_000_000)
    """Optimiser steps. [100000; the paper says none]"""
    lr: float | None = Field(default=None, gt=0, le=1, allow_inf_nan=False)
    """Learning rate. [3e-4]"""
    batch_size: int = Field(default=16, ge=1, le=65_536)
    """Volumes per step, of all processes, one patch of each; the release has 24 at 8x."""
    ema_decay: float = Field(default=0.0, ge=0, lt=1)
    """Final decay of the averaged weights; 0 averages nothing, since codes fit the newest."""
    model: AutoencoderModel | None = None
    """paper, small or demo, with latents 4 or 8 times smaller. [paper-8x, small-8x below 128^3]"""
    patch: int | None = Field(default=None, ge=8, le=512)
    """Edge of the patches in voxels. [64 of paper, 32 of small]"""
    discriminator_from: int | None = Field(default=None, ge=0, le=100_000_000)
    """Step from which the discriminator plays. [12000 at 4x, 20000 at 8x]"""


class JointTraining(TrainingConfig):
    """Settings of one training run of its decoder on whole volumes, stage 2 (spec 2)."""

    stage: Literal["autoencoder-joint"] = "autoencoder-joint"
    """autoencoder-joint: the decoder of an autoencoder, on whole volumes at once."""
    iterations: int | None = Field(default=None, ge=1, le=100_000_000)
    """Optimiser steps. [20000; the paper says none]"""
    lr: float | None = Field(default=None, gt=0, le=1, allow_inf_nan=False)
    """Learning rate. [3e-5]"""
    batch_size: int = Field(default=1, ge=1, le=65_536)
    """Volumes per step, of all processes."""
    ema_decay: float = Field(default=0.0, ge=0, lt=1)
    """Final decay of the averaged weights; 0 averages nothing."""
    crop: int | None = Field(default=None, ge=8, le=4096)
    """Edge of the part that is decoded at once. [the whole; 192 above 256 x 256 x 128 voxels]"""
    discriminator_from: int | None = Field(default=None, ge=0, le=100_000_000)
    """Step from which the discriminator plays. [0]"""


class LatentTraining(TrainingConfig):
    """What all runs have in common whose networks predict the noise in latents (spec 5)."""

    ema_decay: float = Field(default=0.995, ge=0, lt=1)
    """Decay of the averaged weights, each time they move."""
    ema_every: int = Field(default=10, ge=1, le=100_000)
    """Steps from one move of the averaged weights to the next."""
    ema_from: int = Field(default=2000, ge=0, le=100_000_000)
    """Step from which they are averaged; until then they are copies."""
    unnamed: float = Field(default=0.1, ge=0, lt=1)
    """Share of volumes that are shown without their class, so that generation can be guided."""
    loss: FlowLoss = "l1"
    """Of the noise: l1 (the release) or l2 (the paper)."""


class FlowTraining(LatentTraining):
    """Settings of one training run of a BiFlowNet in latents (spec 4 and 5)."""

    stage: Literal["latent"] = "latent"
    """latent: noise in latents of several classes and grids at once."""
    codec: str
    """The autoencoder that made the latents, or a model that has it; it becomes part of the
    checkpoints."""
    iterations: int | None = Field(default=None, ge=1, le=100_000_000)
    """Optimiser steps. [200000; the paper says none]"""
    lr: float | None = Field(default=None, gt=0, le=1, allow_inf_nan=False)
    """Learning rate. [1e-4]"""
    model: FlowModel | None = None
    """paper (158 million weights), small (5.1) or demo (3.8). [small below 128^3, else paper]"""
    flows: Flows = "both"
    """The paper's ablations (Table IV): inter leaves out the intra-patch flow, u-net has blocks of
    the U-Net in it. [both]"""


class ControlTraining(LatentTraining):
    """Settings of one training run of a ControlNet on a BiFlowNet that stays as it is (spec 6)."""

    stage: Literal["control"] = "control"
    """control: what makes a model in latents obey label maps; the model itself, --from, stays."""
    iterations: int | None = Field(default=None, ge=1, le=100_000_000)
    """Optimiser steps. [50000; the paper says none]"""
    lr: float | None = Field(default=None, gt=0, le=1, allow_inf_nan=False)
    """Learning rate. [1e-4; the paper says none]"""
    variant: ControlVariant = "encoder"
    """encoder: a copy of the U-Net's way down; dual: also one of the intra-patch flow's blocks in.
    [encoder]"""
    hint: LabelHint = "share"
    """What a voxel of the latents sees of the labels in it: share, how much of it each fills, or
    nearest, that of its middle. [share]"""

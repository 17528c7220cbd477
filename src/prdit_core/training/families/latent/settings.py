"""Settings of the autoencoder's two stages and its networks by name, read without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from prdit_core.config import TrainingConfig
from prdit_core.models.latent.config import AutoencoderConfig

AutoencoderModel = Literal["paper-4x", "paper-8x", "small-4x", "small-8x"]

AUTOENCODERS: dict[AutoencoderModel, AutoencoderConfig] = {
    "paper-4x": AutoencoderConfig(ratio=4),
    "paper-8x": AutoencoderConfig(ratio=8),
    "small-4x": AutoencoderConfig(ratio=4, width=16, groups=8, codes=256, patch=32),
    "small-8x": AutoencoderConfig(ratio=8, width=16, groups=8, codes=256, patch=32),
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
    """paper or small, with latents 4 or 8 times smaller. [paper-8x, small-8x below 128^3]"""
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

"""Reads the recorded numbers of 3D MedDiffusion: configurations and weights."""

from __future__ import annotations

import ast
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from recorded import tensor

from prdit_core.checkpoints.releases.latent.names import (
    autoencoder_state,
    biflownet_state,
    discriminator_state,
)
from prdit_core.classes import VolumeClass
from prdit_core.geometry import cubic
from prdit_core.intensity import Intensity
from prdit_core.models.latent.autoencoder import Autoencoder
from prdit_core.models.latent.biflownet import BiFlowNet
from prdit_core.models.latent.config import AutoencoderConfig, BiFlowConfig
from prdit_core.models.latent.discriminator import Discriminator
from prdit_core.models.latent.intra import position_table

if TYPE_CHECKING:
    from torch import Tensor

GAINS = ("norm.weight", "norm1.weight", "norm2.weight", "final_block.0.weight", ".gamma")


def recipe_weight(name: str, shape: tuple[int, ...]) -> Tensor:
    """One weight as the recording wrote it (README-meddiffusion, rules 2 to 7)."""
    stream = np.random.RandomState((7 * 1000003 + zlib.crc32(name.encode())) % 2**32)
    z = stream.standard_normal(shape)
    if name.endswith(GAINS):
        value = 1 + 0.1 * z
    elif len(shape) == 2:
        value = 0.8 / np.sqrt(shape[1]) * z
    elif len(shape) == 5:
        value = 0.8 / np.sqrt(np.prod(shape[1:])) * z
    else:
        value = 0.05 * z
    return torch.from_numpy(np.asarray(value, dtype=np.float32))


def official_state(numbers: dict[str, Any], positions: Tensor | None = None) -> dict[str, Tensor]:
    """Weights of a recording, stored, or drawn and checked against their digests."""
    state = {}
    for number, name in enumerate(map(str, numbers["sd_keys"])):
        if f"sd/{name}" in numbers:
            state[name] = tensor(numbers[f"sd/{name}"])
            continue
        shape = ast.literal_eval(str(numbers["sd_shapes"][number]))
        table = positions if name == "pos_embed" else None
        weight = recipe_weight(name, shape) if table is None else table
        exact = weight.double()
        found = [exact.sum().item(), exact.square().sum().item(), weight.numel()]
        np.testing.assert_allclose(found, numbers["digests"][number], rtol=1e-6, atol=1e-4)
        state[name] = weight
    return state


def autoencoder(numbers: dict[str, Any]) -> Autoencoder:
    theirs = ast.literal_eval(str(numbers["config"]))
    config = AutoencoderConfig(
        ratio=theirs["downsample"][0],
        width=theirs["n_hiddens"],
        groups=theirs["num_groups"],
        code_size=theirs["embedding_dim"],
        codes=theirs["n_codes"],
        patch=theirs["patch_size"],
    )
    model = Autoencoder(config)
    model.load_state_dict(autoencoder_state(official_state(numbers)), strict=True)
    return model.eval()


def discriminator(numbers: dict[str, Any]) -> Discriminator:
    theirs = ast.literal_eval(str(numbers["config"]))
    model = Discriminator(1, theirs["disc_channels"])
    model.load_state_dict(discriminator_state(official_state(numbers)), strict=True)
    return model.eval()


def named(*names: str) -> tuple[VolumeClass, ...]:
    """Classes in HU on a grid of 64 voxels."""
    grid = cubic(64, 320.0)
    return tuple(VolumeClass(name=one, intensity=Intensity(), geometries=(grid,)) for one in names)


def biflow_config(numbers: dict[str, Any]) -> BiFlowConfig:
    theirs = ast.literal_eval(str(numbers["config"]))
    flags = enumerate(theirs["use_sparse_linear_attn"])
    return BiFlowConfig(
        channels=theirs["channels"],
        width=theirs["dim"],
        multipliers=theirs["dim_mults"],
        sub_volume=theirs["sub_volume_size"][0],
        patch=theirs["patch_size"],
        attention=tuple(level for level, flag in flags if flag),
        heads=theirs["attn_heads"],
        intra_heads=theirs["DiT_num_heads"],
        groups=theirs["resnet_groups"],
        classes=named(*(f"class-{number}" for number in range(theirs["cond_classes"]))),
        null=False,
    )


def biflownet(numbers: dict[str, Any]) -> BiFlowNet:
    config = biflow_config(numbers)
    model = BiFlowNet(config)
    table = position_table(config.sub_volume // config.patch, config.width)
    model.load_state_dict(biflownet_state(official_state(numbers, table)), strict=True)
    return model.eval()

"""Encoder and decoder of the Patch-Volume autoencoder, and the whole of it (spec 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from prdit_core.models.latent.layers import VoxelAttention
from prdit_core.models.latent.quantiser import Quantiser

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prdit_core.models.latent.config import AutoencoderConfig

EPS = 1e-6
HEADS = 4


class CodecBlock(nn.Module):
    """Twice norm, SiLU, convolution, beside the input."""

    def __init__(self, width: int, out: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, width, EPS)
        self.conv1 = nn.Conv3d(width, out, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, out, EPS)
        self.conv2 = nn.Conv3d(out, out, 3, padding=1)
        self.skip = nn.Identity() if width == out else nn.Conv3d(width, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, D, H, W) to (B, out, D, H, W)."""
        y = self.conv1(functional.silu(self.norm1(x)))
        y = self.conv2(functional.silu(self.norm2(y)))
        return cast("Tensor", self.skip(x) + y)


def _middle(width: int, groups: int) -> nn.Sequential:
    attention = VoxelAttention(nn.GroupNorm(groups, width, EPS), width, HEADS)
    return nn.Sequential(
        CodecBlock(width, width, groups), attention, CodecBlock(width, width, groups)
    )


def _end(width: int, out: int, groups: int) -> nn.Sequential:
    return nn.Sequential(
        nn.GroupNorm(groups, width, EPS), nn.SiLU(), nn.Conv3d(width, out, 3, padding=1)
    )


def _levels(
    widths: Sequence[int], groups: int, resized: type[nn.Conv3d | nn.ConvTranspose3d]
) -> nn.ModuleList:
    """Two blocks a level; between levels maps are halved or doubled by a `resized` convolution."""
    levels = nn.ModuleList()
    for before, width in zip((widths[0], *widths), widths, strict=False):
        blocks: list[nn.Module] = [
            CodecBlock(before, width, groups),
            CodecBlock(width, width, groups),
        ]
        if len(levels) < len(widths) - 1:
            blocks.append(resized(width, width, 4, stride=2, padding=1))
        levels.append(nn.Sequential(*blocks))
    return levels


class PatchEncoder(nn.Module):
    """Volumes or patches to features of `code_size` channels, `ratio` times smaller."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        widths, groups = config.widths, config.groups
        self.first = nn.Conv3d(config.channels, config.width, 3, padding=1)
        self.levels = _levels(widths, groups, nn.Conv3d)
        self.middle = _middle(widths[-1], groups)
        self.end = _end(widths[-1], config.code_size, groups)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, D, H, W) to (B, code_size, D / ratio, H / ratio, W / ratio)."""
        x = self.first(x)
        for level in self.levels:
            x = level(x)
        return cast("Tensor", self.end(self.middle(x)))


class Decoder(nn.Module):
    """Codes to volumes: the encoder mirrored, without an activation at the end."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        widths, groups = config.widths[::-1], config.groups
        self.first = nn.Conv3d(config.code_size, widths[0], 3, padding=1)
        self.middle = _middle(widths[0], groups)
        self.levels = _levels(widths, groups, nn.ConvTranspose3d)
        self.end = _end(widths[-1], config.channels, groups)

    def forward(self, z: Tensor) -> Tensor:
        """(B, code_size, d, h, w) to (B, C, ratio d, ratio h, ratio w)."""
        x = self.middle(self.first(z))
        for level in self.levels:
            x = level(x)
        return cast("Tensor", self.end(x))


class Autoencoder(nn.Module):
    """Encoder, quantiser and decoder, with a 1x1x1 convolution on either side of the codes.

    Attributes
    ----------
    low, high : (code_size,) latents that are scaled to -1 and 1
    picture, picture_bias : (C, code_size) and (C,), from scaled latents to their linear preview
    """

    low: Tensor
    high: Tensor
    picture: Tensor
    picture_bias: Tensor

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = PatchEncoder(config)
        self.before = nn.Conv3d(config.code_size, config.code_size, 1)
        self.quantiser = Quantiser(config.codes, config.code_size)
        self.after = nn.Conv3d(config.code_size, config.code_size, 1)
        self.decoder = Decoder(config)
        self.register_buffer("low", -torch.ones(config.code_size))
        self.register_buffer("high", torch.ones(config.code_size))
        self.register_buffer("picture", torch.zeros(config.channels, config.code_size))
        self.register_buffer("picture_bias", torch.zeros(config.channels))

    def encode(self, x: Tensor) -> Tensor:
        """Unquantised latents (B, code_size, d, h, w) of patches, or of a volume as one patch."""
        return cast("Tensor", self.before(self.encoder(x)))

    def decode(self, z: Tensor) -> Tensor:
        """Volumes of latents, by their nearest codes."""
        return cast("Tensor", self.decoder(self.after(self.quantiser.nearest(z))))

    @torch.no_grad()
    def fit_picture(self, z: Tensor, means: Tensor) -> Tensor:
        """Fill in the linear preview by least squares.

        Parameters
        ----------
        z : (N, code_size) latents
        means : (N, C) of the voxels that each stands for

        Returns
        -------
        The latents (N, code_size), scaled.
        """
        scaled = scale(z, self.low, self.high)
        known = torch.cat([scaled, torch.ones_like(scaled[:, :1])], dim=1).double().cpu()
        map_and_bias = torch.linalg.lstsq(known, means.double().cpu()).solution
        self.picture.copy_(map_and_bias[:-1].T)
        self.picture_bias.copy_(map_and_bias[-1])
        return scaled


def scale(z: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Latents so that `low` becomes -1 and `high` 1; what lies beyond is not clipped (spec 3)."""
    return 2 * (z - low) / (high - low) - 1

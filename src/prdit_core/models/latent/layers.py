"""Attention over all voxels of a grid, and the block of BiFlowNet's U-Net."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

HEAD = 32


def attend(qkv: Tensor, heads: int) -> Tensor:
    """Multi-head self-attention of tokens.

    Parameters
    ----------
    qkv : (B, N, 3W), queries, keys and values, each head after head

    Returns
    -------
    (B, N, W)
    """
    split = torch.unflatten(qkv, 2, (3, heads, -1)).permute(2, 0, 3, 1, 4)  # 3 B E N W/E
    query, key, value = split.unbind(0)
    mixed = functional.scaled_dot_product_attention(query, key, value)
    return mixed.transpose(1, 2).flatten(2)


class ChannelNorm(nn.Module):
    """Normalisation of each voxel over its channels, with a gain alone."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, W, D, H, W) to the same."""
        last = functional.layer_norm(x.movedim(1, -1), self.gain.shape, self.gain)
        return last.movedim(-1, 1)


class VoxelAttention(nn.Module):
    """x + attention(norm(x)) over all voxels, in heads of 32; tokens are row-major."""

    def __init__(self, norm: nn.Module, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = norm
        self.qkv = nn.Linear(width, 3 * HEAD * heads, bias=False)
        self.out = nn.Conv3d(HEAD * heads, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, W, D, H, W) to the same."""
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        mixed = attend(self.qkv(tokens), self.heads).transpose(1, 2)
        return x + cast("Tensor", self.out(torch.unflatten(mixed, 2, x.shape[2:])))


class ConvBlock(nn.Module):
    """Convolution, norm, and SiLU, with room for a modulation before it."""

    def __init__(self, width: int, out: int, groups: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(width, out, 3, padding=1)
        self.norm = nn.GroupNorm(groups, out)

    def forward(self, x: Tensor, modulation: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """(B, width, D, H, W) to (B, out, D, H, W)."""
        x = self.norm(self.conv(x))
        if modulation is not None:
            scale, shift = modulation
            x = x * (1 + scale) + shift
        return functional.silu(x)


class ResNetBlock(nn.Module):
    """Two convolution blocks beside the input, the first modulated; 0 conditions: neither."""

    def __init__(self, width: int, out: int, condition: int, groups: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(condition, 2 * out) if condition else None
        self.block1 = ConvBlock(width, out, groups)
        self.block2 = ConvBlock(out, out, groups)
        self.skip = nn.Identity() if width == out else nn.Conv3d(width, out, 1)

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """(B, width, D, H, W) and (B, condition) to (B, out, D, H, W)."""
        scale_and_shift = None
        if self.modulation is not None and c is not None:
            both = self.modulation(functional.silu(c))[:, :, None, None, None]
            scale, shift = both.chunk(2, dim=1)
            scale_and_shift = scale, shift
        return cast("Tensor", self.skip(x) + self.block2(self.block1(x, scale_and_shift)))

"""Attention over all voxels of a grid, which autoencoder and BiFlowNet share."""

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

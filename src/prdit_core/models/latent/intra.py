"""Intra-patch flow of BiFlowNet: a small transformer inside every sub-volume (spec 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from prdit_core.models.latent.layers import ResNetBlock, attend

if TYPE_CHECKING:
    from prdit_core.models.latent.config import BiFlowConfig

EPS = 1e-6
MLP = 4


class IntraModulation(nn.Module):
    """A condition to shifts, scales and gates."""

    def __init__(self, condition: int, width: int, parts: int) -> None:
        super().__init__()
        self.linear = nn.Linear(condition, parts * width)
        self.parts = parts

    def forward(self, c: Tensor) -> tuple[Tensor, ...]:
        """(B, condition) to `parts` of (B, 1, width)."""
        rows: Tensor = self.linear(functional.silu(c)).unsqueeze(1)
        return rows.chunk(self.parts, dim=2)


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """LayerNorm without parameters, times 1 + scale, plus shift."""
    return functional.layer_norm(x, x.shape[-1:], eps=EPS) * (1 + scale) + shift


class IntraBlock(nn.Module):
    """Transformer block; one on the way out takes what an earlier one gave, too."""

    def __init__(self, width: int, heads: int, condition: int, skip: bool) -> None:
        super().__init__()
        self.heads = heads
        self.skip = nn.Linear(2 * width, width) if skip else None
        self.modulation = IntraModulation(condition, width, 6)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, MLP * width),
            nn.GELU("tanh"),
            nn.Linear(MLP * width, width),
        )

    def forward(self, x: Tensor, c: Tensor, earlier: Tensor | None = None) -> Tensor:
        """(R, N, width) and (R, condition) to (R, N, width)."""
        if self.skip is not None and earlier is not None:
            x = self.skip(torch.cat([x, earlier], dim=2))
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(c)
        x = x + gate1 * self.attended(modulated(x, shift1, scale1))
        x = x + gate2 * self.mlp(modulated(x, shift2, scale2))
        return x

    def attended(self, x: Tensor) -> Tensor:
        """Attention among the tokens of a sub-volume."""
        return cast("Tensor", self.out(attend(self.qkv(x), self.heads)))


class IntraConvBlock(nn.Module):
    """The U-Net's block in place of the transformer's, on the tokens of a sub-volume (Table IV)."""

    def __init__(self, width: int, groups: int, condition: int, skip: bool) -> None:
        super().__init__()
        self.skip = nn.Linear(2 * width, width) if skip else None
        self.block = ResNetBlock(width, width, condition, groups)

    def forward(self, x: Tensor, c: Tensor, earlier: Tensor | None = None) -> Tensor:
        """(R, N, width) and (R, condition) to (R, N, width)."""
        if self.skip is not None and earlier is not None:
            x = self.skip(torch.cat([x, earlier], dim=2))
        edge = round(x.shape[1] ** (1 / 3))
        grid = torch.unflatten(x.transpose(1, 2), 2, (edge, edge, edge))
        return cast("Tensor", self.block(grid, c)).flatten(2).transpose(1, 2)


def intra_block(config: BiFlowConfig, skip: bool) -> nn.Module:
    """A block of the kind that a configuration names."""
    width, condition = config.width, 8 * config.width
    if config.blocks == "u-net":
        return IntraConvBlock(width, config.groups, condition, skip)
    return IntraBlock(width, config.intra_heads, condition, skip)


class Head(nn.Module):
    """Tokens to the latent voxels they stand for."""

    def __init__(self, width: int, patch: int, condition: int) -> None:
        super().__init__()
        self.modulation = IntraModulation(condition, width, 2)
        self.linear = nn.Linear(width, patch**3 * width)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """(R, N, width) to (R, N, patch^3 width), the width fastest."""
        shift, scale = self.modulation(c)
        return cast("Tensor", self.linear(modulated(x, shift, scale)))


class IntraInputs(nn.Module):
    """The two blocks in of the flow, and a map from each; a dual ControlNet has a copy of it.

    Parameters
    ----------
    channels : that it reads
    """

    positions: Tensor

    def __init__(self, config: BiFlowConfig, channels: int) -> None:
        super().__init__()
        width, condition = config.width, 8 * config.width
        self.edge, self.patch = config.sub_volume, config.patch
        self.embedding = nn.Conv3d(channels, width, self.patch, self.patch)
        self.register_buffer("positions", position_table(self.edge // self.patch, width))
        self.inputs = nn.ModuleList(intra_block(config, skip=False) for _ in range(2))
        self.input_heads = nn.ModuleList(Head(width, self.patch, condition) for _ in range(2))

    def enter(self, x: Tensor, c: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Maps (B, width, D, H, W) for the way down of the U-Net, and the tokens of each."""
        tokens = self.embed(x)
        rows = _rows(c, tokens)
        maps, kept = [], []
        for block, head in zip(self.inputs, self.input_heads, strict=True):
            tokens = block(tokens, rows)
            kept.append(tokens)
            maps.append(self.joined(head(tokens, rows), x))
        return maps, kept

    def embed(self, x: Tensor) -> Tensor:
        """Positioned tokens (B P, N, width) of all sub-volumes, samples slowest."""
        tokens = self.embedding(split(x, self.edge)).flatten(2).transpose(1, 2)
        return cast("Tensor", tokens + self.positions)

    def joined(self, tokens: Tensor, like: Tensor) -> Tensor:
        """Voxels of tokens (B P, N, patch^3 width), all sub-volumes of `like` in place."""
        grid = tuple(edge // self.edge for edge in like.shape[2:])
        count, p = self.edge // self.patch, self.patch
        x = tokens.reshape(-1, *grid, count, count, count, p, p, p, tokens.shape[-1] // p**3)
        x = x.permute(0, 10, 1, 4, 7, 2, 5, 8, 3, 6, 9)
        return x.flatten(8, 10).flatten(5, 7).flatten(2, 4)


class IntraPatchFlow(IntraInputs):
    """Two blocks in, one in the middle, two out, and a map from each of the outer four."""

    def __init__(self, config: BiFlowConfig) -> None:
        super().__init__(config, config.channels)
        width, condition = config.width, 8 * config.width
        self.middle = intra_block(config, skip=False)
        self.outputs = nn.ModuleList(intra_block(config, skip=True) for _ in range(2))
        self.output_heads = nn.ModuleList(Head(width, self.patch, condition) for _ in range(2))

    def forward(self, x: Tensor, c: Tensor) -> list[Tensor]:
        """Maps (B, width, D, H, W): two for the way down of the U-Net, two for the way up."""
        maps, kept = self.enter(x, c)
        rows = _rows(c, kept[-1])
        tokens = self.middle(kept[-1], rows)
        for block, head in zip(self.outputs, self.output_heads, strict=True):
            tokens = block(tokens, rows, kept.pop())
            maps.append(self.joined(head(tokens, rows), x))
        return maps


def _rows(c: Tensor, tokens: Tensor) -> Tensor:
    """The condition of every sub-volume."""
    return c.repeat_interleave(len(tokens) // len(c), dim=0)


def split(x: Tensor, edge: int) -> Tensor:
    """Blocks (B P, C, edge, edge, edge) of (B, C, D, H, W), the last axis fastest."""
    for axis in (2, 4, 6):
        x = torch.unflatten(x, axis, (-1, edge))
    return x.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(0, 3)


def position_table(count: int, width: int) -> Tensor:
    """Fixed positions (1, count^3, width): for each axis in turn sines, then cosines."""
    bands = width // 6
    rates = 10000.0 ** (-torch.arange(bands, dtype=torch.float64) / bands)
    angles = torch.arange(count, dtype=torch.float64)[:, None] * rates
    axis = torch.cat([angles.sin(), angles.cos()], dim=1)
    shape = (count, count, count, 2 * bands)
    tables = [
        axis[:, None, None].expand(shape),
        axis[None, :, None].expand(shape),
        axis[None, None].expand(shape),
    ]
    return torch.cat(tables, dim=3).flatten(0, 2)[None].float()

"""A plain transcription of the formulas with explicit softmax, to measure ours against."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from prdit_core.models.prdit.layers import position_table, time_features
from prdit_core.patches import assemble_tiles

if TYPE_CHECKING:
    from torch import Tensor

    from prdit_core.models.prdit.global_residual import Block
    from prdit_core.models.prdit.network import PRDiT


def layer_norm(x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / torch.sqrt(centred.square().mean(-1, keepdim=True) + 1e-6)


def attention(block: Block, x: Tensor) -> Tensor:
    part = block.attention
    batch, tokens, width = x.shape
    qkv = part.qkv(x).reshape(batch, tokens, 3, part.heads, width // part.heads)
    query, key, value = qkv.permute(2, 0, 3, 1, 4)
    scores = query @ key.transpose(-1, -2) / (width // part.heads) ** 0.5
    mixed = torch.softmax(scores, dim=-1) @ value
    return part.out(mixed.transpose(1, 2).reshape(batch, tokens, width))


def patches(model: PRDiT, x: Tensor) -> Tensor:
    config = model.config
    padded = functional.pad(x, (config.padding,) * 6, mode="reflect")
    for axis in (2, 3, 4):
        padded = padded.unfold(axis, config.patch, config.stride)
    grid = padded.shape[2:5]
    return padded.permute(0, 2, 3, 4, 1, 5, 6, 7).reshape(x.shape[0], grid.numel(), -1)


def forward(model: PRDiT, x: Tensor, t: Tensor) -> Tensor:
    """The spec's sections 2 to 5, step by step."""
    config, state = model.config, x
    grid = tuple(edge // config.stride for edge in x.shape[2:])
    v = patches(model, x)
    c = functional.silu(model.time.shared(time_features(t)))

    local = model.local
    six = local.modulation.linear(functional.silu(model.time.local_head(c)))[:, None].chunk(6, -1)
    z = local.first(layer_norm(v) * (1 + six[1]) + six[0])
    z = local.second(layer_norm(z) * (1 + six[3]) + six[2])
    tokens = local.out((z + v) * (1 + six[5]) + six[4])

    part = model.global_residual
    c = functional.silu(model.time.global_head(c))
    x = part.embedding(v) + position_table(grid, config.width).to(x.device)
    for block in part.blocks:
        six = block.modulation.linear(c)[:, None].chunk(6, -1)
        x = x + six[2] * attention(block, layer_norm(x) * (1 + six[1]) + six[0])
        x = x + six[5] * block.mlp(layer_norm(x) * (1 + six[4]) + six[3])
    shift, scale = part.modulation.linear(c)[:, None].chunk(2, -1)
    tokens = tokens + part.out(layer_norm(x) * (1 + scale) + shift)
    prediction = assemble_tiles(tokens, grid, config.stride)
    if config.base_heads == "apart":
        return prediction
    theta = (t * (torch.pi / 2000))[:, None, None, None, None]
    eps, x0 = prediction.chunk(2, dim=1)
    missing = state - theta.cos() * x0 - theta.sin() * eps
    return torch.cat([eps + theta.sin() * missing, x0 + theta.cos() * missing], dim=1)

"""How a volume is cut into tiles over an offset, and put together again (paper III).

A volume of edges N is surrounded by a border one tile P wide. For an offset o in 0..P-1 of each
axis, tiles start at o + P i, i = 0..N/P, in coordinates of the surrounded volume; together they
cover the volume exactly once.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prdit_core.models.contracts import Shape
    from prdit_core.patches import Box


def tile_starts(shape: Shape, tile: Shape, offset: Shape) -> list[Shape]:
    """Where tiles start, the last axis fastest; those that lie in the border alone as well."""
    axes = [
        [first + edge * number for number in range(voxels // edge + 1)]
        for voxels, edge, first in zip(shape, tile, offset, strict=True)
    ]
    return list(product(*axes))  # type: ignore[arg-type]  # three axes


def inside(start: Shape, shape: Shape, tile: Shape) -> tuple[Box, Box] | None:
    """What a tile has of the volume: where in the volume, and where in the tile; None: nothing."""
    volume, own = [], []
    for first, voxels, edge in zip(start, shape, tile, strict=True):
        low, high = max(first - edge, 0), min(first, voxels)  # the border is one tile wide
        if low >= high:
            return None
        volume.append(slice(low, high))
        own.append(slice(low - first + edge, high - first + edge))
    return (volume[0], volume[1], volume[2]), (own[0], own[1], own[2])


def surround(x: Tensor, tile: Shape, border: Tensor) -> Tensor:
    """A state (B, C, D, H, W) in a border (B, C, D + 2P, H + 2P, W + 2P), whose middle is lost."""
    middle = [slice(edge, -edge) for edge in tile]
    border[..., middle[0], middle[1], middle[2]] = x
    return border


def cut(x: Tensor, start: Shape, tile: Shape) -> Tensor:
    """The tile of the last three axes that starts there."""
    box = [slice(first, first + edge) for first, edge in zip(start, tile, strict=True)]
    return x[..., box[0], box[1], box[2]]


def context(x: Tensor, factor: int) -> Tensor:
    """The whole noisy volume as means over blocks, (B, C, D / factor, ...); its noise is weaker."""
    return functional.avg_pool3d(x, factor)


def coordinates(shape: Shape, tile: Shape) -> Tensor:
    """Place of every voxel of the surrounded volume, (3, D + 2P, H + 2P, W + 2P).

    -1 to 1 over the centres of the volume's voxels, going on evenly into the border.
    """
    lines = [
        2 * torch.arange(-edge, voxels + edge, dtype=torch.float32) / (voxels - 1) - 1
        for voxels, edge in zip(shape, tile, strict=True)
    ]
    return torch.stack(torch.meshgrid(*lines, indexing="ij"))


def stitch(tiles: Sequence[Tensor], starts: Sequence[Shape], shape: Shape, tile: Shape) -> Tensor:
    """A volume (C, D, H, W) of its tiles (C, *P); what they have of the border is dropped."""
    volume = tiles[0].new_empty((tiles[0].shape[0], *shape))
    for part, start in zip(tiles, starts, strict=True):
        boxes = inside(start, shape, tile)
        if boxes is not None:
            volume[(..., *boxes[0])] = part[(..., *boxes[1])]
    return volume

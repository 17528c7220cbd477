"""Volumes to overlapping patches and predicted tiles back to volumes (3.1, Fig. 1)."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from prdit_core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

TokenGrid = tuple[int, int, int]
Box = tuple[slice, slice, slice]  # voxels along (D, H, W)


def random_box(
    shape: tuple[int, ...], edges: tuple[int, ...], multiple: int, stream: torch.Generator
) -> Box:
    """A box with such edges somewhere in a volume (D, H, W), all places alike likely.

    Parameters
    ----------
    multiple : what the lower limits of the box are multiples of
    """
    depth, height, width = (
        multiple * int(torch.randint((whole - edge) // multiple + 1, (1,), generator=stream))
        for whole, edge in zip(shape, edges, strict=True)
    )
    return (
        slice(depth, depth + edges[0]),
        slice(height, height + edges[1]),
        slice(width, width + edges[2]),
    )


def grid_of(shape: tuple[int, ...], stride: int, padding: int) -> TokenGrid:
    """Number of tokens along (D, H, W).

    Raises
    ------
    UsageError
        If an edge is no multiple of the stride or too short for the reflected border.
    """
    depth, height, width = shape[-3:]
    if any(edge % stride or edge <= padding for edge in (depth, height, width)):
        raise UsageError(
            f"volume {depth} x {height} x {width} does not fit the model: every edge must be a "
            f"multiple of the stride {stride} and longer than the padding {padding}; crop or pad it"
        )
    return depth // stride, height // stride, width // stride


def extract_patches(x: Tensor, patch: int, stride: int, padding: int) -> Tensor:
    """Cut overlapping patches out of a volume padded by reflection.

    Parameters
    ----------
    x : (B, C, D, H, W)

    Returns
    -------
    (B, N, C patch^3) tokens, row-major over the grid; inside a token channel-major, then row-major.
    """
    grid_of(tuple(x.shape), stride, padding)
    return cut_patches(pad_reflected(x, padding), patch, stride)


def pad_reflected(x: Tensor, padding: int) -> Tensor:
    """A volume (B, C, D, H, W) with a border reflected on six faces, its edge not repeated."""
    return functional.pad(x, (padding,) * 6, mode="reflect") if padding else x


def cut_patches(x: Tensor, patch: int, stride: int) -> Tensor:
    """All patches of a volume that has its border, or of a box of it; else as `extract_patches`."""
    windows = x.unfold(2, patch, stride).unfold(3, patch, stride).unfold(4, patch, stride)
    batch, _, depth, height, width = windows.shape[:5]
    ordered = windows.permute(0, 2, 3, 4, 1, 5, 6, 7)  # B D H W C p p p
    return ordered.reshape(batch, depth * height * width, -1)


def assemble_tiles(tokens: Tensor, grid: TokenGrid, stride: int) -> Tensor:
    """Lay predicted tiles side by side; they do not overlap.

    Parameters
    ----------
    tokens : (B, N, stride^3 C), channel fastest

    Returns
    -------
    (B, C, D, H, W)
    """
    depth, height, width = grid
    tiles = tokens.reshape(tokens.shape[0], *grid, stride, stride, stride, -1)
    ordered = tiles.permute(0, 7, 1, 4, 2, 5, 3, 6)  # B C gd s gh s gw s
    return ordered.reshape(tokens.shape[0], -1, depth * stride, height * stride, width * stride)


def boxes(shape: TokenGrid, edge: int) -> Iterator[Box]:
    """Boxes of at most `edge` voxels along each axis that fill a volume, row-major."""
    cuts = [[slice(a, min(a + edge, n)) for a in range(0, n, edge)] for n in shape]
    yield from itertools.product(*cuts)

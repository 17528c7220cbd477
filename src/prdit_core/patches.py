"""Volumes to overlapping patches and predicted tiles back to volumes (3.1, Fig. 1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional

from prdit_core.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

Grid = tuple[int, int, int]


def grid_of(shape: tuple[int, ...], stride: int, padding: int) -> Grid:
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
    if padding:
        x = functional.pad(x, (padding,) * 6, mode="reflect")
    windows = x.unfold(2, patch, stride).unfold(3, patch, stride).unfold(4, patch, stride)
    batch, _, depth, height, width = windows.shape[:5]
    ordered = windows.permute(0, 2, 3, 4, 1, 5, 6, 7)  # B D H W C p p p
    return ordered.reshape(batch, depth * height * width, -1)


def assemble_tiles(tokens: Tensor, grid: Grid, stride: int) -> Tensor:
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

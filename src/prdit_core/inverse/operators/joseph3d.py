"""Joseph's method in space, without a matrix: rays step from plane to plane of voxels.

Each takes the bilinear interpolation within the planes across the axis it runs along most. The
transpose is that of torch's interpolation, number for number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

# Samples along rays that are taken at once; this and the volume bound the memory.
SAMPLES = 2**21


def working_bytes(rays: int, dtype: torch.dtype) -> int:
    """Bytes for samples and their places, and for the directions of the rays of a view."""
    return 4 * SAMPLES * dtype.itemsize + 16 * rays * torch.float64.itemsize


def project(volumes: Tensor, place: Tensor, rates: Tensor) -> Tensor:
    """Line integrals: volumes (N, D, H, W) to (N, R).

    Parameters
    ----------
    place : (3,) a point on all rays, counted in voxels, (z, y, x)
    rates : (R, 3) voxels that the rays go per mm
    """
    sums = volumes.new_empty(len(volumes), len(rates))
    for axis, rays, grid, step_mm in _bundles(place, rates, volumes):
        planes = volumes.movedim(axis + 1, 0).contiguous()  # P N h w
        samples = F.grid_sample(planes, grid, align_corners=False)  # P N 1 R
        sums[:, rays] = samples.sum(0)[:, 0] * step_mm
    return sums


def spread(sums: Tensor, place: Tensor, rates: Tensor, into: Tensor) -> None:
    """Add the transpose of `project`, (N, R), to volumes (N, D, H, W)."""
    for axis, rays, grid, step_mm in _bundles(place, rates, into):
        planes = into.movedim(axis + 1, 0)
        samples = (sums[:, rays] * step_mm)[None, :, None].expand(len(planes), -1, -1, -1)
        # Interpolation and border as in `grid_sample`: bilinear, zeros.
        back, _ = torch.ops.aten.grid_sampler_2d_backward(
            samples, sums.new_zeros(()).expand(planes.shape), grid, 0, 0, False, (True, False)
        )
        planes += back


def _bundles(
    place: Tensor, rates: Tensor, like: Tensor
) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
    """Rays along one axis at a time, not too many at once.

    Yields the axis, their numbers, where they meet its planes as `grid_sample` counts,
    (P, 1, R, 2), and mm from plane to plane.
    """
    shape, main = like.shape[1:], rates.abs().argmax(1)
    for axis in range(3):
        lines = torch.arange(shape[axis]).to(like)
        height, width = (other for other in range(3) if other != axis)
        chosen, several = torch.nonzero(main == axis)[:, 0], max(1, SAMPLES // shape[axis])
        for number in range(0, len(chosen), several):
            rays = chosen[number : number + several]
            rate = rates[rays]
            grid = like.new_empty(shape[axis], 1, len(rays), 2)
            for column, other in enumerate((width, height)):
                slope = rate[:, other] / rate[:, axis]
                first = place[other] - place[axis] * slope
                first, slope = (2 * first + 1) / shape[other] - 1, 2 * slope / shape[other]
                grid[:, 0, :, column] = first.to(like) + lines[:, None] * slope.to(like)
            yield axis, rays.to(like.device), grid, (1 / rate[:, axis].abs()).to(like)

"""Our own small encoder: what a chest of 320 mm on 64^3 voxels shows, as a few numbers."""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

LEVELS = 4


class PhantomEncoder(nn.Module):
    """Four strided convolutions; texture is averaged over all of space, anatomy over octants.

    The first level sees every voxel, so that blur and noise show; the last sees half the chest,
    and each of its octants apart, so that parts in wrong places show.

    Parameters
    ----------
    width : channels of the first level; they double from level to level
    features : numbers that describe a volume, F
    """

    def __init__(self, width: int, features: int) -> None:
        super().__init__()
        widths = [1, *(width * 2**level for level in range(LEVELS))]
        self.convolutions = nn.ModuleList(
            nn.Conv3d(inner, outer, 3, stride=2, padding=1, bias=False)
            for inner, outer in pairwise(widths)
        )
        self.norms = nn.ModuleList(nn.BatchNorm3d(outer) for outer in widths[1:])
        self.out = nn.Linear(sum(widths[1:-1]) + 8 * widths[-1], features)
        self.scale = nn.BatchNorm1d(features, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, D, H, W) in model units, edges multiples of 32, to features (B, F)."""
        seen = []
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = functional.relu(norm(convolution(x)))
            seen.append(x.mean(dim=(2, 3, 4)))
        seen[-1] = functional.avg_pool3d(x, [edge // 2 for edge in x.shape[2:]]).flatten(1)
        return cast("Tensor", self.scale(self.out(torch.cat(seen, dim=1))))


def expected_shapes(width: int, features: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all tensors of an encoder, without allocating them."""
    with torch.device("meta"):
        model = PhantomEncoder(width, features)
    return {name: tuple(tensor.shape) for name, tensor in weights_of(model).items()}


def weights_of(model: PhantomEncoder) -> dict[str, Tensor]:
    """All tensors of a state dict but the counters of the norms, which evaluation does not use."""
    state = model.state_dict()
    return {name: t for name, t in state.items() if not name.endswith("num_batches_tracked")}

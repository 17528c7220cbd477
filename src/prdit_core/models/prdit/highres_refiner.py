"""High-resolution refiner, stage 3: what half the resolution cannot show (3.4, Fig. 3)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from prdit_core.models.prdit.layers import TimeEmbedding
from prdit_core.models.prdit.local_denoiser import LocalDenoiser
from prdit_core.patches import assemble_tiles, boxes, cut_patches, grid_of, pad_reflected
from prdit_core.schedule import T

if TYPE_CHECKING:
    from prdit_core.patches import Box
    from prdit_core.prdit_config import Norm, RefinerConfig, Shows

# Bound of a tile's activations. On a CPU tiles that stay near its caches are also the fastest.
TILE_BYTES = 16 * 2**20
NOISE_OF_MEANS = 8**-0.5  # strength of the noise in means over 2^3 voxels


class HighResRefiner(nn.Module):
    """A Local Denoiser with a time embedding of its own, evaluated tile by tile.

    It is local: a tile depends on its own patches only, so the result is that of the whole volume
    at once while the memory is bounded.

    Parameters
    ----------
    channels, norm : as in `ModelConfig`

    Attributes
    ----------
    token_width : d
    tile_bytes : bound of the activations of one tile
    """

    def __init__(self, config: RefinerConfig, channels: int, norm: Norm) -> None:
        super().__init__()
        self.config = config
        self.output_channels = 2 * channels
        self.token_width = config.token_width(channels)
        self.tile_bytes = TILE_BYTES
        self.time = TimeEmbedding(config.width, self.token_width, 0)
        tile_width = self.output_channels * config.stride**3
        self.local = LocalDenoiser(self.token_width, tile_width, norm)

    def forward(self, x: Tensor, rough: Tensor, t: Tensor, box: Box | None = None) -> Tensor:
        """Details to add to the upsampled prediction.

        Parameters
        ----------
        x : (B, C, D, H, W) noisy volume at the refiner's resolution
        rough : (B, 2C, D, H, W) upsampled prediction of the resolution below, noise then image
        t : (B,) network time, 0..1000
        box : part of the volume, its limits multiples of the stride; None: all of it

        Returns
        -------
        (B, 2C, D, H, W) noise then image, of `box`.
        """
        config = self.config
        grid_of(tuple(x.shape), config.stride, config.padding)
        seen = x
        if config.sees == "below":
            seen = torch.cat([x, rough.chunk(2, dim=1)[1]], dim=1)
        padded = pad_reflected(seen, config.padding)
        if box is not None:
            padded = self._around(padded, box)
            x, rough = x[(..., *box)], rough[(..., *box)]
        details = self._details(padded, self.time.local_head(self.time.base(t)))
        return details if config.heads == "apart" else agreeing(details, rough + details, x, t)

    def _details(self, padded: Tensor, c_local: Tensor) -> Tensor:
        """Details of all that has its border, (B, C, ...) to (B, 2C, ...)."""
        if torch.is_grad_enabled() and self.local.out.weight.requires_grad:
            return self._tile(padded, c_local)  # autograd keeps everything anyway
        batch, (depth, height, width) = padded.shape[0], self._inner(padded)
        out = padded.new_empty(batch, self.output_channels, depth, height, width)
        for tile in boxes((depth, height, width), self.tile_edge(batch)):
            out[(..., *tile)] = self._tile(self._around(padded, tile), c_local)
        return out

    def _around(self, padded: Tensor, box: Box) -> Tensor:
        """A box of a padded volume with its border; limits count without padding."""
        margin = 2 * self.config.padding
        depth, height, width = (slice(part.start, part.stop + margin) for part in box)
        return padded[..., depth, height, width]

    def _tile(self, padded: Tensor, c_local: Tensor) -> Tensor:
        """Details of a box whose border is given."""
        config = self.config
        grid = grid_of(self._inner(padded), config.stride, 0)
        v = cut_patches(padded, config.patch, config.stride)
        return assemble_tiles(self.local(v, c_local), grid, config.stride)

    def _inner(self, padded: Tensor) -> tuple[int, int, int]:
        """Edges without the border."""
        depth, height, width = (edge - 2 * self.config.padding for edge in padded.shape[-3:])
        return depth, height, width

    def tile_edge(self, batch: int) -> int:
        """Edge in voxels of tiles whose activations stay within the bound, at least a stride."""
        tokens = self.tile_bytes // (bytes_per_token(self.token_width) * batch)
        edge = max(int(round(tokens ** (1 / 3), 6)), 1)
        return edge * self.config.stride


def bytes_per_token(token_width: int) -> int:
    """Largest activations of a Local Denoiser per token, about, in float32."""
    return 4 * 6 * token_width


def agreeing(part: Tensor, total: Tensor, x: Tensor, t: Tensor) -> Tensor:
    """A part with which image and noise add up to the state, x = cos(theta) x0 + sin(theta) eps.

    The least change of both: x0 takes cos(theta) of what is missing, eps sin(theta). What is left
    of the heads is the velocity cos(theta) eps - sin(theta) x0, and near t = 0 and T the state
    itself is one of them. Their joint error (Eq. 3) is that of the velocity.

    Parameters
    ----------
    part, total : (B, 2C, D, H, W), noise then image; what is changed, and what it is a part of
    x : (B, C, D, H, W) state
    t : (B,) its time
    """
    theta = t * (0.5 * math.pi / T)
    alpha, sigma = (share[:, None, None, None, None] for share in (theta.cos(), theta.sin()))
    eps, x0 = total.chunk(2, dim=1)
    missing = x - alpha * x0 - sigma * eps
    return part + torch.cat([sigma * missing, alpha * missing], dim=1)


def downsample(x: Tensor) -> Tensor:
    """Every second voxel of a noisy state, so that its noise keeps its strength (3.4).

    (B, C, D, H, W) to (B, C, D/2, H/2, W/2)
    """
    return x[..., ::2, ::2, ::2]


def shown(x: Tensor, t: Tensor, shows: Shows) -> tuple[Tensor, Tensor]:
    """State and time that the resolution below gets of a noisy state and its time.

    Averages over 2^3 voxels hold 1/sqrt(8) of the noise, so they are the state of an earlier time
    on another scale: with theta = (pi / 2) t / T, tan theta' = tan theta / sqrt(8), x' = mean x
    cos theta' / cos theta. A model that learnt on averages sees in them what it learnt on; every
    second voxel is sharper than that, and has but an eighth of what is known.

    (B, C, D, H, W) and (B,) to (B, C, D/2, H/2, W/2) and (B,)
    """
    if shows == "voxels":
        return downsample(x), t
    theta = t * (0.5 * math.pi / T)
    alpha, sigma = torch.cos(theta), torch.sin(theta) * NOISE_OF_MEANS
    scale = torch.hypot(alpha, sigma)[:, None, None, None, None]
    earlier = torch.atan2(sigma, alpha) * (2 * T / math.pi)
    return functional.avg_pool3d(x, 2) / scale, earlier


def below(x0: Tensor, eps: Tensor, shows: Shows) -> tuple[Tensor, Tensor]:
    """Image and noise of the state that `shown` makes of theirs; what is to be predicted there."""
    if shows == "voxels":
        return downsample(x0), downsample(eps)
    return functional.avg_pool3d(x0, 2), functional.avg_pool3d(eps, 2) / NOISE_OF_MEANS


def upsample(prediction: Tensor, shows: Shows) -> Tensor:
    """A joint prediction at twice the resolution: noise nearest, image trilinear (3.4).

    The noise of averages is that of their voxels' mean.

    (B, 2C, D, H, W) to (B, 2C, 2D, 2H, 2W)
    """
    eps, x0 = prediction.chunk(2, dim=1)
    if shows == "averages":
        eps = eps * NOISE_OF_MEANS
    larger = [
        functional.interpolate(eps, scale_factor=2, mode="nearest"),
        functional.interpolate(x0, scale_factor=2, mode="trilinear", align_corners=False),
    ]
    return torch.cat(larger, dim=1)

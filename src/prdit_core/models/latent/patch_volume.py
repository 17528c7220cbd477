"""The Patch-Volume autoencoder as a codec: encoded by patches, decoded at once (spec 2 and 3)."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from prdit_core.models.latent.autoencoder import scale
from prdit_core.models.latent.intra import split

if TYPE_CHECKING:
    from torch import Tensor

    from prdit_core.models.contracts import Shape
    from prdit_core.models.latent.autoencoder import Autoencoder

# Patches that are encoded at once, and bytes that a decoder may take: matters of memory only.
PATCHES_AT_ONCE = 4
DECODER_BYTES = 11 * 2**29
OVERLAP = 32  # of neighbouring windows of a decoder, in voxels; half of those that are small
AIR = -1.0  # in model units


@dataclass(frozen=True)
class PatchVolume:
    """Volumes to scaled latents and back; they are padded with air to whole patches, and cropped.

    Attributes
    ----------
    decoder_bytes : above these a latent is decoded in overlapping windows, which are blended
    shape : of the volumes (D, H, W); None: whatever whole patches a latent stands for
    """

    module: Autoencoder
    decoder_bytes: int = DECODER_BYTES
    shape: Shape | None = None

    def of(self, shape: Shape) -> PatchVolume:
        """The same codec for volumes that are cropped to this shape."""
        return replace(self, shape=shape)

    def channels(self, states: int) -> int:
        """Of the volumes, whatever those of the latents."""
        del states
        return self.module.config.channels

    def to(self, device: str) -> PatchVolume:
        """The same codec there; this one stays where it is."""
        if self.module.low.device == torch.device(device):
            return self
        return replace(self, module=deepcopy(self.module).to(device))

    def padded(self, shape: Shape) -> Shape:
        """Whole patches that hold a volume (D, H, W)."""
        return self.module.config.padded(shape)

    def grid(self, shape: Shape) -> Shape:
        """Grid of the latents of a volume (D, H, W)."""
        return self.module.config.latent_grid(shape)

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """Scaled, unquantised latents (B, code_size, d, h, w), every patch by itself."""
        return self.scaled(encoded_by_patches(self.module, self._with_air(x)))

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """Volumes (B, C, D, H, W) of scaled latents, by their nearest codes."""
        codes = self.module.after(self.module.quantiser.nearest(self.unscaled(z)))
        window = self.window(z)
        whole = window == tuple(z.shape[2:])
        return self._cropped(self.module.decoder(codes) if whole else self._blended(codes, window))

    def preview(self, z: Tensor) -> Tensor:
        """A linear picture of the latents, each voxel as large as it stands for."""
        picture = torch.einsum("cz,bzdhw->bcdhw", self.module.picture, z)
        picture = picture + self.module.picture_bias[:, None, None, None]
        picture = functional.interpolate(picture, scale_factor=float(self.module.config.ratio))
        return self._cropped(picture)

    def scaled(self, z: Tensor) -> Tensor:
        """Every channel by its own bounds; see `scale`."""
        return scale(z, *self._bounds())

    def unscaled(self, z: Tensor) -> Tensor:
        """The inverse of `scaled`."""
        low, high = self._bounds()
        return (z + 1) / 2 * (high - low) + low

    def memory(self, grid: Shape) -> int:
        """Bytes that decoding latents of a grid at once takes, about.

        Where the last level begins, its input of twice the width is there several times (measured
        in `benchmarks/decoding.py`: nine widths).
        """
        config = self.module.config
        voxels = grid[0] * grid[1] * grid[2] * config.ratio**3
        return 4 * 10 * config.width * voxels

    def _with_air(self, x: Tensor) -> Tensor:
        """Whole patches of a volume, with air at its far ends."""
        depth, height, width = self.padded((x.shape[2], x.shape[3], x.shape[4]))
        ends = (0, width - x.shape[4], 0, height - x.shape[3], 0, depth - x.shape[2])
        return functional.pad(x, ends, value=AIR) if any(ends) else x

    def _cropped(self, x: Tensor) -> Tensor:
        """A decoded volume without what it was padded with."""
        if self.shape is None:
            return x
        if self.padded(self.shape) != tuple(x.shape[2:]):
            raise ValueError(
                f"latents of {tuple(x.shape[2:])} voxels are not those of {self.shape}"
            )
        depth, height, width = self.shape
        return x[:, :, :depth, :height, :width]

    def _bounds(self) -> tuple[Tensor, Tensor]:
        places = (slice(None), None, None, None)
        return self.module.low[places], self.module.high[places]

    def window(self, z: Tensor) -> Shape:
        """The largest window that fits: along its longest edge comes one more until it does."""
        whole, counts = [int(edge) for edge in z.shape[2:]], [1, 1, 1]
        edges = list(whole)
        while len(z) * self.memory((edges[0], edges[1], edges[2])) > self.decoder_bytes:
            longest = max(range(3), key=edges.__getitem__)
            if edges[longest] <= 4:
                break
            counts[longest] += 1
            edges[longest] = _window_edge(whole[longest], counts[longest], self._overlap)
        return edges[0], edges[1], edges[2]

    def starts(self, grid: Shape, window: Shape) -> list[list[int]]:
        """Where windows begin along each axis of a latent, the last one so that it ends there."""
        return [_starts(edge, part, self._overlap) for edge, part in zip(grid, window, strict=True)]

    @property
    def _overlap(self) -> int:
        """Of windows, in latent voxels."""
        return OVERLAP // self.module.config.ratio

    def _blended(self, codes: Tensor, window: Shape) -> Tensor:
        """Windows that overlap, each weighed by how far its voxels are from its border."""
        ratio, grid = self.module.config.ratio, codes.shape[2:]
        shape = (len(codes), self.module.config.channels, *(ratio * edge for edge in grid))
        total, weights = codes.new_zeros(shape), codes.new_zeros(shape[2:])
        ramps = [_ramp(ratio * edge, codes) for edge in window]
        weight = ramps[0][:, None, None] * ramps[1][:, None] * ramps[2]
        for corner in product(*self.starts((grid[0], grid[1], grid[2]), window)):
            part, place = codes, (total, weights)
            for axis, (start, edge) in enumerate(zip(corner, window, strict=True)):
                part = part.narrow(axis + 2, start, edge)
                far = ratio * start, ratio * edge
                place = place[0].narrow(axis + 2, *far), place[1].narrow(axis, *far)
            place[0].add_(weight * self.module.decoder(part))
            place[1].add_(weight)
        return total / weights


def decoded_by_patches(module: Autoencoder, z: Tensor) -> Tensor:
    """Volumes of unscaled latents, every patch decoded by itself: what joint decoding improves."""
    edge, ratio = module.config.patch // module.config.ratio, module.config.ratio
    parts = torch.split(split(z, edge), PATCHES_AT_ONCE)
    grid = (ratio * z.shape[2], ratio * z.shape[3], ratio * z.shape[4])
    return joined(torch.cat([module.decode(some) for some in parts]), grid)


def encoded_by_patches(module: Autoencoder, x: Tensor) -> Tensor:
    """Unscaled, unquantised latents (B, code_size, d, h, w), every patch by itself."""
    grid = module.config.grid((x.shape[2], x.shape[3], x.shape[4]))
    patches = torch.split(split(x, module.config.patch), PATCHES_AT_ONCE)
    return joined(torch.cat([module.encode(some) for some in patches]), grid)


def joined(patches: Tensor, grid: Shape) -> Tensor:
    """Latents (B, C, d, h, w) of those of patches (B P, C, e, e, e); the inverse of `split`."""
    edge = patches.shape[-1]
    counts = [along // edge for along in grid]
    x = torch.unflatten(patches, 0, (-1, *counts)).permute(0, 4, 1, 5, 2, 6, 3, 7)
    whole: Tensor = x.flatten(6, 7).flatten(4, 5).flatten(2, 3)
    return whole


def _window_edge(edge: int, count: int, overlap: int) -> int:
    """Of so many windows that overlap by this much, or by half if they are small."""
    return min(-(-(edge + (count - 1) * overlap) // count), -(-2 * edge // (count + 1)))


def _starts(edge: int, part: int, overlap: int) -> list[int]:
    """Where windows begin, the last one at the end."""
    step = part - min(overlap, part // 2)
    count = 1 + -(-(edge - part) // step)
    return [round(number * (edge - part) / max(count - 1, 1)) for number in range(count)]


def _ramp(count: int, like: Tensor) -> Tensor:
    """Rises from the ends of a window to its middle, never 0; slowly first, against seams."""
    places = torch.arange(count, device=like.device, dtype=like.dtype)
    return torch.minimum(places + 1, count - places) ** 2

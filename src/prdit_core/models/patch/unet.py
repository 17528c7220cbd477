"""The network of the patch prior: the U-Net of DDPM with three axes (paper IV; 68.59 M)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from prdit_core.models.initial import draw_weights
from prdit_core.models.sinusoids import sinusoids
from prdit_core.noise import Draw

if TYPE_CHECKING:
    from prdit_core.models.patch.config import PatchConfig


class TimedBlock(nn.Module):
    """Two normalised convolutions with the time between them, and a shortcut."""

    def __init__(self, inward: int, outward: int, times: int, groups: int) -> None:
        super().__init__()
        self.norm_in = nn.GroupNorm(groups, inward, eps=1e-6)
        self.conv_in = nn.Conv3d(inward, outward, 3, padding=1)
        self.time = nn.Linear(times, outward)
        self.norm_out = nn.GroupNorm(groups, outward, eps=1e-6)
        self.conv_out = nn.Conv3d(outward, outward, 3, padding=1)
        self.shortcut = nn.Conv3d(inward, outward, 1) if inward != outward else nn.Identity()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """(B, C, d, h, w) and (B, E) to (B, C', d, h, w)."""
        h = self.conv_in(functional.silu(self.norm_in(x)))
        h = h + self.time(functional.silu(time))[:, :, None, None, None]
        h = self.conv_out(functional.silu(self.norm_out(h)))
        return self.shortcut(x) + h  # type: ignore[no-any-return]


class TileAttention(nn.Module):
    """One head over all voxels of a level."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.query = nn.Conv3d(channels, channels, 1)
        self.key = nn.Conv3d(channels, channels, 1)
        self.value = nn.Conv3d(channels, channels, 1)
        self.out = nn.Conv3d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, d, h, w), and the same."""
        h = self.norm(x)
        query, key, value = (
            part(h).flatten(2).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        seen = functional.scaled_dot_product_attention(query, key, value)
        return x + self.out(seen.transpose(1, 2).reshape(x.shape))  # type: ignore[no-any-return]


class UNetLevel(nn.Module):
    """Residual blocks of one resolution, each with its attention if the level has any."""

    def __init__(
        self, inward: list[int], outward: int, times: int, groups: int, *, attention: bool
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(TimedBlock(n, outward, times, groups) for n in inward)
        self.attention = nn.ModuleList(
            TileAttention(outward, groups) if attention else nn.Identity() for _ in inward
        )


class UNet3d(nn.Module):
    """Noise, or v, of a tile, from all that is known of it.

    Downwards each level halves the edges, with a voxel of zeros at the far end of each axis;
    upwards they are doubled by repetition. All that is made on the way down is seen on the way up.
    """

    def __init__(self, config: PatchConfig) -> None:
        super().__init__()
        self.config = config
        widths, groups, times = config.widths, config.groups, 4 * config.width
        self.time_in = nn.Linear(config.width, times)
        self.time_out = nn.Linear(times, times)
        self.conv_in = nn.Conv3d(config.input_channels, widths[0], 3, padding=1)
        self.down, self.reduce = nn.ModuleList(), nn.ModuleList()
        skips, channels = [widths[0]], widths[0]
        for number, width in enumerate(widths):
            inward = [channels] + [width] * (config.blocks - 1)
            attends = number in config.attention
            self.down.append(UNetLevel(inward, width, times, groups, attention=attends))
            channels = width
            skips += [width] * config.blocks
            if number < len(widths) - 1:
                self.reduce.append(nn.Conv3d(width, width, 3, stride=2))
                skips.append(width)
        self.middle = nn.ModuleList(
            [TimedBlock(channels, channels, times, groups) for _ in range(2)]
        )
        self.middle_attention = TileAttention(channels, groups)
        self.up, self.enlarge = nn.ModuleList(), nn.ModuleList()
        for number, width in reversed(list(enumerate(widths))):
            inward = []
            for _ in range(config.blocks + 1):
                inward.append(channels + skips.pop())
                channels = width
            attends = number in config.attention
            self.up.append(UNetLevel(inward, width, times, groups, attention=attends))
            if number:
                self.enlarge.append(nn.Conv3d(width, width, 3, padding=1))
        self.norm_out = nn.GroupNorm(groups, channels, eps=1e-6)
        self.conv_out = nn.Conv3d(channels, config.channels, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """What the configuration's target names.

        Parameters
        ----------
        x : (B, Cin, d, h, w) noisy tile, context and coordinates
        t : (B,) network time, 0..999

        Returns
        -------
        (B, C, d, h, w)
        """
        time = self.time_out(functional.silu(self.time_in(sinusoids(t, self.config.width))))
        h = self.conv_in(x)
        seen = [h]
        for number, level in enumerate(self.down):
            for block in range(self.config.blocks):
                h = step(level, block, h, time)
                seen.append(h)
            if number < len(self.reduce):
                h = self.reduce[number](functional.pad(h, (0, 1, 0, 1, 0, 1)))
                seen.append(h)
        h = self.middle[0](h, time)
        h = self.middle[1](self.middle_attention(h), time)
        for number, level in enumerate(self.up):
            for block in range(self.config.blocks + 1):
                h = step(level, block, torch.cat([h, seen.pop()], dim=1), time)
            if number < len(self.enlarge):
                h = self.enlarge[number](functional.interpolate(h, scale_factor=2.0))
        return self.conv_out(functional.silu(self.norm_out(h)))  # type: ignore[no-any-return]


def step(level: nn.Module, number: int, x: Tensor, time: Tensor) -> Tensor:
    """Block `number` of a `UNetLevel` and its attention."""
    assert isinstance(level, UNetLevel)
    return level.attention[number](level.blocks[number](x, time))  # type: ignore[no-any-return]


def initialise(network: UNet3d, seed: int) -> None:
    """He's normal weights, zero biases; the output starts at zero."""
    draw_weights(network, Draw.PATCH_WEIGHTS, seed)
    nn.init.zeros_(network.conv_out.weight)

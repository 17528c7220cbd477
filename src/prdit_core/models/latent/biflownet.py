"""BiFlowNet: a transformer inside sub-volumes and a U-Net between them (spec 4)."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from prdit_core.models.latent.intra import IntraPatchFlow
from prdit_core.models.latent.layers import ChannelNorm, ResNetBlock, VoxelAttention
from prdit_core.models.sinusoids import sinusoids
from prdit_core.noise import Draw, generator

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from prdit_core.models.latent.config import BiFlowConfig

# Latent voxels along an axis that are resolution 1.
RESOLUTION = 64


class Conditions(nn.Module):
    """Time, class and resolution to the one vector that both flows get."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.width = width
        self.time = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, 4 * width)
        )
        self.classes = nn.Embedding(classes, 4 * width)
        self.resolution = nn.Sequential(
            nn.Linear(3, 4 * width), nn.SiLU(), nn.Linear(4 * width, 4 * width)
        )

    def forward(self, t: Tensor, label: Tensor, resolution: Tensor) -> Tensor:
        """(B,), (B,) and (B, 3) to (B, 8 width)."""
        named = self.time(sinusoids(t, self.width)) + self.classes(label)
        return torch.cat([named, self.resolution(resolution)], dim=1)


class Level(nn.Module):
    """Two blocks with attention where the level has it, and a change of the grid or none."""

    def __init__(
        self,
        widths: tuple[int, int, int, int],
        config: BiFlowConfig,
        attention: bool,
        resample: nn.Module,
    ) -> None:
        super().__init__()
        in1, out1, in2, out2 = widths
        condition, groups = 8 * config.width, config.groups
        self.block1 = ResNetBlock(in1, out1, condition, groups)
        self.attention1 = _attention(out1, config) if attention else nn.Identity()
        self.block2 = ResNetBlock(in2, out2, condition, groups)
        self.attention2 = _attention(out2, config) if attention else nn.Identity()
        self.resample = resample

    def first(self, x: Tensor, c: Tensor) -> Tensor:
        """The first block."""
        return cast("Tensor", self.attention1(self.block1(x, c)))

    def second(self, x: Tensor, c: Tensor) -> Tensor:
        """The second block."""
        return cast("Tensor", self.attention2(self.block2(x, c)))


def _attention(width: int, config: BiFlowConfig) -> VoxelAttention:
    return VoxelAttention(ChannelNorm(width), width, config.heads)


class BiFlowEncoder(nn.Module):
    """The way down of the U-Net and its middle, which a ControlNet has a copy of.

    Parameters
    ----------
    channels : that it reads
    """

    def __init__(self, config: BiFlowConfig, channels: int) -> None:
        super().__init__()
        width, widths = config.width, config.widths
        self.conditions = Conditions(width, config.class_rows)
        self.first = nn.Conv3d(channels, width, 3, padding=1)
        self.downs = nn.ModuleList()
        for level, out in enumerate(widths):
            before, attention = widths[max(level - 1, 0)], level in config.attention
            inner = 0 < level < len(widths) - 1
            down = nn.Conv3d(out, out, 4, 2, 1) if inner else nn.Identity()
            self.downs.append(Level((before, out, out, out), config, attention, down))
        condition, groups = 8 * width, config.groups
        self.middle1 = ResNetBlock(widths[-1], widths[-1], condition, groups)
        self.middle_attention = _attention(widths[-1], config)
        self.middle2 = ResNetBlock(widths[-1], widths[-1], condition, groups)

    def condition(
        self, x: Tensor, t: Tensor, label: Tensor | None, resolution: Tensor | None
    ) -> Tensor:
        """Time, class and resolution, as `BiFlowNet.forward` takes them, to (B, 8 width)."""
        if label is None:
            last = self.conditions.classes.num_embeddings - 1
            label = torch.full((len(x),), last, device=x.device)
        if resolution is None:
            resolution = resolution_of(x)
        c: Tensor = self.conditions(t, label, resolution)
        return c

    def down(
        self, x: Tensor, c: Tensor, maps: Sequence[Tensor | None]
    ) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
        """Both skips of every level, and the middle.

        Parameters
        ----------
        x, c : what `first` and `conditions` gave
        maps : of the intra-patch flow, added to the first levels
        """
        skips: list[tuple[Tensor, Tensor]] = []
        for number, level in enumerate(cast("Iterable[Level]", self.downs)):
            x = _plus(x, maps[number] if number < len(maps) else None)
            one = level.first(x, c)
            two = level.second(one, c)
            skips.append((one, two))
            x = level.resample(two)
        x = self.middle2(self.middle_attention(self.middle1(x, c)), c)
        return skips, x


class BiFlowNet(BiFlowEncoder):
    """Noise in noisy latents, by class and resolution.

    The maps of the intra-patch flow are added where the U-Net has full resolution: to its first
    levels on the way down, to its last on the way up.
    """

    def __init__(self, config: BiFlowConfig) -> None:
        super().__init__(config, config.channels)
        self.config = config
        width, widths = config.width, config.widths
        count = len(widths)
        self.intra = IntraPatchFlow(config) if config.intra else None
        self.ups = nn.ModuleList()
        for level in reversed(range(count)):
            own, after, attention = (
                widths[level],
                widths[max(level - 1, 0)],
                level in config.attention,
            )
            up = nn.ConvTranspose3d(after, after, 4, 2, 1) if level > 1 else nn.Identity()
            self.ups.append(Level((2 * own, own, 2 * own, after), config, attention, up))
        self.end = ResNetBlock(2 * width, width, 0, config.groups)
        self.out = nn.Conv3d(width, config.channels, 1)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        label: Tensor | None = None,
        resolution: Tensor | None = None,
        control: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """Predict the noise.

        Parameters
        ----------
        x : (B, C, D, H, W) noisy latents, every edge a multiple of `BiFlowConfig.grid_multiple`
        t : (B,) number of the schedule's entry
        label : (B,) class; None: the last row, which is that of no class where there is one
        resolution : (B, 3); None: that of the grid of `x`
        control : of a ControlNet (spec 6), added to the second skip of every level on the way down,
            and to the middle; None: none

        Returns
        -------
        (B, C, D, H, W)
        """
        c = self.condition(x, t, label, resolution)
        maps = [None] * 4 if self.intra is None else self.intra(x, c)
        first = self.first(x)
        skips, x = self.down(first, c, maps[:2])
        seconds: list[Tensor | None] = [None] * len(skips) if control is None else [*control[:-1]]
        x = _plus(x, None if control is None else control[-1])
        for number, level in enumerate(cast("Iterable[Level]", self.ups)):
            last = number - len(self.ups) + 4  # 2 and 3 are those of full resolution
            x = _plus(x, maps[last] if last >= 2 else None)
            one, two = skips.pop()
            x = level.first(torch.cat([x, _plus(two, seconds.pop())], dim=1), c)
            x = level.second(torch.cat([x, one], dim=1), c)
            x = level.resample(x)
        return cast("Tensor", self.out(self.end(torch.cat([x, first], dim=1))))


# What starts at zero: modulations of the intra-patch flow, and the linear maps of its heads.
ZERO = re.compile(r"intra\.(.*\.modulation|.*_heads\.\d+)\.linear\.")


def initialise(network: BiFlowNet, seed: int) -> None:
    """First weights by key: linear maps by Xavier, convolutions as PyTorch has them, no biases.

    So are rows of classes: as small as those of DiT they drown in the vector of the time.
    """
    for number, (name, weight) in enumerate(network.named_parameters()):
        stream = generator(Draw.FLOW_WEIGHTS, seed, 0, number)
        if ZERO.match(name) or name.endswith("bias"):
            nn.init.zeros_(weight)
        elif name == "conditions.classes.weight":
            nn.init.normal_(weight, generator=stream)
        elif weight.ndim == 2:
            nn.init.xavier_uniform_(weight, generator=stream)
        elif weight.ndim == 5:
            nn.init.kaiming_uniform_(weight, math.sqrt(5), generator=stream)


def _plus(x: Tensor, more: Tensor | None) -> Tensor:
    return x if more is None else x + more


def resolution_of(x: Tensor) -> Tensor:
    """(B, 3): edges of the grid of latents by 64, the same for every one of a batch."""
    edges = torch.tensor(x.shape[2:], dtype=torch.float32, device=x.device)
    return (edges / RESOLUTION).expand(len(x), 3)

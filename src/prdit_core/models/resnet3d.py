"""MedicalNet's 3D ResNets, whose pooled features the paper's 3D FID and MMD are computed from.

The attributes bear MedicalNet's names, so that its files load without a table of names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Mapping

Shortcut = Literal["A", "B"]


@dataclass(frozen=True)
class Design:
    """Blocks of each of the four layers, and whether they are bottlenecks of three convolutions."""

    blocks: tuple[int, int, int, int]
    bottleneck: bool


DESIGNS = {
    10: Design((1, 1, 1, 1), bottleneck=False),
    18: Design((2, 2, 2, 2), bottleneck=False),
    34: Design((3, 4, 6, 3), bottleneck=False),
    50: Design((3, 4, 6, 3), bottleneck=True),
}
_BLOCK = r"layer([1-4])\.(\d+)\."
# width, stride and dilation of the four layers: the last two look wider instead of coarser
LAYERS = ((64, 1, 1), (128, 2, 1), (256, 1, 2), (512, 1, 4))


class ResidualBlock(nn.Module):
    """Two 3^3 convolutions beside a shortcut."""

    expansion = 1

    def __init__(
        self, inner: int, width: int, stride: int, dilation: int, downsample: nn.Module | None
    ) -> None:
        super().__init__()
        self.conv1 = _conv3(inner, width, stride, dilation)
        self.bn1 = nn.BatchNorm3d(width)
        self.conv2 = _conv3(width, width, 1, dilation)
        self.bn2 = nn.BatchNorm3d(width)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """(B, inner, D, H, W) to (B, width, D / stride, H / stride, W / stride)."""
        out = functional.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return functional.relu(out + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """A 3^3 convolution between two of 1^3, beside a shortcut; four times as wide outside."""

    expansion = 4

    def __init__(
        self, inner: int, width: int, stride: int, dilation: int, downsample: nn.Module | None
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(inner, width, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(width)
        self.conv2 = _conv3(width, width, stride, dilation)
        self.bn2 = nn.BatchNorm3d(width)
        self.conv3 = nn.Conv3d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm3d(4 * width)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """(B, inner, D, H, W) to (B, 4 width, D / stride, H / stride, W / stride)."""
        out = functional.relu(self.bn1(self.conv1(x)))
        out = functional.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return functional.relu(out + (x if self.downsample is None else self.downsample(x)))


class PaddedShortcut(nn.Module):
    """Shortcut A: every `stride`-th voxel, and zeros for the channels that are missing."""

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.width, self.stride = width, stride

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, D, H, W) to (B, width, D / stride, H / stride, W / stride)."""
        s = self.stride
        missing = self.width - x.shape[1]
        return functional.pad(x[:, :, ::s, ::s, ::s], (0, 0, 0, 0, 0, 0, 0, missing))


class ResNet3D(nn.Module):
    """7^3 stem of stride 2, max-pool, four layers of blocks, global average.

    Parameters
    ----------
    depth : 10, 18, 34 or 50
    shortcut : how a block passes on what it was given where shapes change: "A" pads with zeros and
        has no weights, "B" is a 1^3 convolution. Published files have B, but A at 18 and 34.
    """

    def __init__(self, depth: int, shortcut: Shortcut) -> None:
        super().__init__()
        self.depth, self.shortcut = depth, shortcut
        design = DESIGNS[depth]
        self.conv1 = nn.Conv3d(1, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm3d(64)
        kind = Bottleneck if design.bottleneck else ResidualBlock
        inner = 64
        for number, (width, stride, dilation) in enumerate(LAYERS, 1):
            blocks = [_first(kind, inner, width, stride, dilation, shortcut)]
            inner = kind.expansion * width
            blocks += [
                kind(inner, width, 1, dilation, None) for _ in range(design.blocks[number - 1] - 1)
            ]
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
        self.feature_count = inner

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, D, H, W) to features (B, F): the mean of layer 4 over space."""
        x = functional.relu(self.bn1(self.conv1(x)))
        x = functional.max_pool3d(x, 3, stride=2, padding=1)
        for number in range(1, len(LAYERS) + 1):
            x = self.get_submodule(f"layer{number}")(x)
        return x.mean(dim=(2, 3, 4))


def _conv3(inner: int, width: int, stride: int, dilation: int) -> nn.Conv3d:
    return nn.Conv3d(
        inner, width, 3, stride=stride, padding=dilation, dilation=dilation, bias=False
    )


def _first(
    kind: type[ResidualBlock] | type[Bottleneck],
    inner: int,
    width: int,
    stride: int,
    dilation: int,
    shortcut: Shortcut,
) -> nn.Module:
    """First block of a layer, where shapes change unless it is layer 1 of a shallow net."""
    outer = kind.expansion * width
    downsample: nn.Module | None = None
    if stride != 1 or inner != outer:
        downsample = (
            PaddedShortcut(outer, stride)
            if shortcut == "A"
            else nn.Sequential(
                nn.Conv3d(inner, outer, 1, stride=stride, bias=False), nn.BatchNorm3d(outer)
            )
        )
    return kind(inner, width, stride, dilation, downsample)


def design_of(names: Mapping[str, object]) -> tuple[int | None, Shortcut]:
    """Depth (None: none of ours) and shortcut that the names of a state dict speak of."""
    blocks = {tuple(map(int, m.groups())) for n in names if (m := re.match(_BLOCK, n))}
    counts = tuple(sum(layer == number for layer, _ in blocks) for number in range(1, 5))
    bottleneck = any(".conv3." in name for name in names)
    depths = [d for d, it in DESIGNS.items() if (it.blocks, it.bottleneck) == (counts, bottleneck)]
    shortcut = "B" if any(".downsample." in name for name in names) else "A"
    return (depths[0] if depths else None), cast("Shortcut", shortcut)


def shapes_of(depth: int, shortcut: Shortcut) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all tensors of a network, without allocating them."""
    with torch.device("meta"):
        model = ResNet3D(depth, shortcut)
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}

"""FBP-UNet, the supervised baseline of reconstruction: a small 2D U-Net that repairs FBP slices.

After K. H. Jin et al., IEEE Trans. Image Process. 26, 4509 (2017): slice by slice, the network adds
what FBP lacks. It is trained for one geometry and dose, which it needs to know; priors do not.
"""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

WIDTHS = (16, 32, 64)
LOW, HIGH = -1000.0, 400.0


def block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1),
        nn.GroupNorm(4, outputs),
        nn.SiLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        nn.GroupNorm(4, outputs),
        nn.SiLU(),
    )


class UNet(nn.Module):
    """(B, 1, H, W) grey of FBP to that of the truth; edges are multiples of 4."""

    def __init__(self) -> None:
        super().__init__()
        inputs = (1, *WIDTHS[:-1])
        self.down = nn.ModuleList(map(block, inputs, WIDTHS))
        pairs = itertools.pairwise(WIDTHS)
        self.up = nn.ModuleList(block(low + high, low) for low, high in pairs)
        self.last = nn.Conv2d(WIDTHS[0], 1, 1)
        nn.init.zeros_(self.last.weight)

    def forward(self, x: Tensor) -> Tensor:
        y, kept = x, []
        for number, stage in enumerate(self.down):
            y = stage(nn.functional.avg_pool2d(y, 2) if number else y)
            kept.append(y)
        for number in reversed(range(len(self.up))):
            larger = nn.functional.interpolate(y, scale_factor=2)
            y = self.up[number](torch.cat([kept[number], larger], 1))
        repaired: Tensor = x + self.last(y)
        return repaired


def grey(hu: Tensor) -> Tensor:
    return (hu - LOW) / (HIGH - LOW)


def trained(file: Path, pairs: Sequence[tuple[Tensor, Tensor]], iterations: int) -> UNet:
    """The network of a file, or one trained on (FBP, truth), both (D, H, W) in HU."""
    torch.manual_seed(0)
    network = UNet()
    if file.exists():
        network.load_state_dict(torch.load(file, weights_only=True))
        return network.eval()
    found, truth = (grey(torch.cat(slices))[:, None] for slices in zip(*pairs, strict=True))
    truth = truth.clamp(0, 1)
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, iterations)
    for _ in range(iterations):
        batch = torch.randint(len(found), (16,))
        loss = (network(found[batch]) - truth[batch]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    torch.save(network.state_dict(), file.with_suffix(".partial"))
    os.replace(file.with_suffix(".partial"), file)
    return network.eval()


@torch.no_grad()
def repaired(network: UNet, fbp: Tensor) -> Tensor:
    """FBP (D, H, W) in HU as the network makes it."""
    return network(grey(fbp)[:, None])[:, 0] * (HIGH - LOW) + LOW

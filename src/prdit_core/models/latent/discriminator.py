"""The discriminator of volumes, which looks at patches of them (spec 2)."""

from __future__ import annotations

from torch import Tensor, nn

STRIDES = (2, 2, 2, 1, 1)


class Discriminator(nn.Module):
    """Five convolutions of edge 4; batch normalisation on the middle three."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        widths = (channels, width, 2 * width, 4 * width, 8 * width, 1)
        self.layers = nn.ModuleList()
        for number, stride in enumerate(STRIDES):
            out, last = widths[number + 1], number == len(STRIDES) - 1
            layer: list[nn.Module] = [nn.Conv3d(widths[number], out, 4, stride, padding=2)]
            if 0 < number and not last:
                layer.append(nn.BatchNorm3d(out))
            if not last:
                layer.append(nn.LeakyReLU(0.2))
            self.layers.append(nn.Sequential(*layer))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Activations of every layer for volumes (B, C, D, H, W); the last are the logits."""
        found: list[Tensor] = []
        for layer in self.layers:
            x = layer(x)
            found.append(x)
        return found

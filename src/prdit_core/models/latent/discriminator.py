"""The discriminator of volumes, which looks at patches of them (spec 2)."""

from __future__ import annotations

import torch
from torch import Tensor, distributed, nn

STRIDES = (2, 2, 2, 1, 1)


class SharedBatchNorm(nn.BatchNorm3d):
    """Batch normalisation over the volumes of all processes; torch's own does that on GPUs only."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, D, H, W) to the same; every process has equally many volumes."""
        if not (self.training and distributed.is_initialized()):
            return super().forward(x)
        mean = _of_all(x.float().mean((0, 2, 3, 4)))
        centred = x.float() - mean[:, None, None, None]
        variance = _of_all(centred.square().mean((0, 2, 3, 4)))
        count = distributed.get_world_size() * x.numel() // x.shape[1]
        self._follow(mean.detach(), variance.detach(), count)
        gain: Tensor = self.weight * (variance + self.eps).rsqrt()
        return centred * gain[:, None, None, None] + self.bias[:, None, None, None]

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Move the running statistics, whose variance is the unbiased one."""
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None and self.momentum is not None
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        self.num_batches_tracked += 1


def _of_all(values: Tensor) -> Tensor:
    """Mean over processes, with gradients."""
    from torch.distributed.nn.functional import all_reduce

    total: Tensor = all_reduce(values)  # type: ignore[no-untyped-call]
    return total / distributed.get_world_size()


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
                layer.append(SharedBatchNorm(out))
            if not last:
                layer.append(nn.LeakyReLU(0.2))
            self.layers.append(nn.Sequential(*layer))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Activations of every layer for volumes (B, C, D, H, W); the last are the logits."""
        activations: list[Tensor] = []
        for layer in self.layers:
            x = layer(x)
            activations.append(x)
        return activations

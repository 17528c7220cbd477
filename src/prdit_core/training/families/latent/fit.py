"""What of an autoencoder follows from volumes: the scale of its latents, and a linear picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from prdit_core.models.latent.patch_volume import encoded_by_patches

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from prdit_core.models.latent.autoencoder import Autoencoder
    from prdit_core.training.batches import Source

TAILS = (0.001, 0.999)
VECTORS = 2**16  # about as many are looked at, of volumes that are spread evenly over all


@torch.no_grad()
def fit(network: Autoencoder, volumes: Source) -> dict[str, Any]:
    """Fill in the scale and the linear preview of a network.

    Every channel is scaled so that 1 in 1000 latents lies below -1 and 1 in 1000 above 1; the
    preview is the least-squares map from scaled latents to the mean of the voxels they stand for.

    Returns
    -------
    What to record: how many vectors were looked at, and which share of their numbers a sampler
    that keeps to [-1, 1] would clip.
    """
    z, means = (torch.cat(parts) for parts in zip(*_looks(network, volumes), strict=True))
    low, high = torch.from_numpy(np.quantile(z.cpu().numpy(), TAILS, axis=0)).float()
    network.low.copy_(low)
    network.high.copy_(torch.maximum(high, low + 1e-3))
    scaled = network.fit_picture(z, means)
    clipped = float((scaled.abs() > 1).float().mean())
    return {"latents": {"vectors": len(z), "clipped": round(clipped, 6)}}


def _looks(network: Autoencoder, volumes: Source) -> Iterator[tuple[Tensor, Tensor]]:
    """Latents (N, code_size) and means of voxels (N, C) of some volumes."""
    count = len(volumes.names)
    for number in np.linspace(0, count - 1, min(count, _wanted(network, volumes))).round():
        x = torch.from_numpy(volumes.read(int(number)))[None].to(network.low.device)
        z = encoded_by_patches(network, x).float()
        means = functional.avg_pool3d(x, network.config.ratio)
        yield z[0].flatten(1).T, means[0].flatten(1).T


def _wanted(network: Autoencoder, volumes: Source) -> int:
    """How many volumes of the first one's size hold enough vectors."""
    voxels = volumes.read(0).size
    return max(1, VECTORS * network.config.ratio**3 // voxels)

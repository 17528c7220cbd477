"""Distributions whose denoiser is known in closed form, and small checkpoints."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from prdit_core.checkpoints.header import Header
from prdit_core.checkpoints.store import save_checkpoint
from prdit_core.geometry import Geometry, cubic
from prdit_core.intensity import Intensity
from prdit_core.models.contracts import Prediction
from prdit_core.models.patch.config import PatchConfig
from prdit_core.models.patch.unet import UNet3d, initialise
from prdit_core.models.prdit.network import PRDiT
from prdit_core.prdit_config import ModelConfig, RefinerConfig
from prdit_core.schedule import CosineSchedule, VPLinearSchedule

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from prdit_core.schedule import Schedule

TINY = ModelConfig(patch=4, stride=2, padding=1, width=24, depth=1, heads=2)
TINY_PATCH = PatchConfig(
    tile=(4, 4, 4), factor=2, width=8, multipliers=(1, 2), blocks=1, attention=(1,), groups=4
)
TINY_CHAIN = TINY.refined_by(RefinerConfig(patch=4, stride=2, padding=1, width=24))


class Mixture:
    """Every voxel is an independent draw from a mixture of normal distributions."""

    def __init__(
        self,
        schedule: Schedule,
        weights: Sequence[float],
        means: Sequence[float],
        stds: Sequence[float],
    ) -> None:
        self.schedule = schedule
        self.weights, self.means, self.stds = (np.array(v, float) for v in (weights, means, stds))

    def denoise(self, x: Tensor, t: float) -> Prediction:
        """Posterior means of x0 and eps given x_t: what a perfect network predicts."""
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        noise = (sigma * self.schedule.noise_std) ** 2
        responsibilities, posteriors = [], []
        for weight, mean, std in zip(self.weights, self.means, self.stds, strict=True):
            spread = alpha**2 * std**2 + noise
            away = x - alpha * mean
            responsibilities.append(
                math.log(weight) - 0.5 * math.log(spread) - 0.5 * away**2 / spread
            )
            posteriors.append(mean + (alpha * std**2 / spread) * away)
        shares = torch.softmax(torch.stack(responsibilities), dim=0)
        x0 = (shares * torch.stack(posteriors)).sum(0)
        eps = (x - alpha * x0) / sigma if sigma else torch.zeros_like(x)
        return Prediction(x0, eps)

    def quantiles(self, levels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Inverse of the distribution function."""
        values = np.linspace(-4, 4, 20001)
        z = (values[:, None] - self.means) / (self.stds * math.sqrt(2))
        cumulative = (0.5 * (1 + torch.erf(torch.from_numpy(z)).numpy()) * self.weights).sum(1)
        return np.interp(levels, cumulative, values)

    def distance(self, samples: Tensor) -> float:
        """Wasserstein-1 distance of samples to the distribution."""
        found = np.sort(samples.flatten().numpy())
        levels = (np.arange(found.size) + 0.5) / found.size
        return float(np.abs(found - self.quantiles(levels)).mean())


def tiny_checkpoint(
    path: Path,
    seed: int = 0,
    size: int = 8,
    model: ModelConfig = TINY,
    edge_mm: float | None = None,
) -> Path:
    """A checkpoint of a small network with random weights, none of them zero; voxels of 8 mm."""
    generator = torch.Generator().manual_seed(seed)
    state = {
        name: 0.2 * torch.randn(weight.shape, generator=generator)
        for name, weight in PRDiT(model).state_dict().items()
    }
    header = Header(
        model=model,
        schedule=CosineSchedule(noise_std=0.5),
        intensity=Intensity(),
        geometry=cubic(size, 8.0 * size if edge_mm is None else edge_mm),
    )
    return save_checkpoint(path, header, state)


def random_patch(config: PatchConfig = TINY_PATCH, seed: int = 0) -> UNet3d:
    """All weights random, also those that begin at zero."""
    network = UNet3d(config)
    initialise(network, seed)
    stream = torch.Generator().manual_seed(seed)
    torch.nn.init.normal_(network.conv_out.weight, std=0.1, generator=stream)
    return network.eval().requires_grad_(False)


def patch_checkpoint(
    path: Path, config: PatchConfig = TINY_PATCH, spacing_mm: tuple[float, float, float] = (3, 2, 1)
) -> Path:
    """A patch prior with random weights."""
    extent = spacing_mm[1] * config.shape[1]
    geometry = Geometry(shape=config.shape, spacing_mm=spacing_mm, field_of_view_mm=extent)
    header = Header(
        model=config, schedule=VPLinearSchedule(), intensity=Intensity(), geometry=geometry
    )
    return save_checkpoint(path, header, random_patch(config).state_dict())

"""A family of its own: voxels that are normal about a mean, the one number to be learnt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from prdit_core.config import NetworkConfig, TrainingConfig
from prdit_core.data.datasets import PreparedData
from prdit_core.models.contracts import Denoiser, Network, Prediction
from prdit_core.models.families import Family
from prdit_core.schedule import CosineSchedule, Schedule
from prdit_core.training.contracts import Losses, Plan, Player, Recipe, Task
from prdit_core.training.stages import Stage


class GaussianConfig(NetworkConfig):
    family: Literal["gaussian"] = "gaussian"
    channels: int = 1
    std: float
    edge_multiple = least_parameters = property(lambda self: 1)
    summary = property(lambda self: "one number")


class Gaussian(nn.Module):
    def __init__(self, config: GaussianConfig) -> None:
        super().__init__()
        self.config, self.mean = config, nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x


@dataclass(frozen=True)
class GaussianNetwork(Network):
    module: Gaussian
    config = property(lambda self: self.module.config)  # type: ignore[assignment]
    memory = lambda self, _: 4  # type: ignore[assignment]  # noqa: E731

    def denoiser(self, schedule: Schedule, config: Any, key: Any) -> Denoiser:
        def denoise(x_t: Tensor, t: float) -> Prediction:
            mean, std = self.module.mean.item(), self.config.std
            alpha, sigma = schedule.alpha(t), schedule.sigma(t)
            gain = alpha * std**2 / (alpha**2 * std**2 + (sigma * schedule.noise_std) ** 2)
            x0 = mean + gain * (x_t - alpha * mean)
            return Prediction(x0, (x_t - alpha * x0) / max(sigma, 1e-9))

        return denoise


class Error(nn.Module):
    def __init__(self, network: Gaussian) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: Any) -> Losses:
        error = (batch.x0 - self.network.mean).square().flatten(1).mean(1)
        return Losses({"total": error}, error)


class MeanRecipe(Recipe[TrainingConfig, PreparedData]):
    memory = lambda *_: 12  # type: ignore[assignment]  # noqa: E731

    def plan(self, config: TrainingConfig, data: Any, start: Any) -> Plan:
        lengths = {"iterations": config.iterations, "lr": 0.05, "clip": 1e9}
        return Plan(GaussianConfig(std=0.1), CosineSchedule(), start, lengths)

    def task(self, config: TrainingConfig, plan: Plan, weights: Any) -> Task:
        network = Gaussian(plan.network)  # type: ignore[arg-type]
        return Task((Player("", network, Error(network), ("total",), torch.optim.SGD),), Error)


FAMILY = Family("gaussian", "Gaussian", GaussianConfig, Gaussian, GaussianNetwork)
STAGE = Stage("mean", "gaussian", TrainingConfig, MeanRecipe)

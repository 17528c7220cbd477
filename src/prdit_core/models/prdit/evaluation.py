"""One evaluation of a PRDiT, whole or in parts, and the network's face to the house."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from prdit_core.models.contracts import Decomposition, Network, refuse_renoise
from prdit_core.models.parameterisation import prediction_of
from prdit_core.models.prdit.memory import memory_needed, memory_with_derivatives
from prdit_core.models.prdit.reuse import Reusing

if TYPE_CHECKING:
    from torch import Tensor

    from prdit_core.config import GenerationPrecision, SamplingConfig
    from prdit_core.models.contracts import Denoiser, Key, Prediction, Shape
    from prdit_core.models.prdit.network import PRDiT
    from prdit_core.prdit_config import ModelConfig
    from prdit_core.schedule import Schedule


@dataclass(frozen=True)
class PRDiTDenoiser:
    """A PRDiT on a noising process; without derivatives, unless they are asked for.

    Attributes
    ----------
    precision : in which the network computes; what goes in and comes out is float32
    """

    module: PRDiT
    schedule: Schedule
    precision: GenerationPrecision = "32-true"

    @torch.no_grad()
    def __call__(self, x_t: Tensor, t: float) -> Prediction:
        """Predict clean volume and noise from x_t (B, C, D, H, W) at t in [0, 1000]."""
        return self._whole(x_t, t)

    @torch.enable_grad()
    def differentiable(self, x_t: Tensor, t: float) -> Prediction:
        """As a call, with derivatives by x_t."""
        return self._whole(x_t, t)

    @torch.no_grad()
    def local(self, x_t: Tensor, t: float) -> Tensor:
        """What the local part of the base predicts, (B, Cout, d, h, w) at its resolution."""
        with self._computing(x_t):
            return self.module.local_part(x_t, self._network_times(x_t, t))

    @torch.no_grad()
    def residual(self, x_t: Tensor, t: float) -> Tensor | None:
        """What the global part adds to it; None for a model without one."""
        with self._computing(x_t):
            return self.module.residual_part(x_t, self._network_times(x_t, t))

    @torch.no_grad()
    def completed(self, base: Tensor, x_t: Tensor, t: float) -> Prediction:
        """The prediction that a base's output leads to: its refiners evaluated, its heads apart."""
        with self._computing(x_t):
            output = self.module.refined(base, x_t, self._network_times(x_t, t))[-1]
        return self._prediction(output, x_t, t)

    @torch.no_grad()
    def decompose(self, x_t: Tensor, t: float) -> Decomposition:
        """As a denoiser, with what each part of the network says apart."""
        with self._computing(x_t):
            local, residual, refined = self.module.parts(x_t, self._network_times(x_t, t))
        residual = torch.zeros_like(local) if residual is None else residual
        base = local + residual
        nothing = torch.zeros_like(x_t)
        return Decomposition(
            local=self._prediction(local, x_t, t),
            global_residual=self._prediction(residual, nothing, t),
            refiner=None if refined is None else self._prediction(refined, nothing, t),
            total=self._prediction(base if refined is None else base + refined, x_t, t),
        )

    def _whole(self, x_t: Tensor, t: float) -> Prediction:
        with self._computing(x_t):
            output = self.module(x_t, self._network_times(x_t, t))
        return self._prediction(output, x_t, t)

    def _computing(self, x_t: Tensor) -> torch.autocast:
        wanted = self.precision == "bf16-mixed"
        return torch.autocast(x_t.device.type, torch.bfloat16, enabled=wanted)

    def _network_times(self, x_t: Tensor, t: float) -> Tensor:
        return torch.full((x_t.shape[0],), self.schedule.network_time(t), device=x_t.device)

    def _prediction(self, output: Tensor, x_t: Tensor, t: float) -> Prediction:
        return prediction_of(output, x_t, t, self.schedule, self.module.config.output)


@dataclass(frozen=True)
class PRDiTNetwork(Network):
    """A PRDiT or a chain of refiners on one, as the house sees it."""

    module: PRDiT

    @property
    def config(self) -> ModelConfig:
        """Of the network."""
        return self.module.config

    def denoiser(self, schedule: Schedule, config: SamplingConfig, key: Key) -> Denoiser:
        """The network itself, or one that evaluates its residual only when a rule says so.

        Raises
        ------
        UsageError
            If it is to look at a state several times: it would see the same each time.
        """
        refuse_renoise(config)
        del key  # nothing is random in it
        evaluation = PRDiTDenoiser(self.module, schedule, config.precision)
        return Reusing(evaluation, config) if config.refreshes else evaluation

    def differentiable(self, schedule: Schedule) -> Denoiser:
        """The network itself, with derivatives by the state."""
        return PRDiTDenoiser(self.module, schedule).differentiable

    def differentiable_memory(self, shape: Shape) -> int:
        """Bytes that one evaluation takes that keeps what derivatives need, about."""
        return memory_with_derivatives(self.config, shape)

    def parts(self, schedule: Schedule) -> PRDiTDenoiser:
        """Local Denoiser, Global Residual DiT and refiners."""
        return PRDiTDenoiser(self.module, schedule)

    def stopped_at(self, number: int) -> PRDiTNetwork:
        """The chain with its first `number` refiners."""
        return PRDiTNetwork(self.module.stopped_at(number))

    def memory(self, shape: Shape) -> int:
        """Bytes that one evaluation takes, about."""
        return memory_needed(self.config, shape)

"""BiFlowNet as a denoiser: the noise in latents of one class, guided or not (spec 4 and 5)."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from prdit_core.errors import UsageError
from prdit_core.models.contracts import Network, refuse_renoise
from prdit_core.models.families import parameter_count
from prdit_core.models.latent.control import ControlledNet, label_hint
from prdit_core.models.parameterisation import prediction_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from prdit_core.config import GenerationPrecision, SamplingConfig
    from prdit_core.models.contracts import Denoiser, Key, Prediction, Shape
    from prdit_core.models.latent.biflownet import BiFlowNet
    from prdit_core.models.latent.config import BiFlowConfig, ControlConfig
    from prdit_core.models.latent.control import ControlNet
    from prdit_core.schedule import Schedule


@dataclass(frozen=True)
class LatentDenoiser:
    """A BiFlowNet on a noising process, for one class; the resolution is that of the state.

    Attributes
    ----------
    module : (x, t, label) to noise: a BiFlowNet, or a `ControlledNet` with the walk's condition
    label : row of the class
    guidance : weight of the class by that of none
    precision : in which the network computes; what goes in and comes out is float32
    """

    module: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    schedule: Schedule
    label: int
    guidance: float = 1.0
    precision: GenerationPrecision = "32-true"

    @torch.no_grad()
    def __call__(self, x_t: Tensor, t: float) -> Prediction:
        """Noise as predicted, and the clean latents it leaves, within [-1, 1] (spec 5).

        Parameters
        ----------
        x_t : (B, C, D, H, W) scaled latents
        t : time in [0, 1000]
        """
        eps = self._noise(x_t, t, self.label)
        if self.guidance != 1:
            none = self._noise(x_t, t, None)
            eps = none + self.guidance * (eps - none)
        return prediction_of(eps, x_t, t, self.schedule, "noise")

    def _noise(self, x_t: Tensor, t: float, label: int | None) -> Tensor:
        times = torch.full((len(x_t),), self.schedule.network_time(t), device=x_t.device)
        labels = None if label is None else torch.full((len(x_t),), label, device=x_t.device)
        wanted = self.precision == "bf16-mixed"
        with torch.autocast(x_t.device.type, torch.bfloat16, enabled=wanted):
            output = self.module(x_t, times, labels)
        return output.float()


@dataclass(frozen=True)
class LatentNetwork(Network):
    """A BiFlowNet as the house sees it, for volumes of the class of a number.

    Attributes
    ----------
    steering : what adds to it under a condition; None: nothing
    hint : (1, hint channels, D, H, W) the condition; None: the base walks alone
    scale : of all outputs of the control
    """

    module: BiFlowNet
    number: int = 0
    steering: ControlNet | None = None
    hint: Tensor | None = None
    scale: float = 1.0

    @property
    def config(self) -> BiFlowConfig:
        """Of the network."""
        return self.module.config

    @property
    def label(self) -> str:
        """The class."""
        return self.config.names[self.number]

    def of_class(self, name: str) -> LatentNetwork:
        """The network for another class."""
        return replace(self, number=self.config.names.index(name))

    @property
    def control(self) -> ControlConfig | None:
        """Of its ControlNet."""
        return None if self.steering is None else self.steering.config

    def to(self, device: str) -> LatentNetwork:
        """The same network there, with its control and condition."""
        if self.device == torch.device(device):
            return self
        steering = None if self.steering is None else deepcopy(self.steering).to(device)
        hint = None if self.hint is None else self.hint.to(device)
        return replace(super().to(device), steering=steering, hint=hint)

    def under(self, labels: Tensor, volume: Shape, grid: Shape, scale: float) -> LatentNetwork:
        """The network with a hint of the labels."""
        if self.steering is None:
            raise UsageError("this BiFlowNet has no control")
        hint = label_hint(labels[None], self.steering.config, grid, volume).to(self.device)
        return replace(self, hint=hint, scale=scale)

    def denoiser(self, schedule: Schedule, config: SamplingConfig, key: Key) -> Denoiser:
        """The network for its class.

        Raises
        ------
        UsageError
            If it is to be guided and has no row for no class, or an option is of another family.
        """
        del key  # nothing is random in it
        if config.refreshes:
            raise UsageError("a model in latents has no residual to reuse; leave --refresh-* out")
        refuse_renoise(config)
        if config.guidance != 1 and not self.config.null:
            raise UsageError(
                f"--guidance {config.guidance:g} needs a model that also learnt volumes of no "
                "class; this one did not: leave it out"
            )
        return LatentDenoiser(
            self._predictor, schedule, self.number, config.guidance, config.precision
        )

    @property
    def _predictor(self) -> Callable[[Tensor, Tensor, Tensor | None], Tensor]:
        """The base, or both; at scale 0 the base alone, which is then exact and quicker."""
        if self.steering is None or self.hint is None or self.scale == 0:
            return self.module
        scales = [self.scale] * len(self.steering.zeros)
        return ControlledNet(self.module, self.steering, self.hint, scales)

    def memory(self, shape: Shape) -> int:
        """Weights, and what one evaluation of latents of a grid holds at its fullest."""
        base = biflow_memory(self.config, shape)
        if self.control is None:
            return base
        width, voxels = self.config.width, shape[0] * shape[1] * shape[2]
        return base + 4 * (parameter_count(self.control) + 8 * width * voxels)


def biflow_memory(config: BiFlowConfig, shape: Shape) -> int:
    """Bytes of evaluating one state of latents (D, H, W), about.

    At full resolution are held two maps and the skips, and before that the tokens of the
    intra-patch flow with their MLP. The last blocks, whose input is twice as wide, take the rest:
    25 widths, as the published network was measured at 16 x 32 x 32.
    """
    voxels = shape[0] * shape[1] * shape[2]
    kept = sum(2 * width / 8 ** max(level - 1, 0) for level, width in enumerate(config.widths))
    tokens = config.width * (8 if config.intra else 0) / config.patch**3
    at_once = kept + 4 * config.width + tokens + 25 * config.width
    return int(4 * (parameter_count(config) + voxels * at_once))

"""BiFlowNet as a denoiser: the noise in latents of one class, guided or not (spec 4 and 5)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from prdit_core.errors import UsageError
from prdit_core.models.contracts import Network, refuse_renoise
from prdit_core.models.families import parameter_count
from prdit_core.models.parameterisation import prediction_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from prdit_core.config import GenerationPrecision, SamplingConfig
    from prdit_core.models.contracts import Denoiser, Key, Prediction, Shape
    from prdit_core.models.latent.biflownet import BiFlowNet
    from prdit_core.models.latent.config import BiFlowConfig
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
    """A BiFlowNet as the house sees it, for volumes of the class of a number."""

    module: BiFlowNet
    number: int = 0

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
        return LatentDenoiser(self.module, schedule, self.number, config.guidance, config.precision)

    def memory(self, shape: Shape) -> int:
        """Weights, and what one evaluation of latents of a grid holds at its fullest."""
        return biflow_memory(self.config, shape)


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

"""A prior over CT volumes: a network with its process, its units and its geometry."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from prdit_core.errors import UsageError
from prdit_core.volume import Volume, axial_affine

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prdit_core.geometry import Geometry
    from prdit_core.intensity import Intensity
    from prdit_core.models.prdit import PRDiT
    from prdit_core.schedule import AnySchedule


@dataclass(frozen=True)
class Prediction:
    """Clean volume and noise as a network sees them in x_t, each (B, C, D, H, W)."""

    x0: Tensor
    eps: Tensor


@dataclass(frozen=True)
class Decomposition:
    """A prediction in its parts: `local` + `global_residual` = `total`."""

    local: Prediction
    global_residual: Prediction
    total: Prediction


@dataclass(frozen=True)
class Prior:
    """What every sampler, verb and the plugin need to know of a model.

    Attributes
    ----------
    model : network in evaluation mode
    schedule : noising process, with the noise's standard deviation
    intensity : model units to HU
    geometry : grid and spacing of the volumes it was trained on
    name : how the user called it
    digest : SHA-256 over weights and configuration, carried by every output
    record : training record of the checkpoint
    """

    model: PRDiT
    schedule: AnySchedule
    intensity: Intensity
    geometry: Geometry
    name: str
    digest: str
    record: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """Shape of one state, (1, C, D, H, W)."""
        return (1, self.model.config.channels, *self.geometry.shape)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    def to(self, device: str) -> Prior:
        """The same prior with its weights on another device."""
        self.model.to(device)
        return self

    @torch.no_grad()
    def denoise(self, x_t: Tensor, t: float) -> Prediction:
        """Predict clean volume and noise.

        Parameters
        ----------
        x_t : (B, C, D, H, W) state in model units
        t : time in [0, 1000]
        """
        return self._prediction(self.model(x_t, self._network_times(x_t, t)), x_t, t)

    @torch.no_grad()
    def decompose(self, x_t: Tensor, t: float) -> Decomposition:
        """As `denoise`, with the Local Denoiser's and the Global Residual DiT's share apart."""
        local, residual = self.model.parts(x_t, self._network_times(x_t, t))
        if residual is None:
            residual = torch.zeros_like(local)
        return Decomposition(
            local=self._prediction(local, x_t, t),
            global_residual=self._prediction(residual, torch.zeros_like(x_t), t),
            total=self._prediction(local + residual, x_t, t),
        )

    def check_hu(self) -> None:
        """Raise `UsageError` if the model has several channels: which is CT is not known."""
        channels = self.model.config.channels
        if channels != 1:
            raise UsageError(
                f"a model of {channels} channels has no HU volume; use denoise for its tensors"
            )

    def to_volume(self, x0: Tensor, metadata: Mapping[str, Any]) -> Volume:
        """One clean volume (1, 1, D, H, W) in HU on the prior's grid.

        Raises
        ------
        UsageError
            If the model has more than one channel: which of them is CT is not known.
        """
        self.check_hu()
        voxels = self.intensity.to_hu(x0[0, 0].float().cpu().numpy())
        affine = axial_affine(self.geometry.spacing_mm, self.geometry.shape)
        return Volume(voxels, affine, dict(metadata))

    def _network_times(self, x_t: Tensor, t: float) -> Tensor:
        return torch.full((x_t.shape[0],), self.schedule.network_time(t), device=x_t.device)

    def _prediction(self, output: Tensor, x_t: Tensor, t: float) -> Prediction:
        """Noise comes first in a joint output; a velocity is x0 - eps along the straight line."""
        if self.model.config.output == "velocity":
            alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
            return Prediction(x0=x_t + sigma * output, eps=x_t - alpha * output)
        eps, x0 = output.chunk(2, dim=1)
        return Prediction(x0=x0, eps=eps)

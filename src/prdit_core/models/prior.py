"""A prior over CT volumes: a network with its process, its units and its geometry."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from prdit_core.errors import UsageError
from prdit_core.volume import Volume, axial_affine

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prdit_core.config import GenerationPrecision
    from prdit_core.geometry import Geometry
    from prdit_core.intensity import Intensity
    from prdit_core.models.prdit import PRDiT
    from prdit_core.schedule import AnySchedule


PartName = Literal["local", "global_residual", "refiner"]


@dataclass(frozen=True)
class Prediction:
    """Clean volume and noise as a network sees them in x_t, each (B, C, D, H, W).

    Attributes
    ----------
    evaluated : parts of the network that were evaluated for it, the others being reused; empty
        where nobody counts
    """

    x0: Tensor
    eps: Tensor
    evaluated: tuple[PartName, ...] = ()


@dataclass(frozen=True)
class Decomposition:
    """A prediction in its parts: `local` + `global_residual` + `refiner` = `total`.

    Attributes
    ----------
    local, global_residual : of the base; in a chain upsampled to the full resolution
    refiner : what the refiners of a chain add; None for a model without any
    """

    local: Prediction
    global_residual: Prediction
    refiner: Prediction | None
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
    precision : in which the network computes; what goes in and comes out is float32
    """

    model: PRDiT
    schedule: AnySchedule
    intensity: Intensity
    geometry: Geometry
    name: str
    digest: str
    record: Mapping[str, Any] = field(default_factory=dict)
    precision: GenerationPrecision = "32-true"

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
        with self._computing():
            output = self.model(x_t, self._network_times(x_t, t))
        return self._prediction(output, x_t, t)

    @torch.no_grad()
    def local_part(self, x_t: Tensor, t: float) -> Tensor:
        """What the local part of the base predicts, (B, Cout, d, h, w) at its resolution."""
        with self._computing():
            return self.model.local_part(x_t, self._network_times(x_t, t))

    @torch.no_grad()
    def residual_part(self, x_t: Tensor, t: float) -> Tensor | None:
        """What the global part adds to it; None for a model without one."""
        with self._computing():
            return self.model.residual_part(x_t, self._network_times(x_t, t))

    @torch.no_grad()
    def completed(self, base: Tensor, x_t: Tensor, t: float) -> Prediction:
        """The prediction that a base's output leads to: its refiners evaluated, its heads apart."""
        with self._computing():
            output = self.model.refined(base, x_t, self._network_times(x_t, t))[-1]
        return self._prediction(output, x_t, t)

    @torch.no_grad()
    def decompose(self, x_t: Tensor, t: float) -> Decomposition:
        """As `denoise`, with what each part of the network says apart."""
        with self._computing():
            local, residual, refined = self.model.parts(x_t, self._network_times(x_t, t))
        residual = torch.zeros_like(local) if residual is None else residual
        base = local + residual
        nothing = torch.zeros_like(x_t)
        return Decomposition(
            local=self._prediction(local, x_t, t),
            global_residual=self._prediction(residual, nothing, t),
            refiner=None if refined is None else self._prediction(refined, nothing, t),
            total=self._prediction(base if refined is None else base + refined, x_t, t),
        )

    def at_size(self, size: int | None) -> Prior:
        """The same prior at a resolution of its chain.

        Parameters
        ----------
        size : edge of the volumes in voxels, one of `sizes`; None: the highest

        Raises
        ------
        UsageError
            If the chain has no such resolution.
        """
        if size is None:
            return self
        if size not in self.sizes:
            known = ", ".join(map(str, self.sizes))
            raise UsageError(f"{self.name} makes volumes of edge {known}, not {size}")
        number = self.sizes.index(size)
        if number == len(self.sizes) - 1:
            return self
        times = 2 ** (len(self.sizes) - 1 - number)
        return replace(
            self, model=self.model.stopped_at(number), geometry=self.geometry.coarser(times)
        )

    @property
    def sizes(self) -> tuple[int, ...]:
        """Edges (D) of the volumes at every resolution of the chain, in voxels, lowest first."""
        return self.model.config.sizes(self.geometry.shape[0])

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

    def _computing(self) -> torch.autocast:
        kind, wanted = self.device.type, self.precision == "bf16-mixed"
        return torch.autocast(kind, torch.bfloat16, enabled=wanted)

    def _network_times(self, x_t: Tensor, t: float) -> Tensor:
        return torch.full((x_t.shape[0],), self.schedule.network_time(t), device=x_t.device)

    def _prediction(self, output: Tensor, x_t: Tensor, t: float) -> Prediction:
        """Noise comes first in a joint output; a velocity is x0 - eps along the straight line."""
        output = output.float()
        if self.model.config.output == "velocity":
            alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
            return Prediction(x0=x_t + sigma * output, eps=x_t - alpha * output)
        eps, x0 = output.chunk(2, dim=1)
        return Prediction(x0=x0, eps=eps)

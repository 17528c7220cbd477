"""A prior over CT volumes: a network with its process, its units and its geometry."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from prdit_core.config import SamplingConfig
from prdit_core.errors import UsageError
from prdit_core.models.codec import Identity
from prdit_core.models.contracts import Key
from prdit_core.volume import Volume, axial_affine

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    from prdit_core.geometry import Geometry
    from prdit_core.intensity import Intensity
    from prdit_core.models.codec import Codec
    from prdit_core.models.contracts import (
        Decomposition,
        Denoiser,
        Network,
        Parts,
        Prediction,
        StateShape,
    )
    from prdit_core.schedule import AnySchedule

DEFAULTS, FIRST = SamplingConfig(), Key(0, 0)


@dataclass(frozen=True)
class Prior:
    """What every sampler, verb and the plugin need to know of a model.

    Attributes
    ----------
    network : what predicts
    schedule : noising process, with the noise's standard deviation
    intensity : model units to HU
    geometry : grid and spacing of the volumes it was trained on
    name : how the user called it
    digest : SHA-256 over weights and configuration, carried by every output
    record : training record of the checkpoint
    codec : way between volumes and the network's states
    """

    network: Network
    schedule: AnySchedule
    intensity: Intensity
    geometry: Geometry
    name: str
    digest: str
    record: Mapping[str, Any] = field(default_factory=dict)
    codec: Codec = field(default_factory=Identity)

    @property
    def shape(self) -> StateShape:
        """Shape of one state, (1, C, D, H, W)."""
        return self.network.state_shape(self.codec.grid(self.geometry.shape))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.network.device

    def to(self, device: str) -> Prior:
        """The same prior with its weights on another device; this one keeps its own."""
        return replace(self, network=self.network.to(device), codec=self.codec.to(device))

    def denoiser(self, config: SamplingConfig = DEFAULTS, key: Key = FIRST) -> Denoiser:
        """What one walk asks; see `Network.denoiser`."""
        return self.network.denoiser(self.schedule, config, key)

    def denoise(self, x_t: Tensor, t: float) -> Prediction:
        """Predict clean volume and noise, once.

        Parameters
        ----------
        x_t : (B, C, D, H, W) state in model units
        t : time in [0, 1000]
        """
        return self.denoiser()(x_t, t)

    def differentiable(self) -> Denoiser:
        """A denoiser with derivatives by x_t; see `Network.differentiable`."""
        return self.network.differentiable(self.schedule)

    @property
    def parts(self) -> Parts | None:
        """The parts that its predictions are the sum of; None where they are no sum."""
        return self.network.parts(self.schedule)

    def decompose(self, x_t: Tensor, t: float) -> Decomposition:
        """As `denoise`, with what each part of the network says apart.

        Raises
        ------
        UsageError
            If the model is no sum of parts.
        """
        parts = self.parts
        if parts is None:
            raise UsageError(f"{self.name} has no local and global part to look into")
        return parts.decompose(x_t, t)

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
            self, network=self.network.stopped_at(number), geometry=self.geometry.coarser(times)
        )

    @property
    def sizes(self) -> tuple[int, ...]:
        """Edges (D) of the volumes at every resolution of the chain, in voxels, lowest first."""
        return self.network.config.sizes(self.geometry.shape[0])

    def check_hu(self) -> None:
        """Raise `UsageError` if the model has several channels: which is CT is not known."""
        channels = self.network.config.channels
        if channels != 1:
            raise UsageError(
                f"a model of {channels} channels has no HU volume; use denoise for its tensors"
            )

    def encode(self, voxels_hu: NDArray[Any]) -> Tensor:
        """State (1, C, D, H, W) of clean voxels (D, H, W) in HU, on the prior's device."""
        import torch

        x = torch.from_numpy(self.intensity.to_model(voxels_hu))[None, None]
        return self.codec.encode(x.to(self.device))

    def to_volume(self, x0: Tensor, metadata: Mapping[str, Any]) -> Volume:
        """One clean state (1, C, D, H, W) as a volume in HU on the prior's grid.

        Raises
        ------
        UsageError
            If the model has more than one channel: which of them is CT is not known.
        """
        self.check_hu()
        affine = axial_affine(self.geometry.spacing_mm, self.geometry.shape)
        return Volume(self._hu(self.codec.decode(x0)), affine, dict(metadata))

    def preview_hu(self, x0: Tensor) -> NDArray[np.float32]:
        """Voxels (D, H, W) in HU that show what a state holds, cheaply."""
        return self._hu(self.codec.preview(x0))

    def _hu(self, x: Tensor) -> NDArray[np.float32]:
        return self.intensity.to_hu(x[0, 0].float().cpu().numpy())

"""A prior over CT volumes: a network with its process, its units and its geometry."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from prdit_core.config import SamplingConfig
from prdit_core.errors import UsageError
from prdit_core.geometry import by
from prdit_core.intensity import HU
from prdit_core.models.codec import Identity
from prdit_core.models.conditions import control_class, steered_by
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
        Shape,
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
    intensity : model units to HU, or to the units of a class that is no CT
    geometry : grid and spacing of the volumes it was trained on
    name : how the user called it
    digest : SHA-256 over weights and configuration, carried by every output
    record : training record of the checkpoint
    codec : way between volumes and the network's states
    control_digest : the same with the control, for what is made under a condition
    condition : what its volumes belong to, as their records say it; None: to nothing
    """

    network: Network
    schedule: AnySchedule
    intensity: Intensity
    geometry: Geometry
    name: str
    digest: str
    record: Mapping[str, Any] = field(default_factory=dict)
    codec: Codec = field(default_factory=Identity)
    control_digest: str = ""
    condition: Mapping[str, Any] | None = None

    @property
    def shape(self) -> StateShape:
        """Shape of one state, (1, C, D, H, W)."""
        return self.network.state_shape(self.codec.grid(self.geometry.shape))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.network.device

    @property
    def label(self) -> str | None:
        """Class of its volumes; None for a model without classes."""
        return self.network.label

    @property
    def memory(self) -> int:
        """Bytes that one evaluation takes, about."""
        depth, height, width = self.shape[2:]
        return self.network.memory((depth, height, width))

    def to(self, device: str) -> Prior:
        """The same prior with its weights on another device; this one keeps its own."""
        return replace(self, network=self.network.to(device), codec=self.codec.to(device))

    def denoiser(self, config: SamplingConfig = DEFAULTS, key: Key = FIRST) -> Denoiser:
        """What one walk asks; see `Network.denoiser`.

        Raises
        ------
        UsageError
            If the network has not what the options are about.
        """
        if config.guidance != 1 and self.label is None:
            raise UsageError(f"--guidance is for models of several classes; {self.name} has none")
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
        return self.checked_parts().decompose(x_t, t)

    def checked_parts(self) -> Parts:
        """Its parts.

        Raises
        ------
        UsageError
            If the model is no sum of parts.
        """
        parts = self.parts
        if parts is None:
            raise UsageError(
                f"{self.name} has no local and global part to look into: models of family "
                f"{self.network.config.family!r} are no sum of such"
            )
        return parts

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes of volumes it holds; none for a model without any."""
        return tuple(one.name for one in self.network.config.trained_on)

    def of_class(self, name: str | None) -> Prior:
        """The same prior for volumes of one class, in its units and on the finest of its grids.

        Parameters
        ----------
        name : one of `classes`; None: that of this prior

        Raises
        ------
        UsageError
            If the model has no such class.
        """
        if name is None:
            return self
        for one in self.network.config.trained_on:
            if one.name == name:
                network = self.network.of_class(name)
                return replace(self, network=network, intensity=one.intensity)._on(
                    one.geometries[-1]
                )
        known = ", ".join(self.classes)
        there = f"knows the classes {known}" if known else "has no classes"
        raise UsageError(f"{self.name} {there}, not {name!r}")

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the labels 1, 2, ... of maps that it makes volumes for; () without a control."""
        control = self.network.control
        return () if control is None else control.label_names

    def of_control(self, label: str | None = None) -> Prior:
        """The same prior for a class that its control was trained on, on the finest grid of that.

        Parameters
        ----------
        label : one of `classes`; None: the first that the control was trained on

        Raises
        ------
        UsageError
            If it has no control, or one that was not trained on that class.
        """
        one = control_class(self, label)
        return self.of_class(one.name).at_shape(one.geometries[-1].shape)

    def under(
        self, labels: NDArray[Any], scale: float = 1.0, record: Mapping[str, Any] | None = None
    ) -> Prior:
        """The same prior for volumes that belong to a label map.

        Parameters
        ----------
        labels : (D, H, W) on its grid; 0 is background, n the n-th of `labels`
        scale : weight of what the control adds, 1 as trained; at 0 volumes are the base's, exactly
        record : where the labels are from, for the records of the volumes

        Raises
        ------
        UsageError
            If it has no control, or none for its class and grid or for labels alone, or labels or
            scale are not such.
        InputRejected
            If nothing is labelled, or a label is none that it knows.
        """
        network, condition = steered_by(self, labels, scale)
        condition |= record or {}
        return replace(self, network=network, digest=self.control_digest, condition=condition)

    @property
    def grids(self) -> tuple[Geometry, ...]:
        """Every grid it makes volumes on, that of fewest voxels first; those of its class."""
        return self.network.config.grids(self.geometry, self.label)

    def at_shape(self, shape: Shape | None) -> Prior:
        """The same prior on another of its `grids`.

        Parameters
        ----------
        shape : voxels (D, H, W); None: those of this prior

        Raises
        ------
        UsageError
            If it makes no such volumes.
        """
        if shape is None or shape == self.geometry.shape:
            return self
        for number, grid in enumerate(self.grids):
            if grid.shape == shape:
                return replace(self, network=self.network.stopped_at(number))._on(grid)
        known = ", ".join(by(grid.shape) for grid in self.grids)
        raise UsageError(f"{self._whose} makes volumes of {known} voxels, not {by(shape)}")

    def at_size(self, size: int | None) -> Prior:
        """The same prior on the grid of a size, a cube where there is one.

        Parameters
        ----------
        size : first edge of the volumes in voxels, one of `sizes`; None: that of this prior

        Raises
        ------
        UsageError
            If it makes no such volumes.
        """
        if size is None:
            return self
        if size not in self.sizes:
            known = ", ".join(map(str, self.sizes))
            raise UsageError(f"{self._whose} makes volumes of edge {known}, not {size}")
        shapes = [grid.shape for grid in self.grids if grid.shape[0] == size]
        return self.at_shape((size,) * 3 if (size,) * 3 in shapes else shapes[-1])

    @property
    def sizes(self) -> tuple[int, ...]:
        """First edges (D) of the volumes on every grid it makes, in voxels, lowest first."""
        return tuple(sorted({grid.shape[0] for grid in self.grids}))

    @property
    def affine(self) -> NDArray[np.float64]:
        """Where its volumes lie: axial, around the origin."""
        return axial_affine(self.geometry.spacing_mm, self.geometry.shape)

    @property
    def _whose(self) -> str:
        """Who makes the volumes, for people."""
        return self.name if self.label is None else f"class {self.label} of {self.name}"

    def _on(self, geometry: Geometry) -> Prior:
        if self.condition is not None:
            raise UsageError("choose class and grid first, and then the condition")
        return replace(self, geometry=geometry, codec=self.codec.of(geometry.shape))

    def check_volume(self) -> None:
        """Raise `UsageError` if the model has several channels: which is the image is not known."""
        channels = self.codec.channels(self.network.config.channels)
        if channels != 1:
            raise UsageError(
                f"a model of {channels} channels has no HU volume; use denoise for its tensors"
            )

    def check_hu(self) -> None:
        """Raise `UsageError` unless its volumes are CT, one channel in HU."""
        self.check_volume()
        if self.intensity.units != HU:
            raise UsageError(
                f"{self._whose} is of units {self.intensity.units}, not HU; this needs a CT model"
            )

    def encode(self, voxels_hu: NDArray[Any]) -> Tensor:
        """State (1, C, D, H, W) of clean voxels (D, H, W) in HU, on the prior's device."""
        import torch

        x = torch.from_numpy(self.intensity.to_model(voxels_hu))[None, None]
        return self.codec.encode(x.to(self.device))

    def to_volume(self, x0: Tensor, metadata: Mapping[str, Any]) -> Volume:
        """One clean state (1, C, D, H, W) as a volume on the prior's grid.

        Parameters
        ----------
        metadata : states the units where they are not HU, as `stamp` does

        Raises
        ------
        UsageError
            If the model has more than one channel: which of them is CT is not known.
        """
        self.check_volume()
        return Volume(self._hu(self.codec.decode(x0)), self.affine, dict(metadata))

    def to_preview(self, x0: Tensor, metadata: Mapping[str, Any]) -> Volume:
        """As `to_volume`, but cheaply and roughly where states are latents."""
        self.check_volume()
        return Volume(self.preview_hu(x0), self.affine, dict(metadata))

    def preview_hu(self, x0: Tensor) -> NDArray[np.float32]:
        """Voxels (D, H, W) in HU that show what a state holds, cheaply."""
        return self._hu(self.codec.preview(x0))

    def _hu(self, x: Tensor) -> NDArray[np.float32]:
        return self.intensity.to_hu(x[0, 0].float().cpu().numpy())

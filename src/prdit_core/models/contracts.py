"""What every family of models is to the rest of the house: samplers, verbs, store and plugin."""

from __future__ import annotations

from abc import ABC, abstractmethod
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, Self

from prdit_core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from torch import Tensor

    from prdit_core.config import NetworkConfig, SamplingConfig
    from prdit_core.schedule import Schedule

Shape = tuple[int, int, int]
StateShape = tuple[int, int, int, int, int]


@dataclass(frozen=True)
class Key:
    """Which volume a walk makes: all that is random in it depends on these and on t."""

    seed: int
    index: int


@dataclass(frozen=True)
class Prediction:
    """Clean volume and noise as a network sees them in x_t, each (B, C, D, H, W)."""

    x0: Tensor
    eps: Tensor


class Denoiser(Protocol):
    """What a sampler asks; one for each walk, which keeps here what it keeps between steps."""

    def __call__(self, x_t: Tensor, t: float) -> Prediction:
        """Predict clean volume and noise in the state `x_t` (B, C, D, H, W) at time t."""


@dataclass(frozen=True)
class Decomposition:
    """A prediction in its parts: `local` + `global_residual` + `refiner` = `total`.

    Attributes
    ----------
    local, global_residual : of the base; in a chain upsampled to the full resolution
    refiner : what the refiners of a chain add; None for a model without any
    blinded : whole predictions of the same network where it is not shown one thing, by its name
    """

    local: Prediction
    global_residual: Prediction
    refiner: Prediction | None
    total: Prediction
    blinded: Mapping[str, Prediction] = field(default_factory=dict)


class Parts(Protocol):
    """A network whose prediction is a sum that can be looked into."""

    def decompose(self, x_t: Tensor, t: float) -> Decomposition:
        """As a denoiser, with what each part of the network says apart."""

    def residual(self, x_t: Tensor, t: float) -> Tensor | None:
        """What the global part adds, at its own resolution; None for a model without one."""


@dataclass(frozen=True)
class Network(ABC):
    """A family's network in evaluation mode. Its weights are shared and never change.

    Attributes
    ----------
    module : the bare network, which only its family looks into
    """

    module: Any

    @property
    @abstractmethod
    def config(self) -> NetworkConfig:
        """Everything that fixes its names and shapes."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        where: torch.device = next(self.module.parameters()).device
        return where

    def to(self, device: str) -> Self:
        """The same network there; this one stays where it is."""
        import torch

        if self.device == torch.device(device):
            return self
        return replace(self, module=deepcopy(self.module).to(device))

    @property
    def label(self) -> str | None:
        """Class of the volumes it predicts; None for a network without classes."""
        return None

    def of_class(self, name: str) -> Network:
        """The network for volumes of one class that its configuration names.

        Raises
        ------
        UsageError
            If it has none.
        """
        raise UsageError(f"models of family {self.config.family!r} have no class {name}")

    @property
    def control(self) -> NetworkConfig | None:
        """Configuration of what steers it by a condition; None: nothing does."""
        return None

    def under(self, labels: Tensor, volume: Shape, grid: Shape, scale: float) -> Network:
        """The network for volumes that belong to a label map; for those that have a control.

        Parameters
        ----------
        labels : (D, H, W) whole numbers, see `NetworkConfig.label_names`
        volume : (D, H, W) that is encoded, of which the labels are the near part
        grid : of the states
        scale : weight of what the control adds, 1 as trained, 0 none of it

        Raises
        ------
        UsageError
            If it has none.
        InputRejected
            If a label is none that it knows.
        """
        del labels, volume, grid, scale
        raise UsageError(f"models of family {self.config.family!r} have no control")

    @abstractmethod
    def denoiser(self, schedule: Schedule, config: SamplingConfig, key: Key) -> Denoiser:
        """What one walk asks.

        Parameters
        ----------
        schedule : noising process of the prior
        config : options of the walk, those of the family among them
        key : what is random in the denoiser depends on it and on t
        """

    def differentiable(self, schedule: Schedule) -> Denoiser:
        """A denoiser of the same weights with derivatives by x_t; the weights get none.

        It keeps nothing between calls, so any number of walks may share it.

        Raises
        ------
        UsageError
            If the family has none.
        """
        raise UsageError(
            f"derivatives of models of family {self.config.family!r} are not there yet; take a "
            "coupling that needs none, such as cg"
        )

    def differentiable_memory(self, shape: Shape) -> int:
        """Bytes that one evaluation with derivatives of a volume (D, H, W) takes, about."""
        return self.memory(shape)

    def parts(self, schedule: Schedule) -> Parts | None:
        """Its parts; None: the family is no sum."""
        del schedule
        return None

    def stopped_at(self, number: int) -> Self:
        """The network up to resolution `number` of its chain, 0 being the lowest."""
        del number  # there is one
        return self

    @abstractmethod
    def memory(self, shape: Shape) -> int:
        """Bytes that one evaluation of states of a grid (D, H, W) takes, about."""

    def state_shape(self, shape: Shape) -> StateShape:
        """Shape of one state, (1, C, D, H, W), for what the codec makes of a volume."""
        return (1, self.config.channels, *shape)


def refuse_renoise(config: SamplingConfig) -> None:
    """Raise `UsageError` if a state is to be looked at several times: it looks the same."""
    if config.renoise > 1:
        raise UsageError("--renoise is for patch priors, which look at other tiles each time")

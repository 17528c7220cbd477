"""What an operator is: a linear map with its exact transpose and a spec that rebuilds it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from prdit_core.errors import UsageError
from prdit_core.geometry import Edge, Millimetres
from prdit_core.noise import Draw, generator

if TYPE_CHECKING:
    from collections.abc import Callable

    Map = Callable[[Tensor], Tensor]

POWER_STEPS = 30
Shape = tuple[Edge, Edge, Edge]
Spacing = tuple[Millimetres, Millimetres, Millimetres]
Count = Annotated[int, Field(ge=1, le=65_536)]


class Spec(BaseModel, ABC):
    """All that fixes an operator, as JSON; each kind is a row of the table.

    Attributes
    ----------
    kind : which operator, a row of the table
    version : of the meaning of these fields
    shape : voxels (D, H, W) of the volumes it takes
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    version: Literal[1] = 1
    shape: Shape

    @property
    @abstractmethod
    def range_shape(self) -> tuple[int, ...]:
        """Shape of what it measures, without batch and channels."""

    @abstractmethod
    def memory(self, dtype: torch.dtype) -> int:
        """Bytes that the operator will hold, an upper bound."""

    @abstractmethod
    def fitting(self, share: float) -> str:
        """What would fit where only this share of `memory` is there, as advice."""

    def stated(self) -> dict[str, Any]:
        """What a record says of it besides its short fields."""
        return {}

    @abstractmethod
    def operator(self, dtype: torch.dtype) -> LinearOperator:
        """Make the operator; `table.build` looks at the memory first."""


class LinearOperator(torch.nn.Module, ABC):
    """A linear map from volumes (B, C, D, H, W) to measurements (B, C, *range_shape).

    Channels are measured one by one. Both directions are differentiable as often as wanted: the
    derivative of `forward` is `adjoint` and that of `adjoint` is `forward`. `to(device, dtype)`
    moves it, as any module; it computes in the one dtype that it is in.

    Parameters
    ----------
    geometry : the spec it was made from
    dtype : of the numbers it computes with, at first
    """

    def __init__(self, geometry: Spec, dtype: torch.dtype) -> None:
        super().__init__()
        self.geometry = geometry
        # Set by those that know it.
        self._norm: float | None = None
        self._unit: Tensor
        self.register_buffer("_unit", torch.ones((), dtype=dtype), persistent=False)

    @property
    def domain_shape(self) -> tuple[int, int, int]:
        """Voxels (D, H, W)."""
        return self.geometry.shape

    @property
    def range_shape(self) -> tuple[int, ...]:
        """Shape of a measurement, without batch and channels."""
        return self.geometry.range_shape

    @property
    def dtype(self) -> torch.dtype:
        """Of the numbers it computes with."""
        return self._unit.dtype

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self._unit.device

    def forward(self, x: Tensor) -> Tensor:
        """A x: (B, C, D, H, W) to (B, C, *range_shape).

        Raises
        ------
        UsageError
            If shape, dtype or device of `x` are not the operator's.
        """
        self._check(x, self.domain_shape, "volumes")
        return _linear(x, self._measure, self._spread)

    def adjoint(self, y: Tensor) -> Tensor:
        """A* y: (B, C, *range_shape) to (B, C, D, H, W), the exact transpose.

        Raises
        ------
        UsageError
            If shape, dtype or device of `y` are not the operator's.
        """
        self._check(y, self.range_shape, "measurements")
        return _linear(y, self._spread, self._measure)

    def normal(self, x: Tensor) -> Tensor:
        """A* A x."""
        return self.adjoint(self.forward(x))

    def norm(self) -> float:
        """Largest singular value: 30 steps of the power iteration from a fixed start, once."""
        if self._norm is None:
            self._norm = self._power_iteration()
        return self._norm

    def spec(self) -> dict[str, Any]:
        """JSON that rebuilds the operator, see `table.read_spec`."""
        return self.geometry.model_dump(mode="json")

    @abstractmethod
    def _measure(self, x: Tensor) -> Tensor:
        """A x without gradients."""

    @abstractmethod
    def _spread(self, y: Tensor) -> Tensor:
        """A* y without gradients."""

    def _smallest(self) -> tuple[int, int, int]:
        """Shape of the smallest volume that has the norm of all."""
        return self.domain_shape

    def _power_iteration(self) -> float:
        """The start is positive, since all operators here are."""
        x = torch.rand((1, 1, *self._smallest()), generator=generator(Draw.POWER_ITERATION, 0)).to(
            self._unit
        )
        squared = 0.0
        for _ in range(POWER_STEPS):
            x = self._spread(self._measure(x / x.norm()))
            squared = float(x.norm())
        return math.sqrt(squared)

    def _check(self, given: Tensor, shape: tuple[int, ...], what: str) -> None:
        if given.dim() != len(shape) + 2 or given.shape[2:] != shape:
            takes = ", ".join(("B", "C", *map(str, shape)))
            raise UsageError(f"this operator takes {what} of ({takes}), not {tuple(given.shape)}")
        if given.dtype != self.dtype or given.device != self.device:
            raise UsageError(
                f"this operator computes in {self.dtype} on {self.device}, the {what} are in "
                f"{given.dtype} on {given.device}; move one of them with to()"
            )


class PseudoInvertible(LinearOperator, ABC):
    """An operator whose Moore-Penrose inverse has a closed form."""

    @abstractmethod
    def pinv(self, y: Tensor) -> Tensor:
        """A+ y: the least of all volumes that fit `y` best."""


class _Linear(torch.autograd.Function):
    """Run a linear map outside of autograd; its derivative is its transpose, and so on."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, run: Map, transposed: Map) -> Tensor:
        ctx.maps = (transposed, run)
        # Where networks compute in bf16, measurements are still compared in full precision.
        with torch.autocast(x.device.type, enabled=False):
            return run(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return _linear(gradients[0], *ctx.maps), None, None


def _linear(x: Tensor, run: Map, transposed: Map) -> Tensor:
    result: Tensor = _Linear.apply(x, run, transposed)  # type: ignore[no-untyped-call]
    return result

"""Super-resolution: only the means of cubic blocks are known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

import torch
from pydantic import Field, model_validator

from prdit_core.inverse.operators.contract import PseudoInvertible, Spec
from prdit_core.inverse.operators.separable import Separable

if TYPE_CHECKING:
    from torch import Tensor


class SuperResolutionSpec(Spec):
    """Means over blocks of `factor` voxels along each axis."""

    kind: Literal["super-resolution"] = "super-resolution"
    factor: Annotated[int, Field(ge=2, le=64)]

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if any(edge % self.factor for edge in self.shape):
            raise ValueError(f"blocks of {self.factor} voxels do not fill a volume of {self.shape}")
        return self

    @property
    def range_shape(self) -> tuple[int, int, int]:
        """Blocks along each axis."""
        depth, height, width = (edge // self.factor for edge in self.shape)
        return depth, height, width

    def memory(self, dtype: torch.dtype) -> int:
        """Bytes of the three matrices."""
        return sum(n * n // self.factor for n in self.shape) * dtype.itemsize

    def fitting(self, share: float) -> str:
        """Only the edges count."""
        return f"edges of {share**0.5:.0%} of these would fit"

    def operator(self, dtype: torch.dtype) -> SuperResolution:
        """Make the matrices."""
        return SuperResolution(self, dtype)


class SuperResolution(Separable, PseudoInvertible):
    """Block average; the transpose repeats a mean over its block, by one over its voxels."""

    def __init__(self, geometry: SuperResolutionSpec, dtype: torch.dtype) -> None:
        self._voxels = geometry.factor**3
        share = torch.full((1, geometry.factor), 1 / geometry.factor, dtype=torch.float64)
        eyes = (torch.eye(blocks, dtype=torch.float64) for blocks in geometry.range_shape)
        super().__init__(geometry, [torch.kron(eye, share) for eye in eyes], dtype)

    def pinv(self, y: Tensor) -> Tensor:
        """Every mean over all of its block."""
        return self.adjoint(y) * self._voxels

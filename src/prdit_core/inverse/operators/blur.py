"""Gaussian blur with a stated border."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import torch
from pydantic import Field

from prdit_core.inverse.operators.contract import Spec
from prdit_core.inverse.operators.separable import Separable

if TYPE_CHECKING:
    from torch import Tensor

# Which voxel stands for one beyond the border, as numpy's pad calls them.
Border = Literal["zero", "edge", "reflect", "symmetric", "wrap"]


class BlurSpec(Spec):
    """A Gaussian sampled at whole voxels, cut off and normalised, along each axis.

    Attributes
    ----------
    sigma : standard deviation in voxels
    radius : voxels on each side that take part; 3 sigma is usual
    border : what lies beyond the volume: nothing ("zero"), the last voxel ("edge"), the volume
        mirrored at the last voxel ("reflect") or behind it ("symmetric"), or its other end ("wrap")
    """

    kind: Literal["blur"] = "blur"
    sigma: Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)]
    radius: Annotated[int, Field(ge=1, le=300)]
    border: Border = "zero"

    @property
    def range_shape(self) -> tuple[int, int, int]:
        """That of the volume."""
        return self.shape

    def memory(self, dtype: torch.dtype) -> int:
        """Bytes of the three matrices."""
        return sum(n * n for n in self.shape) * dtype.itemsize

    def fitting(self, share: float) -> str:
        """Only the edges count."""
        return f"edges of {share**0.5:.0%} of these would fit"

    def operator(self, dtype: torch.dtype) -> Blur:
        """Make the matrices."""
        return Blur(self, [self._matrix(edge) for edge in self.shape], dtype)

    def _matrix(self, edge: int) -> Tensor:
        places = np.arange(edge)
        source = np.pad(places, self.radius, mode="constant", constant_values=-1)
        if self.border != "zero":
            source = np.pad(places, self.radius, mode=self.border)
        offsets = np.arange(-self.radius, self.radius + 1)
        weights = np.exp(-0.5 * (offsets / self.sigma) ** 2)
        matrix = np.zeros((edge, edge + 1))
        for weight, offset in zip(weights / weights.sum(), offsets, strict=True):
            np.add.at(matrix, (places, source[places + self.radius + offset]), weight)
        return torch.from_numpy(matrix[:, :edge])


class Blur(Separable):
    """Convolution with a Gaussian; blur has an inverse only in theory, so no `pinv`."""

"""Projectors that treat every slice alike: one sparse matrix serves all of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from prdit_core.inverse.operators.joseph import matrix_bytes, system_matrix, transposed
from prdit_core.inverse.operators.projector import Projector, ViewsSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from torch import Tensor

    from prdit_core.inverse.operators.joseph import Array

# Slices that are projected at once: their numbers for one pixel fill a line of the cache.
SLICES = 16


class SlicesSpec(ViewsSpec, ABC):
    """A spec of rays that stay within a slice; measurements are (D, V, bins)."""

    @property
    def range_shape(self) -> tuple[int, int, int]:
        """(D, V, bins)."""
        return self.shape[0], self.views, self.bins

    def memory(self, dtype: torch.dtype) -> int:
        """Bytes of the sparse matrix and its transpose."""
        return matrix_bytes(self.views * self.bins, self.shape[1:], dtype)

    @abstractmethod
    def rays(self) -> Iterator[tuple[Array, Array]]:
        """For each view a point on every ray and its unit direction, (bins, 2) in mm, (x, y)."""


class SliceProjector(Projector, ABC):
    """Joseph's projector of all slices of a volume, and its transpose."""

    def __init__(self, geometry: SlicesSpec, dtype: torch.dtype) -> None:
        super().__init__(geometry, dtype)
        spacing = geometry.spacing_mm[1:]
        matrix = system_matrix(geometry.rays(), geometry.shape[1:], spacing, dtype)
        self._matrix: Tensor
        self._transpose: Tensor
        self.register_buffer("_matrix", matrix, persistent=False)
        self.register_buffer("_transpose", transposed(matrix), persistent=False)

    def norm(self) -> float:
        """Largest singular value, which is that of one slice."""
        return self._power_iteration((1, *self.domain_shape[1:]))

    def _measure(self, x: Tensor) -> Tensor:
        return _by_slices(self._matrix, x).view(*x.shape[:3], *self.range_shape[1:])

    def _spread(self, y: Tensor) -> Tensor:
        return _by_slices(self._transpose, y).view(*y.shape[:3], *self.domain_shape[1:])


def _by_slices(matrix: Tensor, given: Tensor) -> Tensor:
    """The matrix times every slice of (B, C, D, ., .), a few at once: (B C D, rows)."""
    slices = given.reshape(-1, matrix.shape[1])
    product = slices.new_empty(len(slices), matrix.shape[0])
    for first in range(0, len(slices), SLICES):
        several = slices[first : first + SLICES].t().contiguous()
        product[first : first + SLICES] = (matrix @ several).t()
    return product

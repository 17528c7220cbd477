"""Operators that work along each axis on its own, as one small matrix an axis does."""

from __future__ import annotations

from abc import ABC
from typing import TYPE_CHECKING

import torch

from prdit_core.inverse.operators.contract import LinearOperator, Spec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


class Separable(LinearOperator, ABC):
    """The Kronecker product of three matrices, for z, y and x.

    Parameters
    ----------
    matrices : float64, each (to, from) an axis
    """

    def __init__(self, geometry: Spec, matrices: Sequence[Tensor], dtype: torch.dtype) -> None:
        super().__init__(geometry, dtype)
        self._norm = float(torch.stack([torch.linalg.matrix_norm(m, 2) for m in matrices]).prod())
        self._z: Tensor
        self._y: Tensor
        self._x: Tensor
        for name, matrix in zip(("_z", "_y", "_x"), matrices, strict=True):
            self.register_buffer(name, matrix.to(dtype), persistent=False)

    def norm(self) -> float:
        """Largest singular value: the product of those of the matrices."""
        return self._norm

    def _measure(self, x: Tensor) -> Tensor:
        return _along_axes(x, self._z, self._y, self._x)

    def _spread(self, y: Tensor) -> Tensor:
        return _along_axes(y, self._z.t(), self._y.t(), self._x.t())


def _along_axes(x: Tensor, along_z: Tensor, along_y: Tensor, along_x: Tensor) -> Tensor:
    within = along_y @ (x @ along_x.t())
    result: Tensor = along_z @ within.flatten(3)
    return result.view(*result.shape[:3], *within.shape[3:])

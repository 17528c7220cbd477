"""Inpainting: some voxels are known, the others are not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import torch
from pydantic import model_validator

from prdit_core.inverse.operators.contract import PseudoInvertible, Spec
from prdit_core.inverse.operators.packed import packed_bits, unpacked_bits

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


class MaskSpec(Spec):
    """Which voxels are known; measurements are their values in C order, (known,).

    Attributes
    ----------
    known : the mask, see `packed.packed_bits`
    """

    kind: Literal["mask"] = "mask"
    known: str

    @model_validator(mode="after")
    def _knows_something(self) -> Self:
        if not self.mask().any():
            raise ValueError("no voxel is known, so there is nothing to go by")
        return self

    @property
    def range_shape(self) -> tuple[int]:
        """Number of known voxels."""
        return (int(np.count_nonzero(self.mask())),)

    def mask(self) -> NDArray[np.bool_]:
        """Whether a voxel is known, (D, H, W)."""
        return unpacked_bits(self.known, self.shape)

    def memory(self, dtype: torch.dtype) -> int:
        """Bytes of the places of the known voxels."""
        return self.range_shape[0] * torch.int64.itemsize

    def fitting(self, share: float) -> str:
        """Only what is known counts."""
        return f"volumes of {share:.0%} of these voxels would fit"

    def operator(self, dtype: torch.dtype) -> Mask:
        """List the known voxels."""
        return Mask(self, dtype)


def mask_of(known: NDArray[Any]) -> MaskSpec:
    """The spec of a (D, H, W) array that is not 0 where a voxel is known."""
    depth, height, width = known.shape
    return MaskSpec(shape=(depth, height, width), known=packed_bits(known))


class Mask(PseudoInvertible):
    """The known voxels; the transpose is the pseudo-inverse and puts 0 where nothing is known."""

    def __init__(self, geometry: MaskSpec, dtype: torch.dtype) -> None:
        super().__init__(geometry, dtype)
        self._norm = 1.0
        self._places: Tensor
        places = torch.from_numpy(np.flatnonzero(geometry.mask()))
        self.register_buffer("_places", places, persistent=False)

    @property
    def range_shape(self) -> tuple[int]:
        """Number of known voxels."""
        return (len(self._places),)

    def pinv(self, y: Tensor) -> Tensor:
        """The known voxels, and 0 elsewhere."""
        return self.adjoint(y)

    def _measure(self, x: Tensor) -> Tensor:
        return x.flatten(2).index_select(2, self._places)

    def _spread(self, y: Tensor) -> Tensor:
        x = y.new_zeros(*y.shape[:2], *self.domain_shape)
        x.view(*y.shape[:2], -1).index_copy_(2, self._places, y)
        return x

"""Parallel beam, slice by slice: sparse views over half a turn, or of a limited angle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from prdit_core.inverse.operators.projector import view_weights
from prdit_core.inverse.operators.slices import SliceProjector, SlicesSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from torch import Tensor

    from prdit_core.inverse.operators.joseph import Array


class ParallelSpec(SlicesSpec):
    """Rays x cos(theta) + y sin(theta) = s; few angles are sparse, a small arc limits them."""

    kind: Literal["parallel"] = "parallel"

    def rays(self) -> Iterator[tuple[Array, Array]]:
        """One through the middle of every bin."""
        s = self.bin_places()[:, None]
        for across, along in self.frames():
            yield s * across, np.broadcast_to(along, (self.bins, 2))

    def operator(self, dtype: torch.dtype) -> Parallel:
        """Trace all rays."""
        return Parallel(self, dtype)


class Parallel(SliceProjector):
    """Joseph's projector of parallel rays; its backprojection is its transpose."""

    geometry: ParallelSpec

    @property
    def pitch_mm(self) -> float:
        """Distance of the bins."""
        return self.geometry.bin_mm

    def ray_weights(self) -> Tensor:
        """1: all rays of a view are alike."""
        return self._unit

    def backproject(self, filtered: Tensor) -> Tensor:
        """The transpose, with the weights of the integral over half a turn."""
        _, pixel_y, pixel_x = self.geometry.spacing_mm
        weights = view_weights(self.geometry.angles_deg, self.geometry.period_deg) * self.pitch_mm
        return self.adjoint(filtered * (weights / (pixel_y * pixel_x)).to(filtered)[:, None])

"""Fan beam with a flat detector, slice by slice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from prdit_core.inverse.operators.circular import CircularSpec, interpolated
from prdit_core.inverse.operators.projector import view_weights
from prdit_core.inverse.operators.slices import SliceProjector, SlicesSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from prdit_core.inverse.operators.joseph import Array


class FanSpec(SlicesSpec, CircularSpec):
    """Rays from a source in the plane of every slice to the bins of a straight detector."""

    kind: Literal["fan"] = "fan"

    def rays(self) -> Iterator[tuple[Array, Array]]:
        """One from the source to the middle of every bin."""
        for source, bins in zip(self.sources(), self.bins_of(), strict=True):
            along = (bins - source) / np.linalg.norm(bins - source, axis=1, keepdims=True)
            yield np.broadcast_to(source, bins.shape), along

    def operator(self, dtype: torch.dtype) -> Fan:
        """Trace all rays."""
        return Fan(self, dtype)


class Fan(SliceProjector):
    """Joseph's projector of a fan; `fbp` takes half a turn and the fan, or more."""

    geometry: FanSpec

    @property
    def pitch_mm(self) -> float:
        """Distance of the bins as seen at the axis."""
        return self.geometry.pitch_mm

    def ray_weights(self) -> Tensor:
        """Cosines of the angles to the middle ray, times the ray's share of its line, (V, bins)."""
        sid = self.geometry.source_detector_mm
        cosines = sid / np.hypot(sid, self.geometry.bin_places())
        return torch.from_numpy(cosines * self.geometry.redundancy()).to(self._unit)

    def backproject(self, filtered: Tensor) -> Tensor:
        """Every pixel's bins, interpolated, by the squared nearness of the source."""
        views = filtered.flatten(0, 2).movedim(1, 0)[:, None, :, None]  # V 1 BCD 1 bins
        weights = view_weights(self.geometry.angles_deg, self.geometry.period_deg)
        total = filtered.new_zeros(1, views.shape[2], *self.domain_shape[1:])
        for view, weight, (bins, near) in zip(
            views, weights.tolist(), self.geometry.pixels_seen(filtered), strict=True
        ):
            seen = interpolated(view, torch.zeros_like(bins)[None], bins[None])
            total += weight * near.square() * seen
        return total.view(*filtered.shape[:3], *self.domain_shape[1:])

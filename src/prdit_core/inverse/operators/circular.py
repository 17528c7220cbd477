"""Source and flat detector on a circle around the axis: what fan and cone beam share."""

from __future__ import annotations

import math
from abc import ABC
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import model_validator

from prdit_core.geometry import Millimetres
from prdit_core.inverse.operators.joseph import centres
from prdit_core.inverse.operators.projector import ViewsSpec, covered_arc

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from prdit_core.inverse.operators.joseph import Array


# Degrees of the passage between rays that count and rays that do not; 5 to 45 gave the same.
FEATHER_DEG = 20.0


class CircularSpec(ViewsSpec, ABC):
    """A source that turns around the axis, and a flat detector across from it.

    At angle 0 the source lies at -y.

    Attributes
    ----------
    source_axis_mm : from the source to the axis (SAD)
    source_detector_mm : from the source to the detector (SID)
    """

    source_axis_mm: Millimetres
    source_detector_mm: Millimetres

    @model_validator(mode="after")
    def _outside(self) -> Self:
        if self.source_detector_mm <= self.source_axis_mm:
            raise ValueError(
                f"the detector, {self.source_detector_mm:g} mm from the source, must lie behind "
                f"the axis, which is {self.source_axis_mm:g} mm from it"
            )
        _, height, width = (n * mm for n, mm in zip(self.shape, self.spacing_mm, strict=True))
        if self.source_axis_mm <= math.hypot(height, width) / 2:
            raise ValueError(
                f"a source {self.source_axis_mm:g} mm from the axis turns inside the volume, which "
                f"is {width:g} x {height:g} mm wide"
            )
        return self

    @property
    def pitch_mm(self) -> float:
        """Distance of the bins as seen at the axis."""
        return self.bin_mm * self.source_axis_mm / self.source_detector_mm

    @property
    def reach_mm(self) -> float:
        """Radius around the axis within which all views see a voxel."""
        angle = math.atan(super().reach_mm / self.source_detector_mm)
        return self.source_axis_mm * math.sin(angle)

    @property
    def whole_arc_deg(self) -> float:
        """Half a turn and the fan that sees the volume."""
        _, height, width = (n * mm for n, mm in zip(self.shape, self.spacing_mm, strict=True))
        radius = min(self.reach_mm, math.hypot(height, width) / 2)
        return 180.0 + 2 * math.degrees(math.asin(radius / self.source_axis_mm))

    @property
    def period_deg(self) -> float:
        """A turn."""
        return 360.0

    def redundancy(self) -> Array:
        """Share of a ray in what was measured along its line, from both ends, (V, bins).

        1/2 over a turn. Over less, a line is seen twice from near the ends of the arc and once from
        its middle; shares there pass smoothly from 0 to 1, as those of Parker do, and the two of
        a line add up to 1 (F. Noo et al., Phys. Med. Biol. 47, 2525 (2002)).
        """
        first, arc = covered_arc(self.angles_deg, self.period_deg)
        fan = np.degrees(np.arctan(self.bin_places() / self.source_detector_mm))
        here = np.mod(np.array(self.angles_deg) - first, self.period_deg)[:, None]
        there = np.mod(here + 180 - 2 * fan, self.period_deg)
        own, other = _feathered(here, arc), _feathered(there, arc)
        shares: Array = own / (own + other)
        return shares

    def sources(self) -> Iterator[Array]:
        """Where the source is in every view, (x, y) in mm."""
        for _, along in self.frames():
            yield -self.source_axis_mm * along

    def bins_of(self) -> Iterator[Array]:
        """Where the bins are in every view, (bins, 2) in mm, (x, y)."""
        behind = self.source_detector_mm - self.source_axis_mm
        for across, along in self.frames():
            yield behind * along + self.bin_places()[:, None] * across

    def pixels_seen(self, like: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """In every view, which bin sees a pixel, and SAD over its distance from the source.

        Both (H, W), the distance being that along the middle ray.
        """
        _, height, width = self.shape
        _, pixel_y, pixel_x = self.spacing_mm
        y = -centres(height)[:, None] * pixel_y
        x = centres(width)[None, :] * pixel_x
        for across, along in self.frames():
            nearness = self.source_axis_mm / (self.source_axis_mm + x * along[0] + y * along[1])
            bins = (x * across[0] + y * across[1]) * nearness / self.pitch_mm + self.centre
            yield torch.from_numpy(bins).to(like), torch.from_numpy(nearness).to(like)


def _feathered(angles_deg: Array, arc_deg: float) -> Array:
    """1 within an arc from 0, 0 outside, and a smooth passage inside of its ends."""
    if arc_deg >= 360.0:
        return np.ones_like(angles_deg)
    left = np.minimum(angles_deg, arc_deg - angles_deg).clip(min=0)
    result: Array = np.sin(np.pi / 2 * (left / FEATHER_DEG).clip(max=1)) ** 2
    return result


def interpolated(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Bilinear values of (N, K, h, w) at places counted in pixels, (N, r, c) each: (N, K, r, c).

    Outside of an image is 0.
    """
    return F.grid_sample(images, grid_at(images.shape[-2:], rows, columns), align_corners=False)


def grid_at(size: Sequence[int], rows: Tensor, columns: Tensor) -> Tensor:
    """Places counted in pixels as `grid_sample` counts them."""
    return torch.stack([(2 * columns + 1) / size[1] - 1, (2 * rows + 1) / size[0] - 1], -1)

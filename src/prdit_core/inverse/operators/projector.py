"""What all projectors of CT share: views, their weights, and the two steps around a ramp filter."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Annotated, Self

import numpy as np
import torch
from pydantic import Field, FiniteFloat, model_validator

from prdit_core.geometry import Millimetres
from prdit_core.inverse.operators.contract import Count, LinearOperator, Spacing, Spec
from prdit_core.inverse.operators.joseph import centres

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from prdit_core.inverse.operators.joseph import Array

    Order = NDArray[np.int64]

Angles = Annotated[tuple[FiniteFloat, ...], Field(min_length=1, max_length=65_536)]
# A hole this many times as wide as most has no views of its own: a missing wedge.
WEDGE = 3.0


def spread_angles(views: int, arc_deg: float = 180.0) -> tuple[float, ...]:
    """Angles k `arc_deg` / views in degrees: sparse views, or of a limited angle; no end."""
    return tuple(number * arc_deg / views for number in range(views))


def view_weights(angles_deg: Sequence[float], period_deg: float) -> torch.Tensor:
    """Share of every view in the integral over the angle, in radians, (V,) float64.

    Half of the gaps to the views beside it, modulo `period_deg`. So uneven angles count as they
    should, and views that say the same share one weight. A view beside a missing wedge counts as if
    the gap there were that on its other side.
    """
    order, _, after, usual = _gaps(angles_deg, period_deg)
    before = np.roll(after, 1)
    gap = (
        np.where(after > WEDGE * usual, before, after)
        + np.where(before > WEDGE * usual, after, before)
    ) / 2
    weights = np.empty(len(order))
    weights[order] = np.radians(gap if len(order) > 1 else [period_deg])
    return torch.from_numpy(weights)


def covered_arc(angles_deg: Sequence[float], period_deg: float) -> tuple[float, float]:
    """Where the views begin and over how many degrees they go, modulo `period_deg`.

    All of the period where the widest gap is no missing wedge; views stand for half the usual gap
    on both sides.
    """
    _, turned, after, usual = _gaps(angles_deg, period_deg)
    widest = int(np.argmax(after))
    if after[widest] <= WEDGE * usual:
        return float(turned[0]), period_deg
    first = turned[(widest + 1) % len(turned)] - usual / 2
    return float(first), float(period_deg - after[widest] + usual)


def _gaps(angles_deg: Sequence[float], period_deg: float) -> tuple[Order, Array, Array, float]:
    """Order of the views, their angles in it, the gap after each, and what is usual for gaps."""
    folded = np.mod(np.asarray(angles_deg, dtype=np.float64), period_deg)
    order = np.argsort(folded, kind="stable")
    turned = folded[order]
    after = np.diff(np.append(turned, turned[0] + period_deg))
    return order, turned, after, float(np.median(after[after > 1e-6 * period_deg]))


class ViewsSpec(Spec, ABC):
    """A spec of projections of a volume onto rows of bins.

    The axis of rotation is along z, through the middle of the volume. x runs to the right (with
    W), y upwards (against H), z with D; at angle 0 rays run along y, and the bins with x.

    Attributes
    ----------
    spacing_mm : (z, y, x) of the voxels
    angles_deg : of the views, anticlockwise
    bins, bin_mm : of a row of the detector
    axis_bin : where the axis of rotation meets it, counted from 0 at the middle of the first bin;
        None: in its middle
    """

    spacing_mm: Spacing
    angles_deg: Angles
    bins: Count
    bin_mm: Millimetres
    axis_bin: FiniteFloat | None = None

    @model_validator(mode="after")
    def _axis_is_seen(self) -> Self:
        if not -0.5 <= self.centre <= self.bins - 0.5:
            raise ValueError(
                f"the axis of rotation at bin {self.centre:g} lies outside of the detector's "
                f"{self.bins} bins"
            )
        return self

    def halved(self) -> Self:
        """The same views of the same extent on a twice finer grid, with two rays a bin."""
        depth, height, width = (2 * edge for edge in self.shape)
        z, y, x = (mm / 2 for mm in self.spacing_mm)
        finer = {
            "shape": (depth, height, width),
            "spacing_mm": (z, y, x),
            "bins": 2 * self.bins,
            "bin_mm": self.bin_mm / 2,
            "axis_bin": 2 * self.centre + 0.5,
        }
        return self.model_copy(update=finer)

    def binned(self, several: int) -> Self:
        """Of so many bins side by side taken as one, and voxels as many times as wide.

        Bins, and voxels, that are left over at the end are dropped.
        """
        depth, height, width = self.shape
        z, y, x = self.spacing_mm
        coarser = {
            "shape": (depth, max(height // several, 1), max(width // several, 1)),
            "spacing_mm": (z, y * several, x * several),
            "bins": self.bins // several,
            "bin_mm": self.bin_mm * several,
            "axis_bin": (self.centre + 0.5) / several - 0.5,
        }
        return self.model_copy(update=coarser)

    def scaled(self, factor: float) -> Self:
        """All lengths so many times as long."""
        content = self.model_dump()
        for name in content:
            if name.endswith("_mm"):
                content[name] = (np.asarray(content[name]) * factor).tolist()
        return self.model_validate(content)

    @property
    def views(self) -> int:
        """Number of views V."""
        return len(self.angles_deg)

    @property
    def centre(self) -> float:
        """The bin that sees the axis."""
        return (self.bins - 1) / 2 if self.axis_bin is None else self.axis_bin

    def bin_places(self) -> Array:
        """Where the bins are on the detector, in mm from the axis, (bins,)."""
        return (np.arange(self.bins, dtype=np.float64) - self.centre) * self.bin_mm

    @property
    def reach_mm(self) -> float:
        """Radius around the axis within which all views see a voxel."""
        return self.bin_mm * (0.5 + min(self.centre, self.bins - 1 - self.centre))

    @property
    def whole_arc_deg(self) -> float:
        """Degrees of views that measure every line through the volume."""
        return 180.0

    @property
    def period_deg(self) -> float:
        """Degrees after which views repeat."""
        return 180.0

    def seen_by_all(self) -> NDArray[np.bool_]:
        """Which pixels of a slice lie within `reach_mm`, (H, W)."""
        _, height, width = self.shape
        y, x = (centres(n) * mm for n, mm in zip((height, width), self.spacing_mm[1:], strict=True))
        inside: NDArray[np.bool_] = np.hypot(y[:, None], x[None, :]) <= self.reach_mm
        return inside

    def frames(self) -> Iterator[tuple[Array, Array]]:
        """Unit vectors (x, y) of every view: along the bins, and from the source to them."""
        for angle in np.radians(self.angles_deg):
            yield (
                np.array([np.cos(angle), np.sin(angle)]),
                np.array([-np.sin(angle), np.cos(angle)]),
            )

    def fitting(self, share: float) -> str:
        """How many views would fit."""
        views = int(self.views * share)
        return f"{views} views would fit" if views else "take fewer bins or larger voxels"


class Projector(LinearOperator, ABC):
    """A projector that knows its filtered backprojection (`fbp`, FBP and FDK)."""

    geometry: ViewsSpec

    @property
    @abstractmethod
    def pitch_mm(self) -> float:
        """Distance of the bins along the last axis of a measurement, as seen at the axis."""

    @abstractmethod
    def ray_weights(self) -> Tensor:
        """What line integrals are weighted with before the filter; spreads over a measurement."""

    @abstractmethod
    def backproject(self, filtered: Tensor) -> Tensor:
        """The integral over the views: (B, C, *range_shape) to (B, C, D, H, W)."""

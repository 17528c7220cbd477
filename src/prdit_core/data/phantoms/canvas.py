"""Painting smooth shapes onto a voxel grid with partial volume.

The body is bent and rolled in the scanner: shapes are in body coordinates, voxels in
scanner coordinates, both in mm and ordered (z, y, x).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from prdit_core.data.phantoms.shapes import Array, Box, Distance, Tubes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

Layer = tuple[int, float | Distance, float]  # label, HU, depth under the surface in mm

SLAB_VOXELS = 30_000
TUBE_VOXELS = 400_000
WINDOWS = np.array([3, 5, 7, 10, 14, 20, 28, 40, 64, 128, 512])


@dataclass(frozen=True)
class Pose:
    """How the straight body lies in the scanner: bent along z, rolled about z, shifted."""

    roll: float
    shift: tuple[float, float, float]
    sway: float  # sideways bend of the spine, mm
    stoop: float  # forward bend of the upper body, mm
    phase: float

    def bend(self, z: Array) -> tuple[Array, Array]:
        """Offset (y, x) of the body's axis at body height z."""
        y = self.stoop * (np.cos(z * np.float32(np.pi / 250)) - np.float32(0.6))
        return y, self.sway * np.sin(z * np.float32(np.pi / 160) + np.float32(self.phase))

    def to_world(self, points: Array) -> Array:
        """Body points (N, 3) to scanner points (N, 3)."""
        bend_y, bend_x = self.bend(points[:, 0])
        y, x = points[:, 1] + bend_y, points[:, 2] + bend_x
        cos, sin = np.cos(self.roll), np.sin(self.roll)
        world = np.stack([points[:, 0], cos * y + sin * x, cos * x - sin * y], axis=1)
        return np.asarray(world + np.array(self.shift), np.float32)

    def to_body(self, z: Array, y: Array, x: Array) -> tuple[Array, Array, Array]:
        """Scanner coordinates to body coordinates, by broadcasting."""
        z, y, x = (v - np.float32(s) for v, s in zip((z, y, x), self.shift, strict=True))
        cos, sin = np.float32(np.cos(self.roll)), np.float32(np.sin(self.roll))
        bend_y, bend_x = self.bend(z)
        return z, cos * y - sin * x - bend_y, cos * x + sin * y - bend_x


@dataclass(frozen=True)
class Stretched(Pose):
    """A body that is scaled along its axes (z, y, x) and nods about x before it is posed."""

    nod: float
    scale: tuple[float, float, float]

    def to_world(self, points: Array) -> Array:
        """Body points (N, 3) to scanner points (N, 3)."""
        z, y, x = (points * np.array(self.scale, np.float32)).T
        cos, sin = np.cos(self.nod), np.sin(self.nod)
        return super().to_world(np.stack([cos * z + sin * y, cos * y - sin * z, x], axis=1))

    def to_body(self, z: Array, y: Array, x: Array) -> tuple[Array, Array, Array]:
        """Scanner coordinates to body coordinates, by broadcasting."""
        z, y, x = super().to_body(z, y, x)
        cos, sin = np.float32(np.cos(self.nod)), np.float32(np.sin(self.nod))
        up, back, left = (np.float32(1 / scale) for scale in self.scale)
        return (cos * z - sin * y) * up, (cos * y + sin * z) * back, x * left


FLAT = Pose(roll=0, shift=(0, 0, 0), sway=0, stoop=0, phase=0)


class Canvas:
    """HU and labels of a cube of `field_mm`, painted shape over shape."""

    def __init__(self, pose: Pose, field_mm: float, spacing_mm: float) -> None:
        self.pose = pose
        self.spacing = np.float32(spacing_mm)
        self.size = max(round(field_mm / spacing_mm), 1)
        self.axis = ((np.arange(self.size) - (self.size - 1) / 2) * spacing_mm).astype(np.float32)
        self.hu = np.full((self.size,) * 3, -1000, np.float32)
        self.labels = np.zeros((self.size,) * 3, np.uint8)

    def paint(self, distance: Distance, box: Box, layers: Sequence[Layer]) -> None:
        """Fill where `distance` (mm, negative inside) of body coordinates is below zero.

        `box` holds the shape, as lowest and highest body point; `layers` go from the
        outside to the inside.
        """
        for region in self._slabs(box):
            sides = (self.axis[part] for part in region)
            place = self.pose.to_body(*np.ix_(*sides))
            away = distance(*place) / self.spacing
            for label, hu, inset in layers:
                cover = np.clip(np.float32(0.5 - inset / self.spacing) - away, 0, 1)
                value = hu(*place) if callable(hu) else np.float32(hu)
                self._blend(region, cover, value, label, ())

    def paint_tubes(self, label: int, hu: float, tubes: Tubes, onto: Sequence[int] = ()) -> None:
        """Fill tubes; those thinner than a voxel keep their share of the voxel.

        `onto` limits the paint to voxels that carry one of these labels.
        """
        pieces = tubes.short(float(self.spacing))
        start, end = self.pose.to_world(pieces.start), self.pose.to_world(pieces.end)
        region, cover = cover_tubes(Tubes(start, end, pieces.radius), self.axis, self.spacing)
        self._blend(region, cover, np.float32(hu), label, onto)

    def _slabs(self, box: Box) -> Iterator[tuple[slice, slice, slice]]:
        """The voxels around a box of body coordinates, in slabs that fit the cache."""
        (z0, y0, x0), (z1, y1, x1) = box
        corners = [(z, y, x) for z in np.linspace(z0, z1, 5) for y in (y0, y1) for x in (x0, x1)]
        world = self.pose.to_world(np.array(corners, np.float32))
        margin = 1.0 + float(self.spacing)
        low = np.searchsorted(self.axis, world.min(axis=0) - margin)
        high = np.searchsorted(self.axis, world.max(axis=0) + margin)
        area = max(int((high[1] - low[1]) * (high[2] - low[2])), 1)
        step = max(SLAB_VOXELS // area, 1)
        if np.all(high > low):
            for z in range(int(low[0]), int(high[0]), step):
                yield (
                    slice(z, min(z + step, int(high[0]))),
                    slice(int(low[1]), int(high[1])),
                    slice(int(low[2]), int(high[2])),
                )

    def _blend(
        self,
        region: tuple[slice, ...],
        cover: Array,
        value: Array | np.float32,
        label: int,
        onto: Sequence[int],
    ) -> None:
        """Mix `value` over a region by its coverage."""
        labels, hu = self.labels[region], self.hu[region]
        if onto:
            cover = cover * np.isin(labels, onto)
        hu += cover * (value - hu)
        labels[cover >= 0.5] = label


def cover_tubes(tubes: Tubes, axis: Array, spacing: np.float32) -> tuple[tuple[slice, ...], Array]:
    """A region of the cube with this axis, and how much of its voxels short tubes fill."""
    reach = np.maximum(tubes.radius, spacing / 2)
    share = np.minimum(tubes.radius**2 / (reach**2 + spacing**2 / 12), 1)
    margin = (reach + spacing / 2)[:, None]
    low = np.ceil((np.minimum(tubes.start, tubes.end) - margin - axis[0]) / spacing).astype(int)
    high = np.floor((np.maximum(tubes.start, tubes.end) + margin - axis[0]) / spacing + 1)
    window = WINDOWS[np.searchsorted(WINDOWS, high - low)]
    keep = np.all((high > low) & (high > 0) & (low < len(axis)), axis=1)
    base = np.clip(np.min(low, axis=0, where=keep[:, None], initial=len(axis)), 0, None)
    top = np.clip(np.max(high, axis=0, where=keep[:, None], initial=0), base, len(axis)).astype(int)
    cover = np.zeros(top - base, np.float32)
    solid = Tubes(tubes.start - axis[0], tubes.end - axis[0], reach)
    for shape in np.unique(window[keep], axis=0):
        chosen = np.flatnonzero(keep & np.all(window == shape, axis=1))
        for some in np.array_split(chosen, len(chosen) * int(shape.prod()) // TUBE_VOXELS + 1):
            index = [low[some, k, None] + np.arange(shape[k]) for k in range(3)]
            value = _fill(solid[some], index, spacing) * share[some, None, None, None]
            _raise_to(cover, [i - b for i, b in zip(index, base, strict=True)], value)
    return tuple(slice(int(a), int(b)) for a, b in zip(base, top, strict=True)), cover


def _fill(tubes: Tubes, index: list[NDArray[np.int64]], spacing: np.float32) -> Array:
    """Coverage (N, D, H, W) of boxes of voxels, each by its own tube."""
    ends = tubes.end - tubes.start
    length2 = np.maximum((ends**2).sum(axis=1, keepdims=True), np.float32(1e-6))
    offset = [i.astype(np.float32) * spacing - tubes.start[:, k, None] for k, i in enumerate(index)]
    parts = [_spread(offset[k] * (ends[:, k, None] / length2), k) for k in range(3)]
    along = (parts[0] + parts[1] + parts[2]).clip(0, 1)
    gaps = [_spread(offset[k], k) - along * ends[:, k, None, None, None] for k in range(3)]
    away = np.sqrt(gaps[0] ** 2 + gaps[1] ** 2 + gaps[2] ** 2)
    depth = (tubes.radius[:, None, None, None] - away) / spacing
    return np.asarray(np.clip(depth + np.float32(0.5), 0, 1), np.float32)


def _raise_to(cover: Array, index: list[NDArray[np.int64]], value: Array) -> None:
    """Raise `cover` to `value` (N, D, H, W) at the indices (N, D), (N, H), (N, W)."""
    inside = [(i >= 0) & (i < size) for i, size in zip(index, cover.shape, strict=True)]
    hit = _spread(inside[0], 0) & _spread(inside[1], 1) & _spread(inside[2], 2) & (value > 0)
    strides = (cover.shape[1] * cover.shape[2], cover.shape[2], 1)
    flat = sum(
        _spread(i * stride, k) for k, (i, stride) in enumerate(zip(index, strides, strict=True))
    )
    np.maximum.at(cover.reshape(-1), np.asarray(flat)[hit], value[hit])


def _spread(values: NDArray[Any], axis: int) -> NDArray[Any]:
    """(N, K) as (N, K, 1, 1), (N, 1, K, 1) or (N, 1, 1, K)."""
    shape = [len(values), 1, 1, 1]
    shape[axis + 1] = values.shape[1]
    return values.reshape(shape)

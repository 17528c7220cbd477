"""Shapes and how far a point is from them.

Points and coordinates are in mm, ordered (z, y, x): up, back and left of the patient.
Distances are negative inside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Point = tuple[float, float, float]
Box = tuple[Point, Point]
Distance = Callable[[Array, Array, Array], Array]


@dataclass(frozen=True)
class Tubes:
    """Straight pieces of tube with round ends: starts and ends (N, 3), radii (N,)."""

    start: Array
    end: Array
    radius: Array

    @classmethod
    def along(cls, path: Sequence[Sequence[float]] | Array, radius: float | Array) -> Tubes:
        """Tube through the points (N, 3); one radius, or one per point."""
        points = np.asarray(path, np.float32)
        radii = np.broadcast_to(np.asarray(radius, np.float32), len(points))
        return cls(points[:-1], points[1:], (radii[:-1] + radii[1:]) / 2)

    @classmethod
    def join(cls, parts: Sequence[Tubes]) -> Tubes:
        """All tubes in one."""
        return cls(
            *(
                np.concatenate([getattr(part, name) for part in parts])
                for name in ("start", "end", "radius")
            )
        )

    def __getitem__(self, chosen: NDArray[np.int64] | NDArray[np.bool_]) -> Tubes:
        return Tubes(self.start[chosen], self.end[chosen], self.radius[chosen])

    def thinner(self, by_mm: float) -> Tubes:
        """The same tubes with less radius: the inside of a wall."""
        return Tubes(self.start, self.end, np.maximum(self.radius - np.float32(by_mm), 0.05))

    def short(self, spacing_mm: float) -> Tubes:
        """The same tubes cut into pieces short enough for small boxes."""
        length = np.linalg.norm(self.end - self.start, axis=1)
        pieces = np.ceil(length / np.maximum(2 * self.radius, max(2 * spacing_mm, 4.0)))
        count = np.maximum(pieces, 1).astype(int)
        which = np.repeat(np.arange(len(count)), count)
        place = np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count)
        step = ((self.end - self.start) / count[:, None])[which].astype(np.float32)
        start = self.start[which] + step * place[:, None].astype(np.float32)
        return Tubes(start, start + step, self.radius[which])


def superellipsoid(place: Sequence[Array], axes: Sequence[Array | float]) -> Array:
    """Roughly the distance to |z/c|^2.5 + |y/b|^2.5 + |x/a|^2.5 = 1 (first order)."""
    inverse = [np.float32(1) / np.asarray(a, np.float32) for a in axes]
    u = [np.abs(p) * i for p, i in zip(place, inverse, strict=True)]
    g = _total(v * v * np.sqrt(v) for v in u) + np.float32(1e-6)
    slope = _total(v * v * v * (i * i) for v, i in zip(u, inverse, strict=True))
    return np.asarray((g - g ** np.float32(0.6)) / np.sqrt(slope + np.float32(1e-12)))


def ellipsoid(place: Sequence[Array], centre: Sequence[float], axes: Sequence[float]) -> Array:
    """Roughly the distance to an ellipsoid (first order)."""
    inverse = [np.float32(1 / a) for a in axes]
    u = [(p - np.float32(c)) * i for p, c, i in zip(place, centre, inverse, strict=True)]
    k = np.sqrt(_total(v * v for v in u) + np.float32(1e-8))
    slope = _total((v * i) ** 2 for v, i in zip(u, inverse, strict=True))
    return np.asarray(k * (k - 1) / np.sqrt(slope + np.float32(1e-8)))


def ellipse(place: Sequence[Array], centre: Sequence[float], axes: Sequence[float]) -> Array:
    """Roughly the distance to an endless column: an ellipse in two coordinates."""
    return ellipsoid(place, centre, axes)


def capsule(
    place: Sequence[Array], start: Sequence[float], end: Sequence[float], radius: float
) -> Array:
    """Distance to a tube with round ends."""
    ends = np.array(end, np.float32) - np.array(start, np.float32)
    offset = [p - np.float32(s) for p, s in zip(place, start, strict=True)]
    along = _total(o * e for o, e in zip(offset, ends / (ends @ ends), strict=True)).clip(0, 1)
    far = _total((o - along * e) ** 2 for o, e in zip(offset, ends, strict=True))
    return np.sqrt(far) - np.float32(radius)


def smooth_min(a: Array, b: Array, width: float) -> Array:
    """The smaller of two distances, with a rounded seam."""
    blend = np.maximum(width - np.abs(a - b), 0)
    return np.minimum(a, b) - blend * blend / np.float32(4 * width)


def _total(terms: Iterable[Array]) -> Array:
    """Sum by broadcasting."""
    return reduce(np.add, terms)

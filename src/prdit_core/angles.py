"""Angles of a table as a smooth, rising curve, for schedules that are defined at whole entries."""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import TYPE_CHECKING

import numpy as np
from numpy.polynomial.legendre import leggauss

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Places and weights of Gauss-Legendre on [-1, 1].
GAUSS = [(float(x), float(weight)) for x, weight in zip(*leggauss(5), strict=True)]


class Angles:
    """Rising angles at the places 1, 2, ... of a table, 0 at place 0, and in between.

    A cubic in each cell; where cells meet its rate is the harmonic mean of theirs, which keeps it
    monotone (Fritsch and Butland 1984).
    """

    def __init__(self, angles: NDArray[np.float64]) -> None:
        nodes = np.concatenate([[0.0], angles])
        rises = np.diff(nodes)
        inner = 2 * rises[1:] * rises[:-1] / (rises[1:] + rises[:-1])
        rates = np.concatenate([rises[:1], inner, rises[-1:]])
        bends = 3 * rises - 2 * rates[:-1] - rates[1:], rates[:-1] + rates[1:] - 2 * rises
        self._nodes: list[float] = nodes.tolist()
        self._cubics: list[list[float]] = np.stack([nodes[:-1], rates[:-1], *bends], 1).tolist()
        whole = [self._cell_areas(cell, 1.0) for cell in range(len(rises))]
        self._areas: list[list[float]] = np.cumsum([(0.0, 0.0), *whole], axis=0).tolist()

    def at(self, place: float) -> float:
        """Angle at a place in [0, entries]."""
        cell, s = self._cell(place)
        a, b, c, d = self._cubics[cell]
        return a + s * (b + s * (c + s * d))

    def rate(self, place: float) -> float:
        """Its derivative there."""
        cell, s = self._cell(place)
        _, b, c, d = self._cubics[cell]
        return b + s * (2 * c + s * 3 * d)

    def areas(self, place: float) -> tuple[float, float]:
        """Integrals of cosine and sine of the angle from 0 to a place."""
        cell, s = self._cell(place)
        (cosine, sine), (more_cosine, more_sine) = self._areas[cell], self._cell_areas(cell, s)
        return cosine + more_cosine, sine + more_sine

    def place(self, angle: float) -> float:
        """Where the angle is reached, by bisection; the ends for one beyond them."""
        if angle >= self._nodes[-1]:
            return float(len(self._cubics))
        cell = max(bisect_right(self._nodes, angle) - 1, 0)
        low, high = float(cell), float(cell + 1)
        while low < (middle := 0.5 * (low + high)) < high:
            low, high = (low, middle) if self.at(middle) > angle else (middle, high)
        return low

    def _cell(self, place: float) -> tuple[int, float]:
        """Cell of a place, and how far into it."""
        cell = min(int(place), len(self._cubics) - 1)
        return cell, place - cell

    def _cell_areas(self, cell: int, s: float) -> tuple[float, float]:
        """The same over the first part of a cell, by Gauss-Legendre; angles turn little in it."""
        cosine = sine = 0.0
        for x, weight in GAUSS:
            angle = self.at(cell + 0.5 * s * (1 + x))
            cosine += 0.5 * s * weight * math.cos(angle)
            sine += 0.5 * s * weight * math.sin(angle)
        return cosine, sine

"""Which places of k-space a fast scan samples: random, denser in the middle, which is whole."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from prdit_core.errors import UsageError
from prdit_core.inverse.operators.kspace import kspace_of, middle_of, sampled_at
from prdit_core.noise import Draw, numpy_generator

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from prdit_core.config import PatternName, PhaseName
    from prdit_core.inverse.operators.kspace import Complex, KspaceSpec

    Mask = NDArray[np.bool_]

# Standard deviation of the density of columns, in widths of k-space.
SPREAD = 1 / 6
# Distances between samples grow towards the border, to so many times those in the middle.
GROWTH = 4.0
SEARCH = 16
# Largest phase that is drawn, in radians, and half the edge of the k-space it is described by.
PHASE_RAD, PHASE_REACH = 1.5, 4


@dataclass(frozen=True)
class FastScan:
    """How a scan samples k-space.

    Attributes
    ----------
    pattern : a name of `PATTERNS`
    acceleration : places of k-space for each that is sampled, above 1
    centre : share of k-space around frequency 0 that is sampled whole
    phase : "smooth": volumes get a phase, which the spec then has
    seed : of pattern and phase
    """

    pattern: PatternName = "gaussian"
    acceleration: float = 8.0
    centre: float = 0.04
    phase: PhaseName = "none"
    seed: int = 0

    def spec(self, shape: tuple[int, int, int]) -> KspaceSpec:
        """The operator for volumes of this shape.

        Raises
        ------
        UsageError
            If so few places would be sampled that the middle does not fit among them.
        """
        rng = numpy_generator(Draw.KSPACE_SAMPLES, self.seed)
        mask = PATTERNS[self.pattern](shape[1], shape[2], self.acceleration, self.centre, rng)
        middle = smooth_phase(shape, self.seed) if self.phase == "smooth" else None
        return sampled_at(mask, shape, middle)


USUAL = FastScan()


def gaussian_columns(
    height: int, width: int, acceleration: float, centre: float, rng: np.random.Generator
) -> Mask:
    """Whole columns, as a phase encoding of 2D slices has them, of normal density: (H, W)."""
    total, whole = _counts(width, acceleration, centre, "columns")
    off = np.arange(width) - width // 2
    density = np.exp(-0.5 * (off / (SPREAD * width)) ** 2)
    # Without replacement by their densities: the smallest of exponential times.
    times = rng.exponential(size=width) / density
    times[_run(width, whole)] = 0.0
    mask = np.zeros((height, width), bool)
    mask[:, np.argsort(times, kind="stable")[:total]] = True
    return mask


def poisson_disc(
    height: int, width: int, acceleration: float, centre: float, rng: np.random.Generator
) -> Mask:
    """Places that keep a distance from each other, larger further out: (H, W).

    As of a phase encoding of both axes, the slices cut across the readout. The distance is the
    largest for which enough places fit in a random order; of those the first are taken.
    """
    total, whole = _counts(height * width, acceleration, centre, "places")
    edge = math.sqrt(whole / (height * width))
    rows, columns = _run(height, round(edge * height)), _run(width, round(edge * width))
    free = total - (rows.stop - rows.start) * (columns.stop - columns.start)
    y, x = np.indices((height, width), dtype=np.float64)
    away = np.hypot((y - height // 2) / (height / 2), (x - width // 2) / (width / 2))
    growth = 1 + (GROWTH - 1) * np.minimum(away, 1.0)
    order = rng.permutation(height * width)
    nearest, furthest = 0.0, float(max(height, width))
    mask = _thrown(nearest * growth, order, (rows, columns), free)
    for _ in range(SEARCH):
        distance = (nearest + furthest) / 2
        thrown = _thrown(distance * growth, order, (rows, columns), free)
        if np.count_nonzero(thrown) < free:
            furthest = distance
        else:
            nearest, mask = distance, thrown
    mask[rows, columns] = True
    return mask


PATTERNS: dict[PatternName, Callable[[int, int, float, float, np.random.Generator], Mask]] = {
    "gaussian": gaussian_columns,
    "poisson": poisson_disc,
}


def smooth_phase(shape: tuple[int, int, int], seed: int) -> Complex:
    """The middle of the k-space of a smooth random phase, (D, rows, columns).

    A sum of slow waves over all three axes, at most `PHASE_RAD` of each.
    """
    rng = numpy_generator(Draw.KSPACE_PHASE, seed)
    places = [np.linspace(-1.0, 1.0, edge) for edge in shape]
    phase = np.full(shape, rng.uniform(-np.pi, np.pi))
    for _ in range(3):
        rates, start = rng.uniform(-1.5, 1.5, 3), rng.uniform(0, 2 * np.pi)
        angles = start + sum(
            (rate * place).reshape([-1 if axis == own else 1 for axis in range(3)])
            for own, (rate, place) in enumerate(zip(rates, places, strict=True))
        )
        phase += PHASE_RAD / 3 * np.sin(angles)
    rows, columns = (min(edge, 2 * PHASE_REACH + 1) for edge in shape[1:])
    return middle_of(kspace_of(np.exp(1j * phase)), rows, columns)


def _counts(places: int, acceleration: float, centre: float, what: str) -> tuple[int, int]:
    """How many are sampled, and how many of them in the middle."""
    total, whole = round(places / acceleration), max(1, round(centre * places))
    if not whole <= total:
        raise UsageError(
            f"at acceleration {acceleration:g} {total} of {places} {what} are sampled, fewer than "
            f"the {whole} of the whole centre ({centre:g}); lower one of them"
        )
    return total, whole


def _run(edge: int, count: int) -> slice:
    """So many around the middle, at least one."""
    count = max(count, 1)
    first = edge // 2 - count // 2
    return slice(first, first + count)


def _thrown(
    distance: NDArray[np.float64],
    order: NDArray[np.int64],
    centre: tuple[slice, slice],
    count: int,
) -> Mask:
    """The first places of an order that keep their distance, `count` at most."""
    height, width = distance.shape
    taken, kept = np.zeros((height, width), bool), np.zeros((height, width), bool)
    taken[centre] = True
    left = count
    for place in order:
        if not left:
            break
        row, column = divmod(int(place), width)
        if taken[row, column]:
            continue
        kept[row, column] = True
        left -= 1
        reach = distance[row, column]
        around = int(reach)
        top, side = max(row - around, 0), max(column - around, 0)
        y = np.arange(top, min(row + around + 1, height))[:, None] - row
        x = np.arange(side, min(column + around + 1, width)) - column
        near = y * y + x * x <= reach * reach
        taken[top : top + len(y), side : side + len(x)] |= near
    return kept

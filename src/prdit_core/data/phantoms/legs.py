"""Invented legs: two of them around the knees, from the thighs to the calves.

Body coordinates (z, y, x) in mm: up, back and left; zero is between the knees. Bones, muscles
and fat follow common anatomy, no measured person.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from prdit_core.data.phantoms.canvas import Stretched
from prdit_core.data.phantoms.shapes import (
    Array,
    Box,
    Point,
    Tubes,
)
from prdit_core.data.phantoms.vessels import smooth

if TYPE_CHECKING:
    from collections.abc import Sequence

_NAMES = (
    "air",
    "table",
    "skin",
    "fat",
    "quadriceps",
    "hamstrings",
    "adductors",
    "calf",
    "shin",
    "femur",
    "tibia",
    "fibula",
    "patella",
    "marrow",
    "cartilage",
    "tendons",
    "vessels",
)
LEGS_LABELS: dict[str, int] = {name: number for number, name in enumerate(_NAMES)}
LEGS_FIELD_MM = 320.0

# From the calf to the thigh: height over the knee, and there the half depth, half width and depth
# of the middle of the flesh, without skin and fat.
_HEIGHTS = np.array([-330, -260, -190, -120, -60, -20, 10, 40, 90, 160, 240, 330], float)
_DEPTHS = np.array([30, 38, 50, 54, 47, 47, 50, 50, 57, 66, 73, 77], float)
_WIDTHS = np.array([27, 35, 47, 50, 44, 46, 46, 44, 50, 58, 65, 69], float)
_BACKS = np.array([8, 12, 18, 17, 10, 4, 2, 3, 3, 2, 2, 2], float)


@dataclass(frozen=True)
class LegsPatient:
    """What differs from one patient to the next; lengths in mm."""

    pose: Stretched
    level: float  # height of the middle of the field over the knees
    apart: float  # half the distance of both knees' middles
    spread: float  # how much farther apart the thighs are, mm per mm
    turn: tuple[float, float]  # of each leg about its axis
    lift: tuple[float, float]  # of each leg over the table
    muscle: float  # scale
    fat: float
    cortex: float  # scale of the thickness
    streaks: float  # of fat in muscle, HU
    phases: tuple[float, ...]
    contrast: float
    table: float
    noise: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> LegsPatient:
        """Draw a patient at random."""
        muscle, fat = rng.uniform(0.82, 1.08), 2 + 17 * rng.beta(1.3, 2.4)
        pose = Stretched(
            roll=float(np.clip(rng.normal(0, 0.03), -0.08, 0.08)),
            shift=(0.0, rng.uniform(-8, 8), rng.uniform(-8, 8)),
            sway=0.0,
            stoop=0.0,
            phase=0.0,
            nod=float(np.clip(rng.normal(0, 0.03), -0.07, 0.07)),
            scale=(rng.uniform(0.9, 1.06),) * 3,
        )
        spread = rng.uniform(0.02, 0.07)
        return cls(
            pose=pose,
            level=rng.uniform(-130, 130),
            apart=min(54 * muscle + fat + rng.uniform(2, 20), 82),
            spread=spread,
            turn=(rng.uniform(-0.25, 0.35), rng.uniform(-0.25, 0.35)),
            lift=(rng.uniform(-6, 6), rng.uniform(-6, 6)),
            muscle=muscle,
            fat=fat,
            cortex=rng.uniform(0.75, 1.15),
            streaks=rng.uniform(4, 30),
            phases=tuple(rng.uniform(0, 6.28, 3).tolist()),
            contrast=rng.uniform(80, 200) if rng.random() < 0.2 else 0.0,
            table=rng.uniform(2, 10),
            noise=rng.uniform(6, 18),
        )


@dataclass(frozen=True)
class Leg:
    """One leg in coordinates of its own: y back and x outwards from its axis."""

    legs: LegsPatient
    side: int  # -1 right, 1 left

    @property
    def number(self) -> int:
        """0 right, 1 left."""
        return (self.side + 1) // 2

    @property
    def box(self) -> Box:
        """Around the limb over the height of the field, in body coordinates."""
        middle = self.legs.level
        near, far = sorted((-35.0 * self.side, 190.0 * self.side))
        return (middle - 200, -110.0, near), (middle + 200, 125.0, far)

    def local(self, z: Array, y: Array, x: Array) -> tuple[Array, Array, Array]:
        """Body coordinates to those of the leg."""
        legs = self.legs
        out = x * self.side - (np.float32(legs.apart) + np.float32(legs.spread) * z)
        back = y - np.float32(legs.lift[self.number])
        turn = legs.turn[self.number]
        cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
        return z, cos * back - sin * out, cos * out + sin * back

    def body(self, points: Array) -> Array:
        """Points (N, 3) of the leg to body coordinates."""
        legs, turn = self.legs, self.legs.turn[self.number]
        z, back, out = points.T
        cos, sin = np.cos(turn), np.sin(turn)
        y, x = cos * back + sin * out, cos * out - sin * back
        x = (x + legs.apart + legs.spread * z) * self.side
        return np.stack([z, y + legs.lift[self.number], x], axis=1).astype(np.float32)

    def flesh(self, z: Array, y: Array, x: Array, grow: float) -> Array:
        """Distance to the limb within its fat, in body coordinates, made larger by `grow`."""
        z, y, x = self.local(z, y, x)
        scale = 0.35 + 0.65 * self.legs.muscle
        depth, width = (np.interp(z, _HEIGHTS, v) * scale + grow for v in (_DEPTHS, _WIDTHS))
        y = y - np.interp(z, _HEIGHTS, _BACKS)
        k = np.sqrt((y / depth) ** 2 + (x / width) ** 2 + 1e-6)
        return np.asarray((k - 1) * np.minimum(depth, width), np.float32)

    def tubes(self, path: Sequence[Point], radius: float | Sequence[float]) -> Tubes:
        """A rounded tube along points of the leg."""
        points = smooth(path)
        radii: float | Array = radius if isinstance(radius, float) else spaced(radius, len(points))
        return Tubes.along(self.body(points), radii)


def spaced(values: Sequence[float], count: int) -> Array:
    """So many values at equal distances, as the given ones rise and fall."""
    places = np.linspace(0, 1, len(values))
    return np.interp(np.linspace(0, 1, count), places, values).astype(np.float32)

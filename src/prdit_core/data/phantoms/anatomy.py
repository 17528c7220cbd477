"""One invented patient: the numbers of a thorax and the shapes that follow from them.

Everything is in body coordinates (z, y, x) in mm: up, back and left; zero is the middle of
the chest. Proportions follow common anatomy, no measured person.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from prdit_core.data.phantoms.canvas import Pose
from prdit_core.data.phantoms.shapes import (
    Array,
    Box,
    Point,
    capsule,
    ellipse,
    ellipsoid,
    smooth_min,
    superellipsoid,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

_NAMES = (
    "air",
    "table",
    "fat",
    "muscle",
    "lung_right",
    "lung_left",
    "mediastinum",
    "lung_vessels",
    "airways",
    "heart",
    "aorta",
    "great_vessels",
    "oesophagus",
    "liver",
    "stomach",
    "spleen",
    "spine",
    "ribs",
    "cartilage",
    "sternum",
    "shoulder",
    "nodule",
)
LABELS: dict[str, int] = {name: number for number, name in enumerate(_NAMES)}

CHEST_FIELD_MM = 320.0
CAGE_SLOPE = 0.48  # how far the planes of the ribs tilt down to the front
HEART: Point = (60, 43, 41)
CHAMBERS: tuple[tuple[Point, Point], ...] = (
    ((16, 14, 0), (34, 18, 20)),
    ((8, -20, 4), (36, 13, 26)),
    ((-36, 14, 4), (18, 20, 22)),
    ((-34, -20, 0), (18, 17, 26)),
)


@dataclass(frozen=True)
class Patient:
    """What differs from one patient to the next; lengths in mm."""

    pose: Pose
    width: float  # half width and half depth of the inside of the rib cage
    depth: float
    height: float  # scale along the body
    taper: float  # how much narrower the chest is in front
    dome: float  # top of the right diaphragm
    dome_left: float
    fat: float
    muscle: float
    breast: float
    heart: float  # scale
    heart_turn: float
    contrast: float  # HU added to blood
    lung_hu: float
    table: float
    noise: float
    nodules: int
    gas: float  # share of the stomach

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Patient:
        """Draw a patient at random."""
        muscle = rng.uniform(11, 18)
        fat = 3 + 27 * rng.beta(1.2, 2.6)
        width = rng.uniform(100, min(126, 150 - muscle - fat))
        height = rng.uniform(0.92, 1.06)
        dome = rng.uniform(-72, -28) * height
        pose = Pose(
            roll=float(np.clip(rng.normal(0, 0.04), -0.1, 0.1)),
            shift=(rng.uniform(-12, 12), rng.uniform(-14, -4), rng.uniform(-7, 7)),
            sway=float(np.clip(rng.normal(0, 4), -10, 10)),
            stoop=rng.uniform(0, 18),
            phase=rng.uniform(0, 6.28),
        )
        return cls(
            pose=pose,
            width=width,
            depth=width * rng.uniform(0.62, 0.82),
            height=height,
            taper=rng.uniform(0.08, 0.26),
            dome=dome,
            dome_left=dome - rng.uniform(4, 13),
            fat=fat,
            muscle=muscle,
            breast=rng.uniform(22, 36) if rng.random() < 0.4 else 0.0,
            heart=rng.uniform(0.86, 1.18),
            heart_turn=rng.uniform(0.5, 0.95),
            contrast=rng.uniform(90, 230) if rng.random() < 0.45 else 0.0,
            lung_hu=rng.uniform(-880, -780),
            table=rng.uniform(3, 12),
            noise=rng.uniform(8, 32),
            nodules=int(rng.choice(4, p=(0.4, 0.3, 0.2, 0.1))),
            gas=rng.uniform(0.1, 0.8),
        )

    @property
    def top(self) -> float:
        """Height of the upper half of the cage."""
        return 140 * self.height

    @property
    def spine_y(self) -> float:
        """Depth of the middle of the vertebral bodies."""
        return self.depth - 18

    @property
    def pitch(self) -> float:
        """Distance of neighbouring vertebrae."""
        return 22.5 * self.height

    @property
    def heart_centre(self) -> Point:
        """Middle of the heart, resting on the diaphragm."""
        return self.dome_left + 36 * self.heart, -0.27 * self.depth, 17.0

    def cage_height(self, z: Array, y: Array) -> Array:
        """Height along the tilted planes of the ribs; z at the back of the cage."""
        return z + np.float32(CAGE_SLOPE) * (np.float32(self.depth) - y)

    def cage(self, z: Array, y: Array, x: Array, wall: Sequence[float] = (0, 0, 0, 0)) -> Array:
        """Distance to the cage, made larger by `wall`: above, in front, behind and beside."""
        up = np.maximum(self.cage_height(z, y), 0)
        lean = np.float32(0.55 * self.depth) * np.minimum(up / np.float32(self.top), 1.1) ** 3
        y = y - lean
        x = x * (1 + np.float32(self.taper / self.depth) * np.maximum(-y, 0))
        depth = np.where(y < 0, np.float32(self.depth + wall[1]), np.float32(self.depth + wall[2]))
        return superellipsoid((up, y, x), (self.top + wall[0], depth, self.width + wall[3]))

    def trunk(self, z: Array, y: Array, x: Array) -> Array:
        """Distance to trunk, shoulders and neck."""
        fat, muscle = self.fat, self.muscle
        wall = (34 + fat, 5 + 0.7 * muscle + fat, 27 + 0.6 * fat, muscle + fat + 6)
        chest = self.cage(z, y, x, wall)
        high = 150 * self.height
        neck = capsule((z, y, x), (high - 60, 34, 0), (high + 90, 8, 0), 48 + 0.4 * fat)
        start, end = (high - 42, 26, 70), (high + 8, 10, 165)
        shoulder = capsule((z, y, np.abs(x)), start, end, 40 + fat)
        return smooth_min(smooth_min(chest, shoulder, 36), neck, 20)

    def skin(self, z: Array, y: Array, x: Array) -> Array:
        """Distance to the skin: the trunk, and breasts if there are any."""
        trunk = self.trunk(z, y, x)
        if not self.breast:
            return trunk
        return smooth_min(trunk, self.breasts(z, y, x, 1), 26)

    def breasts(self, z: Array, y: Array, x: Array, scale: float) -> Array:
        """Distance to both breasts, or to the glands in them at a smaller scale."""
        height, depth, width = self.ring(62 * self.height, np.array([2.5]), self.fat + 6)[0]
        axes = tuple(self.breast * scale * a for a in (1.7, 1.0, 1.6))
        return ellipsoid((z, y, np.abs(x)), (height, depth, width), axes)

    def diaphragm(self, z: Array, y: Array, x: Array) -> Array:
        """Distance below the diaphragm: negative underneath."""
        y = y / np.float32(self.depth)
        fall: Array = np.where(y > 0, np.float32(58), np.float32(34)) * self.height
        back = fall * y**2
        surface = np.maximum(self._dome(x, -1, self.dome), self._dome(x, 1, self.dome_left)) - back
        return np.asarray((z - surface) * np.float32(0.8))

    def _dome(self, x: Array, side: int, top: float) -> Array:
        u = (x * side - np.float32(0.46 * self.width)) / np.float32(self.width)
        fall: Array = np.where(u > 0, np.float32(190), np.float32(95))
        return np.asarray(np.float32(top) - fall * u**2)

    def lung(self, z: Array, y: Array, x: Array) -> Array:
        """Distance to both lungs, before the mediastinum is laid over them."""
        return np.maximum(self.cage(z, y, x), -self.diaphragm(z, y, x))

    def mediastinum(self, z: Array, y: Array, x: Array) -> Array:
        """Distance to the space between the lungs."""
        front = np.clip(0.6 * (self.heart_centre[0] - 5 - z), 0, 20) + 7
        near = np.abs(x - 2) - np.where(y < 0, front, np.float32(15))
        spine = ellipse((y, x), (self.spine_y + 2, 0), (21, 23))
        upper = ellipsoid((z, y, x), (75, 12, 0), (95, 42, 34))
        organs = np.minimum(upper, self.heart_at(z, y, x, 5))
        return np.asarray(np.minimum(np.minimum(near, spine), organs))

    def heart_at(
        self,
        z: Array,
        y: Array,
        x: Array,
        grow: float,
        middle: Point = (0, 0, 0),
        axes: Point = HEART,
    ) -> Array:
        """Distance to an ellipsoid in the frame of the heart: along, across and through it.

        The long axis runs to the left, the front and down; `middle` and `axes` are for a
        heart of scale one, `grow` is added to the axes.
        """
        frame = self.heart_frame()
        centre = self.heart_centre
        offset = (z - np.float32(centre[0]), y - np.float32(centre[1]), x - np.float32(centre[2]))
        place = tuple(
            sum(np.float32(a) * v for a, v in zip(row, offset, strict=True)) for row in frame
        )
        scaled = tuple(m * self.heart for m in middle)
        return ellipsoid(place, scaled, tuple(a * self.heart + grow for a in axes))  # type: ignore[arg-type]

    def heart_frame(self) -> Array:
        """Rows: long axis (to the apex), across (back left), through (up)."""
        turn = self.heart_turn
        long = np.array([-0.5, -np.sin(turn) * 0.8, np.cos(turn) * 0.8 + 0.25])
        long /= np.linalg.norm(long)
        across = np.cross(long, [1.0, 0.0, 0.0])
        across /= np.linalg.norm(across)
        return np.stack([long, across, np.cross(long, across)]).astype(np.float32)

    def in_heart(self, along: float, across: float, through: float) -> Point:
        """Body point of a place in the frame of the heart."""
        offset = np.array([along, across, through]) * self.heart @ self.heart_frame()
        z, y, x = offset + np.array(self.heart_centre)
        return float(z), float(y), float(x)

    def ring(self, height: float, angle: Array, out: float = 5.0) -> Array:
        """Points (N, 3) around the cage at one cage height; angle 0 is the back, pi the front."""
        up = max(height, 0) / self.top
        k = max(1 - up**2.5, 0.02) ** 0.4
        sin, cos = np.sin(angle), np.cos(angle)
        x = k * (self.width + out) * np.sign(sin) * np.abs(sin) ** 0.8
        y = k * (self.depth + out) * np.sign(cos) * np.abs(cos) ** 0.8
        x = x / (1 + self.taper / self.depth * np.maximum(-y, 0))
        y = y + 0.55 * self.depth * up**3
        z = height - CAGE_SLOPE * (self.depth - y)
        return np.stack([z, y, x], axis=1).astype(np.float32)

    @property
    def back(self) -> float:
        """Where the skin of the back lies in the scanner."""
        return self.depth + 27 + 0.6 * self.fat + self.pose.shift[1] + 0.4 * self.pose.stoop

    def chest(self, margin: float) -> Box:
        """Box around the rib cage, down to the end of the field."""
        y, x = self.depth + margin, self.width + margin
        return (-200.0, -y, -x), (self.top + margin, y, x)

    def belly(self, z: Array, y: Array, x: Array) -> Array:
        """Distance to the space in the cage and under the diaphragm."""
        return np.maximum(self.cage(z, y, x), self.diaphragm(z, y, x))

    def vertebra(self, number: int) -> float:
        """Height of the middle of a vertebra; 0 is the first of the chest."""
        return 125 * self.height - self.pitch * number

    def sternum(self) -> Array:
        """Points along the breastbone, from the neck to the belly."""
        heights = np.linspace(118, 22, 9) * self.height
        return np.concatenate([self.ring(h, np.array([np.pi]), 4.0) for h in heights])

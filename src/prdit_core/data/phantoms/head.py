"""One invented head: its numbers, and the surfaces that follow from them.

Everything is in body coordinates (z, y, x) in mm: up, back and left; zero is the middle of the
head, a little behind the eyes. Proportions follow common anatomy, no measured person.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import numpy as np

from prdit_core.data.phantoms.canvas import Stretched
from prdit_core.data.phantoms.shapes import (
    Array,
    Box,
    Point,
    capsule,
    ellipsoid,
    smooth_min,
    superellipsoid,
)

_NAMES = (
    "air",
    "holder",
    "skin",
    "scalp",
    "fat",
    "muscle",
    "skull",
    "diploe",
    "mandible",
    "teeth",
    "spine",
    "marrow",
    "csf",
    "grey_matter",
    "white_matter",
    "cerebellum",
    "brainstem",
    "ventricles",
    "calcification",
    "sinuses",
    "airway",
    "eyes",
    "lens",
    "optic_nerve",
    "vessels",
)
HEAD_LABELS: dict[str, int] = {name: number for number, name in enumerate(_NAMES)}
HEAD_FIELD_MM = 256.0

EVERYWHERE: Box = ((-180.0, -170.0, -170.0), (180.0, 170.0, 170.0))
CRANIUM: Box = ((-75.0, -105.0, -90.0), (125.0, 115.0, 90.0))
EYE: Point = (-10.0, -79.0, 32.0)
TEETH = 14  # in each jaw
_VAULT: Point = (30.0, 3.0, 0.0)
_VAULT_AXES: Point = (69.0, 84.0, 66.0)


@dataclass(frozen=True)
class HeadPatient:
    """What differs from one patient to the next; lengths in mm."""

    pose: Stretched
    skull: float  # thickness
    fat: float
    brow: float  # how much narrower the head is in front
    jaw: float  # how far the mouth is open
    sulci: float  # half width
    atrophy: float  # between brain and skull
    ventricles: float  # scale
    sinuses: float  # scale
    frontal: float  # scale of the frontal sinus; 0 for none
    wave: float  # distance of neighbouring folds
    phases: tuple[float, ...]  # of the folds of the brain
    missing: tuple[int, ...]  # teeth that are not there
    calcified: bool
    contrast: float  # HU added to blood
    holder: float
    noise: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> HeadPatient:
        """Draw a patient at random."""
        age = rng.uniform(0, 1)
        width, length = rng.uniform(0.92, 1.06), rng.uniform(0.93, 1.05)
        pose = Stretched(
            roll=float(np.clip(rng.normal(0, 0.06), -0.15, 0.15)),
            shift=(rng.uniform(-8, 6), rng.uniform(-4, 8), rng.uniform(-6, 6)),
            sway=float(np.clip(rng.normal(0, 2), -5, 5)),
            stoop=rng.uniform(-4, 4),
            phase=rng.uniform(0, 6.28),
            nod=float(np.clip(rng.normal(0, 0.09), -0.2, 0.2)),
            scale=(rng.uniform(0.93, 1.04), length, width),
        )
        return cls(
            pose=pose,
            skull=rng.uniform(5.6, 8.6),
            fat=rng.uniform(2.0, 6.5),
            brow=rng.uniform(0.0012, 0.0030),
            jaw=rng.uniform(0, 7),
            sulci=0.5 + 0.8 * age,
            atrophy=1.4 + 3.0 * age * rng.uniform(0.5, 1),
            ventricles=rng.uniform(0.75, 1.05) + 0.6 * age**2,
            sinuses=rng.uniform(0.75, 1.12),
            frontal=rng.uniform(0.6, 1.3) if rng.random() < 0.85 else 0.0,
            wave=rng.uniform(27, 34),
            phases=tuple(rng.uniform(0, 6.28, 6).tolist()),
            missing=tuple(np.flatnonzero(rng.random(2 * TEETH) < 0.25 * age).tolist()),
            calcified=bool(rng.random() < 0.3 + 0.6 * age),
            contrast=rng.uniform(80, 200) if rng.random() < 0.25 else 0.0,
            holder=rng.uniform(3, 9),
            noise=rng.uniform(4, 12),
        )

    def vault(self, z: Array, y: Array, x: Array, grow: float = 0.0) -> Array:
        """Distance to the egg that the inside of the skull is above its base, made larger."""
        x = x * (1 + np.float32(self.brow) * np.maximum(-y, 0))
        place = tuple(v - np.float32(c) for v, c in zip((z, y, x), _VAULT, strict=True))
        return superellipsoid(place, tuple(axis + grow for axis in _VAULT_AXES))

    def cavity(self, z: Array, y: Array, x: Array) -> Array:
        """Distance to the inside of the skull, whose floor descends in three steps."""
        floor = -1 - 21 * step(y, -38, 10) - 26 * step(y, 6, 12) + 0.002 * x * x
        return -smooth_min(-self.vault(z, y, x), z - floor.astype(np.float32), 10)

    def skull_surface(self, z: Array, y: Array, x: Array) -> Array:
        """Distance to the outside of the braincase."""
        return self.cavity(z, y, x) - np.float32(self.skull)

    def scalp(self, z: Array, y: Array, x: Array) -> Array:
        """Distance to the skin over the vault."""
        return np.maximum(self.vault(z, y, x, self.skull + 3.5 + 0.55 * self.fat), -4 - z - 0.1 * y)

    def skin(self, z: Array, y: Array, x: Array) -> Array:
        """Distance to the skin of head, face, neck and ears."""
        side, fat = np.abs(x), self.fat
        narrow = side * (1 + np.float32(0.004) * np.maximum(-z - 45, 0))
        face = superellipsoid((z + 46, y + 44, narrow), (70, 49 + fat / 2, 62 + fat))
        low = -self.jaw
        jaw = capsule((z, y, side), (-86 + low, -22, 45), (-100 + low, -76, 9), 17 + fat / 2)
        nose = capsule((z, y, x * 0.75), (-6, -90, 0), (-42, -107, 0), 9)
        neck = capsule((z, y, x * 0.95), (-70, 24, 0), (-240, 44, 0), 53 + 1.2 * fat)
        skin = smooth_min(self.vault(z, y, x, self.skull + 3.5 + 0.55 * fat), face, 22)
        skin = smooth_min(smooth_min(skin, jaw, 16), nose, 8)
        skin = smooth_min(skin, ellipsoid((z, y, side), EYE, (14, 15, 17)), 6)
        return np.minimum(smooth_min(skin, neck, 22), self.ear(z, y, x))

    def ear(self, z: Array, y: Array, x: Array) -> Array:
        """Distance to both ears."""
        out = np.abs(x) - np.float32(0.35) * (y - 14)
        return ellipsoid((z, y, out), (-20, 18, 76), (26, 14, 4))

    def orbit(self, z: Array, y: Array, x: Array) -> Array:
        """Distance to both funnels that the eyes lie in, open to the front, under the skin."""
        back = np.clip((y + 92) / 64, 0, 1)
        across = np.abs(x) - (33 - 17 * back)
        radius = 3 + 15.5 * (1 - back) ** 0.7
        wide = np.sqrt((z - EYE[0]) ** 2 + across**2) - radius
        funnel = np.maximum(np.maximum(wide, y + 28), self.skin(z, y, x) + 2.5)
        return np.asarray(funnel, np.float32)

    def brain(self, z: Array, y: Array, x: Array) -> Array:
        """Distance to the brain's surface, folds and fissures included."""
        cavity = self.cavity(z, y, x)
        depth = -cavity - np.float32(self.atrophy)
        fold = np.abs(self._folds(z, y, x)) * np.float32(self.wave / 8) + np.maximum(depth - 13, 0)
        core = ellipsoid((z, y, x), (20, 4, 0), (29, 46, 34))
        side = np.abs(z - 0.3 * y - 5)  # from the fissure between temple and forehead
        gaps = (
            np.float32(self.sulci) - fold,
            _both(0.6 * (1 + self.sulci) - np.abs(x), core),
            _both(2 * self.sulci - 0.9 * side, np.abs(x) - 36, 24 - np.abs(y + 8)),
            _both(1.4 - np.abs(self.tent(z, y, x)), y - 8),
        )
        return np.asarray(reduce(np.maximum, gaps, -depth), np.float32)

    def tent(self, z: Array, y: Array, x: Array) -> Array:
        """Distance above the roof of the cerebellum."""
        return z - (2 - 0.28 * (y - 30) - 0.0035 * x * x)

    def _folds(self, z: Array, y: Array, x: Array) -> Array:
        """Waves in all directions, whose zeros are sheets across the surface."""
        k, p = np.float32(2 * np.pi / self.wave), self.phases
        a = np.sin(k * x * 1.05 + 1.3 * np.sin(k * 0.6 * y + p[0]) + p[1])
        b = np.sin(k * y + 1.3 * np.sin(k * 0.6 * z + p[2]) + p[3])
        c = np.sin(k * z * 1.1 + 1.3 * np.sin(k * 0.6 * x + p[4]) + p[5])
        return np.asarray(a + b + c)

    def tooth(self, number: int, root: float, tip: float) -> tuple[Point, Point, float]:
        """Root, tip and radius of a tooth of one jaw, from right to left."""
        angle = np.radians(np.linspace(-78, 78, TEETH)[number])
        y, x = -50 - 37 * np.cos(angle), 26 * np.sin(angle)
        molar = abs(float(angle)) > 0.75
        return (root, y, x), (tip, y, x), 4.4 if molar else 3.1


def _both(*distances: Array) -> Array:
    """Positive where all are."""
    return reduce(np.minimum, distances)


def step(v: Array, at: float, width: float) -> Array:
    """0 below and 1 above, smooth in between."""
    u = np.clip((v - np.float32(at)) / np.float32(width) + np.float32(0.5), 0, 1)
    return np.asarray(u * u * (3 - 2 * u))

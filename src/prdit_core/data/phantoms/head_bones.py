"""The bones of a head, the air in them, and the teeth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from prdit_core.data.phantoms.head import CRANIUM, HEAD_LABELS, TEETH, HeadPatient
from prdit_core.data.phantoms.head_tissues import SIDES, mirrored, paint_blob
from prdit_core.data.phantoms.shapes import Array, Box, Point, Tubes, ellipse, superellipsoid
from prdit_core.data.phantoms.vessels import smooth

if TYPE_CHECKING:
    from prdit_core.data.phantoms.canvas import Canvas

FACE: Box = ((-125.0, -115.0, -85.0), (30.0, 20.0, 85.0))
SKULL, SINUSES = HEAD_LABELS["skull"], HEAD_LABELS["sinuses"]


def paint_braincase(canvas: Canvas, head: HeadPatient) -> None:
    """Two tables of hard bone with soft bone between them."""
    layers = [
        (SKULL, 1050.0, 0.0),
        (HEAD_LABELS["diploe"], 420.0, 1.9),
        (SKULL, 1050.0, head.skull - 1.9),
    ]
    canvas.paint(head.skull_surface, CRANIUM, layers)


def paint_face(canvas: Canvas, head: HeadPatient) -> None:
    """Upper jaw, orbits, cheek bones and the base behind the nose, with their sinuses."""
    paint_blob(canvas, (-20, -14, 0), (14, 22, 20), [(SKULL, 650, 0)])  # sphenoid
    slope = np.array([(-14, -6, 0), (-32, 2, 0), (-44, 8, 0)], np.float32)  # clivus
    strips = [Tubes.along(slope + np.array([0, 0, x], np.float32), 4.5) for x in (-8, -3, 3, 8)]
    canvas.paint_tubes(SKULL, 600, Tubes.join(strips))

    def upper_jaw(z: Array, y: Array, x: Array) -> Array:
        narrow = np.abs(x) * (1 + 0.004 * (z + 40))
        jaw = superellipsoid((z + 46, y + 58, narrow), (21, 29, 36))
        return np.asarray(np.maximum(jaw, head.skin(z, y, x) + 6 + 0.7 * head.fat))

    def orbits(z: Array, y: Array, x: Array) -> Array:
        return np.asarray(np.maximum(head.orbit(z, y, x) - 2.2, head.skin(z, y, x) + 9))

    canvas.paint(upper_jaw, FACE, [(SKULL, 600, 0), (HEAD_LABELS["fat"], -60, 1.8)])
    canvas.paint(orbits, FACE, [(SKULL, 750, 0)])
    for path, radius in (
        ([(-36, -70, 38), (-30, -62, 54), (-27, -34, 66), (-25, -6, 69)], 3.6),
        ([(-30, -68, 45), (-8, -70, 49), (8, -72, 46)], 4.2),
        ([(6, -86, 8), (10, -84, 26), (7, -74, 46)], 4.6),
        ([(4, -92, 3), (-10, -95, 4), (-19, -101, 3)], 1.8),
        ([(-26, -84, 14), (-50, -84, 18), (-62, -80, 22)], 3.4),
        ([(-34, -22, 17), (-50, -24, 17), (-60, -26, 18)], 1.8),
    ):  # fmt: skip
        bone = mirrored(path, radius)
        canvas.paint_tubes(SKULL, 850, bone)
        canvas.paint_tubes(HEAD_LABELS["diploe"], 350, bone.thinner(1.9))
    paint_blob(canvas, (-59, -56, 0), (2.6, 30, 23), [(SKULL, 700, 0)])  # palate
    arch = [head.tooth(number, -63, -69)[0] for number in range(TEETH)]
    canvas.paint_tubes(SKULL, 700, Tubes.along(arch, 5.4))


def paint_sinuses(canvas: Canvas, head: HeadPatient) -> None:
    """Air in the bones around the nose and behind the ears, and in the ear canals."""
    size = head.sinuses
    for centre, axes, wall in (
        ((-40.0, -60.0, 27.0), (16.0, 18.0, 13.0), 1.8),  # maxillary
        ((-19.0, -20.0, 8.0), (9.0, 11.0, 7.4), 1.2),  # sphenoid
        ((-14.0, -70.0, 6.5), (9.0, 8.0, 4.6), 0.8),  # ethmoid
        ((-14.0, -55.0, 6.5), (9.0, 7.5, 4.6), 0.8),
        ((-14.0, -41.0, 6.5), (8.0, 7.0, 4.6), 0.8),
    ):
        scaled = tuple(axis * size + wall for axis in axes)
        layers = [(SKULL, 600.0, 0.0), (SINUSES, -1000.0, wall)]
        paint_blob(canvas, centre, scaled, layers, pair=True)  # type: ignore[arg-type]
    if head.frontal:
        f = head.frontal
        layers = [(SKULL, 900.0, 0.0), (SINUSES, -1000.0, 2.0)]
        paint_blob(canvas, (11, -82, 11), (9 * f + 2, 3.6 + 2, 9 * f + 2), layers, pair=True)


def paint_ears(canvas: Canvas, rng: np.random.Generator) -> None:
    """Dense pyramids, spongy bone behind the ears with cells of air, and the canals."""
    rock: list[Point] = [(-25, 0, 14), (-27, 14, 34), (-27, 26, 56)]
    canvas.paint_tubes(SKULL, 1400, mirrored(rock, [6.5, 8.0, 9.5]))
    paint_blob(canvas, (-42, 30, 58), (21, 13, 11), [(SKULL, 800, 0)], pair=True)
    cells = rng.uniform(-1, 1, (40, 3)) * np.array([17, 9.5, 7.5])
    cells = (cells[(cells**2 / np.array([17, 9.5, 7.5]) ** 2).sum(axis=1) < 1]).astype(np.float32)
    radius = rng.uniform(1.4, 3.0, len(cells)).astype(np.float32)
    for side in SIDES:
        middle = (cells + np.array([-41, 30, 58], np.float32)) * side
        canvas.paint_tubes(SINUSES, -950, Tubes(middle, middle, radius))
    canvas.paint_tubes(SINUSES, -1000, mirrored([(-24, 18, 84), (-25, 15, 62), (-25, 14, 48)], 3.2))


def paint_lower_jaw(canvas: Canvas, head: HeadPatient) -> None:
    """Mandible and all teeth."""
    low, mandible = -head.jaw, HEAD_LABELS["mandible"]
    front = [head.tooth(number, -99 + low, 0)[0] for number in range(TEETH)]
    body = Tubes.along(np.array([(z, y - 1, x * 1.06) for z, y, x in front], np.float32), 6.4)
    upper = Tubes.along(np.array([(z + 8, y, x) for z, y, x in front], np.float32), 5.0)
    plates = [
        mirrored([(-96 + low, -48, 28), (-90 + low, -30, 42), (-84 + low, -22, 48)], 6.4),
        mirrored([(-84 + low, -22, 48), (-58, -12, 51), (-33, -1, 53)], 5.0),
        mirrored([(-86 + low, -30, 46), (-60, -24, 50), (-40, -28, 52)], 4.0),
    ]
    bone = Tubes.join([body, upper, *plates])
    canvas.paint_tubes(mandible, 1250, bone)
    canvas.paint_tubes(HEAD_LABELS["marrow"], 180, bone.thinner(2.6))
    for number in range(2 * TEETH):
        if number in head.missing:
            continue
        place = number % TEETH
        ends = (-62.0, -77.0) if number < TEETH else (-94.0 + low, -79.0 + low)
        root, tip, radius = head.tooth(place, *ends)
        half = tuple((np.array(root) * 0.45 + np.array(tip) * 0.55).tolist())
        canvas.paint_tubes(HEAD_LABELS["teeth"], 1500, Tubes.along([root, half], 0.7 * radius))
        canvas.paint_tubes(HEAD_LABELS["teeth"], 2300, Tubes.along([half, tip], radius - 0.3))


def paint_neck_bones(canvas: Canvas) -> None:
    """The upper vertebrae with their canal."""
    spine, marrow = HEAD_LABELS["spine"], HEAD_LABELS["marrow"]

    def column(z: Array, y: Array, x: Array) -> Array:
        waist = 1.1 * np.cos(_height(z) / 9 * np.pi)
        return np.maximum(ellipse((y, x), (17, 0), (8.5, 11)) + waist, z + 62)

    def bodies(z: Array, y: Array, x: Array) -> Array:
        return np.asarray(np.maximum(column(z, y, x), _height(z) - 6.6))

    box: Box = ((-190.0, 0.0, -20.0), (-58.0, 34.0, 20.0))
    canvas.paint(column, box, [(spine, 80, 0)])
    canvas.paint(bodies, box, [(spine, 800, 0), (marrow, 220, 1.8)])
    rings = [_ring(-59.0, 15.0), *(_ring(-71.0 - 18 * number, 12.5) for number in range(7))]
    arches = Tubes.join(rings)
    canvas.paint_tubes(spine, 750, arches)
    canvas.paint_tubes(marrow, 260, arches.thinner(1.9))
    canvas.paint_tubes(spine, 900, Tubes.along([(-72, 16, 0), (-52, 14, 0)], 4.6))  # dens
    paint_blob(canvas, (-57, 18, 21), (7, 9, 7), [(spine, 750, 0), (marrow, 300, 1.8)], pair=True)


def _height(z: Array) -> Array:
    """Distance from the middle of the nearest vertebral body."""
    return np.asarray(np.abs((z + 71 + 9) % 18 - 9))


def _ring(z: float, radius: float) -> Tubes:
    """The ring of bone around the canal and the process behind."""
    turns = np.linspace(-2.5, 2.5, 11)
    ring = [(z - 3, 33 + radius * np.cos(a), (radius + 2) * np.sin(a)) for a in turns]
    behind = Tubes.along(smooth([(z - 5, 33 + radius, 0), (z - 12, 50 + radius, 0)]), 3.2)
    return Tubes.join([Tubes.along(ring, 3.0), behind])

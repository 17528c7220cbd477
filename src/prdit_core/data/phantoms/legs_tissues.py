"""What legs are made of: skin, fat and groups of muscles around bones, knees and vessels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from prdit_core.data.phantoms.canvas import FLAT, Canvas, Stretched
from prdit_core.data.phantoms.legs import LEGS_FIELD_MM, LEGS_LABELS, Leg, LegsPatient
from prdit_core.data.phantoms.shapes import (
    Array,
    Box,
    Distance,
    Point,
    Tubes,
    ellipsoid,
    smooth_min,
)
from prdit_core.noise import Draw, numpy_generator

if TYPE_CHECKING:
    from prdit_core.data.phantoms.canvas import Layer


def paint_legs(seed: int, index: int, spacing_mm: float) -> tuple[Canvas, float]:
    """Both legs of one patient on their table, and the noise of the scan in HU."""
    legs = LegsPatient.draw(numpy_generator(Draw.LEGS, seed, index))
    canvas = Canvas(FLAT, LEGS_FIELD_MM, spacing_mm)
    _paint_table(canvas, legs)
    canvas.pose = Stretched(**vars(legs.pose) | {"shift": (-legs.level, *legs.pose.shift[1:])})
    for side in (-1, 1):
        leg = Leg(legs, side)
        _paint_flesh(canvas, leg)
        _paint_muscles(canvas, leg)
        _paint_bones(canvas, leg)
        _paint_knee(canvas, leg)
        _paint_vessels(canvas, leg)
    return canvas, legs.noise


def _paint_table(canvas: Canvas, legs: LegsPatient) -> None:
    """A curved couch: two thin skins around foam."""
    back = 84 + 0.5 * legs.fat + legs.table

    def couch(z: Array, y: Array, x: Array) -> Array:
        return np.maximum(back - x * x / 900 - y, y - back - 22 + x * x / 2200) + 0 * z

    table = LEGS_LABELS["table"]
    box: Box = ((-220.0, back - 60, -260.0), (220.0, back + 40, 260.0))
    canvas.paint(couch, box, [(table, 60, 0), (table, -870, 2.2)])


def _paint_flesh(canvas: Canvas, leg: Leg) -> None:
    """Skin, fat, and the fat between the muscles."""
    skin = leg.legs.fat + 1.8
    layers: list[Layer] = [(LEGS_LABELS["skin"], 20, 0), (LEGS_LABELS["fat"], -105, 1.8)]
    canvas.paint(lambda z, y, x: leg.flesh(z, y, x, skin), leg.box, layers)


def _paint_muscles(canvas: Canvas, leg: Leg) -> None:
    """Groups of muscles, each a sector of the limb with thin fat at its borders."""
    streaks, phases = np.float32(leg.legs.streaks), leg.legs.phases

    def fibres(z: Array, y: Array, x: Array) -> Array:
        wave = np.sin(0.33 * x + 0.11 * z + phases[0]) * np.sin(0.29 * y - 0.05 * z + phases[1])
        return np.asarray(np.float32(58) - streaks * np.maximum(wave - np.float32(0.35), 0))

    for name, heights, angles in (
        ("quadriceps", (0, 400), (-118, 112)),
        ("hamstrings", (15, 400), (112, 198)),
        ("adductors", (45, 400), (198, 242)),
        ("calf", (-400, -25), (35, 300)),
        ("shin", (-400, -35), (-60, 35)),
    ):
        layers: list[Layer] = [(LEGS_LABELS[name], fibres, 0.8)]
        canvas.paint(_group(leg, heights, angles), leg.box, layers)


def _group(leg: Leg, heights: tuple[int, int], angles: tuple[int, int]) -> Distance:
    """Distance to a sector of the limb that narrows towards its ends."""
    low, high = heights

    def group(z: Array, y: Array, x: Array) -> Array:
        inside = leg.flesh(z, y, x, 0)
        z, y, x = leg.local(z, y, x)
        taper = np.maximum(low - z, z - high) * np.float32(0.45)
        return np.asarray(np.maximum(np.maximum(inside, taper), _sector(y, x, angles)))

    return group


def _sector(y: Array, x: Array, ends: tuple[int, int]) -> Array:
    """Distance to a sector of the limb: angles in degrees from the front outwards to the back."""
    middle, half = np.radians((ends[0] + ends[1]) / 2), np.radians((ends[1] - ends[0]) / 2)
    angle = np.arctan2(x, -(y - 4))
    away = np.abs((angle - np.float32(middle) + np.pi) % (2 * np.pi) - np.pi)
    return np.asarray((away - np.float32(half)) * np.minimum(np.hypot(y - 4, x), 24), np.float32)


def _paint_bones(canvas: Canvas, leg: Leg) -> None:
    """Shafts of hard bone around fatty marrow, that widen into spongy ends."""
    thin = leg.legs.cortex
    for name, path, radii, wall in (
        (
            "femur",
            [(420, -2, 4), (240, -6, 2), (90, -2, 0), (45, 2, 0)],
            [14.0, 13.2, 13.5, 17.0],
            5.2,
        ),
        (
            "tibia",
            [(-26, 4, 0), (-60, -8, -3), (-140, -10, -4), (-260, -8, -3), (-420, -4, -2)],
            [19.0, 15.0, 12.0, 11.0, 13.0],
            4.6,
        ),
        (
            "fibula",
            [(-32, 20, 27), (-60, 18, 27), (-200, 14, 22), (-420, 10, 20)],
            [7.5, 5.2, 5.5, 5.5],
            2.4,
        ),
    ):
        shaft = leg.tubes(path, radii)
        canvas.paint_tubes(LEGS_LABELS[name], 1250, shaft)
        hollow = Tubes(
            shaft.start, shaft.end, np.maximum(shaft.radius - np.float32(wall * thin), 1)
        )
        canvas.paint_tubes(LEGS_LABELS["marrow"], -60, hollow)


def _paint_knee(canvas: Canvas, leg: Leg) -> None:
    """Condyles, plateau, knee cap, cartilage between them, and the tendon in front."""
    thin = leg.legs.cortex

    def condyles(z: Array, y: Array, x: Array) -> Array:
        place = leg.local(z, y, x)
        outer = ellipsoid(place, (21, 5, 21), (21, 29, 15))
        inner = ellipsoid(place, (21, 5, -21), (22, 29, 15))
        upper = ellipsoid(place, (36, 0, 0), (30, 19, 27))
        notch = -ellipsoid(place, (4, 26, 0), (22, 20, 8))
        return np.maximum(smooth_min(smooth_min(outer, inner, 6), upper, 10), notch)

    def plateau(z: Array, y: Array, x: Array) -> Array:
        place = leg.local(z, y, x)
        top = ellipsoid(place, (-24, 4, 0), (26, 25, 38))
        return np.maximum(
            smooth_min(top, ellipsoid(place, (-44, -4, -1), (30, 17, 20)), 10), place[0] + 5
        )

    def kneecap(z: Array, y: Array, x: Array) -> Array:
        return ellipsoid(leg.local(z, y, x), (28, -36, 1), (21, 10, 21))

    def joint(z: Array, y: Array, x: Array) -> Array:
        return ellipsoid(leg.local(z, y, x), (-1, 4, 0), (14, 30, 39))

    low, high = leg.box
    box: Box = ((-90.0, *low[1:]), (90.0, *high[1:]))
    marrow = LEGS_LABELS["marrow"]
    canvas.paint(joint, box, [(LEGS_LABELS["cartilage"], 75, 0)])
    for name, shape, wall in (
        ("femur", condyles, 1.6),
        ("tibia", plateau, 1.8),
        ("patella", kneecap, 1.8),
    ):
        canvas.paint(shape, box, [(LEGS_LABELS[name], 850, 0), (marrow, 170, wall * thin)])
    tendon: list[Point] = [(95, -40, 2), (55, -46, 1), (28, -46, 1), (-10, -42, 0), (-42, -30, 0)]
    strands = Tubes.join(
        [leg.tubes([(z, y, x + d) for z, y, x in tendon], 2.6) for d in (-7, 0, 7)]
    )
    canvas.paint_tubes(LEGS_LABELS["tendons"], 95, strands)


def _paint_vessels(canvas: Canvas, leg: Leg) -> None:
    """The large artery and vein behind the knee, and a vein under the skin."""
    blood = 45 + leg.legs.contrast
    artery: list[Point] = [
        (420, 2, -34),
        (240, 10, -32),
        (110, 26, -16),
        (20, 40, 0),
        (-60, 36, 4),
        (-420, 22, 2),
    ]
    vein = [(z, y + 8, x + 4) for z, y, x in artery]
    for path, radius in ((artery, 3.4), (vein, 4.4)):
        canvas.paint_tubes(LEGS_LABELS["fat"], -90, leg.tubes(path, radius + 2.5))
    for path, radius in ((artery, 3.4), (vein, 4.4)):
        canvas.paint_tubes(LEGS_LABELS["vessels"], blood, leg.tubes(path, radius))

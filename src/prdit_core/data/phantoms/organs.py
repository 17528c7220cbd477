"""Everything soft, from the couch and the skin to the heart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from prdit_core.data.phantoms.anatomy import CHAMBERS, HEART, LABELS, Patient
from prdit_core.data.phantoms.shapes import Array, Box, Point, Tubes, ellipsoid
from prdit_core.data.phantoms.vessels import (
    airways,
    great_vessels,
    grow_vessels,
    lung_points,
    smooth,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prdit_core.data.phantoms.canvas import Canvas, Layer

EVERYWHERE: Box = ((-200.0, -200.0, -200.0), (200.0, 200.0, 200.0))
LUNGS = (LABELS["lung_right"], LABELS["lung_left"])


def paint_table(canvas: Canvas, patient: Patient) -> None:
    """A curved couch: two thin skins around foam."""
    back = patient.back + patient.table

    def couch(z: Array, y: Array, x: Array) -> Array:
        return np.maximum(back - x * x / 900 - y, y - back - 24 + x * x / 2200) + 0 * z

    box = ((-220.0, back - 60, -260.0), (220.0, back + 40, 260.0))
    canvas.paint(couch, box, [(LABELS["table"], 60, 0), (LABELS["table"], -870, 2.2)])


def paint_wall(canvas: Canvas, patient: Patient) -> None:
    """Skin, fat under it, muscle, and the fat between the layers of muscle."""
    fat, muscle = LABELS["fat"], LABELS["muscle"]
    canvas.paint(patient.skin, EVERYWHERE, [(muscle, 10, 0), (fat, -105, 1.8)])
    if patient.breast:
        canvas.paint(lambda z, y, x: patient.breasts(z, y, x, 0.55), EVERYWHERE, [(fat, -10, 0)])
    canvas.paint(patient.trunk, EVERYWHERE, [(muscle, 52, 1.8 + patient.fat)])
    canvas.paint(patient.cage, patient.chest(20), [(fat, -90, -12.5), (muscle, 45, -10)])


def paint_lungs(canvas: Canvas, patient: Patient, rng: np.random.Generator) -> None:
    """Both lungs, denser at the back, with their vessels and nodules."""
    (z0, y0, x0), (z1, y1, x1) = patient.chest(3)
    _paint_lung(canvas, patient, "lung_right", -1, ((z0, y0, x0), (z1, y1, 0.0)))
    _paint_lung(canvas, patient, "lung_left", 1, ((z0, y0, 0.0), (z1, y1, x1)))
    trees = Tubes.join([grow_vessels(patient, side, rng) for side in (-1, 1)])
    canvas.paint_tubes(LABELS["lung_vessels"], 40 + patient.contrast, trees, LUNGS)
    for _ in range(patient.nodules):
        centre = lung_points(patient, int(rng.choice((-1, 1))), rng, 1, margin=10)
        ball = Tubes(centre, centre, rng.uniform(3, 9, 1).astype(np.float32))
        canvas.paint_tubes(LABELS["nodule"], 35, ball, (*LUNGS, LABELS["lung_vessels"]))


def _paint_lung(canvas: Canvas, patient: Patient, name: str, side: int, box: Box) -> None:
    """The air-filled tissue on one side."""

    def lung(z: Array, y: Array, x: Array) -> Array:
        return np.maximum(patient.lung(z, y, x), -side * x)

    def tissue(z: Array, y: Array, x: Array) -> Array:
        return np.float32(patient.lung_hu) + np.float32(0.35) * y

    canvas.paint(lung, box, [(LABELS[name], tissue, 0)])


def paint_belly(canvas: Canvas, patient: Patient) -> None:
    """What lies under the diaphragm: liver, stomach and spleen in fat."""
    blood, w, d, top = patient.contrast, patient.width, patient.depth, patient.dome_left

    def liver(z: Array, y: Array, x: Array) -> Array:
        left = x - np.float32(0.3 * w) + np.float32(0.9) * np.maximum(y + 10, 0)
        return np.maximum(patient.belly(z, y, x) + 4, left)

    low, high = patient.chest(0)
    box = (low, (patient.dome + 5, high[1], high[2]))
    canvas.paint(patient.belly, box, [(LABELS["muscle"], 45, 0), (LABELS["fat"], -100, 3.5)])
    canvas.paint(
        liver,
        (low, (patient.dome + 5, high[1], 0.35 * w)),
        [(LABELS["liver"], 58 + 0.25 * blood, 0)],
    )
    spleen = ((top - 50, 0.45 * d, 0.7 * w), (42.0, 38.0, 25.0))
    _paint_organ(canvas, patient, *spleen, [(LABELS["spleen"], 50 + 0.3 * blood, 0)])
    centre = (top - 48, -0.15 * d, 0.45 * w)
    level = np.float32(centre[1] - 40 + 80 * patient.gas)

    def content(z: Array, y: Array, x: Array) -> Array:
        fluid: Array = np.clip((y - level) / canvas.spacing, 0, 1)
        return fluid * np.float32(945) - np.float32(930)

    _paint_organ(
        canvas,
        patient,
        centre,
        (46.0, 44.0, 38.0),
        [(LABELS["stomach"], 45, 0), (LABELS["stomach"], content, 4)],
    )


def _paint_organ(
    canvas: Canvas, patient: Patient, centre: Point, axes: Point, layers: Sequence[Layer]
) -> None:
    """An ellipsoid pressed against the diaphragm and the wall of the belly."""

    def organ(z: Array, y: Array, x: Array) -> Array:
        return np.maximum(patient.belly(z, y, x) + 4, ellipsoid((z, y, x), centre, axes))

    low, high = (np.array(centre) - axes).tolist(), (np.array(centre) + axes).tolist()
    canvas.paint(organ, (tuple(low), tuple(high)), layers)


def paint_mediastinum(canvas: Canvas, patient: Patient) -> None:
    """Fat between the lungs, and heart, vessels, airways and gullet in it."""
    blood = 40 + patient.contrast
    low, high = patient.chest(3)
    box = ((patient.dome_left - 60, low[1], -65.0), (high[0], high[1], 95.0))

    def space(z: Array, y: Array, x: Array) -> Array:
        return np.maximum(patient.mediastinum(z, y, x), patient.lung(z, y, x) - 2)

    canvas.paint(space, box, [(LABELS["mediastinum"], -95, 0)])
    _paint_heart(canvas, patient)
    aorta, others = great_vessels(patient)
    canvas.paint_tubes(LABELS["great_vessels"], blood, others)
    canvas.paint_tubes(LABELS["aorta"], blood, aorta)
    gullet = [(200, 32, 6), (60, 36, 6), (0, 34, 6), (-60, 22, 12), (-110, 10, 30)]
    canvas.paint_tubes(LABELS["oesophagus"], 35, Tubes.along(smooth(gullet), 7.0))
    canvas.paint_tubes(LABELS["oesophagus"], -500, Tubes.along(smooth(gullet[:4]), 1.8))
    tree = airways(patient)
    canvas.paint_tubes(LABELS["mediastinum"], -60, tree)
    canvas.paint_tubes(LABELS["airways"], -985, tree.thinner(1.3))


def _paint_heart(canvas: Canvas, patient: Patient) -> None:
    """Muscle, four chambers, and the fat in the groove between them."""
    z, y, x = patient.heart_centre
    r = 62 * patient.heart
    box = ((z - r, y - r, x - r), (z + r, y + r, x + r))
    blood = 40 + patient.contrast

    def part(hu: float, middle: Point, axes: Point) -> None:
        canvas.paint(
            lambda z, y, x: patient.heart_at(z, y, x, 0, middle, axes),
            box,
            [(LABELS["heart"], hu, 0)],
        )

    part(48 + 0.35 * patient.contrast, (0, 0, 0), HEART)
    for middle, axes in CHAMBERS:
        part(blood, middle, axes)
    turns = np.linspace(0, 2 * np.pi, 25)
    groove = [patient.in_heart(-14, 40 * np.cos(a), 38 * np.sin(a)) for a in turns]
    canvas.paint_tubes(LABELS["heart"], -70, Tubes.along(groove, 4.0))

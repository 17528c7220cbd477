"""The bones of the chest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from prdit_core.data.phantoms.anatomy import LABELS, Patient
from prdit_core.data.phantoms.shapes import Array, Tubes, ellipse
from prdit_core.data.phantoms.vessels import smooth

if TYPE_CHECKING:
    from prdit_core.data.phantoms.canvas import Canvas


def paint_skeleton(canvas: Canvas, patient: Patient) -> None:
    """Ribs, breastbone, spine, collar bones and shoulder blades."""
    bone, cartilage = ribs(patient)
    canvas.paint_tubes(LABELS["cartilage"], 110, cartilage)
    canvas.paint_tubes(LABELS["ribs"], 620, bone)
    canvas.paint_tubes(LABELS["ribs"], 180, bone.thinner(1.6))
    plate = patient.sternum()
    for hu, wall in ((480, 0.0), (150, 1.6)):
        shifts = np.array([[0, 0, x] for x in np.linspace(-10, 10, 7)], np.float32)
        parts = [Tubes.along(plate + shift, 5.0) for shift in shifts]
        canvas.paint_tubes(LABELS["sternum"], hu, Tubes.join(parts).thinner(wall))
    _paint_spine(canvas, patient)
    _paint_shoulders(canvas, patient, plate[0])


def _paint_spine(canvas: Canvas, patient: Patient) -> None:
    """Vertebral bodies and discs, the arches behind them, and the canal in between."""
    spine, canal_y = LABELS["spine"], patient.spine_y + 18
    _paint_vertebrae(canvas, patient)
    arches = Tubes.join([_arch(patient, number) for number in range(-4, 16)])
    canvas.paint_tubes(spine, 560, arches)
    canvas.paint_tubes(spine, 260, arches.thinner(1.6))
    canal = Tubes.along([(-220, canal_y, 0), (220, canal_y, 0)], 7.8)
    canvas.paint_tubes(spine, 0, canal)
    canvas.paint_tubes(spine, 40, canal.thinner(3.2))


def _paint_vertebrae(canvas: Canvas, patient: Patient) -> None:
    """One column of discs, with a body of bone in every period of it."""
    y0, pitch = patient.spine_y, patient.pitch
    half = 0.5 * pitch

    def column(z: Array, y: Array, x: Array) -> Array:
        size = 1 + np.clip(-z / 1200, -0.15, 0.12)
        flat = np.maximum(ellipse((y / size, x / size), (y0 - 1, 0), (15, 17.5)), y - y0 - 10)
        return np.asarray(flat + 1.2 * np.cos(height(z) / half * np.pi))

    def height(z: Array) -> Array:
        return np.asarray(np.abs((z - np.float32(patient.vertebra(0)) + half) % pitch - half))

    def body(z: Array, y: Array, x: Array) -> Array:
        return np.asarray(np.maximum(column(z, y, x), height(z) - np.float32(0.39) * pitch))

    box = ((-220.0, y0 - 25, -30.0), (220.0, y0 + 30, 30.0))
    canvas.paint(column, box, [(LABELS["spine"], 85, 1)])
    canvas.paint(body, box, [(LABELS["spine"], 560, 0), (LABELS["spine"], 190, 1.8)])


def _arch(patient: Patient, number: int) -> Tubes:
    """The ring of bone around the canal, with one process behind and one on each side."""
    z, y = patient.vertebra(number), patient.spine_y
    turns = np.linspace(-2.4, 2.4, 9)
    ring = [(z - 3, y + 18 + 11 * np.cos(a), 11.5 * np.sin(a)) for a in turns]
    sides = [Tubes.along([(z, y + 20, s * 12), (z + 2, y + 27, s * 29)], 3.8) for s in (-1, 1)]
    spinous = Tubes.along([(z - 4, y + 29, 0), (z - 22, y + 42, 0)], 3.4)
    return Tubes.join([Tubes.along(ring, 3.2), spinous, *sides])


def _paint_shoulders(canvas: Canvas, patient: Patient, notch: Array) -> None:
    """Collar bones, shoulder blades and the heads of the arms."""
    h, w, back = patient.height, patient.width, patient.depth + 11
    parts = []
    for side in (-1, 1):
        mirror = np.array([1, 1, side], np.float32)
        collar = [
            (notch[0] + 4, notch[1] - 2, 14),
            (110 * h, notch[1] - 8, 45),
            (122 * h, notch[1] + 12, 85),
            (132 * h, 12, 122),
        ]
        parts.append(Tubes.along(smooth(collar) * mirror, 5.0))
        tip, inner, outer = (
            (5.0, back - 8, 0.74 * w),
            (108.0, back - 12, 62.0),
            (112.0, 34.0, 122.0),
        )
        for share in np.linspace(0, 1, 12):
            edge = np.array(inner) * (1 - share) + np.array(outer) * share
            parts.append(Tubes.along(np.array([tip, edge]) * mirror, 1.8))
        parts.append(
            Tubes.along(np.array([inner, (122.0, 70.0, 95.0), (134.0, 20.0, 128.0)]) * mirror, 3.6)
        )
        parts.append(
            Tubes.along(np.array([(124.0, 12.0, 146.0), (132.0, 10.0, 152.0)]) * mirror, 20.0)
        )
    bones = Tubes.join(parts)
    inside = tuple(LABELS[name] for name in ("fat", "muscle", "shoulder"))
    canvas.paint_tubes(LABELS["shoulder"], 560, bones, inside)
    canvas.paint_tubes(LABELS["shoulder"], 190, bones.thinner(1.7), inside)


def ribs(patient: Patient) -> tuple[Tubes, Tubes]:
    """Bone and cartilage of the twelve pairs of ribs."""
    bone, cartilage = [], []
    for number in range(12):
        level = patient.vertebra(number)
        last = (2.45, 2.35, 2.3, 2.3, 2.3, 2.25, 2.2, 2.1, 2.0, 1.85, 1.3, 0.9)[number]
        arc = patient.ring(level, np.linspace(0.42, last, 26))
        head = [(level, patient.spine_y + 3, 15), (level + 2, patient.spine_y + 16, 29)]
        path = np.concatenate([np.array(head, np.float32), arc])
        thick = 3.3 + 0.5 * np.sin(np.linspace(0, np.pi, len(path)))
        shift = np.array([2.6 * patient.height, 0, 0], np.float32)
        for side in (np.array([1, 1, 1], np.float32), np.array([1, 1, -1], np.float32)):
            bone += [Tubes.along((path + up) * side, thick) for up in (shift, 0 * shift, -shift)]
            if number < 10:
                cartilage.append(Tubes.along(_cartilage(patient, number, arc[-1]) * side, 4.0))
    return Tubes.join(bone), Tubes.join(cartilage)


def _cartilage(patient: Patient, number: int, end: Array) -> Array:
    """From the end of a rib to the breastbone, rising more the lower the rib."""
    sternum = patient.sternum()
    share = min(number / 6, 1) * 0.92
    goal = sternum[0] + (sternum[-1] - sternum[0]) * share + np.array([0, 0, 13])
    bend = end * 0.45 + goal * 0.55 + np.array([-6.0 * (number > 3) - 5, -3, 0])
    return np.stack([end, bend, goal]).astype(np.float32)

"""Everything soft in a head, from the skin to the brain, and the air in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from prdit_core.data.phantoms.head import CRANIUM, EVERYWHERE, EYE, HEAD_LABELS, HeadPatient
from prdit_core.data.phantoms.shapes import Array, Box, Point, Tubes, ellipsoid
from prdit_core.data.phantoms.vessels import smooth

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prdit_core.data.phantoms.canvas import Canvas, Layer

CSF, GREY, WHITE = 8, 38, 29
SIDES = (np.array([1, 1, 1], np.float32), np.array([1, 1, -1], np.float32))


def paint_blob(
    canvas: Canvas, centre: Point, axes: Point, layers: Sequence[Layer], *, pair: bool = False
) -> None:
    """An ellipsoid, or a pair of them, one on each side."""

    def blob(z: Array, y: Array, x: Array) -> Array:
        return ellipsoid((z, y, np.abs(x) if pair else x), centre, axes)

    low, high = np.array(centre) - axes - 3, np.array(centre) + axes + 3
    if pair:
        low[2] = -high[2]
    canvas.paint(blob, (tuple(low.tolist()), tuple(high.tolist())), layers)


def mirrored(path: Sequence[Point], radius: float | Sequence[float]) -> Tubes:
    """A rounded tube on the left and its image on the right."""
    points = smooth(path)
    radii = radius if isinstance(radius, float) else _along(radius, len(points))
    return Tubes.join([Tubes.along(points * side, radii) for side in SIDES])


def paint_holder(canvas: Canvas, head: HeadPatient) -> None:
    """The bowl that the head lies in: a thin shell of plastic with foam inside."""

    def bowl(z: Array, y: Array, x: Array) -> Array:
        out = np.hypot(x * 0.9, y - 8) - np.float32(112 + head.holder)
        return np.asarray(np.maximum(np.maximum(out, 30 - y), np.abs(z - 40) - 130))

    def hollow(z: Array, y: Array, x: Array) -> Array:
        return np.asarray(np.hypot(x * 0.9, y - 8) - np.float32(100 + head.holder) + 0 * z)

    box: Box = ((-140.0, 20.0, -170.0), (140.0, 160.0, 170.0))
    holder = HEAD_LABELS["holder"]
    canvas.paint(bowl, box, [(holder, 40, 0), (holder, -900, 2.0)])
    canvas.paint(hollow, box, [(HEAD_LABELS["air"], -1000, 0)])


def paint_outside(canvas: Canvas, head: HeadPatient) -> None:
    """Skin, fat, the scalp over the vault, and the muscles of face and neck."""
    skin, fat, muscle = (HEAD_LABELS[name] for name in ("skin", "fat", "muscle"))
    deep = 2.5 + head.fat

    def flesh(z: Array, y: Array, x: Array) -> Array:
        low = z + 12 - 0.2 * np.abs(x)
        return np.maximum(head.skin(z, y, x), low)

    canvas.paint(head.skin, EVERYWHERE, [(skin, 20, 0), (fat, -95, 1.9)])
    canvas.paint(head.ear, EVERYWHERE, [(skin, 30, 0)])
    canvas.paint(flesh, EVERYWHERE, [(muscle, 52, deep + 1.5)])
    canvas.paint(
        head.scalp, CRANIUM, [(HEAD_LABELS["scalp"], 25, 0), (HEAD_LABELS["scalp"], -70, 2.2)]
    )
    for centre, axes in (
        ((6, -32, 68), (36, 33, 10)),  # temporal
        ((-66, -22, 57), (30, 17, 9)),  # masseter
        ((-54, -14, 38), (22, 13, 10)),  # pterygoid
    ):
        paint_blob(canvas, centre, axes, [(muscle, 58, 0)], pair=True)
    for centre, axes in (
        ((-64, -40, 54), (24, 12, 8)),  # cheeks
        ((-60, 16, 52), (20, 12, 9)),
        ((-92, 6, 30), (40, 7, 9)),
        ((-112, 60, 12), (60, 6, 5)),
    ):
        paint_blob(canvas, centre, axes, [(fat, -85, 0)], pair=True)
    _paint_neck(canvas, head)


def _paint_neck(canvas: Canvas, head: HeadPatient) -> None:
    """Vessels, and planes of fat between muscles."""
    fat, vessels = HEAD_LABELS["fat"], HEAD_LABELS["vessels"]
    for y, x in ((52.0, 26.0), (36.0, 40.0), (8.0, 46.0)):
        canvas.paint_tubes(
            fat, -70, mirrored([(-60, y - 4, x), (-90, y, x), (-170, y + 8, x + 4)], 2.4)
        )
    blood = 45 + head.contrast
    carotid: list[Point] = [(-170, 10, 27), (-100, 4, 27), (-70, 4, 26), (-44, -4, 24)]
    jugular: list[Point] = [(-170, 18, 34), (-100, 12, 36), (-70, 12, 34), (-46, 14, 28)]
    canvas.paint_tubes(vessels, blood, mirrored(carotid, 3.4))
    canvas.paint_tubes(vessels, blood, mirrored(jugular, 5.0))


def paint_brain(canvas: Canvas, head: HeadPatient) -> None:
    """Fluid, grey and white matter, cerebellum, brainstem, ventricles."""
    csf, grey, white = (HEAD_LABELS[name] for name in ("csf", "grey_matter", "white_matter"))

    def upper(z: Array, y: Array, x: Array) -> Array:
        return np.maximum(head.brain(z, y, x), np.minimum(-head.tent(z, y, x), y - 10))

    def lower(z: Array, y: Array, x: Array) -> Array:
        return np.maximum(head.brain(z, y, x), np.maximum(head.tent(z, y, x), 12 - y))

    def leaves(z: Array, y: Array, x: Array) -> Array:
        return np.asarray(np.float32(36) + 3 * np.sin(1.3 * z + 0.9 * y + 0 * x))

    canvas.paint(head.cavity, CRANIUM, [(csf, CSF, 0)])
    canvas.paint(upper, CRANIUM, [(grey, GREY, 0), (white, WHITE, 3.4)])
    canvas.paint(lower, CRANIUM, [(HEAD_LABELS["cerebellum"], leaves, 0)])
    _paint_falx(canvas, head)
    for centre, axes in (
        ((17, 9, 11), (10, 15, 8)),  # thalamus
        ((13, -8, 25), (12, 19, 6)),  # putamen
        ((22, -25, 13), (9, 10, 5)),  # caudate
    ):
        paint_blob(canvas, centre, axes, [(grey, GREY, 0)], pair=True)
    _paint_stem(canvas)
    _paint_ventricles(canvas, head)


def _paint_falx(canvas: Canvas, head: HeadPatient) -> None:
    """The sheet between both halves, the roof of the cerebellum, and the sinus along the top."""

    def falx(z: Array, y: Array, x: Array) -> Array:
        core = ellipsoid((z, y, x), (18, 4, 0), (33, 52, 34))
        return np.maximum(np.maximum(np.abs(x) - 0.7, -core), head.cavity(z, y, x))

    def roof(z: Array, y: Array, x: Array) -> Array:
        sheet = np.maximum(np.abs(head.tent(z, y, x)) - 0.7, 12 - y)
        return np.asarray(np.maximum(np.maximum(sheet, 10 - np.abs(x)), head.cavity(z, y, x)))

    for sheet in (falx, roof):
        canvas.paint(sheet, CRANIUM, [(HEAD_LABELS["csf"], 48, 0)])
    angles = np.linspace(-0.5, 3.3, 24)
    top = np.stack([30 + 67 * np.sin(angles), 3 - 82 * np.cos(angles), 0 * angles], axis=1)
    blood = 52 + head.contrast
    canvas.paint_tubes(HEAD_LABELS["vessels"], blood, Tubes.along(top, 3.2), (HEAD_LABELS["csf"],))


def _paint_stem(canvas: Canvas) -> None:
    """Midbrain, pons, medulla and the upper cord, in fluid."""
    path = smooth([(12, 8, 0), (-4, 6, 0), (-22, 7, 0), (-44, 20, 0), (-62, 31, 0), (-180, 38, 0)])
    radii = _along([10, 13, 14, 9, 6.5, 5.5], len(path))
    around = tuple(HEAD_LABELS[name] for name in ("skull", "diploe", "muscle", "csf", "fat"))
    canvas.paint_tubes(HEAD_LABELS["csf"], CSF, Tubes.along(path[8:], radii[8:] + 4.5), around)
    canvas.paint_tubes(HEAD_LABELS["brainstem"], 33, Tubes.along(path, radii))


def _paint_ventricles(canvas: Canvas, head: HeadPatient) -> None:
    """The four chambers, and what calcifies with age near them."""
    ventricles, size = HEAD_LABELS["ventricles"], head.ventricles
    horns: tuple[tuple[list[Point], list[float]], ...] = (
        (
            [(20, -38, 13), (30, -24, 11), (37, 2, 10), (36, 26, 17), (22, 42, 27), (2, 30, 34),
             (-8, 4, 32)],
            [3.6, 5.4, 5.2, 6.0, 6.6, 3.0, 1.6],
        ),
        ([(26, 38, 25), (22, 52, 23), (22, 64, 20)], [5.0, 3.6, 1.4]),
    )  # fmt: skip
    for path, radii in horns:
        scaled = [radius * size for radius in radii]
        canvas.paint_tubes(ventricles, CSF - 2, mirrored(path, scaled))
    paint_blob(canvas, (16, 8, 0), (12, 15, 2.0 * size), [(ventricles, CSF, 0)])
    paint_blob(canvas, (-22, 26, 0), (9, 6, 6.5), [(ventricles, CSF, 0)])
    if head.calcified:
        calcified = HEAD_LABELS["calcification"]
        canvas.paint_tubes(calcified, 190, mirrored([(24, 38, 25), (20, 40, 27)], 2.6))
        paint_blob(canvas, (16, 27, 0), (2.6, 3.0, 2.6), [(calcified, 220, 0)])


def paint_eyes(canvas: Canvas, head: HeadPatient) -> None:
    """Fat, muscles, nerve, eyeball and lens in both orbits."""
    box: Box = ((-40.0, -100.0, -60.0), (20.0, -20.0, 60.0))
    muscle = HEAD_LABELS["muscle"]
    canvas.paint(head.orbit, box, [(HEAD_LABELS["fat"], -90, 0)])
    z, y, x = EYE
    back: Point = (z, -34.0, 19.0)
    for up, out in ((9, 0), (-9, 0), (0, 9), (0, -9)):
        start: Point = (z + up, y + 6, x + out)
        middle: Point = (z + up, -58.0, 27.0 + 0.9 * out)
        canvas.paint_tubes(muscle, 55, mirrored([start, middle, back], 2.0))
    nerve: list[Point] = [(z, y + 11, x), (z + 1, -52, 26), (z + 2, -28, 14), (z + 6, -14, 5)]
    canvas.paint_tubes(HEAD_LABELS["optic_nerve"], 38, mirrored(nerve, 2.4))
    ball = [(HEAD_LABELS["eyes"], 60.0, 0.0), (HEAD_LABELS["eyes"], 10.0, 1.3)]
    paint_blob(canvas, EYE, (12, 12, 12), ball, pair=True)
    paint_blob(canvas, (z, y - 8, x), (4.4, 2.3, 4.4), [(HEAD_LABELS["lens"], 85, 0)], pair=True)


def paint_airway(canvas: Canvas, head: HeadPatient) -> None:
    """Nose, mouth and throat: air, with the soft ridges in the nose and the tongue."""
    airway, muscle, low = HEAD_LABELS["airway"], HEAD_LABELS["muscle"], -head.jaw
    box: Box = ((-70.0, -115.0, -20.0), (-14.0, -20.0, 20.0))

    def nose(z: Array, y: Array, x: Array) -> Array:
        wide = 12 + 0.12 * (z + 44) - 0.08 * np.maximum(-y - 70, 0)
        slope = np.maximum(np.abs(x) - wide, z + 22 + 0.30 * (y + 60))
        inside = np.maximum(head.skin(z, y, x) + 5, y + 28)
        return np.asarray(np.maximum(np.maximum(slope, -58 - z), inside))

    canvas.paint(nose, box, [(muscle, 40, 0), (airway, -1000, 1.5)])
    for z, x in ((-50.0, 8.0), (-40.0, 7.0), (-31.0, 5.0)):
        canvas.paint_tubes(muscle, 40, mirrored([(z, -80, x), (z, -58, x + 1), (z, -38, x)], 3.2))
    canvas.paint(lambda z, y, x: np.maximum(nose(z, y, x), np.abs(x) - 0.9), box, [(muscle, 90, 0)])
    paint_blob(canvas, (-40, -107, 0), (8, 9, 7), [(muscle, 40, 0)])
    throat: list[Point] = [(-50, -30, 0), (-56, -14, 0), (-74, -7, 0), (-100, -5, 0), (-190, 0, 0)]
    for x in (-4.0, 0.0, 4.0):
        path = smooth(throat) + np.array([0, 0, x], np.float32)
        canvas.paint_tubes(airway, -1000, Tubes.along(path, _along([6, 6, 4.5, 5.5, 7], len(path))))
    paint_blob(canvas, (-80 + low, -52, 0), (15, 31, 20), [(muscle, 62, 0)])
    paint_blob(canvas, (-64 + low / 2, -54, 0), (1.4 + head.jaw / 3, 24, 15), [(airway, -1000, 0)])


def _along(values: Sequence[float], count: int) -> Array:
    """So many values at equal distances, as the given ones rise and fall."""
    places = np.linspace(0, 1, len(values))
    return np.interp(np.linspace(0, 1, count), places, values).astype(np.float32)

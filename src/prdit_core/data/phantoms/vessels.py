"""Everything that branches: the vessels of the lungs, the great vessels, the airways."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from prdit_core.data.phantoms.shapes import Array, Point, Tubes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prdit_core.data.phantoms.anatomy import Patient


def lung_points(
    patient: Patient, side: int, rng: np.random.Generator, count: int, margin: float
) -> Array:
    """Points (count, 3) inside one lung, at least `margin` mm from its surface."""
    span = np.array([135.0, patient.depth, patient.width])
    points_inside = np.zeros((0, 3), np.float32)
    while len(points_inside) < count:
        points = (rng.uniform(-1, 1, (8 * count + 64, 3)) * span).astype(np.float32)
        points[:, 2] = side * np.abs(points[:, 2])
        z, y, x = points.T
        inside = (patient.lung(z, y, x) < -margin) & (patient.mediastinum(z, y, x) > margin)
        points_inside = np.concatenate([points_inside, points[inside]])
    return points_inside[:count]


def grow_vessels(patient: Patient, side: int, rng: np.random.Generator) -> Tubes:
    """A tree from the root of the lung to points all over it (after Prim and Dijkstra).

    Radii follow Murray's law: the cube of a branch is the sum of its children's.
    """
    count = 330
    hilum = hilum_of(patient, side)
    goals = lung_points(patient, side, rng, count, margin=3)
    goals = goals[np.argsort(((goals - hilum) ** 2).sum(axis=1))]
    nodes = np.concatenate([np.array([hilum], np.float32), goals])
    parent, reach = np.zeros(count + 1, int), np.zeros(count + 1)
    for i in range(1, count + 1):
        away = np.linalg.norm(nodes[:i] - nodes[i], axis=1)
        parent[i] = np.argmin(away + 0.55 * reach[:i])
        reach[i] = reach[parent[i]] + away[parent[i]]
    flow = np.full(count + 1, 0.95**3)
    for i in range(count, 0, -1):
        flow[parent[i]] += flow[i]
    radius = np.minimum(np.cbrt(flow), 7.0).astype(np.float32)
    start, end = nodes[parent[1:]], nodes[1:]
    middle = (start + end) / 2 + rng.normal(0, 1.6, start.shape).astype(np.float32)
    thin = radius[1:]
    return Tubes.join([Tubes(start, middle, thin), Tubes(middle, end, thin * np.float32(0.9))])


def hilum_of(patient: Patient, side: int) -> Point:
    """Where vessels and airways enter a lung."""
    return (12.0 if side < 0 else 18.0) * patient.height, 14.0, side * 40.0


def smooth(path: Sequence[Point]) -> Array:
    """A rounded line through the points (Chaikin's corners, twice)."""
    points = np.array(path, np.float32)
    for _ in range(2):
        first, second = points[:-1], points[1:]
        cut = np.stack([0.75 * first + 0.25 * second, 0.25 * first + 0.75 * second], axis=1)
        points = np.concatenate([points[:1], cut.reshape(-1, 3), points[-1:]])
    return points.astype(np.float32)


def great_vessels(patient: Patient) -> tuple[Tubes, Tubes]:
    """The aorta; and pulmonary trunk, veins and branches of the arch."""
    d, h, inside = patient.depth, patient.height, patient.in_heart
    spine, arch = patient.spine_y, 58 * patient.height
    aorta = [
        inside(-18, 0, 16),
        (arch - 34, -0.22 * d, -17),
        (arch - 12, -0.18 * d, -14),
        (arch, -4, -3),
        (arch, 12, 12),
        (arch - 12, 24, 21),
        (arch - 34, spine - 24, 23),
        (0, spine - 22, 22),
        (-60, spine - 22, 17),
        (-200, spine - 30, 8),
    ]
    right, left = hilum_of(patient, -1), hilum_of(patient, 1)
    split, cava = (24 * h, 2.0, 8.0), (64 * h, -14.0, -26.0)
    paths: list[tuple[list[Point], float]] = [
        ([inside(2, -14, 34), (22 * h, -14, 18), split], 13.0),
        ([split, (16 * h, 10, -18), right, _beside(right, -22, 4, -10)], 9.0),
        ([split, (22 * h, 12, 26), left, _beside(left, -24, 8, 8)], 9.5),
        ([_beside(left, -20, 4, 4), inside(-40, 12, 8)], 7.0),
        ([_beside(right, -20, 4, -4), inside(-44, 6, 8)], 7.0),
        ([cava, (20 * h, -10, -29), inside(-40, -18, 10)], 9.5),
        ([cava, (82 * h, -8, -26), (170, 2, -34)], 7.5),
        ([cava, (76 * h, -22, 5), (88 * h, -14, 26), (170, 2, 34)], 7.0),
        ([(arch + 6, -6, -4), (arch + 40, 2, -16), (180, 6, -24)], 6.0),
        ([(arch + 6, 2, 6), (arch + 40, 10, 14), (180, 8, 22)], 4.5),
        ([(arch + 4, 14, 14), (arch + 34, 22, 26), (arch + 55, 20, 60)], 5.0),
        ([inside(-44, -18, -20), (patient.dome - 40, 18, -20), (-200, 24, -18)], 12.0),
    ]
    others = [Tubes.along(smooth(path), radius) for path, radius in paths]
    return Tubes.along(smooth(aorta), 13.0), Tubes.join(others)


def _beside(point: Point, up: float, back: float, left: float) -> Point:
    return point[0] + up, point[1] + back, point[2] + left


def airways(patient: Patient) -> Tubes:
    """Windpipe and the large bronchi, with their walls."""
    h = patient.height
    carina = (36 * h, 18.0, 1.0)
    paths: list[tuple[list[Point], list[float]]] = [
        ([(200, 8, 0), (90, 10, 0), carina], [8.8] * 3),
        (
            [carina, (20 * h, 20, -22), (6, 22, -42), (-30, 30, -56), (-52, 38, -64)],
            [8, 7, 5.5, 3.5, 1.5],
        ),
        ([(20 * h, 20, -22), (34 * h, 18, -46), (66 * h, 14, -62)], [5, 4, 1.4]),
        (
            [carina, (16 * h, 22, 24), (2, 26, 46), (-30, 34, 58), (-50, 42, 64)],
            [7.5, 6.5, 5, 3.2, 1.4],
        ),
        ([(6, 24, 38), (22 * h, 12, 54), (56 * h, 6, 62)], [5, 4, 1.4]),
    ]
    return Tubes.join([Tubes.along(path, np.array(radii)) for path, radii in paths])

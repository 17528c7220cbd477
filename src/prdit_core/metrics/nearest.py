"""Which training volume a volume is nearest to, and whether it is so near that it is a copy.

First by thumbnails, of which one for each volume is kept; then the few training volumes with the
nearest thumbnails are compared voxel by voxel. Both are also done moved by one voxel. The distance
is the root mean square difference in HU. What is usual is said by real volumes that were not
trained on: what is nearer to a training volume than `COPY` times their median distance is flagged.
Noised, lightly blurred and slightly moved copies are found; mirrored, turned and partial ones are
not.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Voxels = NDArray[np.float32]

COPY = 0.5
CANDIDATES = 8
MOVES = tuple(product((1, 0, 2), repeat=3))  # where slices begin; the first is no move
SMALLEST, LARGEST = 8, 16  # edges of thumbnails
_BLOCK = 4  # voxels along each edge that become one, so that a move by one voxel is little


@dataclass(frozen=True)
class Neighbour:
    """The nearest training volume of a volume.

    Attributes
    ----------
    number : of the training volume
    distance_hu : root mean square difference, the least over moves by one voxel
    """

    number: int
    distance_hu: float


@dataclass(frozen=True)
class Scale:
    """What distance to training volumes is usual: that of real volumes not trained on."""

    median: float

    @classmethod
    def of(cls, neighbours: Sequence[Neighbour]) -> Scale:
        """Scale of the nearest training volumes of some volumes."""
        return cls(float(np.median([neighbour.distance_hu for neighbour in neighbours])))

    def is_copy(self, neighbour: Neighbour) -> bool:
        """Whether a volume is so near to a training volume as no other patient is."""
        return neighbour.distance_hu < COPY * self.median


def thumbnail(voxels: NDArray[Any]) -> NDArray[np.float32]:
    """Means of blocks of a volume, flat: at most 16 along each edge, at least 8 if there are."""
    for axis, edge in enumerate(voxels.shape):
        count = min(edge, max(SMALLEST, min(LARGEST, edge // _BLOCK)))
        starts = np.arange(count) * edge // count
        sizes = np.diff([*starts, edge]).reshape([-1 if i == axis else 1 for i in range(3)])
        voxels = np.add.reduceat(voxels.astype(np.float32), starts, axis) / sizes
    return voxels.astype(np.float32).ravel()


def nearest(
    voxels: Voxels,
    thumbnails: NDArray[np.float32],
    read: Callable[[int], Voxels],
    itself: int | None = None,
) -> Neighbour:
    """The training volume that is nearest to a volume.

    Parameters
    ----------
    voxels : (D, H, W) HU
    thumbnails : (N, K) of the training volumes
    read : HU (D, H, W) of a training volume by its number
    itself : number of a training volume that does not count
    """
    away = _away(voxels, thumbnails)
    if itself is not None:
        away[itself] = np.inf
    candidates = np.argsort(away, kind="stable")[:CANDIDATES]
    neighbours = [Neighbour(int(n), moved_distance(voxels, read(int(n)))) for n in candidates]
    return min(neighbours, key=lambda neighbour: neighbour.distance_hu)


def _away(voxels: Voxels, thumbnails: NDArray[np.float32]) -> NDArray[np.float32]:
    """Squared distances to thumbnails (N,), the least over moves of the volume by one voxel.

    Without the moves a copy moved along several axes is behind dozens of other patients.
    """
    padded = np.pad(voxels, 1, mode="edge")
    moved = np.stack([thumbnail(_moved(padded, move)) for move in MOVES])
    across = np.square(moved).sum(1)[:, None] - 2 * (moved @ thumbnails.T)
    away: NDArray[np.float32] = np.square(thumbnails).sum(1) + across.min(0)
    return away


def moved_distance(a: Voxels, b: Voxels) -> float:
    """Root mean square difference, the least of `b` where it is and moved by one voxel.

    The outermost voxels of `a`, which not all moves cover, are left out. Every eighth voxel says
    which move is best.
    """
    inner = a[1:-1, 1:-1, 1:-1]
    some = inner[::2, ::2, ::2]

    def roughly(move: tuple[int, ...]) -> float:
        return _mean_square(some - _moved(b, move)[::2, ::2, ::2])

    best = min(MOVES, key=roughly)
    return float(np.sqrt(_mean_square(inner - _moved(b, best))))


def _moved(x: Voxels, move: tuple[int, ...]) -> Voxels:
    """All but two slices along each axis, from `move` on."""
    return x[tuple(slice(i, i + n - 2) for i, n in zip(move, x.shape, strict=True))]


def _mean_square(x: Voxels) -> float:
    return float(np.square(x).mean(dtype=np.float64))

"""Phantoms as sets of volumes, made once for all tests, and an encoder that needs no weights."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from prdit_core.data.io import write_volume
from prdit_core.data.phantoms import make_phantom
from prdit_core.volume import Volume, axial_affine

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

EDGE = 16
WINDOW = (-1000, 400)
TRAINING, HELD_OUT, OTHERS = 1, 2, 3  # seeds


@cache
def chest(seed: int, index: int, edge: int = EDGE) -> NDArray[np.float32]:
    """HU of a phantom within the window."""
    voxels = make_phantom(seed, index, spacing_mm=320 / edge).volume.voxels_hu
    return np.clip(voxels, *WINDOW).astype(np.float32)


def chests(seed: int, count: int) -> list[NDArray[np.float32]]:
    return [chest(seed, index) for index in range(count)]


def blurred(voxels: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.mean([np.roll(voxels, i, axis) for axis in range(3) for i in (-1, 0, 1)], axis=0)


def volume(voxels: NDArray[np.float32], spacing_mm: float = 320 / EDGE) -> Volume:
    depth, height, width = voxels.shape
    return Volume(voxels, axial_affine((spacing_mm,) * 3, (depth, height, width)))


def save(voxels: Iterable[NDArray[np.float32]], folder: Path) -> Path:
    """Write volumes as numbered files."""
    for number, one in enumerate(voxels):
        write_volume(volume(one), folder / f"{number:03}.nii")
    return folder


@dataclass(frozen=True)
class Standin:
    """Features anybody could name: mean, spread, and how rough along two axes."""

    name: str = "stand-in"
    digest: str = "0" * 64
    comparable: str = "With nothing."
    feature_count: int = 4
    preparation: str = "As they are."

    def features(self, volumes: Iterable[Volume]) -> Iterator[NDArray[np.float64]]:
        for one in volumes:
            seen = one.voxels_hu.astype(np.float64) / 100
            rough = [np.abs(np.diff(seen, axis=axis)).mean() for axis in (0, 2)]
            yield np.array([seen.mean(), seen.std(), *rough])

"""What PSNR does not see of a reconstruction: nodules invented and lost, edges, noise, spread."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage, stats

from prdit_core.data.phantoms import LABELS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Mask = NDArray[np.bool_]

# HU above the lung that make a voxel solid, and voxels of 5 mm that make a nodule.
SOLID_HU, FEWEST = 200.0, 4
NOMINAL = 0.9


def share_of(labels: NDArray[np.uint8], *names: str) -> Array:
    """Share of every voxel of a twice coarser grid that shows one of the organs."""
    mask = np.isin(labels, [LABELS[name] for name in names])
    edges = [part for edge in labels.shape for part in (edge // 2, 2)]
    return mask.reshape(edges).mean(axis=(1, 3, 5))


def nodules(truth: Array, found: Array, labels: NDArray[np.uint8]) -> tuple[int, int, int]:
    """How many there are, how many of them are lost, and how many were invented.

    One is lost if less than half of its mean contrast to the lung is left. One is invented where
    `FEWEST` voxels or more that touch are solid where the truth shows lung alone, nothing solid.
    """
    lung = share_of(labels, "lung_right", "lung_left")
    air = float(np.median(truth[lung == 1]))
    spots, count = ndimage.label(share_of(labels, "nodule") > 0.25)
    lost = 0
    for number in range(1, count + 1):
        there = spots == number
        lost += int((found[there].mean() - air) < 0.5 * (truth[there].mean() - air))
    inside = ndimage.binary_erosion(lung > 0.9, iterations=1) & (truth < air + SOLID_HU / 2)
    solid, number = ndimage.label(inside & (found > air + SOLID_HU))
    sizes = ndimage.sum_labels(np.ones_like(solid), solid, range(1, number + 1))
    return count, lost, int(np.sum(np.asarray(sizes) >= FEWEST))


def sharpness(truth: Array, found: Array) -> float:
    """Share of the gradient that is left at the strongest twentieth of the edges; 1 is right."""
    true, seen = (np.stack(np.gradient(np.clip(x, -1000, 400))) for x in (truth, found))
    length = (true**2).sum(0)
    strong = length > np.quantile(length, 0.95)
    return float((true * seen).sum(0)[strong].sum() / length[strong].sum())


def noise(truth: Array, found: Array, labels: NDArray[np.uint8]) -> float:
    """Standard deviation in HU inside of the liver of what is finer than two voxels."""
    liver = ndimage.binary_erosion(share_of(labels, "liver") == 1, iterations=2)
    error = found - truth
    fine = error - ndimage.gaussian_filter(error, 2.0)
    return float(fine[liver].std()) if liver.any() else float("nan")


def coverage(truth: Array, samples: Array) -> float:
    """Share of voxels of the body whose truth lies in the 90 % interval that N samples say.

    The truth is like one more sample of the right posterior, so (truth - mean) / (s sqrt(1 + 1/N))
    has a t distribution of N - 1 degrees where voxels are normal.
    """
    count = len(samples)
    mean, spread = samples.mean(0), samples.std(0, ddof=1)
    reach = stats.t.ppf((1 + NOMINAL) / 2, count - 1) * spread * np.sqrt(1 + 1 / count)
    body = ndimage.binary_fill_holes(truth > -500)
    return float((np.abs(truth - mean) <= reach)[body].mean())

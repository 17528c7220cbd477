"""Structural similarity of two volumes, at one scale and at several (SSIM and MS-SSIM).

Gaussian windows of 7 voxels (sigma 1.5) that lie whole within the volume, K1 = 0.01, K2 = 0.03.
MS-SSIM (Wang et al. 2003) halves the volumes four times with the usual exponents. A volume too
small for that takes the first scales only, with their exponents divided by their sum.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Voxels = NDArray[np.float32]

KERNEL, SIGMA = 7, 1.5
K1, K2 = 0.01, 0.03
EXPONENTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def scales_of(shape: Sequence[int]) -> int:
    """As many scales as keep the window within the volume, at most five; 0 if none does."""
    scales = 0
    while scales < len(EXPONENTS) and min(shape) // 2**scales >= KERNEL:
        scales += 1
    return scales


def ssim(a: NDArray[Any], b: NDArray[Any], peak: float) -> float:
    """Mean structural similarity of two volumes (D, H, W) of values 0 to `peak`; 1 is equal."""
    return _similarity(a.astype(np.float32), b.astype(np.float32), peak)[0]


def ms_ssim(a: NDArray[Any], b: NDArray[Any], peak: float) -> float:
    """Multi-scale similarity of two volumes (D, H, W) of values from 0 to `peak`; 1 is equal.

    Edges of at least 112 voxels have five scales, 64 four, 32 three, 16 two, 7 one.
    """
    scales = scales_of(a.shape)
    exponents = np.array(EXPONENTS[:scales]) / sum(EXPONENTS[:scales])
    a, b = a.astype(np.float32), b.astype(np.float32)
    factors = []
    for scale in range(scales):
        if scale:
            a, b = _halved(a), _halved(b)
        whole, structure = _similarity(a, b, peak)
        factors.append(whole if scale == scales - 1 else structure)
    return float(np.prod(np.maximum(factors, 0.0) ** exponents))


def _similarity(a: Voxels, b: Voxels, peak: float) -> tuple[float, float]:
    """Mean over all windows of SSIM, and of its part without luminance."""
    c1, c2 = (K1 * peak) ** 2, (K2 * peak) ** 2
    mean_a, mean_b = _smoothed(a), _smoothed(b)
    squares, product = mean_a**2 + mean_b**2, mean_a * mean_b
    variances = _smoothed(a**2 + b**2) - squares
    covariance = _smoothed(a * b) - product
    structure = (2 * covariance + c2) / (variances + c2)
    luminance = (2 * product + c1) / (squares + c1)
    return float((luminance * structure).mean(dtype=np.float64)), float(
        structure.mean(dtype=np.float64)
    )


def _smoothed(x: Voxels) -> Voxels:
    """Weighted means in all windows, (D - 6, H - 6, W - 6)."""
    for _ in range(3):  # each takes the first axis and puts it last
        x = np.asarray(np.tensordot(x, _windows(x.shape[0]), axes=(0, 0)))
    return x


@cache
def _windows(edge: int) -> Voxels:
    """Weights of the windows along an axis, (edge, edge - 6): each column is one window."""
    distance = np.arange(edge)[:, None] - np.arange(edge - KERNEL + 1) - (KERNEL - 1) / 2
    weights = np.exp(-0.5 * (distance / SIGMA) ** 2) * (np.abs(distance) < KERNEL / 2)
    return np.asarray(weights / weights.sum(0), dtype=np.float32)


def _halved(x: Voxels) -> Voxels:
    """Means of blocks of 2^3 voxels; a last odd slice is left out."""
    depth, height, width = (edge // 2 for edge in x.shape)
    blocks = x[: 2 * depth, : 2 * height, : 2 * width]
    return np.asarray(blocks.reshape(depth, 2, height, 2, width, 2).mean((1, 3, 5)))

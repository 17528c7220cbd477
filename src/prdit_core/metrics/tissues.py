"""What volumes are made of: shares of tissues, and the histogram of Hounsfield units."""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Bands = Mapping[str, tuple[float, float]]

# HU from the first up to, but without, the second. What lies between, such as blood with contrast
# medium and soft bone, is "other".
TISSUES: Bands = MappingProxyType(
    {
        "air": (-math.inf, -900.0),
        "lung": (-900.0, -500.0),
        "fat": (-150.0, -50.0),
        "soft tissue": (-50.0, 100.0),
        "bone": (300.0, math.inf),
    }
)
OTHER = "other"
BINS = 56


def tissue_masks(voxels_hu: NDArray[Any]) -> dict[str, NDArray[np.bool_]]:
    """Which voxels (D, H, W) have the HU of each tissue."""
    return {name: (voxels_hu >= low) & (voxels_hu < high) for name, (low, high) in TISSUES.items()}


def tissue_shares(voxels_hu: NDArray[Any]) -> dict[str, float]:
    """Share of the voxels of each tissue, and of all others; they sum to 1."""
    shares = {name: float(mask.mean()) for name, mask in tissue_masks(voxels_hu).items()}
    return shares | {OTHER: max(0.0, 1.0 - sum(shares.values()))}


def histogram_edges(window_hu: tuple[float, float]) -> NDArray[np.float64]:
    """Limits of the bins of `histogram`, (BINS + 1,)."""
    return np.linspace(*window_hu, BINS + 1)


def histogram(voxels_hu: NDArray[Any], window_hu: tuple[float, float]) -> NDArray[np.float64]:
    """Share of the voxels in each bin of the window, (BINS,); others go to its ends."""
    counts = np.histogram(np.clip(voxels_hu, *window_hu), histogram_edges(window_hu))[0]
    shares: NDArray[np.float64] = counts / voxels_hu.size
    return shares

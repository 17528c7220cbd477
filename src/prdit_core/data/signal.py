"""MR signal: its units differ from scan to scan, so a scan's own percentiles are its window."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from prdit_core.errors import InputRejected
from prdit_core.volume import Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

PERCENTILES = (0.5, 99.5)
SIGNAL_WINDOW = (0, 1000)  # what they become


def windowed(volume: Volume) -> tuple[Volume, dict[str, Any]]:
    """The scan with `PERCENTILES` of its voxels at the ends of `SIGNAL_WINDOW`, and what they were.

    What lies outside is clipped.

    Returns
    -------
    volume : float32
    record : JSON: the signal at the ends, and which percentiles they are

    Raises
    ------
    InputRejected
        If the scan has no contrast.
    """
    low, high = (float(value) for value in np.percentile(volume.voxels_hu, PERCENTILES))
    if not low < high:
        raise InputRejected(
            f"{PERCENTILES[1] - PERCENTILES[0]:g} % of the voxels have the signal {low:g}; give a "
            "scan with contrast"
        )
    bottom, top = SIGNAL_WINDOW
    share = (np.clip(volume.voxels_hu, low, high) - np.float32(low)) / np.float32(high - low)
    voxels: NDArray[np.float32] = (bottom + (top - bottom) * share).astype(np.float32)
    record = {"signal_window": [low, high], "signal_percentiles": list(PERCENTILES)}
    return Volume(voxels, volume.affine, volume.metadata), record

"""Mean and spread over a series of volumes, none of which is kept for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from prdit_core.provenance import SYNTHETIC

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from prdit_core.volume import Volume


@dataclass(frozen=True)
class Summary:
    """Mean and spread (standard deviation) over all volumes of a series, HU."""

    mean: Volume
    spread: Volume
    count: int


class Sums:
    """Mean and variance of volumes as they come (Welford)."""

    def __init__(self) -> None:
        self.count = 0
        self._mean: Any = 0.0
        self._squares: Any = 0.0

    def add(self, voxels: NDArray[np.float32]) -> None:
        """One volume more, (D, H, W) in HU."""
        self.count += 1
        away = voxels.astype(np.float64) - self._mean
        self._mean = self._mean + away / self.count
        self._squares = self._squares + away * (voxels - self._mean)

    def summary(self, example: Volume) -> Summary:
        """Both so far; `example` is a volume of the series, for settings and place."""
        spread = np.sqrt(self._squares / max(self.count - 1, 1)).astype(np.float32)
        return Summary(
            mean=self._summed(self._mean.astype(np.float32), example, "mean"),
            spread=self._summed(spread, example, "spread"),
            count=self.count,
        )

    def _summed(self, voxels: NDArray[np.float32], example: Volume, kind: str) -> Volume:
        """With the settings of a series, but the index of none of its volumes."""
        metadata = {key: value for key, value in example.metadata.items() if key != "index"}
        made = f"PRDiT {metadata['checkpoint_sha256'][:8]} seed {metadata['seed']}"
        metadata |= {
            "kind": kind,
            "volumes": self.count,
            "description": f"{SYNTHETIC}; {kind} of {self.count} volumes; {made}",
        }
        return replace(example, voxels_hu=voxels, metadata=metadata)

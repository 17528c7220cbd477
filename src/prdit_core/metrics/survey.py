"""What can be said of a set after each volume was seen once: tissues, histogram, spectrum."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from prdit_core.metrics.nearest import thumbnail
from prdit_core.metrics.spectrum import octaves
from prdit_core.metrics.tissues import histogram, tissue_shares

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from prdit_core.volume import Volume


class Survey:
    """A few hundred numbers for each volume of a set; the volumes themselves are not kept.

    Attributes
    ----------
    bands : octaves of detail on the grid of the set
    tissues : shares of tissues of each volume
    spectra : energy of the gradient in each band, of each volume
    digests : hash of the voxels of each volume, which finds equal ones
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        spacing_mm: tuple[float, float, float],
        window_hu: tuple[float, float],
    ) -> None:
        self.bands = octaves(shape, spacing_mm)
        self.tissues: list[dict[str, float]] = []
        self.spectra: list[NDArray[np.float64]] = []
        self.digests: list[bytes] = []
        self._thumbnails: list[NDArray[np.float32]] = []
        self._histograms: NDArray[np.float64] | float = 0.0
        self._window_hu = window_hu

    def add(self, volume: Volume) -> None:
        """Look at a volume whose HU were clipped to the window."""
        voxels = volume.voxels_hu
        self.tissues.append(tissue_shares(voxels))
        self.spectra.append(self.bands.gradient_energies(voxels, volume.spacing_mm))
        self.digests.append(hashlib.blake2b(voxels.tobytes(), digest_size=16).digest())
        self._thumbnails.append(thumbnail(voxels))
        self._histograms = self._histograms + histogram(voxels, self._window_hu)

    @property
    def thumbnails(self) -> NDArray[np.float32]:
        """Of all volumes, (N, K)."""
        return np.stack(self._thumbnails)

    @property
    def mean_histogram(self) -> NDArray[np.float64]:
        """Share of the voxels in each bin of HU, mean over volumes."""
        mean: NDArray[np.float64] = np.asarray(self._histograms) / len(self.tissues)
        return mean

"""Energy of a volume by size of detail: coarse anatomy apart from fine texture."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# A size at the limit of two bands belongs to the coarser one, however it was rounded.
_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Bands:
    """Octaves of radial frequency on a grid, named by the size of their details.

    A detail is half a period: the width of a bright stripe between two dark ones. The smallest
    that a grid shows is one voxel.

    Attributes
    ----------
    limits_mm : (n + 1,) falling sizes from infinity to 0, so that the coarsest band is the first;
        band i holds sizes from `limits_mm[i + 1]` up to, but without, `limits_mm[i]`. The mean
        belongs to band 0; the finest band also holds the diagonals beyond single voxels.
    """

    limits_mm: tuple[float, ...]
    _index: NDArray[np.intp]  # (D, H, W // 2 + 1) band of each coefficient of rfftn
    _shape: tuple[int, int, int]

    @property
    def count(self) -> int:
        """Number of bands."""
        return len(self.limits_mm) - 1

    def energies(self, voxels: NDArray[Any]) -> NDArray[np.float64]:
        """Mean square of a volume in each band, (n,); they sum to its whole mean square.

        The transform takes the volume as periodic: where opposite faces differ, that step counts
        as detail of all sizes.

        Parameters
        ----------
        voxels : (D, H, W) of the grid that the bands were made for
        """
        assert voxels.shape == self._shape, f"{voxels.shape} is not the grid {self._shape}"
        power = np.abs(np.fft.rfftn(voxels)).astype(np.float64) ** 2
        power[..., 1 : (self._shape[2] + 1) // 2] *= 2  # their mirror images are not computed
        summed = np.bincount(self._index.ravel(), power.ravel(), minlength=self.count)
        return summed / float(voxels.size) ** 2

    def gradient_energies(
        self, voxels: NDArray[Any], spacing_mm: tuple[float, float, float]
    ) -> NDArray[np.float64]:
        """Mean square of a volume's gradient in each band, (n,), per mm²: how sharp it is there.

        The gradient is that of neighbouring voxels, the last and the first being neighbours too.

        Parameters
        ----------
        voxels : (D, H, W) of the grid that the bands were made for
        spacing_mm : (z, y, x)
        """
        steps = ((np.roll(voxels, -1, axis) - voxels) / spacing_mm[axis] for axis in range(3))
        return np.asarray(sum(self.energies(step) for step in steps))


def octaves(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> Bands:
    """Bands that double in size from one voxel to about a quarter of the volume.

    Parameters
    ----------
    shape, spacing_mm
        (z, y, x) number of voxels and their distance in mm.
    """
    finest, extent = min(spacing_mm), max(n * mm for n, mm in zip(shape, spacing_mm, strict=True))
    count = max(1, math.floor(math.log2(extent / finest) + _ROUNDING) - 1)
    rising = finest * 2.0 ** np.arange(1, count)
    index = (
        count - 1 - np.searchsorted(rising * (1 - _ROUNDING), _sizes(shape, spacing_mm), "right")
    )
    return Bands((math.inf, *map(float, rising[::-1]), 0.0), index, shape)


def _sizes(
    shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]
) -> NDArray[np.float64]:
    """Size of the details of each coefficient of rfftn: half its period in mm."""
    (depth, height, width), (sz, sy, sx) = shape, spacing_mm
    z, y, x = np.fft.fftfreq(depth, sz), np.fft.fftfreq(height, sy), np.fft.rfftfreq(width, sx)
    radial = np.sqrt(z[:, None, None] ** 2 + y[:, None] ** 2 + x**2)
    with np.errstate(divide="ignore"):
        sizes: NDArray[np.float64] = 0.5 / radial
    return sizes

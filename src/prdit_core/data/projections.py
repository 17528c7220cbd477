"""Projections as a detector counted them, with what it counts without object and without beam."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from prdit_core.data.grid import rejected

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Projections:
    """A scan, raw.

    Attributes
    ----------
    name : of the file, for messages
    counts : (V, rows, bins)
    flats, darks : (n, rows, bins) without object, and without beam
    angles_deg : (V,)
    """

    name: str
    counts: NDArray[Any]
    flats: NDArray[Any]
    darks: NDArray[Any]
    angles_deg: NDArray[np.float64]

    def __post_init__(self) -> None:
        seen = self.counts.shape[1:]
        for what, shape in (("flats", self.flats.shape), ("darks", self.darks.shape)):
            if shape[1:] != seen or not shape[0]:
                why = f"its {what} are {shape}, its projections {self.counts.shape}"
                raise rejected(self.name, why, "give flats and darks of the same detector")

    def thinned(self, every: int) -> Projections:
        """Each so-many-th view, from the first."""
        angles = self.angles_deg[::every]
        return replace(self, counts=self.counts[::every], angles_deg=angles)

    def binned(self, wide: int, high: int = 1) -> Projections:
        """Mean counts of so many bins and rows; what is left over at the end is dropped."""
        _, rows, bins = self.counts.shape

        def mean(counts: NDArray[Any]) -> NDArray[Any]:
            cut = counts[:, : rows // high * high, : bins // wide * wide]
            groups = cut.reshape(len(counts), rows // high, high, bins // wide, wide)
            result: NDArray[Any] = groups.mean((2, 4), dtype=np.float64)
            return result

        counts, flats, darks = (mean(part) for part in (self.counts, self.flats, self.darks))
        return replace(self, counts=counts, flats=flats, darks=darks)

    def line_integrals(self) -> NDArray[np.float32]:
        """-log((counts - dark) / (flat - dark)), (V, rows, bins), in lengths of no unit.

        Raises
        ------
        InputRejected
            If a count is NaN, or not above the dark, or if a flat is not.
        """
        dark = self.darks.mean(0, dtype=np.float64)
        beam = self._above(self.flats.mean(0, dtype=np.float64) - dark, "flat field")
        passed = self._above(self.counts - dark, "projections")
        return (-np.log(passed / beam)).astype(np.float32)

    def _above(self, counts: NDArray[np.float64], what: str) -> NDArray[np.float64]:
        unknown = int(np.count_nonzero(~np.isfinite(counts)))
        if unknown:
            why = f"{unknown} pixels of its {what} are NaN or infinite"
            raise rejected(self.name, why, "repair them")
        low = int(np.count_nonzero(counts <= 0))
        if low:
            why = f"{low} pixels of its {what} are no brighter than without beam"
            raise rejected(self.name, why, "check flats and darks, or fill dead pixels")
        return counts

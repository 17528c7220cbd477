"""Whether voxels can be the Hounsfield units of a body.

The body, which is all that is denser than lung, is what tells: most of it lies within 200 HU of
water, whatever fills the background. In six scans of shared/data 82 to 94 % of the body does, and
in its two MR images, whatever they are multiplied by, at most 53 % lies around an offset.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from prdit_core.data.grid import rejected

if TYPE_CHECKING:
    from prdit_core.errors import InputRejected

Counts = NDArray[np.int64]

LOWEST_HU = -1024
HIGHEST_HU = 4096
INT16_MIN, INT16_MAX = -32768, 32767
BODY_HU, DEEP_AIR_HU, TISSUE_HU = -500, -800, 200

# Body CT has at least this share of voxels below -500 HU, and of soft tissue and blood.
MIN_AIR, MIN_TISSUE, MAX_ABOVE_HIGHEST = 0.001, 0.01, 0.01
# Of the body; and of all above -500, what an offset has lifted there, which cannot be bone.
MIN_TISSUE_OF_BODY, MIN_LIFTED_TISSUE = 0.65, 0.03
# Fat and noise lie below water. MR images have nothing there.
MIN_BELOW_WATER = 0.01
OFFSETS = (1000, 1024)


@dataclass(frozen=True, eq=False)
class Levels:
    """How many voxels there are of each whole HU, of those that reach `LOWEST_HU`.

    What lies below is padding, and counts neither as air nor as tissue.
    """

    counts: Counts

    @classmethod
    def of(cls, voxels: NDArray[Any]) -> Levels:
        """Count finite voxels of any shape and type; fractions are cut off downwards."""
        counts = np.zeros(INT16_MAX - INT16_MIN + 1, np.int64)
        for part in voxels:
            whole = np.clip(np.floor(part), INT16_MIN, INT16_MAX).astype(np.int32)
            counts += np.bincount((whole - INT16_MIN).ravel(), minlength=counts.size)
        return cls(counts[LOWEST_HU - INT16_MIN :])

    def number(self, low: int, high: int = INT16_MAX) -> int:
        """Voxels from `low` to `high` HU, both included."""
        first = max(0, low - LOWEST_HU)
        return int(self.counts[first : max(first, high - LOWEST_HU + 1)].sum())

    def share(self, low: int, high: int = INT16_MAX) -> float:
        """As `number`, of all."""
        return self.number(low, high) / max(1, self.number(LOWEST_HU))

    @property
    def present(self) -> Counts:
        """The whole HU that occur, rising."""
        return np.flatnonzero(self.counts) + LOWEST_HU


def check_hu(levels: Levels, name: str, hu_offset: float) -> None:
    """Refuse levels that cannot be the Hounsfield units of a body.

    Parameters
    ----------
    levels
        After `hu_offset` was added.
    name
        What to call the input in the message.
    hu_offset
        As the user stated it, so that the advice is right.

    Raises
    ------
    InputRejected
        Values far above bone; a body that lies 1000 or 1024 too high; no air but a background
        of one value, as in MR images and label maps; no soft tissue.
    """
    if not levels.present.size:
        raise rejected(name, f"no voxel reaches {LOWEST_HU} HU", "check the rescale values")
    above = levels.share(HIGHEST_HU + 1)
    if above > MAX_ABOVE_HIGHEST:
        why = f"{above:.0%} of the voxels lie above {HIGHEST_HU} HU, which no body does"
        raise rejected(name, why, "check PixelRepresentation, BitsStored and the rescale values")
    if _is_lifted(levels):
        offset = _likely_offset(levels)
        why = f"air lies at about 0, not at -1000 HU, as if {offset} had been added"
        raise rejected(name, why, f"state --hu-offset {hu_offset - offset:g}")
    if levels.share(LOWEST_HU, BODY_HU - 1) < MIN_AIR:
        raise _no_air(levels, name)
    if levels.share(-TISSUE_HU, TISSUE_HU) < MIN_TISSUE:
        why = "not CT in HU: hardly a voxel lies between -200 and 200, where soft tissue is"
        raise rejected(name, why, "check the rescale values")
    below_water = levels.number(-TISSUE_HU, -1) / levels.number(-TISSUE_HU, TISSUE_HU)
    if _air_is_background(levels) and below_water < MIN_BELOW_WATER:
        why = "probably no CT: all its air is a background of one value, and nothing is fat"
        raise rejected(name, why, "give a CT scan in Hounsfield units")


def check_stated_units(levels: Levels, name: str) -> None:
    """Refuse levels that the user's offset or rescale did not make those of a CT.

    Raises
    ------
    InputRejected
        If air does not lie deep, or most of the body is no soft tissue.
    """
    tissue = _tissue_of_body(levels, 0)
    if tissue < MIN_TISSUE_OF_BODY or levels.share(LOWEST_HU, DEEP_AIR_HU - 1) < MIN_AIR:
        why = (
            "probably no CT: with the offset or rescale stated "
            f"{tissue:.0%} of the body is soft tissue, and air should lie at -1000 HU"
        )
        remedy = "give a CT scan, or correct --hu-offset or --assume-rescale"
        raise rejected(name, why, remedy)


def _tissue_of_body(levels: Levels, shift: int) -> float:
    """Share of soft tissue in the body, in a scan to which `shift` was added.

    The most frequent denser value is left out, since it may be a background.
    """
    fill = int(levels.counts[shift + TISSUE_HU + 1 - LOWEST_HU :].max())
    body = levels.number(BODY_HU + shift) - fill
    return levels.number(shift - TISSUE_HU, shift + TISSUE_HU) / max(1, body)


def _is_lifted(levels: Levels) -> bool:
    """Whether the body lies where an offset would put it. Padding and blur below do not matter."""
    shift = sum(OFFSETS) // len(OFFSETS)
    tissue = levels.number(shift - TISSUE_HU, shift + TISSUE_HU)
    enough = tissue >= MIN_LIFTED_TISSUE * levels.number(BODY_HU)
    return enough and _tissue_of_body(levels, shift) >= MIN_TISSUE_OF_BODY


def _likely_offset(levels: Levels) -> int:
    """The offset that puts the peak of outside air closest to -1000 HU."""
    air = levels.counts[-100 - LOWEST_HU : 125 - LOWEST_HU].copy()
    air[np.argmax(air)] = 0  # which may be a background
    peak = int(np.argmax(np.convolve(air, np.ones(9), "same"))) - 100
    return min(OFFSETS, key=lambda offset: abs(peak - offset + 1000))


def _air_is_background(levels: Levels) -> bool:
    """Whether air is one value, apart from what blurs its rim: from the fill to tissue, evenly."""
    air = levels.counts[: BODY_HU - LOWEST_HU]
    varied = int(air.sum() - air.max())
    rim = levels.number(BODY_HU, -TISSUE_HU)
    return varied < max(MIN_AIR * levels.number(LOWEST_HU), 2 * rim)


def _no_air(levels: Levels, name: str) -> InputRejected:
    low, high = int(levels.present[0]), int(levels.present[-1])
    if low >= 0 and high < 256 and levels.present.size < 150:
        return rejected(name, "not CT: it looks like a label map", "give the scan itself")
    why = f"not CT in HU: its values run from {low} to {high} and no air lies below {BODY_HU}"
    return rejected(name, why, "give a CT scan in Hounsfield units")

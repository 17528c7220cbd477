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
LUNG_HU = (-960, -400)  # gas in stomach and bowel lies below

# Body CT has at least this share of voxels below -500 HU, and of soft tissue and blood.
MIN_AIR, MIN_TISSUE, MAX_ABOVE_HIGHEST = 0.001, 0.01, 0.01
# Of the body; and of all above -500, what an offset has lifted there, which cannot be bone.
MIN_TISSUE_OF_BODY, MIN_LIFTED_TISSUE, MIN_LOWERED_AIR = 0.65, 0.03, 0.05
# Fat and noise lie below water. MR images have nothing there.
MIN_BELOW_WATER = 0.01
OFFSETS = (1000, 1024)
_CLEAR_HU = 6
NO_CT = "give a CT scan in Hounsfield units, or state --modality mr if it is of MR"


@dataclass(frozen=True, eq=False)
class Levels:
    """How many voxels there are of each whole HU, from `INT16_MIN` on.

    What lies below `LOWEST_HU` is padding, and counts neither as air nor as tissue.
    """

    counts: Counts

    @classmethod
    def of(cls, voxels: NDArray[Any]) -> Levels:
        """Count finite voxels of any shape and type; fractions are cut off downwards."""
        counts = np.zeros(INT16_MAX - INT16_MIN + 1, np.int64)
        for part in voxels:
            whole = np.clip(np.floor(part), INT16_MIN, INT16_MAX).astype(np.int32)
            counts += np.bincount((whole - INT16_MIN).ravel(), minlength=counts.size)
        return cls(counts)

    def between(self, low: int, high: int = INT16_MAX) -> Counts:
        """The counts from `low` to `high` HU, both included."""
        return self.counts[low - INT16_MIN : high - INT16_MIN + 1]

    def number(self, low: int, high: int = INT16_MAX) -> int:
        """Voxels from `low` to `high` HU, both included."""
        return int(self.between(low, high).sum())

    def share(self, low: int, high: int = INT16_MAX) -> float:
        """As `number`, of all that reach `LOWEST_HU`."""
        return self.number(low, high) / max(1, self.number(LOWEST_HU))

    def varied(self, low: int, high: int) -> int:
        """As `number`, without the most frequent value, which may be a background."""
        counts = self.between(low, high)
        return int(counts.sum() - counts.max())

    @property
    def present(self) -> Counts:
        """The whole HU from `LOWEST_HU` on that occur, rising."""
        return np.flatnonzero(self.between(LOWEST_HU)) + LOWEST_HU


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
        Values far above bone; a body that lies 1000 or 1024 too high or too low; no air but a
        background of one value, as in MR images and label maps; no soft tissue.
    """
    if not levels.present.size:
        raise rejected(name, f"no voxel reaches {LOWEST_HU} HU", "check the rescale values")
    above = levels.share(HIGHEST_HU + 1)
    if above > MAX_ABOVE_HIGHEST:
        why = f"{above:.0%} of the voxels lie above {HIGHEST_HU} HU, which no body does"
        raise rejected(name, why, "check PixelRepresentation, BitsStored and the rescale values")
    if shifts := _seeming_shifts(levels):
        air, done = (0, "added") if shifts[0] > 0 else (-2000, "taken off once too often")
        amounts = " or ".join(str(abs(shift)) for shift in shifts)
        why = f"air lies at about {air}, not at -1000 HU, as if {amounts} had been {done}"
        raise rejected(name, why, f"state --hu-offset {hu_offset - shifts[0]:g}")
    if levels.share(LOWEST_HU, BODY_HU - 1) < MIN_AIR:
        raise _no_air(levels, name)
    if levels.share(-TISSUE_HU, TISSUE_HU) < MIN_TISSUE:
        why = "not CT in HU: hardly a voxel lies between -200 and 200, where soft tissue is"
        raise rejected(name, why, "check the rescale values")
    below_water = levels.number(-TISSUE_HU, -1) / levels.number(-TISSUE_HU, TISSUE_HU)
    if _air_is_background(levels) and below_water < MIN_BELOW_WATER:
        why = "probably no CT: all its air is a background of one value, and nothing is fat"
        raise rejected(name, why, NO_CT)


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
    fill = int(levels.between(shift + TISSUE_HU + 1).max())
    body = levels.number(BODY_HU + shift) - fill
    return levels.number(shift - TISSUE_HU, shift + TISSUE_HU) / max(1, body)


def _seeming_shifts(levels: Levels) -> list[int]:
    """What seems to have been added, the likelier first: 1000 or 1024, or below 0; or nothing."""
    usual = sum(OFFSETS) // len(OFFSETS)
    tissue = levels.number(usual - TISSUE_HU, usual + TISSUE_HU)
    lifted = tissue >= MIN_LIFTED_TISSUE * levels.number(BODY_HU)
    if lifted and _tissue_of_body(levels, usual) >= MIN_TISSUE_OF_BODY:
        return _by_air(levels, 1)
    # Air then lies where only padding does; if that is blurred, the body is still in its place.
    air = levels.varied(BODY_HU - 2 * usual, BODY_HU - usual)
    lowered = air >= MIN_LOWERED_AIR * levels.counts.sum()
    lowered = lowered and _tissue_of_body(levels, 0) < MIN_TISSUE_OF_BODY
    if lowered and _tissue_of_body(levels, -usual) >= MIN_TISSUE_OF_BODY:
        return _by_air(levels, -1)
    return []


def _by_air(levels: Levels, sign: int) -> list[int]:
    """The shift of that sign that puts outside air at -1000 HU; both where that is not clear."""
    low = min(sign * offset for offset in OFFSETS) - 1000 - 100
    air = levels.between(low, low + 224).copy()
    air[np.argmax(air)] = 0  # which may be a background
    peak = int(np.argmax(np.convolve(air, np.ones(9), "same"))) + low
    misses = {sign * offset: abs(peak - sign * offset + 1000) for offset in OFFSETS}
    likely = sorted(misses, key=lambda shift: misses[shift])
    return likely[: 1 if misses[likely[0]] <= _CLEAR_HU else 2]


def _air_is_background(levels: Levels) -> bool:
    """Whether air is one value, apart from what blurs its rim: from the fill to tissue, evenly."""
    varied = levels.varied(LOWEST_HU, BODY_HU - 1)
    rim = levels.number(BODY_HU, -TISSUE_HU)
    return varied < max(MIN_AIR * levels.number(LOWEST_HU), 2 * rim)


def _no_air(levels: Levels, name: str) -> InputRejected:
    low, high = int(levels.present[0]), int(levels.present[-1])
    if low >= 0 and high < 256 and levels.present.size < 150:
        return rejected(name, "not CT: it looks like a label map", "give the scan itself")
    why = f"not CT in HU: its values run from {low} to {high} and no air lies below {BODY_HU}"
    return rejected(name, why, NO_CT)

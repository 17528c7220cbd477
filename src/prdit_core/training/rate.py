"""Learning rate by iteration, a pure function, so that a run goes on exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prdit_core.config import RateName

POWER = 0.9  # usual for segmentation; 3D MedDiffusion says "polynomial decay" alone


@dataclass(frozen=True)
class Rate:
    """A learning rate that stays, or falls to zero along half a cosine or a power of what is left.

    Attributes
    ----------
    peak : at the start
    total : iterations of the whole run
    """

    name: RateName
    peak: float
    total: int

    def at(self, iteration: int) -> float:
        """Rate of an iteration, counted from 0."""
        if self.name == "constant":
            return self.peak
        if self.name == "polynomial":
            return float(self.peak * (1 - iteration / self.total) ** POWER)
        return self.peak * 0.5 * (1 + math.cos(math.pi * iteration / self.total))

"""Learning rate by iteration, a pure function, so that a run goes on exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prdit_core.config import RateName


@dataclass(frozen=True)
class Rate:
    """A learning rate that stays, or falls to zero along half a cosine.

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
        return self.peak * 0.5 * (1 + math.cos(math.pi * iteration / self.total))

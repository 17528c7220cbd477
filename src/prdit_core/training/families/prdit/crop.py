"""Where in the volume a refiner is trained at one iteration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from prdit_core.noise import Draw, generator
from prdit_core.patches import random_box

if TYPE_CHECKING:
    from prdit_core.patches import Box


@dataclass(frozen=True)
class Crop:
    """Boxes as a pure function of (seed, iteration), the same in all processes.

    A refiner is local: the gradient over a box is that of its patches in the whole volume, so boxes
    at random places train the same function with fewer patches an iteration. What lies below it
    still sees the whole volume.

    Attributes
    ----------
    edge : of the box in voxels, a multiple of `multiple`
    multiple : what the limits of boxes are multiples of
    """

    seed: int
    edge: int
    multiple: int

    def box(self, iteration: int, shape: tuple[int, ...]) -> Box:
        """Box for a volume (D, H, W)."""
        stream = generator(Draw.CROP, self.seed, 0, iteration)
        return random_box(shape, (self.edge,) * 3, self.multiple, stream)

"""Between a model's units and the attenuation that projectors integrate.

HU = low + (x - first) hu_per_unit and mu = mu_w (1 + HU / 1000), so mu = slope x + offset: data of
pure air are not 0 in model units. Forgetting the offset is the commonest fault in this place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from prdit_core.intensity import Intensity
    from prdit_core.inverse.operators.contract import LinearOperator

WATER_PER_MM = 0.02


@dataclass(frozen=True)
class Attenuation:
    """Attenuation in 1/mm as a linear function of a unit: `slope` x + `offset`."""

    slope: float
    offset: float

    def per_mm(self, x: Tensor) -> Tensor:
        """Attenuation of x."""
        return self.slope * x + self.offset

    def unit(self, per_mm: Tensor) -> Tensor:
        """The x of an attenuation."""
        return (per_mm - self.offset) / self.slope

    def measurement(self, operator: LinearOperator, y: Tensor) -> Tensor:
        """What the operator would measure of x where it measured `y` of the attenuation.

        (y - A offset) / slope, whose noise is 1 / slope times that of `y`.
        """
        empty = torch.full((1, 1, *operator.domain_shape), self.offset).to(y)
        result: Tensor = (y - operator(empty)) / self.slope
        return result


def of_hu(water_per_mm: float = WATER_PER_MM) -> Attenuation:
    """Of Hounsfield units."""
    return Attenuation(water_per_mm / 1000, water_per_mm)


def of_model(intensity: Intensity, water_per_mm: float = WATER_PER_MM) -> Attenuation:
    """Of a model's units: for a window of -1000 to 400 HU and -1 to 1, 0.7 `water_per_mm` twice."""
    hu = of_hu(water_per_mm)
    first_hu = intensity.window_hu[0] - intensity.model_range[0] * intensity.hu_per_unit
    return Attenuation(hu.slope * intensity.hu_per_unit, hu.slope * first_hu + hu.offset)

"""Between Hounsfield units and the units a model works in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, FiniteFloat, model_validator

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Intensity(BaseModel):
    """A linear, recorded window: `window_hu` goes to `model_range`, values outside are clipped.

    Attributes
    ----------
    window_hu : (low, high) in HU
    model_range : (low, high) in model units, (-1, 1) unless an imported model used another
    exact : whether HU can be recovered (False where the training window is not known)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    window_hu: tuple[FiniteFloat, FiniteFloat] = (-1000.0, 400.0)
    model_range: tuple[FiniteFloat, FiniteFloat] = (-1.0, 1.0)
    exact: bool = True

    @model_validator(mode="after")
    def _increasing(self) -> Intensity:
        if self.window_hu[0] >= self.window_hu[1] or self.model_range[0] >= self.model_range[1]:
            raise ValueError("the lower end of a window lies below the upper end")
        return self

    def __str__(self) -> str:
        low, high = self.window_hu
        return f"{low:g} to {high:g} HU"

    @property
    def hu_per_unit(self) -> float:
        """Size of one model unit in HU."""
        low, high = self.window_hu
        return (high - low) / (self.model_range[1] - self.model_range[0])

    def to_model(self, voxels_hu: NDArray[Any]) -> NDArray[np.float32]:
        """HU to model units, float32; values outside the window are clipped to it."""
        low, high = self.window_hu
        clipped = np.clip(np.asarray(voxels_hu, dtype=np.float32), low, high)
        units: NDArray[np.float32] = (clipped - low) / self.hu_per_unit + self.model_range[0]
        return units.astype(np.float32, copy=False)

    def to_hu(self, x: NDArray[Any]) -> NDArray[np.float32]:
        """Model units to HU, float32, clipped to the window."""
        low, high = self.window_hu
        units = np.asarray(x, dtype=np.float32) - self.model_range[0]
        hu: NDArray[np.float32] = np.clip(units * self.hu_per_unit + low, low, high)
        return hu.astype(np.float32, copy=False)

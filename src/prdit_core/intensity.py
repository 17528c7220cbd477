"""Between Hounsfield units, or those of another modality, and the units a model works in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    model_serializer,
    model_validator,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydantic import SerializerFunctionWrapHandler

HU = "HU"
# Of what is no CT, such as the signal of MRI.
ARBITRARY = "arbitrary units"


class Intensity(BaseModel):
    """A linear, recorded window: `window_hu` goes to `model_range`, values outside are clipped.

    Attributes
    ----------
    window_hu : (low, high) in HU, or in `units`
    model_range : (low, high) in model units, (-1, 1) unless an imported model used another
    exact : whether HU can be recovered (False where the training window is not known)
    units : of the volumes; other than HU for what is no CT, such as `ARBITRARY`
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    window_hu: tuple[FiniteFloat, FiniteFloat] = (-1000.0, 400.0)
    model_range: tuple[FiniteFloat, FiniteFloat] = (-1.0, 1.0)
    exact: bool = True
    units: str = Field(default=HU, pattern=r"^[A-Za-z0-9%][A-Za-z0-9%./ -]{0,15}$")

    @model_validator(mode="after")
    def _increasing(self) -> Intensity:
        if self.window_hu[0] >= self.window_hu[1] or self.model_range[0] >= self.model_range[1]:
            raise ValueError("the lower end of a window lies below the upper end")
        return self

    @model_serializer(mode="wrap")
    def _without_hu(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """No word of units where they are HU: digests of older checkpoints stay valid."""
        content: dict[str, Any] = dump(self)
        if self.units == HU:
            content.pop("units", None)
        return content

    def __str__(self) -> str:
        low, high = self.window_hu
        return f"{low:g} to {high:g} {self.units}"

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

"""Presets of data: which HU, how much of the patient, on which grid."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    model_serializer,
    model_validator,
)

from prdit_core.data.signal import SIGNAL_WINDOW
from prdit_core.errors import UsageError
from prdit_core.geometry import Geometry, cubic
from prdit_core.intensity import ARBITRARY, HU, Intensity

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import SerializerFunctionWrapHandler


class Preset(BaseModel):
    """How scans become cubes: which HU, how much of the patient, on which grid.

    Attributes
    ----------
    window_hu : HU are clipped to it before resampling, as in the paper; the range of other `units`
    field_of_view_mm : edge of the cube
    grid : resolution before average pooling. "fixed" is the paper's: 256 voxels along each edge.
        "fitted" takes the coarsest of size, 2 size, 4 size ... that is no coarser than the scan,
        at most 256: the same for a usual CT, and quick for a coarse one.
    centre : "body" centres on the body in-plane and on the middle of the scan along z, or on the
        lungs where the scan is longer than the field of view; "volume" takes the scan's middle
    units : of the cubes; other than HU for MR, whose signal is brought to the window by the
        percentiles of each scan
    slab_mm : extent along z that is kept, around the middle of the cube; None: all of it
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,63}$")
    window_hu: tuple[int, int]
    field_of_view_mm: FiniteFloat = Field(gt=0, le=2000)
    grid: Literal["fixed", "fitted"]
    centre: Literal["body", "volume"] = "body"
    units: str = HU
    slab_mm: FiniteFloat | None = Field(default=None, gt=0, le=2000)

    @model_validator(mode="after")
    def _window_is_usable(self) -> Preset:
        if not -32768 < self.window_hu[0] < self.window_hu[1] < 32768:
            raise ValueError("a window runs from a lower to a higher 16-bit HU")
        if self.units not in (HU, ARBITRARY):
            raise ValueError(f"units are {HU} or {ARBITRARY}")
        if self.units == ARBITRARY and (self.window_hu, self.centre) != (SIGNAL_WINDOW, "volume"):
            low, high = SIGNAL_WINDOW
            raise ValueError(f"MR is prepared from {low} to {high}, about the scan's middle")
        return self

    @model_serializer(mode="wrap")
    def _as_of_old(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """No word of units that are HU and of a slab that is none, as before there were others."""
        content: dict[str, Any] = dump(self)
        for name, usual in (("units", HU), ("slab_mm", None)):
            if content.get(name) == usual:
                content.pop(name, None)
        return content

    def geometry(self, size: int) -> Geometry:
        """Grid of what scans become, with `size` voxels along the edges of the cube.

        Raises
        ------
        UsageError
            If the slab is no whole number of voxels, or larger than the cube.
        """
        whole = cubic(size, self.field_of_view_mm)
        if self.slab_mm is None:
            return whole
        slices = round(self.slab_mm / whole.spacing_mm[0], 6)
        if slices > size or slices != int(slices):
            raise UsageError(
                f"a slab of {self.slab_mm:g} mm is not 1 to {size} voxels of "
                f"{whole.spacing_mm[0]:g} mm; choose another"
            )
        return whole.model_copy(update={"shape": (int(slices), size, size)})

    @property
    def intensity(self) -> Intensity:
        """The window as a map between HU and model units."""
        return Intensity(window_hu=self.window_hu, units=self.units)


def _preset(
    name: str,
    window: tuple[int, int],
    fov: float,
    grid: Literal["fixed", "fitted"],
    centre: Literal["body", "volume"] = "body",
) -> Preset:
    return Preset(name=name, window_hu=window, field_of_view_mm=fov, grid=grid, centre=centre)


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        preset.name: preset
        for preset in (
            _preset("lidc-idri", (-1000, 400), 256, "fixed"),
            _preset("rad-chestct", (-1000, 1000), 256, "fixed"),
            _preset("chest-320", (-1000, 400), 320, "fitted"),
            _preset("chest-320-wide", (-1000, 1000), 320, "fitted"),
            _preset("head-256", (-1000, 1000), 256, "fitted", "volume"),
            _preset("legs-320", (-1000, 1000), 320, "fitted", "volume"),
            Preset(
                name="head-256-mr",
                window_hu=SIGNAL_WINDOW,
                field_of_view_mm=256,
                grid="fitted",
                centre="volume",
                units=ARBITRARY,
            ),
        )
    }
)

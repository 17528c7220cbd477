"""The grid a model or a prepared data set lives on."""

from __future__ import annotations

import math
import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from prdit_core.errors import UsageError

Edge = Annotated[int, Field(ge=1, le=4096)]
Millimetres = Annotated[float, Field(gt=0, le=2000, allow_inf_nan=False)]


class Geometry(BaseModel):
    """Voxel grid of prepared volumes: z superior, y posterior, x left.

    Attributes
    ----------
    shape : number of voxels (D, H, W)
    spacing_mm : (z, y, x) distance of voxels
    field_of_view_mm : edge of the cube the volumes were cut from
    exact : False where an imported model does not say its spacing
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    shape: tuple[Edge, Edge, Edge]
    spacing_mm: tuple[Millimetres, Millimetres, Millimetres]
    field_of_view_mm: Millimetres
    exact: bool = True

    def coarser(self, times: int) -> Geometry:
        """The same field of view in voxels `times` as large; edges must be multiples of it."""
        depth, height, width = (edge // times for edge in self.shape)
        z, y, x = (mm * times for mm in self.spacing_mm)
        content = {"shape": (depth, height, width), "spacing_mm": (z, y, x)}
        return self.model_copy(update=content)


def shape_of(text: str) -> tuple[int, int, int]:
    """The grid that a text such as ``64,32,32`` names, (D, H, W).

    Raises
    ------
    UsageError
        If it is no such text.
    """
    edges = re.fullmatch(r" *([0-9]{1,4}) *, *([0-9]{1,4}) *, *([0-9]{1,4}) *", text, re.ASCII)
    if edges is None:
        raise UsageError(f"shape {text!r} is not D,H,W; give three numbers of voxels, as 64,32,32")
    depth, height, width = map(int, edges.groups())
    return depth, height, width


def by(shape: tuple[int, ...]) -> str:
    """Voxels of a grid in words, such as 64 x 64 x 32."""
    return " x ".join(map(str, shape))


def size_in_words(shape: tuple[int, ...]) -> str:
    """The same in short: 64^3 of a cube, else 32 x 64 x 64."""
    return f"{shape[0]}^3" if len(set(shape)) == 1 else by(shape)


def fewest_voxels(shape: tuple[int, int, int]) -> tuple[int, tuple[int, int, int]]:
    """Key that sorts grids: that of fewest voxels first."""
    return math.prod(shape), shape


def cubic(size: int, field_of_view_mm: float, *, exact: bool = True) -> Geometry:
    """A cube of `size` voxels that spans `field_of_view_mm`."""
    spacing = field_of_view_mm / size
    return Geometry(
        shape=(size, size, size),
        spacing_mm=(spacing, spacing, spacing),
        field_of_view_mm=field_of_view_mm,
        exact=exact,
    )

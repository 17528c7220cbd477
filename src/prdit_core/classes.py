"""Classes of volumes that one model holds: each has its own units and its own grids."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from prdit_core.geometry import Geometry, fewest_voxels
from prdit_core.intensity import Intensity


class VolumeClass(BaseModel):
    """One class: a region of the body in one modality, say.

    Attributes
    ----------
    name : as users give it
    intensity : model units to the class's own
    geometries : grids it was trained on, in voxels and mm, that of fewest voxels first
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")
    intensity: Intensity
    geometries: tuple[Geometry, ...] = Field(min_length=1, max_length=100)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        shapes = [geometry.shape for geometry in self.geometries]
        if shapes != sorted(set(shapes), key=fewest_voxels):
            raise ValueError(f"grids of class {self.name} are not in order, or some stands twice")
        return self

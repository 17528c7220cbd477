"""What a file of a scan does not say, stated by the user."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeInt,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

from prdit_core.data.dicom_slices import short_name
from prdit_core.data.grid import is_orientation

if TYPE_CHECKING:
    from pydantic import SerializerFunctionWrapHandler

Millimetres = Annotated[FiniteFloat, Field(gt=0)]


class ReadOptions(BaseModel):
    """What a file does not say, stated by the user; the defaults assume nothing.

    Attributes
    ----------
    series : SeriesInstanceUID, or its short name as a refusal lists it; kept as the latter
    frame : which volume of a 4D NIfTI to take, from 0
    assume_orientation : where x, y, z run to ("LPS"), for files that do not say
    assume_rescale : DICOM (slope, intercept) where the tags are missing
    hu_offset : added to every voxel, for example -1024
    nan_fill : HU for NaN and infinite voxels
    npz_spacing_mm : (z, y, x) of RAD-ChestCT files, as published
    npz_clip_hu : range of RAD-ChestCT files, as published
    modality : "mr" for a scan whose voxels are the signal of MRI, in units of their own, not HU
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    series: str | None = None
    frame: NonNegativeInt | None = None
    assume_orientation: str | None = None
    assume_rescale: tuple[FiniteFloat, FiniteFloat] | None = None
    hu_offset: FiniteFloat = 0.0
    nan_fill: FiniteFloat | None = None
    npz_spacing_mm: tuple[Millimetres, Millimetres, Millimetres] = (0.8, 0.8, 0.8)
    npz_clip_hu: tuple[FiniteFloat, FiniteFloat] = (-1000.0, 1000.0)
    modality: Literal["ct", "mr"] = "ct"

    @model_serializer(mode="wrap")
    def _without_ct(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """No word of the modality where it is CT: data sets of before can be added to."""
        content: dict[str, Any] = dump(self)
        if self.modality == "ct":
            content.pop("modality", None)
        return content

    @model_validator(mode="after")
    def _offset_is_of_ct(self) -> Self:
        if self.modality == "mr" and self.hu_offset:
            raise PydanticCustomError("modality", "hu_offset makes HU of a CT; leave it out for mr")
        return self

    @field_validator("npz_clip_hu")
    @classmethod
    def _low_to_high(cls, clip: tuple[float, float]) -> tuple[float, float]:
        if not clip[0] < clip[1]:
            raise PydanticCustomError("range", "give the lower HU first, then the higher")
        return clip

    @field_validator("series")
    @classmethod
    def _name_no_patient(cls, series: str | None) -> str | None:
        return None if series is None else short_name(series)

    @field_validator("assume_orientation")
    @classmethod
    def _three_directions(cls, codes: str | None) -> str | None:
        if codes is not None and not is_orientation(codes.upper()):
            why = "give one letter each of R/L, A/P and S/I, for example LPS"
            raise PydanticCustomError("orientation", why)
        return None if codes is None else codes.upper()


AS_STATED = ReadOptions()

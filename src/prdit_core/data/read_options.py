"""What a file of a scan does not say, stated by the user."""

from __future__ import annotations

import hashlib
import re
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

from prdit_core.data.grid import is_orientation

if TYPE_CHECKING:
    from pydantic import SerializerFunctionWrapHandler

Millimetres = Annotated[FiniteFloat, Field(gt=0)]
_SHORT_NAME = re.compile(r"[0-9a-fA-F]{8}")


def short_name(series_uid: str) -> str:
    """What a series is called in messages: 8 hexadecimal digits that do not name the patient.

    Also takes such a short name, since users give either.
    """
    if _SHORT_NAME.fullmatch(series_uid):
        return series_uid.lower()
    return hashlib.sha256(series_uid.encode()).hexdigest()[:8]


class ReadOptions(BaseModel):
    """What a file does not say, stated by the user; the defaults assume nothing.

    The words below each are what commands tell of it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    series: str | None = None
    """DICOM series to take where a folder holds several."""  # its UID, or `short_name`, as kept
    frame: NonNegativeInt | None = None
    """Frame of a 4D NIfTI, from 0."""
    assume_orientation: str | None = None
    """Axis directions such as LPS, for files that state none."""
    assume_rescale: tuple[FiniteFloat, FiniteFloat] | None = None
    """For DICOM without these tags, such as 1 -1024."""
    hu_offset: FiniteFloat = 0.0
    """Added to every voxel, such as -1024 for unsigned files."""
    nan_fill: FiniteFloat | None = None
    """HU in place of NaN voxels."""
    npz_spacing_mm: tuple[Millimetres, Millimetres, Millimetres] = (0.8, 0.8, 0.8)
    """Voxels of RAD-ChestCT .npz in mm. Default: 0.8 0.8 0.8."""
    npz_clip_hu: tuple[FiniteFloat, FiniteFloat] = (-1000.0, 1000.0)
    """HU of RAD-ChestCT .npz. Default: -1000 1000."""
    modality: Literal["ct", "mr"] = "ct"
    """mr: the voxels are MR signal, in units of their own and not HU. Default: ct."""

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

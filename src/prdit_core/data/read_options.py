"""What a file of a scan does not say, stated by the user."""

from __future__ import annotations

import hashlib
import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, NonNegativeInt, field_validator
from pydantic_core import PydanticCustomError

from prdit_core.data.grid import is_orientation

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

"""How wrong a network's clean volume is at every t: measured, and kept beside its weights.

The ideal error of a perfect denoiser goes to 0 with t, and data would lose all weight against it;
a network's does not. The file is a companion of the checkpoint, so that its digest stays.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from prdit_core.checkpoints.catalog import find
from prdit_core.errors import CheckpointError, UsageError, first_fault
from prdit_core.files import shown, write_json
from prdit_core.provenance import RESEARCH

if TYPE_CHECKING:
    from collections.abc import Callable

    from prdit_core.models.prior import Prior

CALIBRATION = "calibration.json"
# About 1000 sizes.
_LARGEST = 2**20
Time = Annotated[float, Field(gt=0, le=1000)]
Error = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class ErrorTable(BaseModel):
    """Root mean square of the error of x0, in model units, at one resolution of a chain.

    Attributes
    ----------
    size : edge of the volumes
    times, errors : t in rising order, and r there
    volumes, data_sha256, seed : how many volumes of which data set it was measured on, and the seed
        of their noise
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = Field(ge=1)
    times: tuple[Time, ...] = Field(min_length=2)
    errors: tuple[Error, ...]
    volumes: int = Field(ge=1)
    data_sha256: str
    seed: int = Field(ge=0)

    @model_validator(mode="after")
    def _is_a_function(self) -> ErrorTable:
        if len(self.errors) != len(self.times) or np.any(np.diff(self.times) <= 0):
            raise ValueError("times must rise, with one error each")
        return self

    def at(self, t: float) -> float:
        """The error at t, linear in between and constant beyond."""
        return float(np.interp(t, self.times, self.errors))


class Calibration(BaseModel):
    """Content of the file.

    Attributes
    ----------
    checkpoint_sha256 : digest of the prior it was measured of
    tables : one for each resolution
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["prdit-calibration"] = "prdit-calibration"
    version: Literal[1] = 1
    notice: str = RESEARCH
    made_with: str = ""
    checkpoint_sha256: str
    tables: tuple[ErrorTable, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Resolutions that were measured."""
        return tuple(table.size for table in self.tables)

    @property
    def digest(self) -> str:
        """SHA-256 of the errors."""
        content = self.model_dump(mode="json", exclude={"made_with", "notice"})
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def error(self, size: int) -> Callable[[float], float]:
        """t -> r of a resolution.

        Raises
        ------
        UsageError
            If it was not measured.
        """
        for table in self.tables:
            if table.size == size:
                return table.at
        known = ", ".join(map(str, self.sizes))
        raise UsageError(
            f"the error of the network is known at size {known}, not at {size}; run prdit-core "
            f"calibrate with data of size {size}"
        )

    def with_tables(self, tables: tuple[ErrorTable, ...]) -> Calibration:
        """These tables, and those of other resolutions as they were."""
        kept = {table.size: table for table in (*self.tables, *tables)}
        return self.model_copy(update={"tables": tuple(kept[size] for size in sorted(kept))})


def read_calibration(path: str | Path, prior: Prior) -> Calibration:
    """Read what `calibrate` wrote and see that it is of this prior.

    Raises
    ------
    CheckpointError
        If it is missing, damaged, or of other weights.
    """
    path, again = Path(path), "run prdit-core calibrate again"
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise CheckpointError(f"{shown(path)} is too large for a calibration; {again}")
        calibration = Calibration.model_validate_json(content)
    except OSError as error:
        raise CheckpointError(f"cannot read {shown(path)}: {error.strerror}; {again}") from error
    except ValidationError as error:
        raise CheckpointError(
            f"{shown(path)} is no calibration: {first_fault(error)}; {again}"
        ) from error
    if calibration.checkpoint_sha256 != prior.digest:
        raise CheckpointError(f"{shown(path)} is of other weights than {prior.name}; {again}")
    return calibration


def calibration_beside(checkpoint: str | Path, prior: Prior) -> Calibration | None:
    """The calibration beside a checkpoint's weights; None where there is none.

    Raises
    ------
    UsageError, CheckpointError
        If there is no such checkpoint, or the file cannot be used.
    """
    path = find(checkpoint) / CALIBRATION
    return read_calibration(path, prior) if path.exists() else None


def write_calibration(calibration: Calibration, path: Path) -> Path:
    """Write the file, whole or not at all."""
    return write_json(path, calibration.model_dump(mode="json"))

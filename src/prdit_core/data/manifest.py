"""The manifest of a prepared data set: what was done to which scans, sealed by a hash."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from prdit_core.data.presets import Preset
from prdit_core.errors import InputRejected
from prdit_core.files import shown, write_json
from prdit_core.provenance import RESEARCH

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST = "manifest.json"
MANIFEST_BYTES = 64 * 2**20  # about 30,000 cases

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Row = tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat]


class Case(BaseModel):
    """One cube of the data set.

    Attributes
    ----------
    id : name of its files, made from the scan's content
    patient : what cases of one patient share: a number in the manifest, and before that a key,
        which is kept in memory alone
    source_sha256 : hash of the scan it was made from
    sha256, labels_sha256 : hashes of its files
    affine : voxel index (x, y, z, 1) to RAS+ mm, four rows
    record : what `conform` did
    notes : what a user should know about it
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    patient: str = Field(pattern=r"^[a-z0-9-]{1,64}$")
    source_sha256: Sha256
    sha256: Sha256
    labels_sha256: Sha256 | None = None
    affine: tuple[Row, Row, Row, Row]
    record: dict[str, Any] = {}
    notes: tuple[str, ...] = ()


class Manifest(BaseModel):
    """Content of `manifest.json`.

    Attributes
    ----------
    made_with : name and version of the software; not part of the digest
    preset, size : how scans became cubes
    settings : what else decides the content: seed, reading options, ...
    label_names : label name to value, empty without labels
    train, validation : cases sorted by id; no patient is in both
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["prdit-data-set"] = "prdit-data-set"
    version: Literal[1] = 1
    notice: str = RESEARCH
    made_with: str = ""
    preset: Preset
    size: int = Field(ge=1, le=1024)
    settings: dict[str, Any] = {}
    label_names: dict[str, int] = {}
    train: tuple[Case, ...]
    validation: tuple[Case, ...]

    @model_validator(mode="after")
    def _is_consistent(self) -> Manifest:
        if len({case.id for case in self.cases}) < len(self.cases):
            raise ValueError("two cases share an id")
        if {case.patient for case in self.train} & {case.patient for case in self.validation}:
            raise ValueError("a patient is in both train and validation")
        return self

    @property
    def cases(self) -> tuple[Case, ...]:
        """All cases, those to train on first."""
        return self.train + self.validation

    @property
    def digest(self) -> str:
        """SHA-256 of the content: changes with any voxel, any setting and the split."""
        content = self.model_dump(mode="json", exclude={"sha256", "made_with"})
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class _SealedManifest(Manifest):
    sha256: Sha256


def write_manifest(folder: Path, manifest: Manifest) -> Path:
    """Write `manifest.json`; equal content gives equal bytes."""
    content = {**manifest.model_dump(mode="json"), "sha256": manifest.digest}
    return write_json(folder / MANIFEST, content)


def read_manifest(folder: Path) -> Manifest:
    """Read and check `manifest.json`, without looking at the files it names.

    Raises
    ------
    InputRejected
        If it is missing, too large, damaged, edited or not of this version.
    """
    path = folder / MANIFEST
    try:
        if path.stat().st_size > MANIFEST_BYTES:
            raise InputRejected(f"{shown(path)} is larger than {MANIFEST_BYTES} bytes")
        sealed = _SealedManifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputRejected(
            f"{shown(folder)} is no prepared data set: {MANIFEST}: {error.strerror}; "
            "make one with `prdit-core preprocess` or `prdit-core phantoms`"
        ) from error
    except ValidationError as error:
        raise InputRejected(_damaged(path, error)) from error
    if sealed.sha256 != sealed.digest:
        raise InputRejected(f"{shown(path)} was edited or damaged; prepare the data again")
    return Manifest(**{name: getattr(sealed, name) for name in Manifest.model_fields})


def _damaged(path: Path, error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "content"
    return f"{shown(path)} is damaged at {shown(where)}: {first['msg']}; prepare the data again"

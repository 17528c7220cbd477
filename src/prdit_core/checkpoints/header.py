"""The header of our checkpoint: everything about a model except its weights, and its digests."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializeAsAny,
    model_serializer,
    model_validator,
)

from prdit_core.config import NetworkConfig
from prdit_core.geometry import Geometry
from prdit_core.intensity import Intensity
from prdit_core.models.families import configuration
from prdit_core.schedule import AnySchedule

if TYPE_CHECKING:
    from pydantic import SerializerFunctionWrapHandler

    from prdit_core.classes import VolumeClass

HEADER = "checkpoint.json"
WEIGHTS = "weights.safetensors"
CODEC_WEIGHTS = "codec.safetensors"
CONTROL_WEIGHTS = "control.safetensors"
FORMAT_VERSION = 1
AnyNetworkConfig = Annotated[SerializeAsAny[NetworkConfig], BeforeValidator(configuration)]


class ControlPart(BaseModel):
    """A network that steers another by conditions, and which one.

    Attributes
    ----------
    config : of the control
    base : `Header.base_digest` of what it was trained on
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    config: AnyNetworkConfig
    base: str


class Header(BaseModel):
    """Everything about a model except its weights.

    Attributes
    ----------
    model : the network that predicts, or a codec alone
    codec : what the model's states are decoded by; None: they are voxels
    control : what steers the model by conditions; None: nothing
    intensity, geometry : of its volumes; of a model with classes those of the first one
    record : how it came about (stage, iterations, data, versions) or where it was imported from
    files : SHA-256 of each payload
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["prdit-checkpoint"] = "prdit-checkpoint"
    version: int = FORMAT_VERSION
    model: AnyNetworkConfig
    schedule: AnySchedule
    intensity: Intensity
    geometry: Geometry
    codec: AnyNetworkConfig | None = None
    control: ControlPart | None = None
    record: dict[str, Any] = Field(default_factory=dict)
    files: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _fits(self) -> Header:
        if self.control is not None and not self.control.config.controls(self.model):
            raise ValueError("its control is none of its model; take the base it was trained on")
        for one in self.classes[:1]:
            if self.intensity != one.intensity or self.geometry not in one.geometries:
                raise ValueError(f"units and grid are not those of the first class, {one.name}")
        if self.codec is not None and self.codec.latent_channels != self.model.channels:
            raise ValueError(
                f"the codec makes {self.codec.latent_channels} channels, the model takes "
                f"{self.model.channels}"
            )
        for geometry in (self.geometry, *(grid for one in self.classes for grid in one.geometries)):
            volume = geometry.shape
            codec = self.codec
            self.model.check_grid(volume if codec is None else codec.latent_grid(volume))
        return self

    @property
    def classes(self) -> tuple[VolumeClass, ...]:
        """Classes of volumes that the model holds; none where all are of one kind."""
        return self.model.trained_on

    def grids(self, label: str | None = None) -> tuple[Geometry, ...]:
        """Grids of the volumes that it makes, that of fewest voxels first; None: its first class.

        As `Prior.grids` has them.
        """
        first = self.classes[0].name if self.classes else None
        return self.model.grids(self.geometry, label or first)

    def finest(self, label: str | None = None) -> Geometry:
        """The grid that a class has unless another is chosen; None: what the header has."""
        return self.geometry if label is None else self.grids(label)[-1]

    @model_serializer(mode="wrap")
    def _without_what_is_not_there(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """No word of a codec or control where there is none: older digests stay valid."""
        content: dict[str, Any] = dump(self)
        for part in ("codec", "control"):
            if getattr(self, part) is None:
                content.pop(part, None)
        return content

    def stopped_at(self, number: int) -> Header:
        """The part up to resolution `number` of a chain, out of the same files."""
        above = len(self.model.sizes(self.geometry.shape[0])) - 1 - number
        geometry = self.geometry.coarser(2**above) if above else self.geometry
        return self.model_copy(
            update={"model": self.model.stopped_at(number), "geometry": geometry}
        )

    @property
    def digest(self) -> str:
        """SHA-256 over all that changes what it generates: weights, process, units, grid."""
        if self.control is None:
            return self.base_digest
        control = self.control.model_dump(mode="json")
        return _sha256({"control": control, "control weights": self.files[CONTROL_WEIGHTS]})

    @property
    def base_digest(self) -> str:
        """The same of all but the control: walks without a condition have nothing else."""
        decisive = self.model_dump(mode="json", exclude={"record", "files", "control"})
        decisive["weights"] = self.files[WEIGHTS]
        if self.codec is not None:
            decisive["codec weights"] = self.files[CODEC_WEIGHTS]
        return _sha256(decisive)

    @property
    def codec_digest(self) -> str:
        """What latents call the codec by that made them: one beside a model, or one alone."""
        if self.codec is None:
            return self.digest
        codec = self.codec.model_dump(mode="json")
        return _sha256({"codec": codec, "codec weights": self.files[CODEC_WEIGHTS]})

    @property
    def codec_alone(self) -> Header:
        """Of the codec beside a model, as if it were a checkpoint of its own; else itself."""
        if self.codec is None:
            return self
        files = {WEIGHTS: self.files[CODEC_WEIGHTS]}
        alone = {"model": self.codec, "codec": None, "control": None, "record": {}, "files": files}
        return self.model_copy(update=alone)

    @property
    def payloads(self) -> list[str]:
        """Files of weights that it needs."""
        parts = [(CODEC_WEIGHTS, self.codec), (CONTROL_WEIGHTS, self.control)]
        return [WEIGHTS, *(name for name, part in parts if part is not None)]


def _sha256(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

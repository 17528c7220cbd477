"""Our checkpoint: one folder of safetensors and JSON that is verified before it is believed."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationError,
    model_serializer,
    model_validator,
)

from prdit_core.config import NetworkConfig
from prdit_core.errors import CheckpointError
from prdit_core.files import sha256_of, shown, write_folder_atomically, write_json
from prdit_core.geometry import Geometry
from prdit_core.intensity import Intensity
from prdit_core.models.families import configuration, expected_shapes
from prdit_core.models.tensor_files import (
    WIDTHS,
    check_tensor_header,
    invalid,
    load_tensors,
    read_header_json,
    save_tensors,
)
from prdit_core.schedule import AnySchedule

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydantic import SerializerFunctionWrapHandler
    from torch import Tensor

    from prdit_core.classes import VolumeClass

HEADER = "checkpoint.json"
WEIGHTS = "weights.safetensors"
CODEC_WEIGHTS = "codec.safetensors"
CONTROL_WEIGHTS = "control.safetensors"
FORMAT_VERSION = 1
AnyNetworkConfig = Annotated[SerializeAsAny[NetworkConfig], BeforeValidator(configuration)]


class OtherFormat(CheckpointError):
    """A checkpoint of another format version; it may be whole."""


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
        """What latents of the codec beside a model call it by; "" without one."""
        if self.codec is None:
            return ""
        codec = self.codec.model_dump(mode="json")
        return _sha256({"codec": codec, "codec weights": self.files[CODEC_WEIGHTS]})

    @property
    def payloads(self) -> list[str]:
        """Files of weights that it needs."""
        parts = [(CODEC_WEIGHTS, self.codec), (CONTROL_WEIGHTS, self.control)]
        return [WEIGHTS, *(name for name, part in parts if part is not None)]


def _sha256(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def save_checkpoint(
    path: Path,
    header: Header,
    weights: Mapping[str, Tensor],
    add: Callable[[Path], None] = lambda _: None,
    *,
    codec: Mapping[str, Tensor] | None = None,
    control: Mapping[str, Tensor] | None = None,
) -> Path:
    """Write a checkpoint folder, whole or not at all.

    Parameters
    ----------
    header : its `files` are filled in here
    weights, codec, control : in the number format they shall have on disk; the latter two if the
        header has them
    add : writes further payloads into the folder, which are hashed as well
    """

    def fill(folder: Path) -> None:
        save_tensors(weights, folder / WEIGHTS)
        for part, name in ((codec, CODEC_WEIGHTS), (control, CONTROL_WEIGHTS)):
            if part is not None:
                save_tensors(part, folder / name)
        add(folder)

    return write_checkpoint(path, header, fill)


def write_checkpoint(path: Path, header: Header, fill: Callable[[Path], None]) -> Path:
    """Write what `fill` puts into a folder and the header with its hashes, whole or not at all."""

    def sealed(folder: Path) -> None:
        fill(folder)
        files = {file.name: sha256_of(file) for file in sorted(folder.iterdir())}
        content = header.model_copy(update={"files": files}).model_dump(mode="json")
        write_json(folder / HEADER, content)

    return write_folder_atomically(path, sealed)


def read_header(path: Path) -> Header:
    """Header of a checkpoint folder, without reading its weights.

    Raises
    ------
    CheckpointError
        If it is missing, too large, of another format or version, or not valid, or has a control
        that was trained on another base.
    """
    file = path / HEADER
    try:
        content = read_header_json(file)
    except OSError as error:
        raise CheckpointError(f"{shown(path)} is no checkpoint: cannot read {HEADER}") from error
    try:
        version = content.get("version")
        if version != FORMAT_VERSION:
            raise OtherFormat(
                f"{shown(file)} has format version {version!r}, this program reads "
                f"{FORMAT_VERSION}; upgrade napari-prdit"
            )
        header = Header.model_validate(content)
    except ValidationError as error:
        raise invalid(file, error) from error
    except (ValueError, RecursionError, AttributeError) as error:
        raise CheckpointError(f"{shown(file)} is damaged: {error}") from error
    for name in header.payloads:
        if name not in header.files:
            raise CheckpointError(f"{shown(file)} names no {name}")
    if header.control is not None and header.control.base != header.base_digest:
        raise CheckpointError(
            f"{shown(file)}: its control was trained on the base {header.control.base[:12]}, which "
            f"is not the one here, {header.base_digest[:12]}; take the control with its own base"
        )
    return header


def verify(path: Path, header: Header) -> None:
    """Compare every payload with its recorded SHA-256.

    Raises
    ------
    CheckpointError
        Naming the file that is missing or differs, or that lies outside the folder.
    """
    for name, expected in header.files.items():
        if Path(name).name != name or name in (".", ".."):
            raise CheckpointError(f"{shown(path)} names a file outside its folder: {shown(name)}")
        try:
            digest = sha256_of(path / name)
        except OSError as error:
            raise CheckpointError(f"{shown(path / name)} is missing or unreadable") from error
        if digest != expected:
            raise CheckpointError(
                f"{shown(path / name)} is damaged: its SHA-256 is {digest[:12]}, not "
                f"{expected[:12]}; copy the checkpoint again"
            )


def read_weights(path: Path, header: Header) -> dict[str, Tensor]:
    """Verified weights of a checkpoint folder, float32.

    Raises
    ------
    CheckpointError
        If a hash, a name, a shape or a number format is not what the header promises, or a value
        is not finite.
    """
    return _read(path, header, header.model, WEIGHTS)


def read_codec(path: Path, header: Header) -> dict[str, Tensor] | None:
    """Verified weights of the codec in a checkpoint folder, float32; None if it has none.

    Raises
    ------
    CheckpointError
        As `read_weights`.
    """
    return None if header.codec is None else _read(path, header, header.codec, CODEC_WEIGHTS)


def read_control(path: Path, header: Header) -> dict[str, Tensor] | None:
    """Verified weights of the control in a checkpoint folder, float32; None if it has none.

    Raises
    ------
    CheckpointError
        As `read_weights`.
    """
    control = header.control
    return None if control is None else _read(path, header, control.config, CONTROL_WEIGHTS)


def _read(path: Path, header: Header, config: NetworkConfig, name: str) -> dict[str, Tensor]:
    _check_size(path / name, config)
    check_tensor_header(path / name, expected_shapes(config))
    verify(path, header)
    return load_tensors(path / name)


def _check_size(file: Path, config: NetworkConfig) -> None:
    """Refuse a file that cannot even hold the blocks, before describing the network."""
    least = config.least_parameters * min(WIDTHS.values())
    if file.is_file() and os.path.getsize(file) < least:
        raise CheckpointError(
            f"{shown(file)} does not fit its configuration: {os.path.getsize(file)} bytes cannot "
            f"hold a network of {config.least_parameters} weights or more"
        )

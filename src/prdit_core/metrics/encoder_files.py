"""Our encoders on disk: one folder of safetensors and JSON, verified before it is believed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from prdit_core.errors import CheckpointError
from prdit_core.files import sha256_of, shown, write_folder_atomically, write_json
from prdit_core.geometry import Geometry, cubic
from prdit_core.intensity import Intensity
from prdit_core.models.tensor_files import (
    check_finite,
    check_tensor_header,
    invalid,
    load_tensors,
    read_header_json,
    save_tensors,
)

if TYPE_CHECKING:
    from pathlib import Path

    from prdit_core.models.phantom_encoder import PhantomEncoder

HEADER = "encoder.json"
WEIGHTS = "weights.safetensors"


class EncoderHeader(BaseModel):
    """Everything about an encoder of ours except its weights.

    Attributes
    ----------
    width, features : of `PhantomEncoder`
    intensity : units it sees volumes in
    geometry : grid it sees volumes on; others are resampled to it
    record : how it was trained
    sha256 : of its weights
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["prdit-encoder"] = "prdit-encoder"
    version: Literal[1] = 1
    width: int = Field(ge=1, le=128)
    features: int = Field(ge=1, le=4096)
    intensity: Intensity = Intensity()
    geometry: Geometry = cubic(64, 320.0)
    record: dict[str, Any] = Field(default_factory=dict)
    sha256: str = ""


def save_encoder(folder: Path, header: EncoderHeader, model: PhantomEncoder) -> Path:
    """Write an encoder in half precision, whole or not at all."""
    from prdit_core.models.phantom_encoder import weights_of

    weights = {name: weight.half() for name, weight in weights_of(model).items()}
    check_finite(weights, "the encoder in half precision")

    def fill(part: Path) -> None:
        save_tensors(weights, part / WEIGHTS)
        sealed = header.model_copy(update={"sha256": sha256_of(part / WEIGHTS)})
        write_json(part / HEADER, sealed.model_dump(mode="json"))

    return write_folder_atomically(folder, fill)


def read_encoder(folder: Path) -> tuple[EncoderHeader, PhantomEncoder]:
    """An encoder of ours, in evaluation mode.

    Raises
    ------
    CheckpointError
        If a file is missing or damaged, or a name, a shape or the SHA-256 is not as recorded.
    """
    from prdit_core.models.phantom_encoder import PhantomEncoder, expected_shapes

    header = _read_header(folder / HEADER)
    file = folder / WEIGHTS
    check_tensor_header(file, expected_shapes(header.width, header.features))
    digest = sha256_of(file)
    if digest != header.sha256:
        raise CheckpointError(
            f"{shown(file)} is damaged: its SHA-256 is {digest[:12]}, not "
            f"{header.sha256[:12]}; copy the encoder again"
        )
    model = PhantomEncoder(header.width, header.features)
    model.load_state_dict(model.state_dict() | load_tensors(file), strict=True)
    return header, model.eval().requires_grad_(False)


def _read_header(file: Path) -> EncoderHeader:
    try:
        return EncoderHeader.model_validate(read_header_json(file))
    except OSError as error:
        raise CheckpointError(f"{shown(file)} is missing or unreadable") from error
    except ValidationError as error:
        raise invalid(file, error) from error
    except RecursionError as error:
        raise CheckpointError(f"{shown(file)} is damaged: {error}") from error

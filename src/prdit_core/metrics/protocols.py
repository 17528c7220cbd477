"""Protocols of evaluation as data: what is fixed, so that two evaluations can be compared."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

from prdit_core.intensity import Intensity
from prdit_core.metrics.confidence import HALVES
from prdit_core.metrics.nearest import COPY
from prdit_core.metrics.similarity import KERNEL

if TYPE_CHECKING:
    from collections.abc import Mapping

ProtocolName = Literal["paper", "recommended"]


class EvaluationProtocol(BaseModel):
    """How sets of volumes are compared; recorded whole in every evaluation.

    Attributes
    ----------
    encoder : what is loaded where none is named; None where one must be named
    window_hu : all volumes are clipped to it first
    encoder_range : where a MedicalNet encoder sees the window
    advised_volumes : fewer of them draw a warning
    similarity_neighbours : volumes that each is compared with for MS-SSIM
    similarity_kernel : edge of its windows in voxels
    copy_below : part of the usual distance to training volumes that makes a copy
    half_samples : draws behind every interval
    wscore : protocol of the critics; see `metrics.wscore`
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ProtocolName
    encoder: str | None
    window_hu: tuple[float, float] = (-1000.0, 400.0)
    encoder_range: tuple[float, float]
    advised_volumes: int
    similarity_neighbours: int = 2
    similarity_kernel: int = KERNEL
    copy_below: float = COPY
    half_samples: int = HALVES
    wscore: ProtocolName

    @property
    def intensity(self) -> Intensity:
        """Window and range in which a MedicalNet encoder sees volumes."""
        return Intensity(window_hu=self.window_hu, model_range=self.encoder_range)


PROTOCOLS: Mapping[str, EvaluationProtocol] = MappingProxyType(
    {
        row.name: row
        for row in (
            EvaluationProtocol(
                name="paper",
                encoder=None,
                encoder_range=(0.0, 1.0),
                advised_volumes=1000,
                wscore="paper",
            ),
            EvaluationProtocol(
                name="recommended",
                encoder="phantom",
                encoder_range=(-1.0, 1.0),
                advised_volumes=200,
                wscore="recommended",
            ),
        )
    }
)

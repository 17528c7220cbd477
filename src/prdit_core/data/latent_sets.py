"""Latents of a prepared data set: what a codec made of its volumes, with their patients and split.

manifest.json        as of the volumes; its settings name the codec, the grid and the data
volumes/<id>.npy     float32, (C, d, h, w), scaled, C order
labels/<id>.npy      uint8, (D, H, W) of the volume, where they were taken along
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from prdit_core.data.datasets import LATENTS, VOLUMES, PreparedData
from prdit_core.errors import InputRejected
from prdit_core.files import shown
from prdit_core.geometry import Geometry

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from prdit_core.data.manifest import Case, Manifest

FLOATS: np.dtype[Any] = np.dtype("<f4")


class PreparedLatents(PreparedData):
    """A set of latents, open for reading; a case's `volume` is (C, d, h, w) float32."""

    @classmethod
    def _check_kind(cls, folder: Path, manifest: Manifest) -> None:
        if manifest.settings.get("kind") != LATENTS:
            raise InputRejected(
                f"{shown(folder)} holds volumes, not latents; encode them with prdit-core latents"
            )

    @property
    def geometry(self) -> Geometry:
        """Grid of the volumes that were encoded."""
        return Geometry.model_validate(self.manifest.settings["geometry"])

    @property
    def codec(self) -> str:
        """SHA-256 of the checkpoint that encoded them."""
        return str(self.manifest.settings["codec"])

    @property
    def grid(self) -> tuple[int, ...]:
        """(C, d, h, w) of every case."""
        return tuple(self.manifest.settings["latents"])

    def model_units(self, case: Case) -> NDArray[np.float32]:
        """The latents, which are what a network sees."""
        return np.array(self.checked(case), dtype=np.float32)

    def _layout(self, kind: str) -> tuple[np.dtype[Any], tuple[int, ...]]:
        return (FLOATS, self.grid) if kind == VOLUMES else super()._layout(kind)

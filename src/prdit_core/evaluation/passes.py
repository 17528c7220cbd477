"""Passes over sets of volumes for an evaluation: each volume is read, measured and let go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from prdit_core.metrics.diversity import mean_similarity, similar_pairs, viewing_order
from prdit_core.metrics.nearest import Neighbour, nearest
from prdit_core.metrics.similarity import scales_of
from prdit_core.metrics.survey import Survey
from prdit_core.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from numpy.typing import NDArray

    from prdit_core.data.volume_sets import VolumeSet
    from prdit_core.metrics.confidence import Measured
    from prdit_core.metrics.encoders import Encoder
    from prdit_core.metrics.protocols import EvaluationProtocol
    from prdit_core.metrics.wscore import CriticProtocol


@dataclass(frozen=True)
class EvaluationStep:
    """Step `index` of `total` of the work that `words` name is done."""

    words: str
    index: int
    total: int


@dataclass(frozen=True)
class Pass:
    """A set of volumes as they are looked at: HU clipped to the protocol's window.

    Attributes
    ----------
    name : of the set, for people
    """

    name: str
    volumes: VolumeSet
    protocol: EvaluationProtocol

    def clipped(self, number: int) -> Volume:
        """Volume `number` in float32."""
        volume = self.volumes.read(number)
        voxels = np.clip(volume.voxels_hu.astype(np.float32), *self.protocol.window_hu)
        return Volume(voxels, volume.affine, volume.metadata)

    def survey(self) -> Generator[EvaluationStep, None, Survey]:
        """Look at each volume once; all that cannot be used is refused here."""
        survey = Survey(self.volumes.shape, self.volumes.spacing_mm, self.protocol.window_hu)
        for number in range(len(self.volumes)):
            survey.add(self.clipped(number))
            yield self._step("looking at", number)
        return survey

    def encode(self, encoder: Encoder) -> Generator[EvaluationStep, None, NDArray[np.float64]]:
        """Features (N, F)."""
        encoded = []
        volumes = (self.clipped(number) for number in range(len(self.volumes)))
        for number, features in enumerate(encoder.features(volumes)):
            encoded.append(features)
            yield self._step("encoding", number)
        return np.stack(encoded)

    def diversity(self, seed: int) -> Generator[EvaluationStep, None, Measured | None]:
        """MS-SSIM between volumes of the set; None where they are too small for it."""
        scales = scales_of(self.volumes.shape)
        if not scales:
            return None
        low, high = self.protocol.window_hu
        order = viewing_order(len(self.volumes), seed)
        seen = ((number, self.voxels(number) - np.float32(low)) for number in order)
        pairs = []
        for pair in similar_pairs(seen, self.protocol.similarity_neighbours, high - low):
            pairs.append(pair)
            yield self._step("comparing pairs of", order.index(pair.second))
        return mean_similarity(pairs, len(order), scales, seed)

    def neighbours(
        self, training: Pass, thumbnails: NDArray[np.float32], known: dict[int, int]
    ) -> Generator[EvaluationStep, None, list[Neighbour]]:
        """The nearest training volume of each volume.

        Parameters
        ----------
        thumbnails : of the training volumes, (N, K)
        known : volumes of this set that are training volumes, which are not compared with
            themselves
        """
        neighbours = []
        for number in range(len(self.volumes)):
            voxels = self.voxels(number)
            neighbours.append(nearest(voxels, thumbnails, training.voxels, known.get(number)))
            yield self._step("looking for copies in", number)
        return neighbours

    def voxels(self, number: int) -> NDArray[np.float32]:
        """Clipped HU of volume `number`, (D, H, W)."""
        return self.clipped(number).voxels_hu

    def store(
        self, critics: CriticProtocol, file: Path
    ) -> Generator[EvaluationStep, None, NDArray[np.float32]]:
        """All volumes as critics see them, (N, D, H, W), mapped from a new file."""
        first = critics.prepare(self.clipped(0))
        stored = np.memmap(file, np.float32, "w+", shape=(len(self.volumes), *first.shape))
        for number in range(len(self.volumes)):
            stored[number] = critics.prepare(self.clipped(number))
            yield self._step("preparing for critics", number)
        return stored

    def _step(self, doing: str, number: int) -> EvaluationStep:
        return EvaluationStep(f"{doing} {self.name}", number, len(self.volumes))

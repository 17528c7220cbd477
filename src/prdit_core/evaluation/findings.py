"""What an evaluation has found so far, and how it becomes the content of evaluation.json."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from prdit_core.evaluation.sets import REAL, TRAINING
from prdit_core.machine import package_version
from prdit_core.metrics.confidence import measured_mean, measured_median
from prdit_core.metrics.evaluation import (
    ClassPoints,
    Description,
    EmbeddingEntry,
    EncoderEntry,
    Evaluation,
    Fake,
    Histogram,
    NearestEntry,
    NearestPair,
    NearestScale,
    ProjectionEntry,
    SetEntry,
    Spectrum,
)
from prdit_core.metrics.nearest import Scale
from prdit_core.metrics.projection import METHOD, principal_plane
from prdit_core.metrics.tissues import histogram_edges

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from prdit_core.data.volume_sets import VolumeSet
    from prdit_core.evaluation.sets import EvaluatedSets
    from prdit_core.metrics.confidence import Measured
    from prdit_core.metrics.encoders import Encoder
    from prdit_core.metrics.evaluation import Floor, Role
    from prdit_core.metrics.frechet import Frechet
    from prdit_core.metrics.mmd import Mmd
    from prdit_core.metrics.nearest import Neighbour
    from prdit_core.metrics.protocols import EvaluationProtocol
    from prdit_core.metrics.survey import Survey
    from prdit_core.metrics.wscore import WScore

SHOWN_PAIRS = 4


class ClassFeatures(NamedTuple):
    """Features (N, F) of real and of generated volumes of one class."""

    real: NDArray[np.float64]
    generated: NDArray[np.float64]


@dataclass(eq=False)
class Findings:
    """By name of set: surveys of all, features, MS-SSIM and neighbours of real and fakes.

    Attributes
    ----------
    beside : features of other classes by name
    distances : of each fake to the real set
    floor : of halves of the real set
    """

    sets: EvaluatedSets
    protocol: EvaluationProtocol
    encoder: Encoder
    seed: int
    surveys: dict[str, Survey] = field(default_factory=dict)
    features: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    beside: dict[str, ClassFeatures] = field(default_factory=dict)
    alike: dict[str, Measured | None] = field(default_factory=dict)
    neighbours: dict[str, list[Neighbour]] = field(default_factory=dict)
    distances: dict[str, tuple[Frechet, Mmd]] = field(default_factory=dict)
    floor: Floor | None = None

    def training_volumes_in(self, name: str) -> dict[int, int]:
        """Volumes of a set that are training volumes, each with its number there."""
        if self.sets.training is None:
            return {}
        numbers = {digest: n for n, digest in enumerate(self.surveys[TRAINING].digests)}
        digests = self.surveys[name].digests
        return {n: numbers[digest] for n, digest in enumerate(digests) if digest in numbers}

    @property
    def scale(self) -> Scale | None:
        """Usual distances to training volumes; None without training volumes."""
        return Scale.of(self.neighbours[REAL]) if REAL in self.neighbours else None

    def evaluation(self, wscore: WScore | None, warnings: Sequence[str]) -> Evaluation:
        """All findings, with what to be careful about."""
        assert self.floor is not None
        return Evaluation(
            program=package_version(),
            seed=self.seed,
            protocol=self.protocol,
            encoder=self._encoder(),
            sets={name: self._set(name, volumes) for name, volumes in self.sets.all.items()},
            floor=self.floor,
            fakes={name: self._fake(name) for name in self.sets.fakes},
            real=self._description(REAL),
            nearest_scale=self._usual(REAL) if REAL in self.neighbours else None,
            projection=self._projection(),
            embedding=self._embedding(),
            wscore=wscore,
            warnings=tuple(warnings),
        )

    def _encoder(self) -> EncoderEntry:
        encoder = self.encoder
        return EncoderEntry(
            name=encoder.name,
            sha256=encoder.digest,
            features=encoder.feature_count,
            comparable=encoder.comparable,
            preparation=encoder.preparation,
        )

    def _set(self, name: str, volumes: VolumeSet) -> SetEntry:
        roles: dict[str, Role] = {REAL: "real", TRAINING: "training"}
        return SetEntry(
            path=str(volumes.path),
            count=len(volumes),
            shape=volumes.shape,
            spacing_mm=volumes.spacing_mm,
            role=roles.get(name, "fake"),
            part=volumes.part,
            checkpoint_sha256=volumes.checkpoint(),
        )

    def _fake(self, name: str) -> Fake:
        distance, discrepancy = self.distances[name]
        return Fake(
            **dict(self._description(name)),
            fid=distance.biased,
            fid_unbiased=distance.unbiased,
            mmd=discrepancy.biased,
            mmd_unbiased=discrepancy.unbiased,
            nearest=self._nearest(name),
        )

    def _description(self, name: str) -> Description:
        survey = self.surveys[name]
        tissues = {
            tissue: measured_mean(np.array([shares[tissue] for shares in survey.tissues]))
            for tissue in survey.tissues[0]
        }
        return Description(
            ms_ssim=self.alike[name],
            tissues={tissue: share.value for tissue, share in tissues.items()},
            tissue_intervals={tissue: _interval(share) for tissue, share in tissues.items()},
            histogram=Histogram(
                edges_hu=tuple(histogram_edges(self.protocol.window_hu)),
                share=tuple(survey.mean_histogram),
            ),
            spectrum=_spectrum(survey),
        )

    def _nearest(self, name: str) -> NearestEntry | None:
        scale = self.scale
        if scale is None:
            return None
        neighbours = self.neighbours[name]
        order = sorted(range(len(neighbours)), key=lambda number: neighbours[number].distance_hu)
        return NearestEntry(
            **dict(self._usual(name)),
            flagged=tuple(self._pair(name, n) for n in order if scale.is_copy(neighbours[n])),
            pairs=tuple(self._pair(name, n) for n in order[:SHOWN_PAIRS]),
        )

    def _usual(self, name: str) -> NearestScale:
        """Distances of a set to the training volumes."""
        away = np.array([neighbour.distance_hu for neighbour in self.neighbours[name]])
        return NearestScale(median=measured_median(away, self.seed), least=float(away.min()))

    def _pair(self, name: str, number: int) -> NearestPair:
        neighbour = self.neighbours[name][number]
        sets = self.sets.all
        return NearestPair(
            fake=sets[name].names[number],
            training=sets[TRAINING].names[neighbour.number],
            distance=neighbour.distance_hu,
        )

    def _projection(self) -> ProjectionEntry:
        plane = principal_plane(self.features)
        return ProjectionEntry(
            method=METHOD,
            explained=plane.explained,
            points={name: tuple(map(tuple, points)) for name, points in plane.points.items()},
        )

    def _embedding(self) -> EmbeddingEntry | None:
        """The evaluated class, and the others beside it, on a plane of all of them."""
        if self.sets.label is None:
            return None
        model = next(iter(self.sets.fakes))
        own = ClassFeatures(self.features[REAL], self.features[model])
        classes = {self.sets.label: own, **self.beside}
        plane = principal_plane(
            {(name, kind): x for name, of in classes.items() for kind, x in of._asdict().items()}
        )
        return EmbeddingEntry(
            model=model,
            method=METHOD,
            explained=plane.explained,
            points={
                name: ClassPoints.model_validate(
                    {kind: plane.points[name, kind].tolist() for kind in ClassFeatures._fields}
                )
                for name in classes
            },
        )


def _interval(share: Measured) -> tuple[float, float] | None:
    """Of a share, which is 0 to 1."""
    if share.low is None or share.high is None:
        return None
    return max(0.0, share.low), min(1.0, share.high)


def _spectrum(survey: Survey) -> Spectrum:
    bands = [measured_mean(energies) for energies in np.stack(survey.spectra, axis=1)]
    low, high = [band.low for band in bands], [band.high for band in bands]
    known = None not in low
    return Spectrum(
        limits_mm=(None, *survey.bands.limits_mm[1:]),
        energy=tuple(band.value for band in bands),
        low=tuple(max(0.0, end) for end in low if end is not None) if known else None,
        high=tuple(end for end in high if end is not None) if known else None,
    )

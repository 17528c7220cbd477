"""What an evaluation found: the content of evaluation.json."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError

from prdit_core.errors import InputRejected
from prdit_core.files import shown
from prdit_core.metrics.confidence import Measured
from prdit_core.metrics.protocols import EvaluationProtocol
from prdit_core.metrics.wscore import WScore

if TYPE_CHECKING:
    from pathlib import Path

NOTICE = "generated volumes are synthetic, not for diagnosis"
Role = Literal["real", "fake", "training"]
Interval = tuple[FiniteFloat, FiniteFloat]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EncoderEntry(_Entry):
    """Which encoder made the features; `comparable` says with what its distances compare."""

    name: str
    sha256: str
    features: int
    comparable: str
    preparation: str


class SetEntry(_Entry):
    """A set of volumes; `part` is that of a prepared data set."""

    path: str
    count: int
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    role: Role
    part: Literal["all", "train", "validation"]
    checkpoint_sha256: str | None


class Histogram(_Entry):
    """Share of the voxels between neighbouring edges, mean over volumes."""

    edges_hu: tuple[float, ...]
    share: tuple[float, ...]


class Spectrum(_Entry):
    """Mean square of the gradient in HU² / mm² by size of detail, coarsest first.

    Attributes
    ----------
    limits_mm : falling, one more than bands; the first is None: without limit
    energy, low, high : mean over volumes and its interval; None where there are too few volumes
    """

    limits_mm: tuple[float | None, ...]
    energy: tuple[FiniteFloat, ...]
    low: tuple[FiniteFloat, ...] | None
    high: tuple[FiniteFloat, ...] | None


class Description(_Entry):
    """What is said of each set alone.

    Attributes
    ----------
    ms_ssim : None where an edge is shorter than the window
    tissues, tissue_intervals : share of the voxels of each tissue and its interval; None where
        there are too few volumes for one
    """

    ms_ssim: Measured | None
    tissues: dict[str, float]
    tissue_intervals: dict[str, Interval | None]
    histogram: Histogram
    spectrum: Spectrum


class NearestPair(_Entry):
    """A volume and the training volume nearest to it; root mean square difference in HU."""

    fake: str
    training: str
    distance: FiniteFloat


class NearestScale(_Entry):
    """Distances of real volumes to the nearest training volume, in HU."""

    median: Measured
    least: FiniteFloat


class NearestEntry(NearestScale):
    """The same of a fake: the copies among its volumes, and the nearest pairs."""

    flagged: tuple[NearestPair, ...]
    pairs: tuple[NearestPair, ...]


class Fake(Description):
    """What a model made, against the real set."""

    fid: Measured
    fid_unbiased: Measured | None
    mmd: Measured
    mmd_unbiased: Measured
    nearest: NearestEntry | None


class Floor(_Entry):
    """Halves of the real set against each other; None where it is too small to be split."""

    fid: Measured | None
    fid_unbiased: Measured | None
    mmd: Measured | None
    mmd_unbiased: Measured | None


class ProjectionEntry(_Entry):
    """Features of all volumes on a plane; `explained` are shares of the variance."""

    method: str
    explained: tuple[float, float]
    points: dict[str, tuple[tuple[float, float], ...]]


class ClassPoints(_Entry):
    """Real and generated volumes of one class."""

    real: tuple[tuple[float, float], ...]
    generated: tuple[tuple[float, float], ...]


class EmbeddingEntry(_Entry):
    """Features of a model's volumes and of real ones, class by class, on one plane.

    Attributes
    ----------
    model : the fake whose volumes they are
    points : by class; that which is evaluated is the first
    """

    model: str
    method: str
    explained: tuple[float, float]
    points: dict[str, ClassPoints]


class Evaluation(_Entry):
    """Everything; see docs/evaluation.md for what the numbers mean."""

    format: Literal["prdit-evaluation"] = "prdit-evaluation"
    version: Literal[1] = 1
    notice: str = NOTICE
    program: str
    seed: int
    protocol: EvaluationProtocol
    encoder: EncoderEntry
    sets: dict[str, SetEntry]
    floor: Floor
    fakes: dict[str, Fake]
    real: Description
    nearest_scale: NearestScale | None
    projection: ProjectionEntry
    embedding: EmbeddingEntry | None = None
    wscore: WScore | None
    warnings: tuple[str, ...]

    @property
    def real_name(self) -> str:
        """What the real set is called."""
        return next((name for name, entry in self.sets.items() if entry.role == "real"), "real")

    @property
    def training_name(self) -> str:
        """What the set that was trained on is called."""
        named = (name for name, entry in self.sets.items() if entry.role == "training")
        return next(named, "training")


def read_evaluation(file: Path) -> Evaluation:
    """Read an evaluation.json.

    Raises
    ------
    InputRejected
        If it cannot be read or is none.
    """
    try:
        return Evaluation.model_validate_json(file.read_bytes())
    except OSError as error:
        raise InputRejected(f"cannot read {shown(file)}: {error.strerror}") from error
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"]) or "content"
        raise InputRejected(
            f"{shown(file)} is no evaluation of this version (at {shown(where)}); evaluate again"
        ) from error

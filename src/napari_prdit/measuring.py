"""How a measurement comes about in the dock: simulated from a scan, by a task, or read from a file.

Nothing here needs torch before something is measured.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from napari_prdit.inspector import scan_of
from prdit_core.errors import UsageError
from prdit_core.geometry import by

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_prdit.layers import LayerData
    from prdit_core import Measurement
    from prdit_core.config import OperatorName
    from prdit_core.volume import Volume

Setting = Literal["views", "arc", "dose", "noise seed", "factor", "blur"]
_RAYS: tuple[Setting, ...] = ("views", "arc", "dose", "noise seed")
Beam = Literal["parallel", "fan", "cone"]
# Degrees that see all of a volume, by beam.
WHOLE_ARC: Mapping[Beam, int] = {"parallel": 180, "fan": 360, "cone": 360}
NOISELESS = "no noise"
# Photons sent along each ray, by the words of the form.
DOSES: Mapping[str, float | None] = {
    NOISELESS: None,
    "1,000,000 photons a ray": 1e6,
    "100,000 photons a ray": 1e5,
    "10,000 photons a ray": 1e4,
    "1,000 photons a ray": 1e3,
}
USUAL_DOSE, LOW_DOSE = "100,000 photons a ray", "10,000 photons a ray"


@dataclass(frozen=True)
class Scanner:
    """Settings of what measures; each task heeds some of them.

    Attributes
    ----------
    views : how many
    arc_deg : degrees that they cover; see `WHOLE_ARC`
    dose : one of `DOSES`
    seed : of the photon noise
    factor : edge of the blocks that are averaged, in voxels
    blur : standard deviation of a Gaussian, in voxels
    beam : of rays
    """

    views: int = 20
    arc_deg: int = 180
    dose: str = USUAL_DOSE
    seed: int = 0
    factor: int = 2
    blur: float = 1.5
    beam: Beam = "parallel"


@dataclass(frozen=True)
class ScanTask:
    """What a measurement lacks, and which settings make it so.

    Attributes
    ----------
    words : for a list to choose from
    explains : what is asked, in a sentence or two
    operator : that measures; where there are rays the beam of the scanner does
    settings : that it heeds
    scanner : its usual settings
    """

    words: str
    explains: str
    operator: OperatorName
    settings: tuple[Setting, ...]
    scanner: Scanner = field(default_factory=Scanner)

    @property
    def has_rays(self) -> bool:
        """Whether projections are measured, so that there is a sinogram."""
        return "views" in self.settings


TASKS: Mapping[str, ScanTask] = {
    "few views": ScanTask(
        "Few views",
        "A scanner took only a few X-ray views around the patient. What lies between them?",
        "parallel",
        _RAYS,
        Scanner(views=8),
    ),
    "limited angle": ScanTask(
        "Limited angle",
        "The scanner could not go all the way round: views from a wedge are missing.",
        "parallel",
        _RAYS,
        Scanner(views=40, arc_deg=120),
    ),
    "low dose": ScanTask(
        "Low dose",
        "Enough views, but few photons: the data are noisy.",
        "parallel",
        _RAYS,
        Scanner(views=60, dose=LOW_DOSE),
    ),
    "super-resolution": ScanTask(
        "Super-resolution",
        "Each block of voxels was averaged into one. What did the fine voxels look like?",
        "super-resolution",
        ("factor",),
    ),
    "deblur": ScanTask(
        "Deblur",
        "The volume was blurred. What did it look like before?",
        "blur",
        ("blur",),
    ),
}


@dataclass(frozen=True, eq=False)
class MeasuredData:
    """A measurement, and what it was made from where that is known.

    Attributes
    ----------
    truth : on the grid that is reconstructed; None for a measurement from a file
    notes : what is worth knowing of how it came about
    """

    measurement: Measurement
    truth: Volume | None
    notes: tuple[str, ...] = ()


class MeasuredSource(Protocol):
    """Where a measurement comes from."""

    def measured(self) -> MeasuredData:
        """Measure, or read; errors are those of `prdit_core`."""


@dataclass(frozen=True, eq=False)
class Simulation:
    """A scan that is brought to a model's grid and measured there.

    Attributes
    ----------
    scan : a layer as napari hands it to writers
    checkpoint, size : the model and the resolution of its chain that will reconstruct it
    """

    scan: LayerData
    checkpoint: str
    size: int | None
    task: ScanTask
    scanner: Scanner

    def measured(self) -> MeasuredData:
        """Projections come from voxels twice as fine as those that are reconstructed."""
        from prdit_core.checkpoints.expected_data import expected_by
        from prdit_core.data.transforms import conform
        from prdit_core.verbs.simulate import coarser, simulate, spec_for

        expected = expected_by(self.checkpoint, self.size)
        finer = 2 if self.task.has_rays else 1
        conformed = conform(scan_of(*self.scan[:2]), expected.preset, expected.size * finer)
        target = coarser(conformed.volume) if self.task.has_rays else conformed.volume
        spec = spec_for(
            self.scanner.beam if self.task.has_rays else self.task.operator,
            target,
            views=self.scanner.views,
            arc_deg=float(self.scanner.arc_deg),
            factor=self.scanner.factor,
            sigma=self.scanner.blur,
        )
        photons = DOSES[self.scanner.dose] if self.task.has_rays else None
        measurement = simulate(conformed.volume, spec, photons=photons, seed=self.scanner.seed)
        return MeasuredData(measurement, target, tuple(conformed.notes))


@dataclass(frozen=True)
class MeasurementFile:
    """A measurement of ours or of a scanner.

    Attributes
    ----------
    stated : fields of `RawOptions` that were given
    """

    path: str
    stated: Mapping[str, Any] = field(default_factory=dict)

    def measured(self) -> MeasuredData:
        """Read and judged."""
        from prdit_core import RawOptions, open_measurement

        if not self.path:
            raise UsageError("choose a measurement file first, or drop one on the field")
        measurement = open_measurement(Path(self.path).expanduser(), RawOptions(**self.stated))
        return MeasuredData(measurement, None, tuple(measurement.metadata.get("notes", ())))


def described(measured: MeasuredData) -> str:
    """What was measured, and how far it can be believed, in a sentence or two."""
    spec, sinogram = measured.measurement.spec, measured.measurement.sinogram
    views = "" if sinogram is None else f"{sinogram.shape[1]} {spec.kind} views of "
    what = f"{views}{by(spec.shape)} voxels"
    if measured.truth is None:
        return f"Measured: {what}."
    if measured.measurement.metadata.get("inverse_crime"):
        return (
            f"Simulated from the scan: {what}. The data come from the very grid that is "
            "reconstructed, without noise: results are better than a scanner's would be."
        )
    return f"Simulated from the scan: {what}, measured on voxels twice as fine."

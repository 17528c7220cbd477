"""Reconstructing beside the window: what is requested, the events that follow, and their words."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_prdit.generation import loaded, watched
from napari_prdit.saving import SavedFile
from napari_prdit.writer import named_file
from prdit_core.provenance import ESTIMATE

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping

    from napari_prdit.jobs import Control, Mailbox
    from napari_prdit.measuring import MeasuredSource
    from prdit_core import Measurement, SampleStep
    from prdit_core.config import CouplingName, LastStepName, SamplingConfig
    from prdit_core.verbs.assess import Assessment
    from prdit_core.verbs.classical import ClassicalMethod
    from prdit_core.volume import Volume

# Keys of the volumes of a reconstruction.
TRUTH, SAMPLE, MEAN, SPREAD = "truth", "sample", "mean", "spread"
DETERMINED, IMAGINED = "determined", "imagined"
MODEL = "model"
PARTS = (SPREAD, DETERMINED, IMAGINED)
METHODS: dict[ClassicalMethod, str] = {
    "fbp": "FBP",
    "sirt": "SIRT",
    "zero-filling": "Zero filling",
    "cg": "CG",
    "tv": "TV",
}
STEPS, SAMPLES = 20, 4
COUPLINGS: dict[CouplingName, str] = {
    "cg": "conjugate gradients from what the model predicts",
    "dds": "the same on a DDIM walk",
    "prox": "prediction and data weighed by their errors",
    "pigdm": "PiGDM, by the derivative of the network; several times as slow",
    "posterior": "moment matching by the derivative; several times as slow",
    "guidance": "pushes the state down the misfit, as TF-PRDiT does",
}
# Those that need the error of the network.
CALIBRATED: tuple[CouplingName, ...] = ("prox", "pigdm")
LAST_STEPS: dict[LastStepName, str] = {
    "tv": "a little total variation, which takes grain away",
    "none": "samples as they are",
}
# Methods that only make sense of rays, and of k-space, which no task has yet.
OF_RAYS: tuple[ClassicalMethod, ...] = ("fbp", "sirt")
OF_KSPACE: tuple[ClassicalMethod, ...] = ("zero-filling",)


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """Samples of a model that fit a measurement, as they are requested.

    Attributes
    ----------
    size : of the resolutions of a chain; None: that of the measurement
    iterations : of conjugate gradients at every step; None: as many as the coupling has
    calibration : file with the error of the network; empty: that beside the weights
    last_step : after the walk, of projections
    paper : settings of the walk of the model's own paper; None: the usual ones
    seed : of the first sample; all have the same, and differ by their index
    """

    source: MeasuredSource
    checkpoint: str
    size: int | None
    device: str
    steps: int = STEPS
    coupling: CouplingName = "cg"
    iterations: int | None = None
    calibration: str = ""
    last_step: LastStepName = "tv"
    paper: SamplingConfig | None = None
    seed: int = 0
    count: int = SAMPLES


@dataclass(frozen=True, eq=False)
class Frame:
    """What a method has come to, to be looked at."""

    method: str
    volume: Volume


@dataclass(frozen=True, eq=False)
class Sample:
    """One is finished, or was stopped on the way, and then says that it is an estimate."""

    number: int
    volume: Volume


@dataclass(frozen=True, eq=False)
class Assessed:
    """What a method, or the model with all its samples, came to."""

    method: str
    assessment: Assessment


@dataclass(eq=False)
class Misfits:
    """How the misfit of the data falls: a curve for each sample, growing while it is looked at."""

    curves: list[list[float]] = field(default_factory=list)

    def along(
        self, walk: Iterator[SampleStep], misfit: Callable[[Any], float]
    ) -> Iterator[SampleStep]:
        """The walk, and with it one more curve."""
        curve: list[float] = []
        self.curves.append(curve)
        for step in walk:
            curve.append(misfit(step.x0))
            yield step


def reconstruct_work(
    request: Reconstruction, frames: Mailbox[Frame], misfits: Misfits, control: Control
) -> Generator[Any]:
    """Measure, load the model and make all samples; what was stopped at the first is assessed."""
    measured = request.source.measured()
    yield measured
    prior = loaded(request.checkpoint, request.size, request.device)
    from prdit_core import Coupling
    from prdit_core.verbs.assess import assess
    from prdit_core.verbs.reconstruct import fitting, prior_steps, prior_volume, problem_of
    from prdit_core.verbs.ways import calibration_for

    prior = fitting(prior, measured.measurement, request.size)
    problem = problem_of(prior, measured.measurement, None)
    file = Path(request.calibration).expanduser() if request.calibration else None
    errors = calibration_for(request.coupling, file, request.checkpoint, prior)
    coupling = Coupling(request.coupling, request.iterations, errors, request.last_step)
    paper = {} if request.paper is None else dict(request.paper)
    config = coupling.walk(**{**paper, "steps": request.steps})
    # The last step takes as long as several of the walk, so pictures do without.
    bare = replace(coupling, last_step="none")
    finished: list[Volume] = []
    for number in range(request.count):
        volume_of = partial(prior_volume, prior, problem, config, seed=request.seed, index=number)

        def picture(step: SampleStep, volume_of: Callable[..., Volume] = volume_of) -> Frame:
            return Frame(MODEL, volume_of(bare, step))

        walk = prior_steps(prior, problem, config, coupling, seed=request.seed, index=number)
        walk = misfits.along(walk, problem.misfit)
        last = yield from watched(walk, picture, control, frames, number, request.count)
        volume = volume_of(coupling, last)
        if not finished or ESTIMATE not in volume.metadata:
            finished.append(volume)
            yield Sample(number, volume)
        if control.stopped:
            break
    yield Assessed(MODEL, assess(measured.measurement, finished, measured.truth))


def compare_work(
    source: MeasuredSource, method: ClassicalMethod, frames: Mailbox[Frame], control: Control
) -> Generator[Any]:
    """Measure, and reconstruct without a model; what is stopped leaves nothing."""
    measured = source.measured()
    yield measured
    from prdit_core.machine import interruptible, use_threads
    from prdit_core.verbs.assess import assess
    from prdit_core.verbs.ways import classical

    with interruptible(control.raise_if_stopped):  # tuning TV on a phantom takes a minute
        way = classical(
            measured.measurement,
            method,
            iterations=None,
            strength=None,
            device="cpu",
            threads=use_threads(None),
        )

    def picture(step: Any) -> Frame:
        return Frame(method, way.volume(step, 0))

    last = yield from watched(way.steps(0), picture, control, frames, 0, 1)
    if not control.stopped:
        yield Assessed(method, assess(measured.measurement, [way.volume(last, 0)], measured.truth))


def psnr_in_words(numbers: Mapping[str, Any]) -> str:
    """Against the truth, such as "22.4 dB", from numbers of `assess`; empty where it is unknown."""
    grey = numbers.get("grey")
    if grey is None:
        return ""
    return "no error" if grey["psnr"] is None else f"{grey['psnr']:.1f} dB"


def share_in_words(share: float) -> str:
    """Such as "3.2 %"."""
    return f"{100 * share:.2g} %"


def ending(assessment: Assessment, took: str) -> str:
    """How the samples of a model ended, in words."""
    metadata, count = assessment.volume.metadata, assessment.count
    if ESTIMATE in metadata:
        step = f"step {metadata[ESTIMATE]} of {metadata['steps']}"
        return f"Stopped after {step}; what is shown is the estimate there"
    what = f"mean of {count} samples" if count > 1 else "one sample, which shows no uncertainty"
    numbers = assessment.numbers["volume"]
    psnr = psnr_in_words(numbers)
    truth = f", {psnr} against the truth" if psnr else ""
    return (
        f"Done in {took}: {what}{truth}, misfit {share_in_words(numbers['misfit'])}. "
        "Partly imagined, not for diagnosis"
    )


def ending_of_method(assessment: Assessment) -> str:
    """How a method without a model ended, in words."""
    metadata, numbers = assessment.volume.metadata, assessment.numbers["volume"]
    psnr = psnr_in_words(numbers)
    truth = f"{psnr} against the truth, " if psnr else ""
    source = metadata.get("strength_source")
    strength = f"; strength {metadata['strength']:.2g}, {source}" if source else ""
    method = METHODS[metadata["method"]]
    return f"{method}: {truth}misfit {share_in_words(numbers['misfit'])}{strength}"


def save_measurement_work(measurement: Measurement, place: Path) -> Generator[SavedFile]:
    """Write a measurement as .npz; a file that is there is not replaced unless it was named."""
    from prdit_core import write_measurement

    yield SavedFile(write_measurement(measurement, named_file(str(place), (".npz",))))

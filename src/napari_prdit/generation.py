"""Generating volumes beside the window: what is asked for, and the events that come back."""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_prdit.replay import Moment
from prdit_core.presets import PRESETS

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from numpy.typing import NDArray

    from napari_prdit.jobs import Control, Mailbox
    from napari_prdit.replay import Recording
    from prdit_core import Prior, SampleStep, Volume
    from prdit_core.config import SamplingConfig
    from prdit_core.intensity import Intensity


@dataclass(frozen=True)
class Request:
    """Everything a series of volumes depends on; the size is one of a chain's, else None."""

    checkpoint: str
    size: int | None
    seed: int
    count: int
    config: SamplingConfig
    device: str

    def command(self) -> str:
        """The same volumes by the command line."""
        words = ["prdit-core", "generate", "--checkpoint", self.checkpoint]
        words += [] if self.size is None else ["--size", str(self.size)]
        words += ["--count", str(self.count), "--seed", str(self.seed), "--device", self.device]
        words += preset_words(self.config)
        return shlex.join([*words, "--out", "volumes"])


def preset_words(config: SamplingConfig) -> list[str]:
    """Options of the command that give these settings."""
    for preset_name, preset in PRESETS.items():
        if preset.config == config:
            return ["--preset", preset_name]
    words = ["--preset", "paper"]  # which has no rule of refreshing that could not be undone
    for name, value in config.model_dump(exclude_none=True).items():
        text = f"{value:g}" if isinstance(value, float) else str(value)
        words += [f"--{name.replace('_', '-')}", text]
    return words


@dataclass(frozen=True)
class Prepared:
    """The checkpoint is loaded: grid, place and units of what will come."""

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    intensity: Intensity
    total: int
    count: int


@dataclass(frozen=True)
class Progress:
    """A step was done."""

    volume: int
    index: int
    total: int
    t: float
    seconds_per_step: float
    seconds_left: float


@dataclass(frozen=True)
class Done:
    """A volume is finished; `partial` if it was stopped on the way, at step `index` of `total`."""

    volume: int
    result: Volume
    partial: bool


@dataclass(frozen=True)
class Summary:
    """Mean and spread (standard deviation) over all volumes of a series, HU."""

    mean: Volume
    spread: Volume
    count: int


@dataclass(frozen=True)
class Frame:
    """What the live view shows: a step's x0 in HU."""

    index: int
    voxels_hu: NDArray[np.float32]


@dataclass(frozen=True)
class Watch:
    """Where a walk is seen from outside while it goes on."""

    control: Control
    frames: Mailbox[Frame]
    recording: Recording


def generate_work(request: Request, watch: Watch) -> Generator[Any]:
    """Load the checkpoint and make all volumes; where it is stopped the last one is partial."""
    from prdit_core import generate_steps

    prior = _loaded(request)
    yield _prepared(prior, request)
    sums = _Sums()
    for index in range(request.count):
        walk = generate_steps(prior, request.config, seed=request.seed, index=index)
        last = yield from _watched(walk, prior, watch, index, request)
        done = _done(prior, last, request, volume=index, seed=request.seed, origin={})
        sums.add(done.result.voxels_hu)
        yield done
        if watch.control.stopped:
            return
    if request.count > 1:
        yield sums.summary(done.result)


def branch_work(request: Request, step: int, seed: int, watch: Watch) -> Generator[Any]:
    """Go on from a recorded step with another seed; see `prdit_core.branch_steps`."""
    from prdit_core import branch_steps

    prior, single = _loaded(request), replace(request, count=1)
    yield _prepared(prior, single)
    moment = watch.recording.at(step)
    walk = branch_steps(prior, moment.x0, moment.index, request.config, seed=seed)
    last = yield from _watched(walk, prior, watch, 0, single)
    origin = {"branch_of_seed": request.seed, "branch_step": moment.index}
    yield _done(prior, last, request, volume=0, seed=seed, origin=origin)


def _done(
    prior: Prior,
    last: SampleStep,
    request: Request,
    *,
    volume: int,
    seed: int,
    origin: dict[str, Any],
) -> Done:
    from prdit_core.verbs.generate import finished_volume

    made = finished_volume(prior, request.config, last, seed=seed, index=volume)
    partial = last.index + 1 < last.total
    stopped = {"stopped_after": last.index + 1} if partial else {}
    return Done(volume, _noted(made, origin | stopped), partial)


def _loaded(request: Request) -> Prior:
    from prdit_core import load
    from prdit_core.machine import choose_device, use_threads

    _warm_up()
    use_threads()
    prior = load(request.checkpoint, choose_device(request.device)).at_size(request.size)
    prior.check_hu()
    return prior


def _warm_up() -> None:
    """Import here what the first layer of a session would import in the window's thread: 1 s."""
    import pint
    import scipy.ndimage  # noqa: F401

    pint.application_registry.parse_units("mm")


def _prepared(prior: Prior, request: Request) -> Prepared:
    from prdit_core.volume import axial_affine

    geometry = prior.geometry
    return Prepared(
        shape=geometry.shape,
        affine=axial_affine(geometry.spacing_mm, geometry.shape),
        intensity=prior.intensity,
        total=request.config.steps,
        count=request.count,
    )


def _watched(
    walk: Iterator[SampleStep], prior: Prior, watch: Watch, volume: int, request: Request
) -> Generator[Progress, None, SampleStep]:
    """Tell of every step, keep it, show it if somebody looks; the last one that was done."""
    begun, spent = time.monotonic(), 0
    for step in walk:
        spent += 1
        x0 = step.x0.float().cpu().numpy()
        watch.recording.add(Moment(step.index, step.t, step.x_t.float().cpu().numpy(), x0))
        if watch.frames.wanted or step.index + 1 == step.total:
            watch.frames.put(Frame(step.index, prior.intensity.to_hu(x0[0, 0])))
        pace = (time.monotonic() - begun) / spent
        left = step.total - step.index - 1 + (request.count - volume - 1) * step.total
        yield Progress(volume, step.index, step.total, step.t, pace, pace * left)
        if not watch.control.may_go_on():
            break
    return step


def _noted(volume: Volume, more: dict[str, Any]) -> Volume:
    return replace(volume, metadata={**volume.metadata, **more})


class _Sums:
    """Mean and variance of volumes that are not kept (Welford)."""

    def __init__(self) -> None:
        self.count = 0
        self._mean: Any = 0.0
        self._squares: Any = 0.0

    def add(self, voxels: NDArray[np.float32]) -> None:
        self.count += 1
        away = voxels.astype(np.float64) - self._mean
        self._mean = self._mean + away / self.count
        self._squares = self._squares + away * (voxels - self._mean)

    def summary(self, example: Volume) -> Summary:
        spread = np.sqrt(self._squares / max(self.count - 1, 1)).astype(np.float32)
        note = {"volumes": self.count}
        return Summary(
            mean=_noted(replace(example, voxels_hu=self._mean.astype(np.float32)), note),
            spread=_noted(replace(example, voxels_hu=spread), note | {"kind": "spread"}),
            count=self.count,
        )

"""Generating volumes beside the window: what is asked for, and the events that come back."""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from napari_prdit.replay import Moment
from prdit_core.config import Branch
from prdit_core.presets import SAMPLING_PRESETS, sampling_preset
from prdit_core.provenance import estimate_stamp
from prdit_core.series import Sums

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from napari_prdit.jobs import Control, Mailbox
    from napari_prdit.replay import Recording
    from prdit_core import Prior, SampleStep, Volume
    from prdit_core.config import NetworkConfig, SamplingConfig

    Seen = Callable[[NDArray[np.float32]], NDArray[np.float32]]


class Step(Protocol):
    """What all long work tells of a step."""

    @property
    def index(self) -> int:
        """From 0."""

    @property
    def total(self) -> int:
        """At most."""


StepT = TypeVar("StepT", bound=Step)
FrameT = TypeVar("FrameT")


@dataclass(frozen=True)
class Request:
    """Everything a series of volumes depends on.

    Attributes
    ----------
    network : of the checkpoint, which says what a preset means; None: not known
    size : one of the model's, else None
    label : class of the volumes, of a model that has several
    index : of the first volume
    branches : where the walk goes on with other noise
    """

    checkpoint: str
    size: int | None
    seed: int
    count: int
    config: SamplingConfig
    device: str
    index: int = 0
    branches: tuple[Branch, ...] = ()
    network: NetworkConfig | None = None
    label: str | None = None

    def command(self) -> str:
        """The same volumes by the command line."""
        words = ["prdit-core", "generate", "--checkpoint", self.checkpoint]
        words += [] if self.label is None else ["--class", self.label]
        words += [] if self.size is None else ["--size", str(self.size)]
        words += ["--count", str(self.count), "--seed", str(self.seed), "--device", self.device]
        words += ["--index", str(self.index)] if self.index else []
        words += preset_words(self.config, self.network)
        for branch in self.branches:
            words += ["--branch", str(branch)]
        return shlex.join([*words, "--out", "volumes"])

    def branched(self, volume: int, step: int, seed: int) -> Request:
        """One volume of this series, going on from `step` (from 0) with another seed.

        A branch that leaves after that step is no part of it.
        """
        before = tuple(branch for branch in self.branches if branch.step <= step)
        branches = (*before, Branch(step, seed))
        return replace(self, index=self.index + volume, count=1, branches=branches)

    @property
    def tells_pace(self) -> bool:
        """Whether each of its steps is one evaluation of the whole network."""
        reused = self.config.refresh_every or self.config.refresh_change
        return not reused and self.config.sampler != "heun"


def preset_words(config: SamplingConfig, network: NetworkConfig | None) -> list[str]:
    """Options of the command that give these settings to such a model."""
    for name in SAMPLING_PRESETS:
        if sampling_preset(name, network) == config:
            return ["--preset", name]
    words = ["--preset", "paper"]  # which has no rule of refreshing that could not be undone
    for setting, value in config.model_dump(exclude_none=True).items():
        text = f"{value:g}" if isinstance(value, float) else str(value)
        words += [f"--{setting.replace('_', '-')}", text]
    return words


@dataclass(frozen=True)
class PreparedWalk:
    """The checkpoint is loaded, and the first step begins.

    Attributes
    ----------
    seen : shows a recorded state
    edge : of the volumes that come, in voxels
    digest : of the checkpoint
    threads : CPU threads in use
    """

    request: Request
    seen: Seen
    edge: int
    digest: str
    threads: int


@dataclass(frozen=True)
class Progress:
    """A step was done."""

    volume: int
    index: int
    total: int
    seconds_per_step: float
    seconds_left: float


@dataclass(frozen=True)
class Done:
    """A volume is finished, or was stopped on the way, and then says that it is an estimate."""

    volume: int
    result: Volume


@dataclass(frozen=True)
class Watch:
    """Where a walk is seen from outside while it goes on."""

    control: Control
    frames: Mailbox[Volume]
    recording: Recording


def generate_work(request: Request, watch: Watch) -> Generator[Any]:
    """Load the checkpoint and make all volumes; where it is stopped the last one is partial."""
    from prdit_core import generate_steps

    prior = loaded(request.checkpoint, request.size, request.device, request.label)
    watch.recording.forget_from(0)
    yield _prepared(prior, request)
    sums = Sums()
    for volume in range(request.count):
        walk = generate_steps(
            prior,
            request.config,
            seed=request.seed,
            index=request.index + volume,
            branches=request.branches,
        )
        done = yield from _made(walk, prior, watch, volume, request)
        sums.add(done.result.voxels_hu)
        yield done
        if watch.control.stopped:
            return
    if request.count > 1:
        yield sums.summary(done.result)


def branch_work(request: Request, watch: Watch) -> Generator[Any]:
    """Make the last of the request's branches, off the step that is recorded."""
    from prdit_core import branch_steps

    prior = loaded(request.checkpoint, request.size, request.device, request.label)
    branch = request.branches[-1]
    moment = watch.recording.at(branch.step)
    watch.recording.forget_from(branch.step)
    yield _prepared(prior, request)
    walk = branch_steps(
        prior, moment.x0, branch.step, request.config, seed=branch.seed, index=request.index
    )
    yield (yield from _made(walk, prior, watch, 0, request))


def estimate_at(moment: Moment, finished: Volume, seen: Seen) -> Volume:
    """What the model thought at a step that the finished volume would be, and says so."""
    return replace(
        finished,
        voxels_hu=seen(moment.x0),
        metadata=estimate_stamp(finished.metadata, moment.index),
    )


def loaded(checkpoint: str, size: int | None, device: str, label: str | None = None) -> Prior:
    """Load and verify a checkpoint that makes volumes, in the worker."""
    from prdit_core import load
    from prdit_core.machine import choose_device, use_threads

    _warm_up()
    use_threads()
    prior = load(checkpoint, choose_device(device)).of_class(label).at_size(size)
    prior.check_volume()
    return prior


def _warm_up() -> None:
    """Import here what the first layer of a session would import in the window's thread: 1 s."""
    import pint
    import scipy.ndimage  # noqa: F401

    pint.application_registry.parse_units("mm")


def _prepared(prior: Prior, request: Request) -> PreparedWalk:
    from prdit_core.machine import default_threads
    from prdit_core.verbs.step_volume import previewer

    edge = prior.geometry.shape[0]
    return PreparedWalk(request, previewer(prior), edge, prior.digest, default_threads())


def watched(
    walk: Iterator[StepT],
    picture: Callable[[StepT], FrameT],
    control: Control,
    frames: Mailbox[FrameT],
    volume: int,
    count: int,
) -> Generator[Progress, None, StepT]:
    """Tell of every step, show it if somebody looks; the last one that was done.

    Parameters
    ----------
    picture : what to show of a step
    volume : which of `count` it is, from 0
    """
    begun, spent, worked = time.monotonic(), 0, 0.0
    for step in _interrupted(walk, control):
        spent += 1
        if frames.wanted:
            frames.put(picture(step))
        worked += time.monotonic() - begun
        pace = worked / spent
        left = step.total - step.index - 1 + (count - volume - 1) * step.total
        yield Progress(volume, step.index, step.total, pace, pace * left)
        if not control.may_go_on():
            break
        begun = time.monotonic()
    return step


def _made(
    walk: Iterator[SampleStep], prior: Prior, watch: Watch, volume: int, request: Request
) -> Generator[Progress, None, Done]:
    """One volume of a series, recorded step by step."""
    from prdit_core.verbs.step_volume import step_preview, step_volume

    def result(make: Callable[..., Volume], step: SampleStep) -> Volume:
        return make(
            prior,
            request.config,
            step,
            seed=request.seed,
            index=request.index + volume,
            branches=request.branches,
        )

    steps, picture = _recorded(walk, watch.recording), partial(result, step_preview)
    last = yield from watched(steps, picture, watch.control, watch.frames, volume, request.count)
    return Done(volume, result(step_volume, last))


def _recorded(walk: Iterator[SampleStep], recording: Recording) -> Iterator[SampleStep]:
    for step in walk:
        x_t, x0 = (x.float().cpu().numpy() for x in (step.x_t, step.x0))
        recording.add(Moment(step.index, step.t, x_t, x0))
        yield step


def _interrupted(walk: Iterator[StepT], control: Control) -> Iterator[StepT]:
    """Steps of a walk that ends in the middle of one.

    Between steps nothing is left behind in the thread: a worker that is let go there keeps its
    generator, and other work comes into the same thread.
    """
    from prdit_core.machine import interruptible

    while True:
        with interruptible(control.raise_if_abandoned):
            step = next(walk, None)
        if step is None:
            return
        yield step

"""Generating volumes beside the window, and the events that come back."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from napari_prdit.conditions import target_of
from napari_prdit.replay import Moment
from prdit_core.provenance import estimate_stamp
from prdit_core.series import Sums

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from napari_prdit.conditions import Seen, Target
    from napari_prdit.jobs import Control, Mailbox
    from napari_prdit.replay import Recording
    from napari_prdit.request import Request
    from prdit_core import Prior, SampleStep, Volume


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
class PreparedWalk:
    """The checkpoint is loaded, and the first step begins.

    Attributes
    ----------
    seen : shows a recorded state
    edge : of the volumes that come, in voxels
    digest : of the checkpoint
    threads : CPU threads in use
    in_parts : whether the model's predictions are a sum of parts
    """

    request: Request
    seen: Seen
    edge: int
    digest: str
    threads: int
    in_parts: bool


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

    target = _target(request)
    watch.recording.forget_from(0)
    yield _prepared(target, request)
    sums = Sums()
    for volume in range(request.count):
        walk = generate_steps(
            target.prior,
            request.config,
            seed=request.seed,
            index=request.index + volume,
            branches=request.branches,
        )
        done = yield from _made(walk, target, watch, volume, request)
        sums.add(done.result.voxels_hu)
        yield done
        if watch.control.stopped:
            return
    if request.count > 1:
        yield sums.summary(done.result)


def branch_work(request: Request, watch: Watch) -> Generator[Any]:
    """Make the last of the request's branches, off the step that is recorded."""
    from prdit_core import branch_steps

    target = _target(request)
    branch = request.branches[-1]
    moment = watch.recording.at(branch.step)
    watch.recording.forget_from(branch.step)
    yield _prepared(target, request)
    walk = branch_steps(
        target.prior, moment.x0, branch.step, request.config, seed=branch.seed, index=request.index
    )
    yield (yield from _made(walk, target, watch, 0, request))


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


def _target(request: Request) -> Target:
    prior = loaded(request.checkpoint, request.size, request.device, request.label)
    return target_of(prior, request.condition)


def _prepared(target: Target, request: Request) -> PreparedWalk:
    from prdit_core.machine import default_threads

    prior = target.prior
    edge = prior.geometry.shape[0]
    in_parts = prior.parts is not None
    return PreparedWalk(request, target.seen(), edge, prior.digest, default_threads(), in_parts)


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
    walk: Iterator[SampleStep], target: Target, watch: Watch, volume: int, request: Request
) -> Generator[Progress, None, Done]:
    """One volume of a series, recorded step by step."""
    from prdit_core.verbs.step_volume import step_preview, step_volume

    def result(make: Callable[..., Volume], step: SampleStep) -> Volume:
        return make(
            target.prior,
            request.config,
            step,
            seed=request.seed,
            index=request.index + volume,
            branches=request.branches,
        )

    def picture(step: SampleStep) -> Volume:
        return target.emerging(result(step_preview, step))

    steps = _recorded(walk, watch.recording)
    last = yield from watched(steps, picture, watch.control, watch.frames, volume, request.count)
    return Done(volume, target.finished(result(step_volume, last)))


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

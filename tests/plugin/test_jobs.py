"""Work beside the window: events, pause, step, stop, and errors that are not swallowed."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from qtpy.QtCore import QThreadPool

import prdit_core
from napari_prdit import jobs
from napari_prdit.generation import Done, Progress, Watch, generate_work
from napari_prdit.jobs import Control, Failed, Job, Mailbox
from napari_prdit.replay import Moment, Recording
from napari_prdit.request import Request
from napari_prdit.widgets.run_controls import RunControls
from prdit_core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Generator

    from pytestqt.qtbot import QtBot

PATIENCE_MS = 60_000  # for a busy machine
PACE_S = 0.001  # leaves the interpreter to the window


def counting(control: Control, total: int = 10**9) -> Generator[int]:
    for number in range(total):
        yield number
        time.sleep(PACE_S)
        if not control.may_go_on():
            return


def followed(qtbot: QtBot) -> tuple[Job, list[Any], list[str]]:
    job, events, ends = Job(), [], []
    job.yielded.connect(events.append)
    job.ended.connect(lambda: ends.append("ended"))
    return job, events, ends


def test_events_arrive_in_order_and_the_end_once(qtbot: QtBot) -> None:
    job, events, ends = followed(qtbot)
    job.start(lambda control: counting(control, 50))
    qtbot.waitUntil(lambda: bool(ends), timeout=PATIENCE_MS)
    assert events == list(range(50)) and ends == ["ended"] and not job.running


def test_it_pauses_steps_resumes_and_stops(qtbot: QtBot) -> None:
    job, events, ends = followed(qtbot)
    job.start(counting)
    qtbot.waitUntil(lambda: len(events) > 3, timeout=PATIENCE_MS)
    job.control.pause()
    qtbot.waitUntil(lambda: job.control.resting, timeout=PATIENCE_MS)
    qtbot.wait(0)  # what it said last arrives
    resting = len(events)
    job.step()
    qtbot.waitUntil(lambda: len(events) == resting + 1, timeout=PATIENCE_MS)
    qtbot.waitUntil(lambda: job.control.resting, timeout=PATIENCE_MS)
    qtbot.wait(0)
    assert len(events) == resting + 1 and job.control.paused
    job.control.resume()
    qtbot.waitUntil(lambda: len(events) > resting + 3, timeout=PATIENCE_MS)
    job.control.pause()
    job.stop()  # a resting job can be stopped too
    qtbot.waitUntil(lambda: bool(ends), timeout=PATIENCE_MS)
    job.start(lambda control: counting(control, 3))  # and it can work again
    qtbot.waitUntil(lambda: len(ends) == 2, timeout=PATIENCE_MS)


FAULTS = [
    (UsageError("no such thing"), "no such thing"),
    (MemoryError(), "out of memory"),
    (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "ran out of memory"),
    (RuntimeError("you tried to allocate: can't allocate memory"), "ran out of memory"),
    (KeyError("x"), "unexpected KeyError"),
]


@pytest.mark.parametrize(("error", "words"), FAULTS)
def test_an_error_is_told_and_the_next_job_runs(qtbot: QtBot, error: Exception, words: str) -> None:
    def failing(control: Control) -> Generator[int]:
        yield 1
        raise error

    job, events, ends = followed(qtbot)
    job.start(failing)
    qtbot.waitUntil(lambda: bool(ends), timeout=PATIENCE_MS)
    assert events[0] == 1 and isinstance(events[1], Failed) and words in events[1].message
    job.start(lambda control: counting(control, 2))
    qtbot.waitUntil(lambda: len(ends) == 2, timeout=PATIENCE_MS)
    assert events[2:] == [0, 1]


def test_abandoned_work_ends_in_the_middle_of_a_step_and_tells_nothing_more(qtbot: QtBot) -> None:
    reached = threading.Event()

    def endless_step(control: Control) -> Generator[int]:
        yield 1
        while True:  # a step that asks only whether anybody still wants it
            reached.set()
            time.sleep(PACE_S)
            control.raise_if_abandoned()

    job, events, ends = followed(qtbot)
    job.start(endless_step)
    control = job.control
    qtbot.waitUntil(lambda: bool(events), timeout=PATIENCE_MS)
    assert reached.wait(10)
    job.abandon()
    assert not job.running
    qtbot.waitUntil(control.ended.is_set, timeout=PATIENCE_MS)
    qtbot.wait(50)
    assert events == [1] and not ends
    job.start(lambda control: counting(control, 2))  # it can work again
    qtbot.waitUntil(lambda: bool(ends), timeout=PATIENCE_MS)
    assert events == [1, 0, 1] and ends == ["ended"]


def test_abandoning_one_leaves_the_work_of_others_alone(qtbot: QtBot) -> None:
    """Also that of other plugins, which napari's own way of waiting would end."""
    from napari.qt.threading import create_worker

    def foreign() -> Generator[int]:
        number = 0
        while True:
            yield (number := number + 1)
            time.sleep(PACE_S)

    theirs: list[int] = []
    worker = create_worker(foreign, _connect={"yielded": theirs.append})
    other, others_events, _ = followed(qtbot)
    other.start(counting)
    # A pool of two threads has none for a third worker: the one that ends must be ours.
    ours, _, _ = followed(qtbot)
    QThreadPool.globalInstance().setMaxThreadCount(4)
    ours.start(counting)
    qtbot.waitUntil(lambda: bool(theirs and others_events), timeout=PATIENCE_MS)
    control = ours.control
    ours.abandon()
    qtbot.waitUntil(control.ended.is_set, timeout=PATIENCE_MS)
    before = len(theirs), len(others_events)
    qtbot.waitUntil(
        lambda: len(theirs) > before[0] + 3 and len(others_events) > before[1] + 3,
        timeout=PATIENCE_MS,
    )
    assert not worker.abort_requested and other.running
    worker.quit()
    other.stop()
    qtbot.waitUntil(lambda: not worker.is_running and not other.running, timeout=PATIENCE_MS)


@pytest.mark.parametrize("patience_s", [10.0, 0.0])
def test_the_end_of_the_process_waits_for_work_and_not_for_ever(
    qtbot: QtBot, patience_s: float
) -> None:
    job, events, _ends = followed(qtbot)
    job.start(counting)
    qtbot.waitUntil(lambda: bool(events), timeout=PATIENCE_MS)
    jobs._end_all(patience_s)
    if patience_s:
        assert job.control.ended.is_set()
    qtbot.waitUntil(job.control.ended.is_set, timeout=PATIENCE_MS)


def test_work_let_go_between_its_steps_ends_no_other_work_of_its_thread() -> None:
    """Threads are used again, and a worker that was let go may still hold its generator."""
    config = prdit_core.SamplingConfig(steps=3)
    request = Request("demo", size=32, seed=0, count=1, config=config, device="cpu")
    left, going_on = Control(), Control()
    work = generate_work(request, Watch(left, Mailbox(), Recording(1 << 20)))
    next(event for event in work if isinstance(event, Progress))
    left.abandon()
    events = list(generate_work(request, Watch(going_on, Mailbox(), Recording(1 << 20))))
    assert isinstance(events[-1], Done)


def test_only_the_newest_frame_is_kept() -> None:
    box: Mailbox[int] = Mailbox()
    assert box.wanted and box.take() is None
    for number in range(5):
        box.put(number)
    assert not box.wanted and box.take() == 4 and box.take() is None


def moment(index: int, edge: int = 8) -> Moment:
    noise = np.random.default_rng(index).standard_normal((1, 1, edge, edge, edge))
    return Moment(index, 1000.0 - index, noise.astype(np.float32), noise.astype(np.float32) / 2)


def test_a_recording_gives_back_what_it_was_given() -> None:
    recording = Recording(2**20)
    for index in range(10):
        recording.add(moment(index))
    assert recording.indices == list(range(10))
    found, given = recording.at(4), moment(4)
    assert found.t == given.t
    np.testing.assert_allclose(found.x_t, given.x_t, atol=2e-3)
    np.testing.assert_allclose(found.x0, given.x0, atol=2e-3)


def test_a_recording_keeps_to_its_budget_over_the_whole_run() -> None:
    recording = Recording(20_000)  # about ten moments
    for index in range(100):
        recording.add(moment(index))
        assert recording.size <= 20_000
    kept = recording.indices
    assert kept[0] == 0 and kept[-1] == 99 and len(kept) >= 5
    assert max(np.diff(kept[:-1])) == min(np.diff(kept[:-1]))  # evenly spread


def test_another_ending_replaces_what_came_after() -> None:
    recording = Recording(2**20)
    for index in range(6):
        recording.add(moment(index))
    recording.add(moment(3))
    assert recording.indices == [0, 1, 2, 3]


def test_a_pause_is_said_although_no_step_comes_any_more(qtbot: QtBot) -> None:
    """The worker may rest already when the button is pressed, its last step long shown."""
    job = Job()
    controls = RunControls(job)
    qtbot.addWidget(controls)
    rests = threading.Event()

    def work(control: Control) -> Generator[Progress]:
        yield Progress(0, 2, 9, 0.1, 0.6)
        rests.wait(10)
        control.may_go_on()

    job.yielded.connect(lambda event: controls.show_progress(event, 1))
    job.start(work)
    qtbot.waitUntil(lambda: controls.message.text().startswith("step 3 of 9"))
    controls.show_running(True)
    controls.pause.click()
    rests.set()
    assert controls.message.text() == "paused at step 3 of 9"
    controls.pause.click()
    assert controls.message.text().startswith("step 3 of 9")
    qtbot.waitUntil(lambda: not job.running)

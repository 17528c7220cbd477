"""Long work beside the window: one worker thread, small events to the GUI, pause, step and stop.

A worker of napari swallows every RuntimeError of its generator, and out of memory is one: errors
are therefore caught where they arise and travel as data.
"""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from napari.qt.threading import create_worker
from qtpy.QtCore import QObject, Signal

from prdit_core.errors import PrditError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from napari.qt.threading import GeneratorWorker

T = TypeVar("T")
# How long the end of the process waits for work that was stopped.
EXIT_WAIT_S = 5.0


@dataclass(frozen=True)
class Failed:
    """Why a job ended early, in one line."""

    message: str


class Abandoned(BaseException):
    """Raised within work that nobody waits for any more; it ends without an event."""


class Mailbox(Generic[T]):
    """One slot from worker to window: only the newest counts, and only when one is wanted."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._content: T | None = None

    @property
    def wanted(self) -> bool:
        """Whether the last one was taken, so that making another is worth its time."""
        return self._content is None

    def put(self, content: T) -> None:
        """Replace what was not taken."""
        with self._lock:
            self._content = content

    def take(self) -> T | None:
        """The newest, once; None if there is none."""
        with self._lock:
            content, self._content = self._content, None
        return content


class Control:
    """Lets a worker run, rest, go one step, or end; the worker asks between its steps."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._allowed: int | None = None  # steps; None is without end
        self.resting = False  # all steps it was allowed are done
        self.stopped = False
        self.abandoned = False
        self.ended = threading.Event()

    @property
    def paused(self) -> bool:
        """Whether it rests, or will after the steps it was allowed."""
        return self._allowed is not None

    def pause(self) -> None:
        """Rest after the step at hand."""
        self._set(0)

    def resume(self) -> None:
        """Go on."""
        self._set(None)

    def step(self) -> None:
        """Go one step further and rest."""
        self._set((self._allowed or 0) + 1)

    def stop(self) -> None:
        """End after the step at hand, also if it rests."""
        with self._changed:
            self.stopped = True
            self._changed.notify_all()

    def abandon(self) -> None:
        """End at once, in the middle of a step: nobody wants what it would bring."""
        self.abandoned = True
        self.stop()

    def raise_if_abandoned(self) -> None:
        """Raise `Abandoned` in the middle of a step that nobody waits for."""
        if self.abandoned:
            raise Abandoned

    def raise_if_stopped(self) -> None:
        """Raise `Abandoned` in the middle of a step that is of no use unless it is finished."""
        if self.stopped:
            raise Abandoned

    def may_go_on(self) -> bool:
        """Wait while paused; False once stopped."""
        with self._changed:
            while self._allowed == 0 and not self.stopped:
                self.resting = True
                self._changed.wait()
            self.resting = False
            if self._allowed:
                self._allowed -= 1
            return not self.stopped

    def _set(self, allowed: int | None) -> None:
        with self._changed:
            self._allowed = allowed
            self._changed.notify_all()


class Job(QObject):
    """One piece of work in a thread of its own.

    Signals
    -------
    yielded : every event of the work, in the GUI thread; the last may be `Failed`
    ended : once, whatever happened
    """

    yielded = Signal(object)
    ended = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.control = Control()
        self._worker: GeneratorWorker | None = None
        # A dock that goes with its window gets no close event. Connections to `destroyed` would
        # be called when their closures are gone already.
        self._controls = [self.control]
        weakref.finalize(self, _abandon, self._controls)

    @property
    def running(self) -> bool:
        """Whether the work goes on (or rests)."""
        return self._worker is not None

    def start(self, work: Callable[[Control], Generator[Any]]) -> None:
        """Run `work(control)`; every event it yields is a signal."""
        assert not self.running, "one piece of work at a time"
        self.control = self._controls[0] = Control()
        self.blockSignals(False)
        worker = create_worker(guarded, work, self.control, _start_thread=False)
        worker.yielded.connect(self.yielded)
        worker.finished.connect(self._finish)
        self._worker = worker
        worker.start()

    def stop(self) -> None:
        """Ask it to end."""
        self.control.stop()

    def step(self) -> None:
        """Let it go one step further and rest."""
        self.control.step()

    def abandon(self) -> None:
        """End the work at once and tell nothing more; the window does not wait for it.

        Workers of others are none of our business: napari can only wait for all of them, which
        ends them too.
        """
        worker = self._worker
        if worker is None:
            return
        self.blockSignals(True)  # events that are on their way
        worker.yielded.disconnect(self.yielded)
        worker.finished.disconnect(self._finish)
        self.control.abandon()
        self._worker = None

    def _finish(self) -> None:
        self._worker = None
        self.ended.emit()


def _abandon(controls: list[Control]) -> None:
    controls[0].abandon()


# Controls of work that has not ended.
_at_work: set[Control] = set()


def _end_all(within_s: float = EXIT_WAIT_S) -> None:
    """End all work before the process does, whose libraries must not go from under a thread."""
    latest = time.monotonic() + within_s
    for control in list(_at_work):
        control.abandon()
    for control in list(_at_work):
        control.ended.wait(max(latest - time.monotonic(), 0.0))


atexit.register(_end_all)


def guarded(work: Callable[[Control], Generator[Any]], control: Control) -> Iterator[Any]:
    """Events of some work until it ends, is stopped, or fails, which is an event too."""
    _at_work.add(control)
    try:
        control.raise_if_abandoned()
        with closing(work(control)) as events:
            yield from events
    except Abandoned:
        return
    except PrditError as error:
        yield Failed(str(error))
    except MemoryError:
        yield Failed("out of memory; choose a smaller model or size, or close other programs")
    except Exception as error:
        yield Failed(_explained(error))
    finally:
        control.ended.set()
        _at_work.discard(control)


def _explained(error: Exception) -> str:
    """Out of memory is a RuntimeError in torch; anything else is a fault of ours."""
    text = " ".join(str(error).split())
    if "out of memory" in text.lower() or "can't allocate memory" in text:
        return "the device ran out of memory; choose a smaller model or size, or the CPU"
    return f"unexpected {type(error).__name__}: {text}"

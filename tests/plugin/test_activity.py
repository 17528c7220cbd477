"""Long work in napari's activity dock, and the notification at its end."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from napari.components import ViewerModel
from napari.layers import Layer
from napari.utils import progress
from napari.utils.notifications import NotificationSeverity, notification_manager
from qtpy.compat import isalive
from qtpy.QtCore import QCoreApplication, QEvent
from qtpy.QtWidgets import QWidget

from napari_prdit import activity as activities
from napari_prdit.activity import Activity
from napari_prdit.preview import Refresher
from napari_prdit.run_watch import Seen
from napari_prdit.sample_data import phantom
from napari_prdit.widgets.residual_inspector import ResidualInspector
from napari_prdit.widgets.run_activities import RunActivities
from napari_prdit.widgets.training_dock import TrainingDock
from prdit_core.errors import UsageError
from prdit_core.runs.folder import RunFolder
from prdit_core.runs.status import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from pytestqt.qtbot import QtBot

PATIENCE_MS = 60_000


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that activities see; it stands still until it is set."""
    now = [100.0]
    monkeypatch.setattr(activities.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture(autouse=True)
def messages() -> Iterator[list[Any]]:
    """What napari was told to show."""
    notification_manager.records.clear()
    yield notification_manager.records
    assert not bars()


def bars() -> list[progress]:
    return list(progress._all_instances)


def test_a_bar_follows_the_work_and_long_work_ends_with_a_notification(
    clock: list[float], messages: list[Any]
) -> None:
    activity = Activity()
    activity.begin("Generating", total=20)
    activity.advance(7)
    activity.advance(9)
    (bar,) = bars()
    assert (bar.desc, bar.n, bar.total) == ("Generating", 9, 20)
    clock[0] += activities.LONG_S
    activity.end("Done in 34 s")
    assert not bars()
    assert [(one.message, one.severity) for one in messages] == [
        ("Done in 34 s", NotificationSeverity.INFO)
    ]
    activity.end("again")
    assert len(messages) == 1


def test_two_parts_of_one_work_count_as_one(clock: list[float], messages: list[Any]) -> None:
    activity = Activity()
    activity.begin("Generating", total=4)
    clock[0] += activities.LONG_S
    activity.begin("Comparing")
    assert [bar.desc for bar in bars()] == ["Comparing"] and activity.total == 0
    activity.end("compared")
    assert [one.message for one in messages] == ["compared"]


@pytest.mark.parametrize("outcome", ["done", "failed"])
def test_short_work_ends_without_one(clock: list[float], messages: list[Any], outcome: Any) -> None:
    activity = Activity()
    activity.begin("Splitting")
    clock[0] += activities.LONG_S - 1
    activity.end("split", outcome)
    assert messages == []


def test_what_the_user_stopped_needs_no_telling(clock: list[float], messages: list[Any]) -> None:
    activity = Activity()
    activity.begin("Splitting")
    clock[0] += 1000
    activity.end("stopped", "stopped")
    assert messages == []


# --- in the docks -------------------------------------------------------------------------------


@pytest.mark.parametrize("deleted", [False, True], ids=["stopped", "deleted"])
def test_a_refresher_that_ends_while_it_paints_stays_ended(qtbot: QtBot, deleted: bool) -> None:
    """To paint its bars napari handles all events that wait, and one of them may close the dock."""
    dock, painted = QWidget(), []

    def paint() -> None:
        painted.append(1)
        refresher.stop()
        if deleted:
            dock.deleteLater()
            QCoreApplication.sendPostedEvents(dock, QEvent.Type.DeferredDelete)

    refresher = Refresher(paint, 1000, dock)
    refresher.start()
    with qtbot.captureExceptions() as raised:
        qtbot.waitUntil(lambda: bool(painted), timeout=PATIENCE_MS)
        qtbot.wait(50)
    assert painted == [1] and not raised
    if not deleted:
        dock.deleteLater()


def test_the_training_dock_may_go_while_napari_paints_its_bars(
    qtbot: QtBot, make_napari_viewer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    dock = TrainingDock(make_napari_viewer())

    def show_runs(_: object) -> None:
        dock.deleteLater()
        QCoreApplication.sendPostedEvents(dock, QEvent.Type.DeferredDelete)

    monkeypatch.setattr(RunActivities, "show_runs", lambda _, runs: show_runs(runs))
    dock.refresh()
    monkeypatch.undo()
    assert not isalive(dock)


def seen(path: Path, state: Any, iteration: int | None, message: str = "") -> Seen:
    at = "2025-01-01T08:00:00+00:00"
    status = None
    if iteration is not None:
        status = Status(
            state="running",
            stage="local",
            iteration=iteration,
            total=100,
            pid=1,
            host="here",
            started=at,
            updated=at,
        )
    return Seen(RunFolder(path), state, status, message, at, 1, "here")


def test_a_training_has_a_bar_until_it_ends_and_its_end_is_told(
    tmp_path: Path, clock: list[float], messages: list[Any]
) -> None:
    at_work = RunActivities()
    run = tmp_path / "chest"
    at_work.show_runs([seen(run, "starting", None)])
    assert at_work.any and [bar.total for bar in bars()] == [0]
    at_work.show_runs([seen(run, "running", 40)])
    assert [(bar.desc, bar.n, bar.total) for bar in bars()] == [("Training chest", 40, 100)]
    clock[0] += 1000
    at_work.show_runs([seen(run, "finished", 100)])
    assert not at_work.any
    assert [one.message for one in messages] == ["The training chest has finished."]
    at_work.show_runs([seen(run, "finished", 100)])  # one that was over before is no news
    assert len(messages) == 1


@pytest.mark.parametrize(("state", "count"), [("failed", 1), ("dead", 1), ("stopped", 0)])
def test_a_training_that_fails_is_told_and_one_that_was_stopped_is_not(
    tmp_path: Path, clock: list[float], messages: list[Any], state: str, count: int
) -> None:
    at_work = RunActivities()
    before = seen(tmp_path, "running", 40)
    at_work.show_runs([before])
    clock[0] += 1000
    at_work.show_runs([replace(before, state=state, message="memory is short")])  # type: ignore[arg-type]
    assert len(messages) == count
    assert all("memory is short" in one.message for one in messages)


def test_runs_that_are_no_longer_listed_have_no_bar(tmp_path: Path) -> None:
    at_work = RunActivities()
    at_work.show_runs([seen(tmp_path / name, "running", 1) for name in "ab"])
    assert len(bars()) == 2
    at_work.show_runs([seen(tmp_path / "a", "running", 2)])
    assert len(bars()) == 1
    at_work.clear()


def test_the_inspector_shows_its_work_and_tells_its_fault(
    qtbot: QtBot, monkeypatch: pytest.MonkeyPatch, messages: list[Any]
) -> None:
    monkeypatch.setattr(activities, "LONG_S", 0.0)
    seen_bars: list[str] = []

    def fails(_model: object, _source: object, _control: object) -> Generator[object]:
        latest = time.monotonic() + PATIENCE_MS / 1000
        while not seen_bars and time.monotonic() < latest:  # the window's thread makes it
            seen_bars.extend(bar.desc for bar in bars())
            time.sleep(0.01)
        raise UsageError("no such model")
        yield

    monkeypatch.setattr("napari_prdit.widgets.residual_inspector.split_work", fails)
    viewer = ViewerModel()
    viewer.add_layer(Layer.create(*phantom()[0]))
    dock = ResidualInspector(viewer)
    qtbot.addWidget(dock)
    dock.go.click()
    qtbot.waitUntil(lambda: not dock.job.running, timeout=PATIENCE_MS)
    assert seen_bars == ["Splitting a prediction"]
    assert [(one.message, one.severity) for one in messages] == [
        ("no such model", NotificationSeverity.ERROR)
    ]
    dock.shut_down()


@pytest.mark.slow
def test_the_bar_is_in_the_activity_dock_of_a_real_window(
    make_napari_viewer: Callable[..., Any], qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari._qt.widgets.qt_progress_bar import QtLabeledProgressBar
    from qtpy.QtWidgets import QApplication

    make_napari_viewer(show=True)

    def shown() -> list[Any]:
        widgets = QApplication.allWidgets()
        return [w for w in widgets if isinstance(w, QtLabeledProgressBar) and not w.isHidden()]

    activity = Activity()
    activity.begin("Generating a CT volume", total=5)
    activity.advance(3)
    (bar,) = shown()
    assert bar.qt_progress_bar.value() == 3 and bar.qt_progress_bar.maximum() == 5
    assert "Generating a CT volume" in bar.description_label.text()
    activity.end()
    qtbot.waitUntil(lambda: shown() == [])

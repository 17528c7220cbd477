"""The dock that trains: forms, lists, and real trainings that are begun, left and taken up."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest
from napari.components import ViewerModel
from napari.utils.notifications import notification_manager
from PIL import Image
from qtpy.QtCore import QMimeData, QPointF, Qt, QUrl
from qtpy.QtGui import QColor, QDropEvent
from qtpy.QtWidgets import QAbstractSpinBox, QComboBox, QLineEdit, QListWidget, QPushButton, QWidget
from toys import tiny_checkpoint

from napari_prdit.run_watch import GRACE_S, LAUNCH, Launch, look, runs_below
from napari_prdit.training_runs import begin, train_words
from napari_prdit.widgets.generate import GenerateDock
from napari_prdit.widgets.run_list import COLOURS
from napari_prdit.widgets.training_dock import TrainingDock
from prdit_core.checkpoints.catalog import newest, saved
from prdit_core.checkpoints.store import read_header
from prdit_core.config import words_of
from prdit_core.files import write_json
from prdit_core.prdit_config import TrainConfig
from prdit_core.runs.folder import RunFolder
from prdit_core.runs.metrics import read_lines
from prdit_core.runs.status import Status, write_status
from prdit_core.verbs.phantoms import phantom_steps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pytestqt.qtbot import QtBot

    from napari_prdit.widgets.prepare import PrepareData

# A child imports torch first, on a machine that has other work to do.
PATIENCE_MS = 180_000
RUNS = 1  # of the tabs
LOCAL, GLOBAL, REFINE, FINETUNE = range(4)
NEVER = 1_000_000
posix = pytest.mark.skipif(os.name == "nt", reason="needs signals of POSIX")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight phantoms of 8^3, in a folder whose name needs quoting everywhere."""
    folder = tmp_path_factory.mktemp("data") / 'phäntoms "8"'
    list(phantom_steps(8, size=8, seed=0, out=folder))
    return folder


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runs folder; what was started there is gone afterwards."""
    for variable in ("OMP_NUM_THREADS", "PRDIT_THREADS"):
        monkeypatch.setenv(variable, "1")
    root = tmp_path / "runs"
    yield root
    for run in runs_below(root):
        with contextlib.suppress(psutil.Error, TypeError):
            if run.state in ("starting", "running", "stopping"):
                psutil.Process(run.pid).kill()


@pytest.fixture
def viewer() -> ViewerModel:
    return ViewerModel()


@pytest.fixture
def dock(qtbot: QtBot, viewer: ViewerModel, runs: Path) -> Iterator[TrainingDock]:
    made = TrainingDock(viewer)
    qtbot.addWidget(made)
    made.choose_runs_folder(runs)
    yield made
    made.shut_down()


def fill(dock: TrainingDock, data: Path, **more: int) -> None:
    """A run of seconds; it saves when it is stopped."""
    dock.new.data.data.choose(str(data))
    given = {"iterations": NEVER, "batch_size": 2, "save_every": NEVER, "preview_every": NEVER}
    for name, value in (given | more).items():
        getattr(dock.new.settings, name).setValue(value)
    dock.new.settings.device.setCurrentText("cpu")


def until(qtbot: QtBot, dock: TrainingDock, state: str) -> None:
    """Wait until the selected run is in this state, without the timer of a visible dock."""

    def there() -> bool:
        dock.refresh()
        return dock.view.run is not None and dock.view.run.state == state

    qtbot.waitUntil(there, timeout=PATIENCE_MS)


def wait(qtbot: QtBot, condition: Callable[[], bool]) -> None:
    qtbot.waitUntil(condition, timeout=PATIENCE_MS)


def points(dock: TrainingDock) -> int:
    """Points of the curve on the screen."""
    at, _ = dock.view.curves.lines["total"].getData()
    return 0 if at is None else len(at)


def trained(run: Path) -> int:
    """Iterations that a run has written down."""
    lines = read_lines(RunFolder(run).metrics)
    return sum(line["kind"] == "train" for line in lines)


def invented(run: Path, state: str = "finished", **more: Any) -> RunFolder:
    """A run folder that nobody works in."""
    folder = RunFolder(run)
    folder.path.mkdir(parents=True)
    content = {
        "state": state,
        "stage": "local",
        "iteration": 120,
        "total": 1000,
        "pid": 1,
        "host": "elsewhere",
        "started": "2025-01-01T08:00:00+00:00",
        "updated": "2025-01-01T08:00:00+00:00",
    }
    write_status(folder, Status.model_validate(content | more))
    return folder


def measured(folder: RunFolder, iterations: range) -> None:
    """Replace the metrics of a run."""
    lines = []
    for iteration in iterations:
        loss = {"total": 1 / iteration, "x0": 0.5 / iteration, "eps": 0.5 / iteration}
        line = {"kind": "train", "iteration": iteration, "loss": loss, "lr": 1e-4, "grad_norm": 1}
        lines.append({**line, "levels": {name: [1, 0.5, None, 0.2, 0.1] for name in loss}})
    lines.append({**lines[-1], "kind": "validation"})
    other = folder.path / "other"
    other.write_text("".join(json.dumps(line) + "\n" for line in lines))
    os.replace(other, folder.metrics)


def picture(file: Path, edge: int, grey: int) -> Path:
    file.parent.mkdir(exist_ok=True)
    Image.new("L", (edge, edge), grey).save(file)
    return file


# --- a new run ----------------------------------------------------------------------------------


def test_the_form_says_what_the_data_are(dock: TrainingDock, data: Path) -> None:
    dock.new.data.data.choose(str(data))
    about = dock.new.data.about
    assert "8 x 8 x 8 voxels of 40 mm" in about.text()
    assert "7 scans to train on, 1 held out" in about.text()
    assert about.kind == "note"


def test_a_dropped_folder_becomes_the_data(dock: TrainingDock, data: Path) -> None:
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(data))])
    none = Qt.KeyboardModifier.NoModifier
    event = QDropEvent(
        QPointF(1, 1), Qt.DropAction.CopyAction, mime, Qt.MouseButton.LeftButton, none
    )
    dock.new.data.data.dropEvent(event)
    assert dock.new.data.folder() == data


def test_the_form_makes_the_settings_of_the_command(dock: TrainingDock, data: Path) -> None:
    fill(dock, data, iterations=7, seed=3, micro_batch=1)
    dock.new.stage.stage.setCurrentIndex(FINETUNE)
    dock.new.settings.iterations.setValue(7)
    dock.new.stage.start.choose("demo")
    dock.new.settings.name.setText("my run")
    dock.new.settings.lr.setText(" 2e-5 ")
    config = dock.new.config()
    assert config == TrainConfig(
        stage="finetune",
        data=data,
        run=dock.new.runs_folder / "my run",
        start="demo",
        iterations=7,
        seed=3,
        batch_size=2,
        micro_batch=1,
        lr=2e-5,
        save_every=NEVER,
        preview_every=NEVER,
        device="cpu",
    )


def test_a_refiner_is_trained_on_top_of_a_model(
    dock: TrainingDock, data: Path, chain: Path
) -> None:
    fill(dock, data)
    dock.new.stage.stage.setCurrentIndex(REFINE)
    dock.new.stage.start.choose(str(chain))
    assert "twice the voxels" in dock.new.stage.about_stage.text()
    settings = dock.new.settings
    config = dock.new.config()
    assert (config.stage, config.start) == ("refine", str(chain))
    assert (config.consistency, config.crop) == (None, None)
    settings.consistency.setText("0.5")
    settings.crop.setValue(8)
    config = dock.new.config()
    assert (config.consistency, config.crop) == (0.5, 8)


@pytest.mark.parametrize(
    ("stage", "offered"),
    [(LOCAL, []), (GLOBAL, []), (REFINE, ["consistency", "crop"]), (FINETUNE, ["consistency"])],
)
def test_what_is_for_refiners_is_offered_where_they_train(
    dock: TrainingDock, data: Path, chain: Path, stage: int, offered: list[str]
) -> None:
    settings = dock.new.settings
    dock.new.stage.stage.setCurrentIndex(REFINE)
    settings.consistency.setText("0.5")
    settings.crop.setValue(8)
    dock.new.stage.stage.setCurrentIndex(stage)
    names = ("consistency", "crop")
    assert [name for name in names if not getattr(settings, name).isHidden()] == offered
    left = {name for name in names if settings.given()[name] is not None}
    assert left <= set(offered)  # nothing unseen goes into the run


def test_only_stages_that_need_a_checkpoint_ask_for_one(dock: TrainingDock) -> None:
    stage = dock.new.stage
    assert stage.start.isHidden() and stage.checkpoint() is None
    stage.stage.setCurrentIndex(GLOBAL)
    stage.start.choose("demo")
    assert not stage.start.isHidden() and stage.checkpoint() == "demo"
    assert "trained: stage" in stage.about_start.text()


def test_every_proposed_name_is_free_and_says_the_stage(dock: TrainingDock, runs: Path) -> None:
    first = dock.new.settings.name.text()
    assert first.startswith("local-")
    (runs / first).mkdir(parents=True)
    dock.new.use_runs_folder(runs)
    assert dock.new.settings.name.text() != first
    dock.new.stage.stage.setCurrentIndex(FINETUNE)
    assert dock.new.settings.name.text().startswith("finetune-")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda d: d.new.data.data.choose("/nowhere"), "no prepared data set"),
        (lambda d: d.new.data.data.setCurrentText(""), "choose a folder of prepared scans"),
        (lambda d: d.new.settings.name.setText("../out"), "choose another run name"),
        (lambda d: d.new.settings.name.setText(" "), "choose another run name"),
        (
            lambda d: d.new.settings.lr.setText("fast"),
            "learning rate: must be a number, not 'fast'",
        ),
        (lambda d: d.new.settings.lr.setText("7"), "learning rate: must be 1 or less, not '7'"),
        (
            lambda d: d.new.settings.consistency.setText("much"),
            "consistency: must be a number, not 'much'",
        ),
        (lambda d: d.new.stage.stage.setCurrentIndex(GLOBAL), "no checkpoint at /nowhere"),
    ],
    ids=["data", "no data", "outside", "no name", "no number", "large rate", "no weight", "start"],
)
def test_what_cannot_start_is_said_and_nothing_is_made(
    dock: TrainingDock, data: Path, runs: Path, spoil: Callable[[TrainingDock], None], reason: str
) -> None:
    fill(dock, data)
    dock.new.stage.start.choose("/nowhere")
    spoil(dock)
    dock.new.go.click()
    assert dock.message.kind == "error" and reason in dock.message.text()
    assert "\n" not in dock.message.text()
    assert dock.new.go.isEnabled()
    assert not runs.exists() or list(runs.iterdir()) == []


def test_data_that_are_damaged_are_named_beside_the_field(
    dock: TrainingDock, data: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(data, tmp_path / "copy")
    (copy / "manifest.json").write_text("{}")
    dock.new.data.data.choose(str(copy))
    assert dock.new.data.about.kind == "error"
    assert "damaged" in dock.new.data.about.text()
    dock.new.data.data.choose(str(data))
    assert dock.new.data.about.kind == "note"


def test_every_control_has_a_tooltip(dock: TrainingDock) -> None:
    kinds = (QPushButton, QComboBox, QAbstractSpinBox, QLineEdit, QListWidget)
    controls = [c for kind in kinds for c in dock.findChildren(kind)]
    inner = (QComboBox, QAbstractSpinBox)
    without = [
        control
        for control in controls
        if not control.toolTip() and not isinstance(control.parent(), inner)
    ]
    assert len(controls) > 30 and without == []


def test_tooltips_are_what_the_command_says_of_its_options(dock: TrainingDock) -> None:
    form = dock.new.settings
    for name in ("iterations", "batch_size", "lr", "seed", "micro_batch", "activations", "crop"):
        assert getattr(form, name).toolTip() == words_of(TrainConfig, name) != ""


def test_devices_are_those_the_child_names(dock: TrainingDock) -> None:
    settings = dock.new.settings
    settings.device.setCurrentText("cuda")
    entries = [
        {"device": "cuda:0", "description": "A GPU", "memory": 24 * 2**30},
        {"device": "cpu", "description": "2 threads", "memory": None},
    ]
    settings.offer_devices(json.dumps({"devices": entries}))
    texts = [settings.device.itemText(row) for row in range(settings.device.count())]
    assert texts == ["auto", "cuda:0: A GPU, 24 GiB", "cpu: 2 threads"]
    assert settings.given()["device"] == "cuda:0"


# --- what runs show -----------------------------------------------------------------------------


def test_a_dead_run_is_red_says_so_and_can_be_resumed(dock: TrainingDock, runs: Path) -> None:
    folder = invented(runs / "broken", "running", loss=0.4, validation_loss=0.5)
    folder.log.write_text("2025-01-01T08:00:00+00:00  iteration 100: checkpoints/iteration-100\n")
    dock.refresh()
    item = dock.runs.item(0)
    assert item is not None
    assert item.text().startswith("dead: broken\nlocal part · 120 of 1,000 · loss 0.4 · held-out")
    assert item.foreground().color() == QColor(COLOURS["dead"])
    view = dock.view
    assert view.about.kind == "error" and "iteration-100" in view.about.text()
    assert "checkpoints/iteration-100" in view.log.toPlainText()
    assert view.resume_button.isEnabled() and not view.stop_button.isEnabled()


def test_a_finished_run_offers_neither_stop_nor_resume(dock: TrainingDock, runs: Path) -> None:
    invented(runs / "done")
    dock.refresh()
    assert not dock.view.stop_button.isEnabled() and not dock.view.resume_button.isEnabled()
    assert not dock.view.generate_button.isEnabled()  # it holds no checkpoint


def test_a_local_part_alone_says_what_comes_next_and_fills_in_the_form(
    dock: TrainingDock, runs: Path, data: Path
) -> None:
    half, whole = invented(runs / "half"), invented(runs / "whole", stage="global")
    for run in (half, whole):
        tiny_checkpoint(run.path / "checkpoints" / "iteration-00000120")
        settings = TrainConfig(stage="local", data=data, run=run.path)
        content = {"settings": settings.model_dump(mode="json", exclude_none=True)}
        run.config.write_text(json.dumps(content))
    dock.refresh()
    dock.runs.choose(str(half.path))
    assert "train the global part on top of it" in dock.view.about.text()
    dock.view.next_button.click()
    assert dock.tabs.currentIndex() != RUNS and "Start training" in dock.message.text()
    assert (dock.new.stage.name, dock.new.stage.start.text) == ("global", str(half.path))
    config = dock.new.config()
    assert (config.stage, config.start, config.data) == ("global", str(half.path), data)

    dock.runs.choose(str(whole.path))
    assert "global part on top" not in dock.view.about.text()
    assert dock.view.next_button.isHidden()


def test_a_run_is_watched_in_a_tab_behind_until_it_ends(dock: TrainingDock, runs: Path) -> None:
    at_work = invented(runs / "run", state="running")
    launch = Launch.model_validate(
        {
            "words": [],
            "pid": os.getpid(),
            "born": psutil.Process().create_time(),
            "host": socket.gethostname(),
            "at": "2025-01-01T08:00:00+00:00",
        }
    )
    write_json(at_work.path / LAUNCH, launch.model_dump())
    dock.show()
    dock.refresh()
    dock.hide()
    assert dock._timer.isActive()
    (at_work.path / LAUNCH).unlink()  # its process is gone
    dock.refresh()
    assert not dock._timer.isActive()


def test_the_selection_stays_with_its_run(dock: TrainingDock, runs: Path) -> None:
    for name in ("one", "two"):
        invented(runs / name)
    dock.refresh()
    dock.runs.choose(str(runs / "two"))
    invented(runs / "newer", started="2025-02-01T08:00:00+00:00")
    dock.refresh()
    assert dock.runs.count() == 3
    assert dock.view.run is not None and dock.view.run.folder.path == runs / "two"
    shutil.rmtree(runs / "two")
    dock.refresh()
    assert dock.view.run is not None and dock.view.run.folder.path == runs / "newer"


def test_curves_grow_and_shrink_with_the_metrics(dock: TrainingDock, runs: Path) -> None:
    folder = invented(runs / "run")
    measured(folder, range(1, 51))
    dock.refresh()
    assert points(dock) == 50 and len(dock.view.validation) == 1
    measured(folder, range(1, 31))  # resumed from an earlier checkpoint
    dock.refresh()
    assert points(dock) == 30
    with folder.metrics.open("a") as stream:
        stream.write('{"kind": "train", "iter')
    dock.refresh()
    assert points(dock) == 30
    at, losses = dock.view.curves.lines["total"].getOriginalDataset()
    assert at[-1] == 30 and losses[-1] == pytest.approx(1 / 30)


def test_another_run_shows_its_own_curves(dock: TrainingDock, runs: Path) -> None:
    measured(invented(runs / "a", started="2025-02-01T08:00:00+00:00"), range(1, 21))
    measured(invented(runs / "b"), range(1, 11))
    dock.refresh()
    seen = [points(dock)]
    dock.runs.choose(str(runs / "b"))
    seen.append(points(dock))
    assert seen == [20, 10]


def test_a_preview_opens_as_one_layer_that_the_next_one_reuses(
    dock: TrainingDock, viewer: ViewerModel, runs: Path
) -> None:
    folder = invented(runs / "run")
    picture(folder.previews / "iteration-00000100.png", 40, 10)
    picture(folder.previews / "iteration-00000200.png", 40, 200)
    dock.refresh()
    previews = dock.view.previews
    assert [previews.item(row).text() for row in range(2)] == ["200", "100"]
    previews.itemClicked.emit(previews.item(0))
    (layer,) = viewer.layers
    assert layer.rgb and layer.data.shape == (40, 40, 3) and layer.data.mean() == 200
    previews.itemClicked.emit(previews.item(1))
    assert list(viewer.layers) == [layer] and layer.data.mean() == 10
    viewer.layers.clear()
    previews.itemClicked.emit(previews.item(1))
    assert len(viewer.layers) == 1


def test_a_preview_lies_beside_the_scan_that_is_open(
    dock: TrainingDock, viewer: ViewerModel, runs: Path
) -> None:
    scan = viewer.add_image(np.zeros((4, 6, 8)), scale=(2, 2, 2), units=("mm",) * 3)
    folder = invented(runs / "run")
    dock.refresh()
    dock.view.open_picture(picture(folder.previews / "iteration-00000100.png", 40, 10))
    shown = viewer.layers[-1].extent.world
    assert shown[0, 1] >= scan.extent.world[1, 2]
    assert {str(unit) for unit in viewer.layers[-1].units} == {"millimeter"}


def test_a_damaged_preview_is_a_message_and_the_next_one_opens(
    dock: TrainingDock, viewer: ViewerModel, runs: Path
) -> None:
    folder = invented(runs / "run")
    good = picture(folder.previews / "iteration-00000200.png", 8, 5)
    bad = folder.previews / "iteration-00000100.png"
    bad.write_bytes(b"no picture")
    dock.refresh()
    dock.view.open_picture(bad)
    assert dock.message.kind == "error" and "cannot be opened as a picture" in dock.message.text()
    dock.view.open_picture(good)
    assert dock.message.text() == "" and len(viewer.layers) == 1


def test_a_run_is_plotted_beside_the_window(
    qtbot: QtBot, dock: TrainingDock, viewer: ViewerModel, runs: Path
) -> None:
    folder = invented(runs / "run")
    measured(folder, range(1, 5))
    dock.refresh()
    dock.view.plot()
    wait(qtbot, lambda: not dock.view.plotting.running)
    assert dock.message.text() == f"saved {folder.path / 'plot.png'}"
    assert (folder.path / "plot.png").is_file()
    assert viewer.layers[0].data.shape == (800, 1200, 3)


def test_a_plot_that_fails_is_a_message(qtbot: QtBot, dock: TrainingDock, runs: Path) -> None:
    invented(runs / "run")
    dock.refresh()
    dock.view.plot()
    wait(qtbot, lambda: not dock.view.plotting.running)
    assert dock.message.kind == "error" and "no metrics yet" in dock.message.text()


def test_the_log_keeps_no_more_than_its_newest_lines(dock: TrainingDock, runs: Path) -> None:
    folder = invented(runs / "run")
    folder.log.write_text("".join(f"2025-01-01T08:00:00+00:00  line {i}\n" for i in range(3000)))
    dock.refresh()
    log = dock.view.log
    assert log.blockCount() == 500 and log.toPlainText().endswith("line 2999")


# --- preparing data -----------------------------------------------------------------------------


def test_preparing_nothing_is_refused(dock: TrainingDock) -> None:
    prepare = dock.new.data.prepare
    prepare.prepare()
    assert prepare.message.kind == "error" and not prepare.child.running


def test_data_like_a_model_have_its_sizes_or_that_of_a_refiner_of_it(
    dock: TrainingDock, chain: Path, tmp_path: Path
) -> None:
    prepare = dock.new.data.prepare
    models = [str(chain), str(tiny_checkpoint(tmp_path / "plain", size=32))]
    prepare.offer_models(models)
    everything = sizes(prepare)
    prepare.fit.setCurrentIndex(prepare.fit.findText(f"like model {chain}"))
    assert (sizes(prepare), prepare.edge.currentText()) == (["8", "16", "32"], "16")
    prepare.fit.setCurrentIndex(prepare.fit.findText(f"like model {models[1]}"))
    assert (sizes(prepare), prepare.edge.currentText()) == (["32", "64"], "32")
    prepare.edge.setCurrentText("64")
    prepare.offer_models([*models, "another"])  # runs come and go meanwhile
    assert prepare.fit.currentText().endswith("plain") and prepare.edge.currentText() == "64"
    prepare.fit.setCurrentIndex(0)
    assert sizes(prepare) == everything == ["8", "16", "32", "64", "128", "256"]


def sizes(prepare: PrepareData) -> list[str]:
    return [prepare.edge.itemText(row) for row in range(prepare.edge.count())]


@pytest.mark.slow
def test_phantoms_are_made_and_chosen(qtbot: QtBot, dock: TrainingDock, tmp_path: Path) -> None:
    prepare = dock.new.data.prepare
    prepare.out.choose(str(tmp_path / "made"))
    prepare.edge.setCurrentText("8")
    prepare.count.setValue(4)
    prepare.make_phantoms()
    assert not prepare.phantoms.isEnabled()
    wait(qtbot, lambda: not prepare.child.running)
    assert dock.new.data.folder() == tmp_path / "made"
    assert "8 x 8 x 8 voxels" in dock.new.data.about.text()
    assert prepare.phantoms.isEnabled()


@pytest.mark.slow
def test_scans_that_cannot_be_prepared_say_why(
    qtbot: QtBot, dock: TrainingDock, tmp_path: Path
) -> None:
    prepare = dock.new.data.prepare
    prepare.scans.choose(str(tmp_path / "nowhere"))
    prepare.out.choose(str(tmp_path / "made"))
    prepare.fit.setCurrentIndex(prepare.fit.findText("like model demo"))
    prepare.prepare()
    wait(qtbot, lambda: not prepare.child.running)
    assert prepare.message.kind == "error" and "nowhere" in prepare.message.text()
    assert prepare.go.isEnabled()


# --- real trainings -----------------------------------------------------------------------------


@pytest.mark.slow
def test_a_training_outlives_its_dock_and_is_taken_up_by_another(
    qtbot: QtBot, viewer: ViewerModel, data: Path, runs: Path
) -> None:
    with contextlib.closing(TrainingDock(viewer)) as first:
        first.choose_runs_folder(runs)
        fill(first, data, preview_every=5)
        first.show()  # from here on its own timer looks
        qtbot.mouseClick(first.new.go, Qt.MouseButton.LeftButton)
        qtbot.mouseClick(first.new.go, Qt.MouseButton.LeftButton)
        first.start()
        (path,) = runs.iterdir()
        assert first.tabs.currentIndex() == RUNS and not first.new.go.isEnabled()
        assert first.view.run is not None and first.view.run.state == "starting"

        wait(qtbot, lambda: points(first) >= 5)
        before = points(first)
        wait(qtbot, lambda: points(first) > before)
        wait(qtbot, lambda: first.view.previews.count() > 0)
        assert first.new.go.isEnabled() and first.view.run.state == "running"
    first.deleteLater()
    done = trained(path)
    wait(qtbot, lambda: trained(path) >= done + 5)

    with contextlib.closing(TrainingDock(viewer)) as second:
        second.choose_runs_folder(runs)
        assert second.tabs.currentIndex() == RUNS
        until(qtbot, second, "running")
        assert points(second) >= done
        qtbot.mouseClick(second.view.stop_button, Qt.MouseButton.LeftButton)
        assert not second.view.stop_button.isEnabled()
        until(qtbot, second, "stopped")
        reached = trained(path)
        assert newest(path).name == f"iteration-{reached:08d}"

        shorten(path, reached + 10)
        qtbot.mouseClick(second.view.resume_button, Qt.MouseButton.LeftButton)
        assert not second.view.resume_button.isEnabled()
        until(qtbot, second, "finished")
        assert trained(path) == reached + 10 == len(second.view.train)
        assert read_header(newest(path)).record["iteration"] == reached + 10
    second.deleteLater()


def shorten(run: Path, iterations: int) -> None:
    """Let a resumed run end so early; it may, unlike most settings."""
    file = RunFolder(run).config
    content = json.loads(file.read_text())
    content["settings"]["iterations"] = iterations
    file.write_text(json.dumps(content))


@posix
@pytest.mark.slow
def test_a_killed_training_is_dead_and_goes_on(
    qtbot: QtBot, dock: TrainingDock, data: Path, runs: Path
) -> None:
    fill(dock, data, save_every=5)
    dock.start()
    (path,) = runs.iterdir()
    until(qtbot, dock, "running")
    wait(qtbot, lambda: bool(saved(path)))
    assert dock.view.run is not None and dock.view.run.pid is not None
    os.kill(dock.view.run.pid, signal.SIGKILL)
    until(qtbot, dock, "dead")
    assert dock.view.about.kind == "error" and "was killed" in dock.view.about.text()
    reached = int(read_header(newest(path)).record["iteration"])

    shorten(path, reached + 5)
    dock.view.resume()
    until(qtbot, dock, "finished")
    assert trained(path) == reached + 5
    assert len(dock.view.train) == reached + 5


@posix
@pytest.mark.slow
def test_a_training_that_does_not_stop_is_ended_by_a_second_click(
    qtbot: QtBot, dock: TrainingDock, data: Path, runs: Path
) -> None:
    fill(dock, data)
    dock.start()
    (path,) = runs.iterdir()
    until(qtbot, dock, "running")
    assert dock.view.run is not None and dock.view.run.pid is not None
    os.kill(dock.view.run.pid, signal.SIGSTOP)  # it hears nothing any more
    dock.view.stop_button.click()
    assert dock.view.run.state == "stopping" and not dock.view.stop_button.isEnabled()
    long_ago = time.time() - GRACE_S - 1
    os.utime(RunFolder(path).stop, (long_ago, long_ago))
    dock.refresh()
    assert dock.view.stop_button.isEnabled() and dock.view.stop_button.text() == "End at once"
    dock.view.stop_button.click()
    until(qtbot, dock, "dead")


@posix
@pytest.mark.slow
def test_a_training_is_stopped_before_it_began_and_begun_again(
    qtbot: QtBot, dock: TrainingDock, data: Path, runs: Path
) -> None:
    fill(dock, data, iterations=3)
    dock.start()
    (path,) = runs.iterdir()
    dock.view.stop_button.click()
    until(qtbot, dock, "stopped")
    assert dock.new.go.isEnabled() and trained(path) == 0
    dock.view.resume_button.click()
    until(qtbot, dock, "finished")
    assert trained(path) == 3


@pytest.mark.slow
def test_a_training_that_cannot_begin_says_why_and_the_next_one_runs(
    qtbot: QtBot, dock: TrainingDock, data: Path, runs: Path
) -> None:
    fill(dock, data, iterations=2)
    dock.new.settings.device.addItem("cuda:99")
    dock.new.settings.device.setCurrentText("cuda:99")
    dock.start()
    until(qtbot, dock, "failed")
    assert dock.message.kind == "error" and "'cuda:99' is not on this" in dock.message.text()
    assert "cuda:99" in dock.view.log.toPlainText()
    item = dock.runs.item(0)
    assert item is not None and item.text().startswith("failed: ")

    dock.new.settings.device.setCurrentText("cpu")
    dock.start()
    until(qtbot, dock, "finished")
    assert dock.runs.count() == 2


@pytest.mark.slow
def test_a_run_of_the_command_line_is_watched_too(
    qtbot: QtBot, dock: TrainingDock, data: Path, runs: Path
) -> None:
    runs.mkdir()
    words = ["train", "--stage", "local", "--data", str(data), "--run", str(runs / "by hand")]
    words += ["--iterations", str(NEVER), "--batch-size", "2", "--device", "cpu"]
    with subprocess.Popen([sys.executable, "-m", "prdit_core.cli", *words]) as child:
        wait(qtbot, lambda: bool(runs_below(runs)))
        until(qtbot, dock, "running")
        dock.view.stop()
        until(qtbot, dock, "stopped")
        assert child.wait(timeout=60) == 0


@pytest.mark.slow
def test_generate_with_this_opens_the_other_dock_with_the_run(
    make_napari_viewer: Callable[..., Any], qtbot: QtBot, data: Path, runs: Path
) -> None:
    config = TrainConfig(stage="local", data=data, run=runs / "run", iterations=1, batch_size=2)
    begin(config)
    wait(qtbot, lambda: look(RunFolder(runs / "run")).state == "finished")
    viewer = make_napari_viewer()
    _, dock = viewer.window.add_plugin_dock_widget("napari-prdit", "Train on CT scans")
    dock.choose_runs_folder(runs)
    assert dock.view.generate_button.isEnabled()
    dock.view.generate()
    (other,) = [w for w in viewer.window.dock_widgets.values() if isinstance(w, GenerateDock)]
    assert other.request().checkpoint == str(runs / "run")
    messages = [one.message for one in notification_manager.records]
    assert any("train the global part on top of it" in text for text in messages)
    assert isinstance(other, QWidget)
    for opened in (dock, other):
        opened.shut_down()


def test_the_form_of_another_family_gives_its_own_settings(dock: TrainingDock, data: Path) -> None:
    """Only what that stage has: no activations, no crop."""
    form = dock.new
    form.stage.choose("patch")
    assert form.stage.start.isHidden() and "small beside them" in form.stage.about_stage.text()
    form.data.data.choose(str(data))
    config = form.config()
    assert (config.stage, config.iterations, config.data) == ("patch", 5000, data)
    assert "--activations" not in train_words(config)
    form.stage.choose("finetune")
    form.stage.start.choose("demo")
    assert "--activations" in train_words(form.config())

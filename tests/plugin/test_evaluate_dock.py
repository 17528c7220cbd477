"""Evaluating a run from its dock: what is asked, what goes on, and the pairs that are looked at."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import evaluations
import numpy as np
import pytest
import thorax
from napari.components import ViewerModel
from napari.layers import Image
from qtpy.QtCore import QObject, Signal
from qtpy.QtGui import QDesktopServices
from toys import TINY_CHAIN, tiny_checkpoint

from napari_prdit.evaluations import EvaluationPlan, fitted, newest_report
from napari_prdit.layers import OURS, layer_volume
from napari_prdit.nearest_pairs import PAIR, nearest_pairs, show_pairs
from napari_prdit.run_watch import look
from napari_prdit.widgets import evaluate_box
from napari_prdit.widgets.evaluate_box import EvaluateBox
from napari_prdit.widgets.training_dock import TrainingDock
from prdit_core.errors import InputRejected, UsageError
from prdit_core.files import write_json
from prdit_core.prdit_config import TrainConfig
from prdit_core.runs.folder import RunFolder
from prdit_core.runs.status import Status, write_status
from prdit_core.verbs.phantoms import phantom_steps
from prdit_core.verbs.report import CONTENT, PAGE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytestqt.qtbot import QtBot

PATIENCE_MS = 60_000


class FakeChild(QObject):
    """Notes what it is asked for, and ends when the test says so."""

    printed = Signal(str)
    ended = Signal(int, str)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.commands: list[list[str]] = []
        self.running = self.stopped = False

    def start(self, words: list[str]) -> None:
        assert not self.running
        self.running = True
        self.commands.append(words)

    def stop(self) -> None:
        self.stopped = True

    def kill(self) -> None:
        self.running = False

    def end(self, code: int, *lines: str) -> None:
        self.running = False
        for line in lines:
            self.printed.emit(line)
        self.ended.emit(code, "")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return phantoms(tmp_path_factory.mktemp("data") / "phantoms", size=8)


@pytest.fixture
def run(tmp_path: Path, data: Path) -> RunFolder:
    """A finished run as training leaves one, as far as this dock reads it."""
    return invented_run(tmp_path / "runs" / "my run", data)


@pytest.fixture(autouse=True)
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Files that the browser was asked to show."""
    files: list[str] = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: files.append(url.toLocalFile()))
    return files


@pytest.fixture
def viewer() -> ViewerModel:
    return ViewerModel()


@pytest.fixture
def box(
    qtbot: QtBot, viewer: ViewerModel, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> Iterator[EvaluateBox]:
    monkeypatch.setattr(evaluate_box, "Child", FakeChild)
    made = EvaluateBox(viewer)
    qtbot.addWidget(made)
    made.show_run(look(run))
    yield made
    made.shut_down()


def phantoms(folder: Path, *, size: int) -> Path:
    """Prepared data, of which some are held out."""
    list(phantom_steps(8, size=size, seed=0, out=folder, validation_fraction=0.4))
    return folder


def phantom_chain(folder: Path) -> Path:
    """A checkpoint that makes 16^3, and 8^3 without its refiner, on the grid of phantoms."""
    tiny_checkpoint(folder, size=16, model=TINY_CHAIN)
    header = folder / "checkpoint.json"
    content = json.loads(header.read_text())
    content["geometry"] |= {"spacing_mm": [20.0] * 3, "field_of_view_mm": 320.0}
    header.write_text(json.dumps(content))
    return folder


def begin(qtbot: QtBot, box: EvaluateBox) -> None:
    """Press Evaluate, and wait until it has looked at the real scans."""
    box.go.click()
    looked_at(qtbot, box)


def looked_at(qtbot: QtBot, box: EvaluateBox) -> None:
    qtbot.waitUntil(lambda: not box.reading.running, timeout=PATIENCE_MS)


def invented_run(path: Path, data: Path) -> RunFolder:
    folder = RunFolder(path)
    phantom_chain(path / "checkpoints" / "iteration-00000120")
    settings = TrainConfig(stage="local", data=data, run=path).model_dump(
        mode="json", exclude_none=True
    )
    folder.config.write_text(json.dumps({"settings": settings}))
    at = "2025-01-01T08:00:00+00:00"
    status = {"state": "finished", "stage": "local", "iteration": 120, "total": 120}
    process = {"pid": 1, "host": "elsewhere", "started": at, "updated": at}
    write_status(folder, Status.model_validate(status | process))
    return folder


def finished_report(run: RunFolder, checkpoint: str = "iteration-00000120") -> Path:
    """An evaluation whose fake has two volumes, nearest to two of the training volumes."""
    report = run.path / "evaluation" / checkpoint / "report-1"
    found = evaluations.invented()
    for name in ("base", "training"):
        folder = report.parent / name
        for i in range(2):
            chest = thorax.chest((8, 8, 8), 20, lungs=10 * i)
            tissue = np.flatnonzero(chest.voxels_hu == 40)
            chest.voxels_hu.flat[tissue[::9]] = -90  # a body without fat is taken for no CT
            thorax.save(chest, folder / f"{name}-{i}.nii.gz")
        found["sets"][name] |= {"path": str(folder), "part": "all"}
    near, far = (
        {"fake": f"base-{i}.nii.gz", "training": f"training-{i}.nii.gz", "distance": 9.0 - i}
        for i in (1, 0)
    )
    found["fakes"]["base"]["nearest"]["pairs"] = [far, near]
    found["fakes"]["blurred"]["nearest"] = None
    write_json(report / CONTENT, found)
    (report / PAGE).write_text("a page")
    return report


def words_after(words: list[str], option: str) -> str:
    return words[words.index(option) + 1]


# --- what is asked ------------------------------------------------------------------------------


def test_the_data_of_the_run_are_offered_as_real(box: EvaluateBox, data: Path) -> None:
    assert box.form.real.text == str(data)


def test_volumes_are_generated_and_then_compared(
    qtbot: QtBot, box: EvaluateBox, run: RunFolder, data: Path
) -> None:
    box.form.count.setValue(7)
    box.form.steps.setValue(3)
    begin(qtbot, box)
    (generate,) = box.child.commands
    folder = run.path / "evaluation" / "iteration-00000120"
    assert generate[0] == "generate"
    assert words_after(generate, "--checkpoint") == str(run.path / "checkpoints" / folder.name)
    assert words_after(generate, "--out") == str(folder / "size-8-steps-3")
    values = [words_after(generate, f"--{name}") for name in ("size", "count", "steps")]
    assert values == ["8", "7", "3"]
    assert not box.go.isEnabled() and box.halt.isEnabled() and "generating" in box.message.text()

    box.child.end(0)
    _, compare = box.child.commands
    assert compare[0] == "evaluate"
    assert words_after(compare, "--real") == words_after(compare, "--training") == str(data)
    assert words_after(compare, "--fake") == f"run my run={folder / 'size-8-steps-3'}"
    assert words_after(compare, "--out") == str(folder / "report-1")

    box.child.printed.emit("real: features 3 of 8")
    assert box.message.text() == "real: features 3 of 8"
    finished_report(run)
    box.child.end(0)
    looked_at(qtbot, box)
    assert len(box.child.commands) == 2
    assert box.go.isEnabled() and box.open.isEnabled() and box.message.kind == "note"

    begin(qtbot, box)  # again: the report that is there stays
    box.child.end(0)
    assert words_after(box.child.commands[-1], "--out") == str(folder / "report-2")


def test_a_finished_evaluation_opens_its_page_and_its_nearest_pairs(
    qtbot: QtBot, box: EvaluateBox, run: RunFolder, viewer: ViewerModel, opened: list[str]
) -> None:
    begin(qtbot, box)
    box.child.end(0)
    report = finished_report(run)
    box.child.end(0)
    assert opened == [str(report / PAGE)]
    qtbot.waitUntil(lambda: len(viewer.layers) == 4, timeout=PATIENCE_MS)


def test_a_chain_generates_at_the_size_of_the_real_scans(
    qtbot: QtBot, box: EvaluateBox, run: RunFolder, tmp_path: Path
) -> None:
    finer = phantoms(tmp_path / "finer", size=16)
    box.show_run(look(invented_run(tmp_path / "runs" / "finer", finer)))
    begin(qtbot, box)
    (generate,) = box.child.commands
    assert words_after(generate, "--size") == "16"


def test_real_scans_unlike_what_the_model_makes_are_refused_before_anything_is_generated(
    qtbot: QtBot, box: EvaluateBox, run: RunFolder, tmp_path: Path
) -> None:
    refused = {
        phantoms(tmp_path / "32", size=32): "32 x 32 x 32 voxels of 10 x 10 x 10 mm",
        tmp_path / "nowhere": "nowhere",
    }
    box.show_run(look(invented_run(tmp_path / "runs" / "other", tmp_path / "gone")))
    for folder, words in refused.items():
        box.form.real.choose(str(folder))
        begin(qtbot, box)
        assert box.message.kind == "error" and words in box.message.text()
        assert "\n" not in box.message.text() and box.go.isEnabled()
    assert "16: voxels of 20 mm or 8: voxels of 40 mm" in refusal(run, tmp_path / "32")
    assert box.child.commands == []


def refusal(run: RunFolder, real: Path) -> str:
    checkpoint = run.path / "checkpoints" / "iteration-00000120"
    with pytest.raises(UsageError) as refused:
        fitted(EvaluationPlan(run.path, checkpoint, real, None, None, 2, 2, "cpu"))
    return str(refused.value)


def test_the_commands_understand_what_they_are_asked(qtbot: QtBot, box: EvaluateBox) -> None:
    from typer.main import get_command

    from prdit_core.cli.app import app

    begin(qtbot, box)
    box.child.end(0)
    for name, *words in box.child.commands:
        command = get_command(app).commands[name]  # type: ignore[attr-defined]
        assert command.make_context(name, list(words)).params


def test_volumes_that_are_there_need_no_generating(
    qtbot: QtBot, box: EvaluateBox, tmp_path: Path
) -> None:
    made = phantoms(tmp_path / "made", size=8)
    box.form.made.choose(str(made))
    assert not box.form.count.isEnabled()
    begin(qtbot, box)
    (words,) = box.child.commands
    assert words[0] == "evaluate" and words_after(words, "--fake") == f"run my run={made}"


def test_too_few_held_out_scans_disable_the_button_and_say_why(
    box: EvaluateBox, tmp_path: Path
) -> None:
    two = tmp_path / "two held out"
    list(phantom_steps(8, size=8, seed=0, out=two, validation_fraction=0.25))
    box.show_run(look(invented_run(tmp_path / "runs" / "other", two)))
    assert not box.go.isEnabled() and not box.why.isHidden()
    assert "has 2 held-out scans, and comparing takes 3 or more" in box.why.text()
    assert box.go.toolTip() == box.why.text() and "choose another folder" in box.why.text()
    box.evaluate()
    assert box.idle and box.child.commands == []
    box.form.real.choose(str(phantoms(tmp_path / "others", size=8)))
    assert box.go.isEnabled() and box.why.isHidden()


def test_other_real_scans_are_compared_with_and_copies_still_looked_for(
    qtbot: QtBot, box: EvaluateBox, tmp_path: Path, data: Path
) -> None:
    others = phantoms(tmp_path / "others", size=8)
    box.form.real.choose(str(others))
    begin(qtbot, box)
    box.child.end(0)
    words = box.child.commands[-1]
    assert words_after(words, "--real") == str(others)
    assert words_after(words, "--training") == str(data)


def test_a_name_that_the_command_cannot_take_is_changed(tmp_path: Path) -> None:
    plan = EvaluationPlan(
        tmp_path / ("a=b\n" + "x" * 90), tmp_path, tmp_path, None, None, 2, 2, "cpu"
    )
    assert plan.name == "run a-b-" + "x" * 36
    assert "--training" not in plan.evaluate_words


def test_without_real_scans_or_checkpoint_it_says_so(box: EvaluateBox, run: RunFolder) -> None:
    box.form.real.setCurrentText("")
    box.evaluate()
    assert box.message.kind == "error" and "real scans" in box.message.text()
    box.form.real.choose("/somewhere")
    (run.path / "checkpoints" / "iteration-00000120" / "checkpoint.json").unlink()
    box.evaluate()
    assert box.message.kind == "error" and "no checkpoint yet" in box.message.text()
    assert box.child.commands == [] and box.go.isEnabled()


def test_another_run_brings_its_own_data_and_a_typed_folder_stays(
    box: EvaluateBox, run: RunFolder, tmp_path: Path
) -> None:
    box.form.real.choose("/typed")
    box.show_run(look(run))
    assert box.form.real.text == "/typed"
    other = invented_run(tmp_path / "runs" / "other", tmp_path / "gone")
    box.show_run(look(other))
    assert box.form.real.text == ""
    box.show_run(None)
    assert not box.go.isEnabled()


# --- what goes on -------------------------------------------------------------------------------


def test_progress_is_the_number_of_volumes_there_are(
    qtbot: QtBot, box: EvaluateBox, run: RunFolder
) -> None:
    box.form.count.setValue(4)
    begin(qtbot, box)
    assert "0 of 4 volumes" in box.message.text() and "left" not in box.message.text()
    folder = (
        run.path / "evaluation" / "iteration-00000120" / f"size-8-steps-{box.form.steps.value()}"
    )
    folder.mkdir(parents=True)
    for i in range(3):
        (folder / f"seed-0_index-{i:04d}.json").touch()
    box._watch.timeout.emit()
    assert (box.busy.value(), box.busy.maximum()) == (3, 4)
    assert "3 of 4 volumes" in box.message.text() and box.message.text().endswith("left")
    box.child.end(0)
    assert box.busy.maximum() == 0  # how long comparing takes is not known


def test_what_fails_is_said_and_nothing_is_compared(qtbot: QtBot, box: EvaluateBox) -> None:
    begin(qtbot, box)
    box.child.end(5, "prdit-core: weights are damaged")
    assert box.message.kind == "error" and box.message.text() == "weights are damaged"
    assert len(box.child.commands) == 1 and box.go.isEnabled()
    begin(qtbot, box)
    box.child.end(9)
    assert box.message.text() == "ended with code 9"  # and not what the child before it said


@pytest.mark.parametrize("code", [143, 15, 0])  # asked, before it could listen, at its last step
def test_it_can_be_stopped_and_begun_again(qtbot: QtBot, box: EvaluateBox, code: int) -> None:
    begin(qtbot, box)
    box.halt.click()
    assert box.child.stopped
    box.child.end(code, "prdit-core: stopping after this step; press Ctrl-C again")
    assert box.message.kind == "note" and box.message.text().startswith("stopped")
    assert not box.halt.isEnabled()
    begin(qtbot, box)
    assert box.child.commands[0] == box.child.commands[1]


def test_what_does_not_stop_is_ended_by_a_second_click(qtbot: QtBot, box: EvaluateBox) -> None:
    begin(qtbot, box)
    box.halt.click()
    assert box.child.running and box.halt.text() == "End at once"
    box.halt.click()
    assert not box.child.running and box.message.text().startswith("stopped")
    assert box.go.isEnabled() and box.halt.text() == "Stop"


def test_a_run_that_is_selected_meanwhile_is_not_mixed_in(
    qtbot: QtBot, box: EvaluateBox, run: RunFolder, data: Path, tmp_path: Path
) -> None:
    begin(qtbot, box)
    box.show_run(look(invented_run(tmp_path / "runs" / "other", data)))
    box.evaluate()
    box.child.end(0)
    assert len(box.child.commands) == 2
    assert words_after(box.child.commands[1], "--fake").startswith("run my run=")


def test_the_dock_shows_it_and_ends_it(
    qtbot: QtBot, viewer: ViewerModel, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate_box, "Child", FakeChild)
    dock = TrainingDock(viewer)
    qtbot.addWidget(dock)
    dock.choose_runs_folder(run.path.parent)
    evaluating = dock.view.evaluating
    begin(qtbot, evaluating)
    assert evaluating.child.running
    dock.shut_down()
    assert not evaluating.child.running


# --- what is looked at --------------------------------------------------------------------------


def test_the_newest_report_opens_in_the_browser(
    box: EvaluateBox, run: RunFolder, opened: list[str]
) -> None:
    assert not box.open.isEnabled()
    older, newer = finished_report(run), finished_report(run, "iteration-00000060")
    os.utime(older / CONTENT, (1, 1))
    unfinished = finished_report(run, "iteration-00000090")
    (unfinished / PAGE).unlink()
    box.show_run(look(run))
    box.open.click()
    assert newest_report(run.path) == newer
    assert opened == [str(newer / PAGE)]


def test_pairs_become_layers_the_generated_one_above_its_training_volume(
    qtbot: QtBot, box: EvaluateBox, run: RunFolder, viewer: ViewerModel
) -> None:
    scan = viewer.add_image(np.zeros((4, 6, 8)), scale=(2, 2, 2), units=("mm",) * 3)
    finished_report(run)
    box.show_run(look(run))
    box.pairs.click()
    qtbot.waitUntil(lambda: len(viewer.layers) == 5, timeout=PATIENCE_MS)
    _, *layers = viewer.layers
    assert [layer.name for layer in layers] == [
        "1 generated: base-1.nii.gz, 8 HU apart",
        "1 training: training-1.nii.gz",
        "2 generated: base-0.nii.gz, 9 HU apart",
        "2 training: training-0.nii.gz",
    ]
    assert all(isinstance(layer, Image) for layer in layers)
    boxes = [layer.extent.world for layer in layers]
    for above, below in ((boxes[0], boxes[1]), (boxes[2], boxes[3])):
        assert above[1, 1] < below[0, 1]
        assert np.array_equal(above[:, ::2], below[:, ::2])  # same slices, same columns
    assert scan.extent.world[1, 2] < boxes[0][0, 2] and boxes[0][1, 2] < boxes[2][0, 2]

    qtbot.waitUntil(lambda: not box.reading.running, timeout=PATIENCE_MS)
    box.pairs.click()  # again: they are replaced, and the scan stays
    qtbot.waitUntil(lambda: layers[0] not in viewer.layers, timeout=PATIENCE_MS)
    assert len(viewer.layers) == 5 and viewer.layers[0] is scan


def test_layers_of_pairs_are_volumes_like_any_other(run: RunFolder, viewer: ViewerModel) -> None:
    show_pairs(viewer, list(nearest_pairs(finished_report(run))))
    layer = viewer.layers[0]
    assert layer.metadata[OURS][PAIR] == "base"
    _, attributes, _ = layer.as_layer_data_tuple()
    volume = layer_volume(layer.data, attributes)
    assert volume.spacing_mm == pytest.approx((20, 20, 20)) and volume.voxels_hu.min() == -850


def damage(file: Path, change: dict[str, Any]) -> None:
    content = json.loads(file.read_text())
    write_json(file, content | change)


def test_an_evaluation_without_training_data_has_no_pairs(
    qtbot: QtBot, box: EvaluateBox, run: RunFolder
) -> None:
    report = finished_report(run)
    fakes = json.loads((report / CONTENT).read_text())["fakes"]
    damage(report / CONTENT, {"fakes": {n: f | {"nearest": None} for n, f in fakes.items()}})
    with pytest.raises(UsageError, match="no training data"):
        list(nearest_pairs(report))
    box.show_run(look(run))
    box.pairs.click()
    qtbot.waitUntil(lambda: box.message.kind == "error", timeout=PATIENCE_MS)
    assert "no training data" in box.message.text()


def test_volumes_that_are_gone_and_other_files_are_refused(run: RunFolder) -> None:
    report = finished_report(run)
    (report.parent / "base" / "base-1.nii.gz").rename(report.parent / "base" / "other.nii.gz")
    with pytest.raises(InputRejected, match=r"holds base-1\.nii\.gz no more"):
        list(nearest_pairs(report))
    damage(report / CONTENT, {"version": 2})
    with pytest.raises(InputRejected, match="no evaluation of this version"):
        list(nearest_pairs(report))
    (report / CONTENT).write_text("[]")
    with pytest.raises(InputRejected, match="no evaluation of this version"):
        list(nearest_pairs(report))

"""Reconstructing in the dock: what is measured, samples, parts, methods beside, files, faults."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pytest
from napari.components import ViewerModel
from test_raw_projections import SCANNERS, save

import prdit_core
from napari_prdit.generation import Progress
from napari_prdit.jobs import Control, Mailbox
from napari_prdit.layers import OURS, image_layer
from napari_prdit.looking import our_layers
from napari_prdit.measuring import NOISELESS, TASKS, Simulation
from napari_prdit.reader import read_scan
from napari_prdit.reconstruction import (
    CALIBRATED,
    COUPLINGS,
    LAST_STEPS,
    MODEL,
    Frame,
    Misfits,
    Reconstruction,
    Sample,
    reconstruct_work,
)
from napari_prdit.reconstruction_layers import MEASURED
from napari_prdit.sample_data import phantom
from napari_prdit.widgets.planes import planes_of
from napari_prdit.widgets.reconstruct import FILE, ReconstructDock
from prdit_core.checkpoints.catalog import BUNDLED
from prdit_core.config import LastStepName
from prdit_core.data.phantoms import make_phantom
from prdit_core.inverse import couplings as core_couplings
from prdit_core.inverse import last_step
from prdit_core.verbs.tv_strength import strength_steps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import napari
    from napari.layers import Image
    from pytestqt.qtbot import QtBot
    from torch import Tensor

    from napari_prdit.widgets.reconstruction_panel import ReconstructionPanel
    from prdit_core.inverse.problem import Problem
    from prdit_core.volume import Volume

    MakeViewer = Callable[..., napari.Viewer]

PATIENCE_MS = 240_000


@pytest.fixture
def viewer() -> ViewerModel:
    return ViewerModel()


@pytest.fixture
def scan(viewer: ViewerModel) -> Image:
    data, attributes, _ = image_layer(make_phantom(2, 7, spacing_mm=8.0).volume, "chest")
    return viewer.add_image(data, **attributes)


@pytest.fixture
def dock(qtbot: QtBot, viewer: ViewerModel, scan: Image) -> Iterator[ReconstructDock]:
    made = ReconstructDock(viewer)
    qtbot.addWidget(made)
    small(made)
    yield made
    made.shut_down()


def small(dock: ReconstructDock) -> ReconstructionPanel:
    dock.model.size_choice.choose(32)
    dock.samples.own.steps.setValue(4)
    dock.samples.own.count.setValue(1)
    return dock.samples


def finish(qtbot: QtBot, panel: ReconstructionPanel) -> None:
    qtbot.waitUntil(lambda: not panel.job.running, timeout=PATIENCE_MS)
    assert panel.message.kind != "error", panel.message.text()


def layer(panel: ReconstructionPanel, key: str) -> Image:
    found = panel.layers.get(key)
    assert found is not None, key
    return found


def rows(panel: ReconstructionPanel) -> dict[str, list[str]]:
    table = panel.table
    cells = [[table.item(row, column) for column in range(3)] for row in range(table.rowCount())]
    texts = [[cell.text() for cell in row if cell is not None] for row in cells]
    return {first: rest for first, *rest in texts}


def test_samples_mean_spread_and_parts_are_those_of_the_verbs(
    qtbot: QtBot, dock: ReconstructDock, scan: Image
) -> None:
    from prdit_core.verbs.assess import assess
    from prdit_core.verbs.reconstruct import WALK

    before, panel = scan.data.copy(), dock.samples
    panel.own.count.setValue(2)
    panel.own.seed.setValue(5)
    panel.controls.go.click()
    finish(qtbot, panel)
    assert panel.results is not None
    measured = panel.results.measured
    prior = prdit_core.load("demo").at_size(32)
    config = WALK.model_copy(update={"steps": 4})
    volumes = [
        prdit_core.reconstruct(prior, measured.measurement, config, seed=5, index=index)
        for index in range(2)
    ]
    expected = assess(measured.measurement, volumes, measured.truth)
    np.testing.assert_array_equal(layer(panel, "mean").data, expected.volume.voxels_hu)
    np.testing.assert_array_equal(layer(panel, MODEL).data, volumes[1].voxels_hu)
    for key, part in expected.parts.items():
        np.testing.assert_array_equal(layer(panel, key).data, part.voxels_hu)
    parts = layer(panel, "determined").data + layer(panel, "imagined").data
    np.testing.assert_allclose(parts, layer(panel, "mean").data, atol=1e-2)
    psnr = expected.numbers["volume"]["grey"]["psnr"]
    assert rows(panel)["model, mean of 2"][0] == f"{psnr:.1f} dB"
    assert f"{psnr:.1f} dB against the truth" in panel.message.text()
    assert "imagined" in panel.message.text() and "twice as fine" in panel.about.text()
    np.testing.assert_array_equal(scan.data, before)
    ours = layer(panel, MODEL).metadata[OURS]
    assert ours["notice"].endswith("partly imagined, not for diagnosis")
    assert (ours["seed"], ours["index"], ours["checkpoint_sha256"]) == (5, 1, prior.digest)
    assert ours["measurement"]["inverse_crime"] is False
    assert [len(curve) for curve in panel.misfits.curves] == [4, 4]
    assert all(curve[-1] < curve[0] for curve in panel.misfits.curves)


class Looking(Mailbox[Frame]):
    """A window that takes every picture at once."""

    def __init__(self) -> None:
        super().__init__()
        self.pictures: list[Volume] = []

    def put(self, content: Frame) -> None:
        self.pictures.append(content.volume)


@pytest.mark.parametrize("steps_done", [10, 4])
def test_the_last_step_is_taken_once_by_each_finished_sample(
    monkeypatch: pytest.MonkeyPatch, steps_done: int
) -> None:
    """It takes seconds, so pictures on the way do without, and so does what is stopped there."""
    calls: list[int] = []

    def counted(problem: Problem, x0: Tensor) -> Tensor:
        calls.append(len(window.pictures))
        return last_step.smoothed(problem, x0)

    monkeypatch.setattr("prdit_core.inverse.couplings.smoothed", counted)
    volume = make_phantom(2, 7, spacing_mm=16.0).volume
    task = TASKS["few views"]
    source = Simulation(image_layer(volume, "chest"), "demo", 32, task, task.scanner)
    window, control = Looking(), Control()
    request = Reconstruction(source, "demo", 32, "cpu", steps=10, count=2)
    samples: list[Volume] = []
    for event in reconstruct_work(request, window, Misfits(), control):
        if isinstance(event, Progress) and event.index + 1 == steps_done < 10:
            control.stop()
        if isinstance(event, Sample):
            samples.append(event.volume)
    whole = steps_done == 10
    assert calls == ([10, 20] if whole else [])
    assert {one.metadata["last_step"] for one in window.pictures} == {"none"}
    assert [one.metadata["last_step"] for one in samples] == (["tv"] * 2 if whole else ["none"])


def test_one_layer_is_seen_at_a_time_and_each_sample_can_be(
    qtbot: QtBot, dock: ReconstructDock, viewer: ViewerModel
) -> None:
    panel = dock.samples
    panel.own.count.setValue(2)
    panel.reconstruct()
    finish(qtbot, panel)
    assert layer(panel, "mean").visible and not layer(panel, MODEL).visible
    panel.sheet.itemClicked.emit(panel.sheet.item(0))
    assert layer(panel, MODEL).visible and layer(panel, MODEL).name == "model, sample 1"
    assert layer(panel, MODEL).metadata[OURS]["index"] == 0
    panel.table.choose("spread")
    assert [one.visible for one in panel.layers.present].count(True) == 1
    assert layer(panel, "spread").visible and layer(panel, "spread").data.min() >= 0
    viewer.layers.remove(layer(panel, "imagined"))
    panel.table.choose("imagined")
    assert "deleted" in panel.message.text()


def test_the_sinogram_lies_in_the_place_of_the_volume(
    qtbot: QtBot, dock: ReconstructDock, viewer: ViewerModel
) -> None:
    panel = dock.samples
    panel.compare("fbp")
    finish(qtbot, panel)
    sinogram, truth = layer(panel, MEASURED), layer(panel, "truth")
    assert sinogram.name == "sinogram" and sinogram.data.shape[:2] == (32, 8)
    edges = [
        (one.extent.world[0] - one.scale / 2, one.extent.world[1] + one.scale / 2)
        for one in (sinogram, truth)
    ]
    np.testing.assert_allclose(*edges, atol=1e-3)
    assert sinogram not in our_layers(viewer)  # no volume, so in no other plane
    assert "sinogram" not in [panel.form.source.itemText(0)]


def test_methods_beside_stay_while_the_data_do(qtbot: QtBot, dock: ReconstructDock) -> None:
    panel = dock.samples
    for method in ("fbp", "sirt"):
        panel.methods[method].click()
        finish(qtbot, panel)
    assert {"FBP", "SIRT", "truth"} <= rows(panel).keys()
    fbp, sirt = (float(rows(panel)[name][0].split()[0]) for name in ("FBP", "SIRT"))
    assert sirt > fbp
    panel.reconstruct()
    finish(qtbot, panel)
    assert {"FBP", "SIRT", "model, sample 1"} <= rows(panel).keys()
    panel.form.views.setValue(12)
    panel.compare("fbp")
    finish(qtbot, panel)
    assert rows(panel).keys() == {"truth", "measured data", "FBP"}


@pytest.mark.parametrize("task", ["super-resolution", "deblur"])
def test_tasks_without_rays_say_that_their_data_are_too_good(
    qtbot: QtBot, dock: ReconstructDock, task: str
) -> None:
    dock.choose(task)
    panel = dock.samples
    assert not panel.methods["fbp"].isVisibleTo(panel)
    panel.reconstruct()
    finish(qtbot, panel)
    assert "better than a scanner's" in panel.about.text()
    assert layer(panel, MEASURED).name == "measured data"
    assert layer(panel, MODEL).data.shape == (32, 32, 32)


@pytest.mark.parametrize("task", TASKS)
def test_a_task_shows_the_settings_that_it_heeds(dock: ReconstructDock, task: str) -> None:
    dock.choose(task)
    form = dock.samples.form
    shown = [name for name, field in form.fields.items() if form.data.rows.isRowVisible(field)]
    assert shown == [name for name in form.fields if name in TASKS[task].settings]
    assert form.scanner() == TASKS[task].scanner


def test_saved_data_reconstruct_alike_from_their_file(
    qtbot: QtBot, dock: ReconstructDock, tmp_path: Path
) -> None:
    panel = dock.samples
    panel.form.dose.setCurrentText(NOISELESS)
    panel.reconstruct()
    finish(qtbot, panel)
    before = layer(panel, MODEL).data.copy()
    panel.save_data(str(tmp_path / "views"))
    qtbot.waitUntil(lambda: not panel.saving.running, timeout=PATIENCE_MS)
    dock.choose(FILE)
    panel.form.file.choose(str(tmp_path / "views.npz"))
    panel.reconstruct()
    finish(qtbot, panel)
    np.testing.assert_array_equal(layer(panel, MODEL).data, before)
    panel._save("NIfTI", str(tmp_path / "model"))
    qtbot.waitUntil(lambda: not panel.saving.running, timeout=PATIENCE_MS)
    ((data, attributes, _),) = read_scan(str(tmp_path / "model.nii.gz"))
    np.testing.assert_allclose(data, before, atol=0.51)
    assert attributes["metadata"][OURS]["measurement_sha256"]


def test_stopping_leaves_the_estimate_of_a_model_and_nothing_of_a_method(
    qtbot: QtBot, dock: ReconstructDock
) -> None:
    panel = dock.samples
    panel.own.steps.setValue(500)
    panel.reconstruct()
    assert not dock.task.isEnabled()
    qtbot.waitUntil(lambda: panel.layers.get(MODEL) is not None, timeout=PATIENCE_MS)
    panel.controls.halt.click()
    finish(qtbot, panel)
    assert panel.message.text().startswith("Stopped after step") and dock.task.isEnabled()
    assert layer(panel, MODEL).metadata[OURS]["estimate_at_step"] < 500
    panel.compare("sirt")
    panel.job.control.stop()
    finish(qtbot, panel)
    assert panel.layers.get("sirt") is None and "nothing" in panel.message.text()


def test_kept_layers_stay(qtbot: QtBot, dock: ReconstructDock, viewer: ViewerModel) -> None:
    panel = dock.samples
    panel.reconstruct()
    finish(qtbot, panel)
    kept = layer(panel, MODEL)
    before = kept.data.copy()
    panel.ending.keep.click()
    assert not rows(panel)
    panel.ending.another_wanted.emit()
    finish(qtbot, panel)
    np.testing.assert_array_equal(kept.data, before)
    assert kept.name == "model, sample 1, seed 0" and layer(panel, MODEL) is not kept
    assert layer(panel, MODEL).metadata[OURS]["seed"] == 1


def refused(qtbot: QtBot, panel: ReconstructionPanel) -> str:
    panel.reconstruct()
    qtbot.waitUntil(lambda: not panel.job.running, timeout=PATIENCE_MS)
    assert panel.message.kind == "error" and panel.controls.go.isEnabled()
    return str(panel.message.text())


def test_faults_are_one_line_each(
    qtbot: QtBot, dock: ReconstructDock, viewer: ViewerModel, tmp_path: Path
) -> None:
    panel = dock.samples
    viewer.layers.clear()
    assert "drop a CT scan" in refused(qtbot, panel)
    dock.choose(FILE)
    assert "choose a measurement file" in refused(qtbot, panel)
    for name, content, why in (
        ("gone.npz", None, "gone.npz"),
        ("torn.npz", b"PK\x03\x04", "no whole .npz"),
        ("scan.xrm", b"", "Zeiss"),
    ):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        panel.form.file.choose(str(tmp_path / name))
        assert why in refused(qtbot, panel)


# --- behind the folds -----------------------------------------------------------------------------


def test_another_beam_sees_all_round_unless_a_wedge_is_to_be_left(dock: ReconstructDock) -> None:
    form = dock.samples.form
    form.beam.setCurrentText("fan")
    assert form.arc.value() == 360
    spec = form.requested("demo", 32).measured().measurement.spec
    assert (spec.kind, spec.views, len(spec.shape)) == ("fan", 8, 3)
    form.beam.setCurrentText("parallel")
    assert form.arc.value() == 180
    dock.choose("limited angle")
    form.beam.setCurrentText("cone")
    assert form.arc.value() == 120
    dock.choose("deblur")
    assert not form.data.rows.isRowVisible(form.scanner_fold)


def test_couplings_are_those_of_the_core() -> None:
    assert COUPLINGS.keys() == core_couplings.COUPLINGS.keys()
    needy = [name for name, row in core_couplings.COUPLINGS.items() if row.needs_error]
    assert list(CALIBRATED) == needy and set(LAST_STEPS) == set(get_args(LastStepName))


def test_a_coupling_walks_its_own_way_and_is_recorded(
    qtbot: QtBot, dock: ReconstructDock, tmp_path: Path
) -> None:
    panel, form = dock.samples, dock.samples.own.way.rows
    assert not form.isRowVisible(panel.own.calibration)
    panel.own.coupling.setCurrentText("dds")
    panel.own.last_step.setCurrentText("none")
    panel.reconstruct()
    finish(qtbot, panel)
    record = layer(panel, MODEL).metadata[OURS]
    assert (record["coupling"], record["iterations"], record["last_step"]) == ("dds", 5, "none")
    assert (record["sampler"], record["k"], record["eta"]) == ("ddim", 1.0, 0.85)

    panel.own.coupling.setCurrentText("prox")
    assert form.isRowVisible(panel.own.calibration)
    own = BUNDLED / "demo" / "calibration.json"
    changed = own.read_text().replace('"made_with": "', '"made_with": "elsewhere ')
    (tmp_path / "errors.json").write_text(changed)
    for chosen, file in (("", own), (str(tmp_path / "errors.json"), tmp_path / "errors.json")):
        panel.own.calibration.choose(chosen)
        panel.reconstruct()
        finish(qtbot, panel)
        prior = prdit_core.load("demo")
        expected = prdit_core.read_calibration(file, prior).digest
        assert layer(panel, MODEL).metadata[OURS]["calibration_sha256"] == expected


def test_a_patch_prior_may_walk_as_its_paper_does(
    qtbot: QtBot, dock: ReconstructDock, patch_prior: Path
) -> None:
    panel, rows = dock.samples, dock.samples.own.way.rows
    assert not rows.isRowVisible(panel.own.walk) and panel.requested().paper is None
    dock.model.checkpoint.choose(str(patch_prior))
    assert rows.isRowVisible(panel.own.walk)
    panel.own.walk.setCurrentText("paper")
    assert panel.own.steps.value() == 200
    panel.own.steps.setValue(3)
    panel.reconstruct()
    finish(qtbot, panel)
    record = layer(panel, MODEL).metadata[OURS]
    used = {name: record[name] for name in ("sampler", "grid", "eta", "renoise", "steps", "k")}
    assert used == {
        **{"sampler": "ddim-even", "grid": "exact", "eta": 0.8, "renoise": 2},
        **{"steps": 3, "k": 1.0},
    }
    dock.model.checkpoint.choose("demo")
    assert panel.own.steps.value() == 20 and panel.requested().paper is None


def test_raw_projections_need_what_files_do_not_say(
    qtbot: QtBot, dock: ReconstructDock, tmp_path: Path
) -> None:
    panel = dock.samples
    pictures, stated = save(tmp_path / "raw", SCANNERS["parallel"])
    dock.choose(FILE)
    panel.form.file.choose(str(pictures))
    assert "give --flats and --darks" in refused(qtbot, panel)
    raw = panel.form.raw
    raw.flats.choose(str(stated.flats))
    raw.darks.choose(str(stated.darks))
    raw.scanner.choose(str(stated.geometry))
    raw.every.setValue(2)
    raw.end.setValue(4)
    panel.compare("fbp")
    finish(qtbot, panel)
    options = replace(stated, every=2, rows=(0, 4))
    measured = prdit_core.open_measurement(pictures, options)
    expected = prdit_core.reconstruct_classically(measured, "fbp")
    np.testing.assert_array_equal(layer(panel, "fbp").data, expected.voxels_hu)
    assert raw.stated()["rows"] == (0, 4) and "unit_mm" not in raw.stated()


def test_tuning_of_total_variation_is_stopped_at_once(
    qtbot: QtBot, dock: ReconstructDock, monkeypatch: pytest.MonkeyPatch
) -> None:
    panel, trials = dock.samples, []

    def slow(*given: Any) -> Iterator[Any]:
        for trial in strength_steps(*given):
            trials.append(trial)
            yield trial

    monkeypatch.setattr("prdit_core.verbs.tv_strength.LONGEST_S", math.inf)  # on a busy machine
    monkeypatch.setattr("prdit_core.verbs.tv_strength.strength_steps", slow)
    panel.compare("tv")
    qtbot.waitUntil(lambda: bool(trials), timeout=PATIENCE_MS)
    panel.controls.halt.click()
    finish(qtbot, panel)
    assert len(trials) < trials[0].total and panel.layers.get("tv") is None
    assert "nothing" in panel.message.text() and panel.controls.go.isEnabled()


# --- a real window --------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_phantom_from_few_views_is_seen(make_napari_viewer: MakeViewer, qtbot: QtBot) -> None:
    viewer: Any = make_napari_viewer(show=True)
    viewer.window._qt_window.resize(1400, 900)
    for data, attributes, kind in phantom():
        if kind == "image":
            viewer.add_image(data, **attributes)
    _, dock = viewer.window.add_plugin_dock_widget("napari-prdit", "Reconstruct and edit")
    qtbot.waitUntil(lambda: planes_of(viewer) is not None, timeout=PATIENCE_MS)
    panel = small(dock)
    panel.own.steps.setValue(10)
    panel.controls.go.click()
    finish(qtbot, panel)
    pictures = {}
    for key in ("truth", MODEL, MEASURED):
        panel.table.choose(key)
        qtbot.wait(300)
        shot = viewer.screenshot(canvas_only=True, flash=False)[..., :3]
        pictures[key] = shot.astype(float).mean(-1).ravel()
        assert np.std(pictures[key]) > 20
    alike = np.corrcoef([pictures["truth"], pictures[MODEL], pictures[MEASURED]])
    assert alike[0, 1] > 0.9 > alike[0, 2]  # the model's volume looks like the truth, data do not
    assert panel.plot.isVisible() and panel.table.isVisible()
    dock.shut_down()

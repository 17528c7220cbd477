"""The dock that generates: settings, live view, results, faults."""

from __future__ import annotations

import shlex
import shutil
import threading
import time
from typing import TYPE_CHECKING, Any

import npe2
import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import QMimeData, QPointF, Qt, QUrl
from qtpy.QtGui import QDropEvent, QGuiApplication
from toys import tiny_checkpoint
from typer.testing import CliRunner

from napari_prdit.known_checkpoints import CHEST_PRESETS, network_of, setting
from napari_prdit.paces import known_paces, remember_paces
from napari_prdit.preview import MEAN
from napari_prdit.request import preset_words
from napari_prdit.saving import FORMATS
from napari_prdit.session import open_session, save_session
from napari_prdit.widgets.generate import GenerateDock
from napari_prdit.widgets.time_travel import THROTTLE_MS
from napari_prdit.widgets.walk_form import WalkForm
from napari_prdit.writer import write_nifti
from prdit_core.cli.app import app
from prdit_core.config import SamplingConfig, words_of
from prdit_core.presets import sampling_preset

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytestqt.qtbot import QtBot
    from qtpy.QtWidgets import QWidget

PATIENCE_MS = 240_000


@pytest.fixture
def viewer() -> ViewerModel:
    return ViewerModel()


@pytest.fixture
def dock(qtbot: QtBot, viewer: ViewerModel) -> Iterator[GenerateDock]:
    made = GenerateDock(viewer)
    qtbot.addWidget(made)
    made.walk.device.setCurrentText("cpu")
    made.walk.steps.setValue(6)
    made.model.size_choice.choose(32)
    yield made
    made.shut_down()


def finish(qtbot: QtBot, dock: GenerateDock) -> None:
    qtbot.waitUntil(lambda: not dock.panel.job.running, timeout=PATIENCE_MS)


def copied(dock: GenerateDock) -> list[str]:
    """Words of the command that goes to the clipboard."""
    dock.panel.ending.copy.click()
    clipboard = QGuiApplication.clipboard()
    assert clipboard is not None
    return shlex.split(clipboard.text())


def test_a_volume_is_what_the_command_makes(qtbot: QtBot, dock: GenerateDock) -> None:
    from prdit_core import generate, load
    from prdit_core.machine import use_threads

    dock.walk.seed.setValue(5)
    dock.generate()
    finish(qtbot, dock)
    (layer,) = dock.viewer.layers
    use_threads()
    demo = load("demo").at_size(32)
    expected = generate(demo, demo.network.config.walk.but({"steps": 6}), seed=5)
    np.testing.assert_array_equal(layer.data, expected.voxels_hu)
    ours = layer.metadata["prdit"]
    assert {k: ours[k] for k in expected.metadata} == dict(expected.metadata)
    np.testing.assert_allclose(layer.scale, expected.spacing_mm)
    assert tuple(layer.contrast_limits) == (-1000, 400)


@pytest.mark.slow
def test_the_copied_command_makes_the_same_volume(
    qtbot: QtBot, dock: GenerateDock, tmp_path: Path
) -> None:
    dock.walk.seed.setValue(2)
    dock.generate()
    finish(qtbot, dock)
    words = copied(dock)
    assert CliRunner().invoke(app, [*words[1:-1], str(tmp_path / "out")]).exit_code == 0
    import nibabel

    (file,) = (tmp_path / "out").glob("*.nii.gz")
    saved = np.asarray(nibabel.load(file).dataobj)
    shown = np.rint(dock.viewer.layers[0].data)
    # the command writes int16; nibabel is (x, y, z) towards right and front
    assert sorted(saved.ravel().tolist()) == sorted(shown.ravel().tolist())


# --- resolutions of a chain ---------------------------------------------------------------------


def test_only_a_chain_asks_for_the_size(dock: GenerateDock, chain: Path, tmp_path: Path) -> None:
    size = dock.model.size_choice
    dock.choose_checkpoint(str(chain))
    assert not size.isHidden() and dock.request().size == 16
    assert [size.itemText(row) for row in range(size.count())] == [
        "16: voxels of 8 mm",
        "8: voxels of 16 mm",
    ]
    assert dock.model.about.text() == "<b>CT, 16 x 16 x 16 voxels of 8 mm</b>"
    details = dock.model.about.toolTip()
    assert details.startswith("16 x 16 x 16 voxels of 8 x 8 x 8 mm\nalso 8 along each edge\n")
    assert "1 refiner" in details
    for name in (tiny_checkpoint(tmp_path / "plain"), tmp_path / "missing"):
        dock.choose_checkpoint(str(name))
        assert size.isHidden() and dock.request().size is None
        assert "--size" not in copied(dock)


def test_a_chosen_size_stays_with_models_that_have_it(
    dock: GenerateDock, chain: Path, tmp_path: Path
) -> None:
    dock.choose_checkpoint(str(chain))
    dock.model.size_choice.choose(8)
    dock.choose_checkpoint(str(shutil.copytree(chain, tmp_path / "again")))
    assert dock.request().size == 8
    dock.choose_checkpoint(str(tmp_path / "missing"))
    dock.choose_checkpoint(str(chain))
    assert dock.request().size == 8


@pytest.mark.parametrize("size", [8, 16])
def test_a_chain_generates_at_the_chosen_size(
    qtbot: QtBot, dock: GenerateDock, chain: Path, size: int
) -> None:
    from prdit_core import generate, load

    dock.choose_checkpoint(str(chain))
    dock.walk.take_preset("balanced")
    dock.walk.steps.setValue(6)
    dock.model.size_choice.choose(size)
    dock.generate()
    finish(qtbot, dock)
    (layer,) = dock.viewer.layers
    expected = generate(load(chain).at_size(size), SamplingConfig(steps=6))
    np.testing.assert_array_equal(layer.data, expected.voxels_hu)
    np.testing.assert_allclose(layer.scale, (128 / size,) * 3)
    words = copied(dock)
    assert words[words.index("--size") + 1] == str(size)


def test_another_size_gets_a_layer_of_its_own_grid(
    qtbot: QtBot, dock: GenerateDock, chain: Path
) -> None:
    dock.choose_checkpoint(str(chain))
    for size in (8, 16):
        dock.model.size_choice.choose(size)
        dock.generate()
        finish(qtbot, dock)
        (layer,) = dock.viewer.layers
        assert layer.data.shape == (size,) * 3 and layer.metadata["prdit"]["size"] == size


def test_going_back_in_time_and_saving_keep_the_size_of_the_run(
    qtbot: QtBot, dock: GenerateDock, chain: Path, tmp_path: Path
) -> None:
    dock.choose_checkpoint(str(chain))
    dock.model.size_choice.choose(8)
    dock.generate()
    finish(qtbot, dock)
    dock.model.size_choice.choose(16)  # for the next run, not for what is there
    (original,) = dock.viewer.layers
    dock.panel.travel.slider.setValue(2)
    assert original.data.shape == (8, 8, 8)
    dock.panel.branch(2, 4)
    finish(qtbot, dock)
    assert dock.panel.message.kind == "note"
    (_, layer) = dock.viewer.layers
    assert layer.metadata["prdit"]["branches"] == ["3:4"]
    saved = save_session(tmp_path / "s.prdit", [layer.as_layer_data_tuple()])
    ((data, attributes, _),) = open_session(saved)
    assert data.shape == (8, 8, 8) and attributes["metadata"]["prdit"]["size"] == 8


# --- while it works -----------------------------------------------------------------------------


@pytest.mark.slow
def test_the_volume_emerges_live(
    qtbot: QtBot, dock: GenerateDock, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Any] = []
    show = dock.panel.live.show

    def watched(voxels: Any) -> None:
        show(voxels)
        shown.append(np.array(dock.viewer.layers[0].data))

    monkeypatch.setattr(dock.panel.live, "show", watched)
    dock.walk.steps.setValue(100)
    dock.generate()
    finish(qtbot, dock)
    final = dock.viewer.layers[0].data
    away = [float(np.abs(voxels - final).mean()) for voxels in shown]
    assert len(shown) >= 10 and away[0] > 50 > away[-1] and away[len(away) // 2] < away[0]


def test_pause_step_stop_and_partial_result(qtbot: QtBot, dock: GenerateDock) -> None:
    dock.walk.steps.setValue(500)
    dock.generate()
    qtbot.waitUntil(lambda: dock.panel.controls.progress.value() > 2, timeout=PATIENCE_MS)
    dock.panel.controls.pause.click()
    qtbot.waitUntil(lambda: "paused" in dock.panel.message.text(), timeout=PATIENCE_MS)
    assert dock.panel.controls.pause.text() == "Resume"
    qtbot.waitUntil(lambda: dock.panel.job.control.resting, timeout=PATIENCE_MS)
    qtbot.wait(0)  # what it said last arrives
    before = dock.panel.controls.progress.value()
    dock.panel.controls.one.click()
    qtbot.waitUntil(lambda: dock.panel.controls.progress.value() == before + 1, timeout=PATIENCE_MS)
    dock.panel.controls.halt.click()
    finish(qtbot, dock)
    assert dock.viewer.layers[0].metadata["prdit"]["estimate_at_step"] == before + 1
    assert "Stopped after step" in dock.panel.message.text() and dock.panel.controls.go.isEnabled()
    assert not dock.panel.controls.halt.isEnabled() and dock.panel.controls.pause.text() == "Pause"


def test_a_second_click_starts_nothing(qtbot: QtBot, dock: GenerateDock) -> None:
    dock.generate()
    dock.generate()
    finish(qtbot, dock)
    assert len(dock.viewer.layers) == 1


def test_the_next_run_reuses_the_layer_unless_it_was_kept(qtbot: QtBot, dock: GenerateDock) -> None:
    for _ in range(2):
        dock.generate()
        finish(qtbot, dock)
    (first,) = dock.viewer.layers
    dock.panel.ending.keep.click()
    kept = np.array(first.data)
    dock.walk.seed.setValue(9)
    dock.generate()
    finish(qtbot, dock)
    names = [layer.name for layer in dock.viewer.layers]
    assert names == ["PRDiT seed 0 index 0", "PRDiT volume"]
    np.testing.assert_array_equal(first.data, kept)


def test_several_volumes_give_a_contact_sheet_and_statistics(
    qtbot: QtBot, dock: GenerateDock
) -> None:
    dock.walk.count.setValue(3)
    dock.generate()
    finish(qtbot, dock)
    assert dock.panel.sheet.count() == 3 and not dock.panel.sheet.isHidden()
    layers = {layer.name: layer for layer in dock.viewer.layers}
    volumes = [dock.panel.run.volumes[number].voxels_hu for number in range(3)]
    mean, spread = layers["mean of 3 volumes"], layers["spread of 3 volumes"]
    np.testing.assert_allclose(mean.data, np.mean(volumes, axis=0), atol=0.01)
    np.testing.assert_allclose(spread.data, np.std(volumes, axis=0, ddof=1), atol=0.01)
    dock.panel.sheet.itemClicked.emit(dock.panel.sheet.item(1))
    np.testing.assert_array_equal(layers["PRDiT volume"].data, volumes[1])
    assert layers["PRDiT volume"].metadata["prdit"]["index"] == 1


def go_to(qtbot: QtBot, dock: GenerateDock, place: int) -> None:
    """Move the slider; a fast hand moves it more often than steps are shown."""
    dock.panel.travel.slider.setValue(place)
    qtbot.wait(3 * THROTTLE_MS)


def test_a_step_of_the_past_says_that_it_is_an_estimate_and_the_last_is_exact(
    qtbot: QtBot, dock: GenerateDock, chain: Path, tmp_path: Path
) -> None:
    import json

    dock.choose_checkpoint(str(chain))
    dock.walk.steps.setValue(10)
    dock.generate()
    finish(qtbot, dock)
    (layer,) = dock.viewer.layers
    final, record = np.array(layer.data), dict(layer.metadata["prdit"])
    assert "estimate" not in str(record)
    go_to(qtbot, dock, 3)
    assert (
        np.abs(layer.data - final).mean() > 10 and "step 4 of 10" in dock.panel.travel.where.text()
    )
    assert layer.metadata["prdit"]["estimate_at_step"] == 4
    write_nifti(str(tmp_path / "v.nii"), layer.data, layer.as_layer_data_tuple()[1])
    saved = json.loads((tmp_path / "v.json").read_text())
    assert saved["estimate_at_step"] == 4 and "estimate at step 4 of 10" in saved["description"]
    go_to(qtbot, dock, 9)
    np.testing.assert_array_equal(layer.data, final)
    assert layer.metadata["prdit"] == record
    go_to(qtbot, dock, 3)
    dock.panel.ending.keep.click()
    assert layer.name == "PRDiT seed 0 index 0 step 4"


def test_a_picture_on_the_way_says_that_it_is_an_estimate(qtbot: QtBot, dock: GenerateDock) -> None:
    """Saved while the model still works, after a stop, or when the dock was closed."""
    dock.walk.steps.setValue(500)
    dock.generate()
    qtbot.waitUntil(lambda: len(dock.viewer.layers) == 1, timeout=PATIENCE_MS)
    (layer,) = dock.viewer.layers
    record = layer.metadata["prdit"]
    assert record["estimate_at_step"] < 500 and record["seed"] == 0
    assert record["notice"] == "synthetic, not for diagnosis"
    dock.panel.controls.halt.click()
    finish(qtbot, dock)
    assert layer.metadata["prdit"]["estimate_at_step"] == dock.panel.controls.progress.value()


@pytest.mark.slow
def test_a_branch_has_a_layer_of_its_own_and_a_command_that_makes_it(
    qtbot: QtBot, dock: GenerateDock, chain: Path, tmp_path: Path
) -> None:
    """Off the second of two volumes, and a branch of the branch: byte for byte."""
    dock.choose_checkpoint(str(chain))
    dock.walk.steps.setValue(10)
    dock.walk.count.setValue(2)
    dock.generate()
    finish(qtbot, dock)
    original = dock.panel.live.layer
    assert original is not None
    final, record = np.array(original.data), dict(original.metadata["prdit"])
    go_to(qtbot, dock, 6)
    dock.panel.travel.seed.setValue(4)
    dock.panel.travel.branched.emit(dock.panel.travel.step, 4)
    finish(qtbot, dock)
    branch = dock.panel.live.layer
    assert branch is not None and branch is not original
    np.testing.assert_array_equal(original.data, final)
    assert original.metadata["prdit"] == record
    assert dock.viewer.layers.selection.active is branch
    assert dock.panel.recording.indices == list(range(10))
    assert branch.metadata["prdit"]["branches"] == ["7:4"]
    assert np.abs(branch.data - final).mean() > 0
    same_bytes(dock, branch, tmp_path / "once")

    go_to(qtbot, dock, 8)
    dock.panel.branch(8, 5)
    finish(qtbot, dock)
    twice = dock.panel.live.layer
    assert twice is not None and twice.metadata["prdit"]["branches"] == ["7:4", "9:5"]
    same_bytes(dock, twice, tmp_path / "twice")


def test_a_branch_of_a_kept_volume_makes_one_layer_more(
    qtbot: QtBot, dock: GenerateDock, chain: Path
) -> None:
    dock.choose_checkpoint(str(chain))
    dock.generate()
    finish(qtbot, dock)
    dock.panel.ending.keep.click()
    dock.panel.branch(2, 1)
    finish(qtbot, dock)
    assert [layer.name for layer in dock.viewer.layers] == ["PRDiT seed 0 index 0", "PRDiT volume"]


def same_bytes(dock: GenerateDock, layer: Any, folder: Path) -> None:
    """The copied command writes the file that saving the layer writes."""
    words = copied(dock)
    assert CliRunner().invoke(app, [*words[1:-1], str(folder)]).exit_code == 0
    (file,) = folder.glob("*.nii.gz")
    write_nifti(str(folder / "layer.nii.gz"), layer.data, layer.as_layer_data_tuple()[1])
    assert file.read_bytes() == (folder / "layer.nii.gz").read_bytes()


@pytest.mark.slow
def test_a_deleted_layer_does_not_disturb_the_run(qtbot: QtBot, dock: GenerateDock) -> None:
    dock.walk.steps.setValue(100)
    dock.generate()
    qtbot.waitUntil(lambda: len(dock.viewer.layers) == 1, timeout=PATIENCE_MS)
    dock.viewer.layers.clear()
    finish(qtbot, dock)
    (layer,) = dock.viewer.layers  # the finished volume comes back
    assert layer.metadata["prdit"]["steps"] == 100


@pytest.mark.parametrize("what", ["missing", "damaged"])
def test_an_unreadable_checkpoint_is_said_at_once_and_the_next_run_works(
    qtbot: QtBot, dock: GenerateDock, tmp_path: Path, what: str
) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    if what == "damaged":
        (bad / "checkpoint.json").write_text("{")
    dock.choose_checkpoint(str(bad))
    assert dock.panel.message.kind == "error" and "bad" in dock.panel.message.text()
    dock.generate()
    finish(qtbot, dock)
    assert dock.panel.message.kind == "error" and "bad" in dock.panel.message.text()
    dock.choose_checkpoint("demo")
    dock.generate()
    finish(qtbot, dock)
    assert dock.panel.message.kind == "note" and len(dock.viewer.layers) == 1


def test_out_of_memory_is_said_and_the_next_run_works(
    qtbot: QtBot, dock: GenerateDock, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prdit_core.models.prdit.network import PRDiT

    local_part, calls = PRDiT.local_part, []

    def failing(self: PRDiT, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return local_part(self, *arguments)

    monkeypatch.setattr(PRDiT, "local_part", failing)
    dock.generate()
    finish(qtbot, dock)
    assert dock.panel.message.kind == "error" and "ran out of memory" in dock.panel.message.text()
    assert dock.panel.controls.go.isEnabled()
    dock.generate()
    finish(qtbot, dock)
    assert dock.panel.message.kind == "note"
    assert "estimate" not in str(dock.viewer.layers[0].metadata)


def test_presets_set_the_controls_and_own_settings_are_called_own(dock: GenerateDock) -> None:
    dock.walk.take_preset("paper")
    request = dock.request()
    assert request.config == sampling_preset("paper")
    dock.walk.steps.setValue(999)
    assert dock.walk.preset.currentText() == "own"
    dock.walk.steps.setValue(1000)
    assert dock.walk.preset.currentText() == "paper"


@pytest.mark.parametrize(
    "config",
    [
        sampling_preset("fast"),
        SamplingConfig(steps=7, sampler="euler", k=3.25, grid="release", refresh_change=None),
        SamplingConfig(refresh_every=3, refresh_change=0.125, precision="bf16-mixed"),
    ],
)
def test_the_command_of_own_settings_gives_these_settings(config: SamplingConfig) -> None:
    from prdit_core.cli.generating import chosen

    words = preset_words(config, None)
    (_, preset), *pairs = zip(words[::2], words[1::2], strict=True)
    wishes = {option.removeprefix("--").replace("-", "_"): value for option, value in pairs}
    assert chosen(preset, wishes) == config


def test_own_settings_are_what_the_controls_say(dock: GenerateDock) -> None:
    dock.walk.take_preset("paper")
    dock.walk.grid.setCurrentText("log-snr")
    dock.walk.refresh.setValue(0.15)
    assert dock.walk.preset.currentText() == "own"
    assert dock.walk.config() == SamplingConfig(
        steps=1000, sampler="euler", k=2.0, grid="log-snr", refresh_change=0.15
    )


def test_presets_and_k_are_those_of_the_model_and_the_sampler(
    dock: GenerateDock, patch_prior: Path
) -> None:
    dock.walk.take_preset("paper")
    dock.choose_checkpoint(str(patch_prior))
    request = dock.request()
    assert request.config == sampling_preset("paper", network_of(str(patch_prior)))
    assert (request.config.sampler, request.config.steps) == ("ddim-even", 200)
    assert dock.walk.preset.currentText() == "paper" and not dock.walk.k.isEnabled()
    assert "--preset paper" in request.command() and "--sampler" not in request.command()
    dock.choose_checkpoint("demo")
    assert dock.request().config == sampling_preset("paper") and dock.walk.k.isEnabled()
    dock.walk.sampler.setCurrentText("conventional-hot")  # k stays at 2, and counts no more
    assert dock.request().config.k == 1 and not dock.walk.k.isEnabled()
    dock.walk.sampler.setCurrentText("euler")
    assert dock.request().config.k == 2


def test_a_dropped_folder_becomes_the_checkpoint(dock: GenerateDock, tmp_path: Path) -> None:
    from prdit_core.checkpoints.catalog import BUNDLED

    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(BUNDLED / "demo"))])
    buttons, keys = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    event = QDropEvent(QPointF(1, 1), Qt.DropAction.CopyAction, mime, buttons, keys)
    dock.model.checkpoint.dropEvent(event)
    assert dock.model.checkpoint.text == str(BUNDLED / "demo")
    assert "trained: stage" in dock.model.about.toolTip()


def test_the_dice_gives_other_seeds(dock: GenerateDock) -> None:
    seeds = set()
    for _ in range(5):
        dock.walk.roll()
        seeds.add(dock.walk.seed.value())
    assert len(seeds) > 1


def test_every_control_explains_itself(dock: GenerateDock) -> None:
    from qtpy.QtWidgets import QAbstractButton, QAbstractSpinBox, QComboBox, QSlider

    for kind in (QAbstractButton, QAbstractSpinBox, QComboBox, QSlider):
        for control in dock.findChildren(kind):
            assert control.toolTip(), (kind, control)
    for name in ("steps", "sampler", "k", "grid"):
        assert getattr(dock.walk, name).toolTip() == words_of(SamplingConfig, name) != ""


# --- messages and controls say what is true -----------------------------------------------------


def damaged(chain: Path, folder: Path) -> str:
    """A checkpoint whose header is good and whose weights are not."""
    copy = shutil.copytree(chain, folder / "damaged")
    (copy / "weights.safetensors").write_bytes(b"nothing")
    return str(copy)


def test_a_red_message_goes_with_its_cause(
    qtbot: QtBot, dock: GenerateDock, chain: Path, tmp_path: Path
) -> None:
    dock.choose_checkpoint(damaged(chain, tmp_path))
    assert dock.panel.message.kind == "note"  # nobody has read its weights yet
    for mend in (lambda: dock.model.size_choice.choose(8), lambda: dock.walk.steps.setValue(7)):
        dock.generate()
        finish(qtbot, dock)
        assert dock.panel.message.kind == "error" and dock.panel.message.text()
        mend()
        assert not dock.panel.message.text()
    dock.choose_checkpoint(str(tmp_path / "missing"))
    assert dock.panel.message.kind == "error"
    dock.choose_checkpoint(str(chain))
    assert not dock.panel.message.text()


def test_progress_of_the_last_volume_is_not_that_of_the_next(
    qtbot: QtBot, dock: GenerateDock, chain: Path
) -> None:
    dock.choose_checkpoint(str(chain))
    dock.generate()
    finish(qtbot, dock)
    assert dock.panel.controls.progress.value() == dock.panel.controls.progress.maximum() == 6
    dock.generate()
    assert dock.panel.controls.progress.maximum() == 0  # busy: while it loads nobody knows
    finish(qtbot, dock)


def test_what_fails_before_its_first_step_changes_nothing(
    qtbot: QtBot, dock: GenerateDock, chain: Path, tmp_path: Path
) -> None:
    """No black layer, and no way back to steps under another model's name."""
    bad = damaged(chain, tmp_path)
    dock.choose_checkpoint(bad)
    dock.generate()
    finish(qtbot, dock)
    assert not dock.viewer.layers and not dock.panel.travel.isEnabled()
    assert not dock.panel.ending.save.isEnabled()
    dock.choose_checkpoint(str(chain))
    dock.generate()
    finish(qtbot, dock)
    (layer,) = dock.viewer.layers
    final = np.array(layer.data)
    dock.choose_checkpoint(bad)
    dock.generate()
    finish(qtbot, dock)
    np.testing.assert_array_equal(layer.data, final)
    assert dock.panel.travel.isEnabled() and copied(dock)[3] == str(chain)


def test_there_is_no_way_back_in_a_volume_that_failed(
    qtbot: QtBot, dock: GenerateDock, chain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prdit_core.models.prdit.network import PRDiT

    dock.choose_checkpoint(str(chain))
    dock.generate()
    finish(qtbot, dock)
    local_part, calls = PRDiT.local_part, []

    def failing(self: PRDiT, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise MemoryError
        return local_part(self, *arguments)

    monkeypatch.setattr(PRDiT, "local_part", failing)
    dock.generate()
    finish(qtbot, dock)
    assert dock.panel.message.kind == "error" and not dock.panel.travel.isEnabled()
    assert len(dock.lost()) == 0


def test_a_layer_made_anew_looks_like_the_first(
    qtbot: QtBot, dock: GenerateDock, chain: Path
) -> None:
    dock.choose_checkpoint(str(chain))
    dock.generate()
    finish(qtbot, dock)

    def look() -> tuple[Any, ...]:
        (layer,) = dock.viewer.layers
        limits = tuple(layer.contrast_limits), tuple(layer.contrast_limits_range)
        return (layer.interpolation2d, str(layer.colormap.name), *limits)

    first = look()
    dock.viewer.layers.clear()
    dock.panel.travel.slider.setValue(2)
    assert look() == first
    qtbot.wait(3 * THROTTLE_MS)
    dock.viewer.layers.clear()
    dock.generate()
    finish(qtbot, dock)
    assert look() == first and first[0] == "linear"


# --- what a newcomer meets ----------------------------------------------------------------------


def test_the_default_size_takes_about_ten_seconds_and_says_how_long(
    dock: GenerateDock, chain: Path, tmp_path: Path
) -> None:
    dock.model.size_choice.choose(None)  # nobody has chosen one
    dock.choose_checkpoint(str(chain))
    dock.walk.take_preset("balanced")  # 20 steps
    assert dock.request().size == 16
    remember_paces(setting(str(chain), "cpu"), {8: 0.1, 16: 3.0})
    dock.choose_checkpoint(str(chain))
    size = dock.model.size_choice
    assert [size.itemText(row) for row in range(2)] == [
        "16: voxels of 8 mm, about 1 min 00 s",
        "8: voxels of 16 mm, about 2 s",
    ]
    assert dock.request().size == 8 and "8 x 8 x 8 voxels of 16 mm" in dock.model.about.text()
    remember_paces(setting(str(chain), "cpu"), {16: 0.3})  # loading and painting come on top of 6 s
    dock.choose_checkpoint(str(chain))
    assert dock.request().size == 8
    remember_paces(setting(str(chain), "cpu"), {16: 3.0})
    dock.choose_checkpoint(str(chain))
    dock.walk.take_preset("paper")  # 1000 steps: the times change, not what is chosen
    assert "about 1 min 40 s" in size.itemText(1) and dock.request().size == 8
    dock.walk.take_preset("balanced")
    size.setCurrentIndex(0)
    size.activated.emit(0)  # a user's choice stays
    dock.walk.steps.setValue(10)
    assert dock.request().size == 16 and "about 30 s" in size.itemText(0)


def test_a_run_teaches_how_long_the_next_will_take(
    qtbot: QtBot, dock: GenerateDock, chain: Path
) -> None:
    dock.choose_checkpoint(str(chain))
    dock.model.size_choice.choose(8)
    dock.generate()
    finish(qtbot, dock)
    assert known_paces(setting(str(chain), "cpu")).keys() == {8}
    assert "about" in dock.model.size_choice.currentText()


def test_what_was_made_stays_chosen_however_long_it_took(
    qtbot: QtBot, dock: GenerateDock, chain: Path
) -> None:
    dock.model.size_choice.choose(None)  # nobody has chosen one
    remember_paces(setting(str(chain), "cpu"), {8: 0.001, 16: 0.01})
    dock.choose_checkpoint(str(chain))
    assert dock.request().size == 16
    dock.walk.steps.setValue(2)
    dock.generate()
    finish(qtbot, dock)
    remember_paces(setting(str(chain), "cpu"), {16: 60.0})
    dock.show_times()
    assert dock.request().size == 16 and dock.viewer.layers[-1].data.shape == (16, 16, 16)


@pytest.mark.slow
def test_a_model_is_measured_once_and_beside_the_window(
    qtbot: QtBot, dock: GenerateDock, chain: Path
) -> None:
    dock.choose_checkpoint(str(chain))
    with qtbot.waitSignal(dock.settings.paces.measured, timeout=PATIENCE_MS):
        dock.settings.paces.measure(str(chain), "cpu")
    found = dock.settings.paces.known(str(chain), "cpu")
    assert found.keys() == {8, 16} and all(seconds > 0 for seconds in found.values())
    dock.settings.paces.measure(str(chain), "cpu")
    assert not dock.settings.paces._child.running


def test_a_damaged_memory_of_times_is_none(
    dock: GenerateDock, chain: Path, fresh_cache: Path
) -> None:
    remember_paces(setting(str(chain), "cpu"), {8: 0.1})
    (file,) = fresh_cache.iterdir()
    for content in ("{", "[]", file.read_text().replace("0.1", '"soon"')):
        file.write_text(content)
        assert known_paces(setting(str(chain), "cpu")) == {}
        dock.choose_checkpoint(str(chain))
    remember_paces(setting(str(chain), "cpu"), {8: 0.2})
    assert known_paces(setting(str(chain), "cpu")) == {8: 0.2}


def test_what_only_some_know_is_folded_away_and_stays_as_it_was_left(
    qtbot: QtBot, dock: GenerateDock
) -> None:
    npe2.PluginManager.instance().discover(include_npe1=False)
    walk = dock.walk

    def shown(form: WalkForm, field: QWidget) -> bool:
        return field.isVisibleTo(form)

    for_everybody = (walk.preset, walk.seed, walk.count)
    for_some = (walk.steps, walk.sampler, walk.k, walk.grid, walk.refresh, walk.device)
    assert all(shown(walk, field) for field in for_everybody)
    assert not any(shown(walk, field) for field in for_some)
    walk.advanced.title.click()
    assert all(shown(walk, field) for field in for_some)
    again = WalkForm()
    qtbot.addWidget(again)
    assert shown(again, again.sampler)


def test_the_dock_says_first_what_it_makes(dock: GenerateDock, chain: Path) -> None:
    assert dock.model.about.text().startswith("<b>Chest CT, 32 x 32 x 32 voxels of 10 mm</b>")
    for word in ("stage", "iterations", "refiner"):
        assert word not in dock.model.about.text()
        assert word in dock.model.about.toolTip()
    dock.choose_checkpoint(str(chain))
    assert dock.model.about.text().startswith("<b>CT, ")  # of what, nobody has said


def test_what_counts_as_a_chest_are_the_presets_of_the_core() -> None:
    from prdit_core.data.presets import PRESETS

    chests = {name for name, preset in PRESETS.items() if preset.centre == "body"}
    assert set(CHEST_PRESETS) == chests


def test_keys_act_while_the_volume_is_selected(
    qtbot: QtBot, dock: GenerateDock, chain: Path
) -> None:
    def press(key: str) -> None:
        (layer,) = dock.viewer.layers
        acts = {str(binding): act for binding, act in layer.keymap.items()}
        acts[key](layer)

    dock.choose_checkpoint(str(chain))
    dock.walk.steps.setValue(3000)
    dock.generate()
    qtbot.waitUntil(lambda: len(dock.viewer.layers) == 1, timeout=PATIENCE_MS)
    press("Space")
    assert dock.panel.job.control.paused and dock.panel.controls.pause.text() == "Resume"
    press("Left")  # nothing to go back to yet
    press("Space")
    assert not dock.panel.job.control.paused
    dock.panel.controls.halt.click()
    finish(qtbot, dock)
    last = dock.panel.travel.slider.value()
    for key, place in (("Left", last - 1), ("Left", last - 2), ("Right", last - 1)):
        press(key)
        assert dock.panel.travel.slider.value() == place
    dock.panel.ending.keep.click()
    (layer,) = dock.viewer.layers
    assert not {"Space", "Left", "Right"} & {str(key) for key in layer.keymap}


def test_work_is_in_napari_s_activity_dock(qtbot: QtBot, dock: GenerateDock, chain: Path) -> None:
    dock.choose_checkpoint(str(chain))
    dock.walk.steps.setValue(3000)
    dock.walk.count.setValue(2)
    dock.generate()
    qtbot.waitUntil(lambda: dock.panel.activity.total == 6000, timeout=PATIENCE_MS)
    dock.panel.controls.halt.click()
    finish(qtbot, dock)
    assert dock.panel.activity.total is None


# --- the ending ---------------------------------------------------------------------------------


def test_the_end_is_said_and_offers_what_comes_next(
    qtbot: QtBot, dock: GenerateDock, chain: Path
) -> None:
    ending = dock.panel.ending
    for part in (ending.save, ending.keep, ending.another):
        assert not part.isEnabled()
    dock.choose_checkpoint(str(chain))
    dock.generate()
    assert not ending.save.isEnabled()
    finish(qtbot, dock)
    assert dock.panel.message.text().startswith("Done in ") and ending.save.isEnabled()
    ending.another.click()
    finish(qtbot, dock)
    (layer,) = dock.viewer.layers
    assert dock.walk.seed.value() == 1 and layer.metadata["prdit"]["seed"] == 1


def test_a_volume_is_saved_in_every_format(
    qtbot: QtBot, dock: GenerateDock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prdit_core import read_volume

    dock.generate()
    finish(qtbot, dock)
    (layer,) = dock.viewer.layers
    suggested: list[str] = []

    def choose(_parent: Any, _title: str, suggestion: str, *_: Any) -> tuple[str, str]:
        suggested.append(suggestion)
        return str(tmp_path / "mine"), ""  # napari's users type no suffix

    monkeypatch.setattr("qtpy.QtWidgets.QFileDialog.getSaveFileName", choose)
    for format_name, suffixes in FORMATS.items():
        (action,) = [a for a in dock.panel.ending.save.menu().actions() if format_name in a.text()]
        action.trigger()
        qtbot.waitUntil(lambda: not dock.panel.saving.running, timeout=PATIENCE_MS)
        assert dock.panel.message.text().startswith("saved as"), dock.panel.message.text()
        assert "PRDiT-seed-0-index-0" in suggested[-1]
        volume = read_volume(tmp_path / ("mine" + (*suffixes, "")[0]))
        np.testing.assert_array_equal(volume.voxels_hu, np.rint(layer.data))
        np.testing.assert_allclose(volume.affine, layer.metadata["prdit"]["affine"], atol=1e-4)
        action.trigger()  # what is there stays
        qtbot.waitUntil(lambda: not dock.panel.saving.running, timeout=PATIENCE_MS)
        assert dock.panel.message.kind == "error"


def test_after_several_volumes_the_chosen_one_is_selected_and_visible(
    qtbot: QtBot, dock: GenerateDock, chain: Path
) -> None:
    dock.choose_checkpoint(str(chain))
    dock.walk.count.setValue(2)
    for _ in range(2):  # no pile of means either
        dock.generate()
        finish(qtbot, dock)
        assert len(dock.viewer.layers) == 3
        assert dock.viewer.layers.selection.active is dock.panel.live.layer
    live = dock.panel.live.layer
    assert live is not None and live.visible
    live.visible = False
    mean = dock.panel.results[MEAN].layer
    assert mean is not None and "index" not in mean.metadata["prdit"]
    dock.viewer.layers.selection.active = mean
    dock.panel.sheet.itemClicked.emit(dock.panel.sheet.item(0))
    assert dock.viewer.layers.selection.active is live and live.visible
    assert live.metadata["prdit"]["index"] == 0


# --- closing ------------------------------------------------------------------------------------


def test_closing_in_the_middle_of_a_step_waits_for_nothing(
    qtbot: QtBot, dock: GenerateDock, chain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari.qt.threading import create_worker

    from prdit_core.models.prdit.network import PRDiT

    reached, release = threading.Event(), threading.Event()
    local_part = PRDiT.local_part

    def slow(self: PRDiT, *arguments: Any) -> Any:
        reached.set()
        release.wait(60)
        return local_part(self, *arguments)

    def foreign() -> Iterator[int]:
        while not release.is_set():
            time.sleep(0.01)
            yield 1

    monkeypatch.setattr(PRDiT, "local_part", slow)
    theirs = create_worker(foreign, _start_thread=True)
    dock.choose_checkpoint(str(chain))
    dock.generate()
    qtbot.waitUntil(reached.is_set, timeout=PATIENCE_MS)
    control = dock.panel.job.control
    dock.close()  # would never return if it waited for the step
    assert not dock.panel.job.running and control.abandoned and not control.ended.is_set()
    assert theirs.is_running and not theirs.abort_requested
    release.set()
    qtbot.waitUntil(lambda: control.ended.is_set() and not theirs.is_running, timeout=PATIENCE_MS)
    assert not dock.viewer.layers


def test_an_abandoned_volume_ends_in_the_middle_of_a_step(
    qtbot: QtBot, dock: GenerateDock, chain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network itself asks whether anybody still waits for it."""
    from prdit_core.models.prdit.network import PRDiT

    reached, finished = threading.Event(), []
    local_part = PRDiT.local_part

    def endless(self: PRDiT, *arguments: Any) -> Any:
        while True:
            reached.set()
            finished.append(local_part(self, *arguments))

    monkeypatch.setattr(PRDiT, "local_part", endless)
    dock.choose_checkpoint(str(chain))
    dock.generate()
    qtbot.waitUntil(reached.is_set, timeout=PATIENCE_MS)
    control = dock.panel.job.control
    dock.shut_down()
    qtbot.waitUntil(control.ended.is_set, timeout=PATIENCE_MS)


def test_a_dock_that_is_opened_anew_goes_on_with_the_layer(
    qtbot: QtBot, viewer: ViewerModel, chain: Path
) -> None:
    """No pile of layers [1], [2], and none that is black."""
    for seed in range(3):
        again = GenerateDock(viewer)
        qtbot.addWidget(again)
        again.choose_checkpoint(str(chain))
        again.walk.steps.setValue(4)
        again.walk.seed.setValue(seed)
        again.generate()
        again.shut_down()  # in the middle of loading
        again.generate()
        finish(qtbot, again)
        (layer,) = viewer.layers
        assert layer.metadata["prdit"]["seed"] == seed and layer.data.std() > 0
        again.close()

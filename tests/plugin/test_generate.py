"""The dock that generates: settings, live view, results, faults."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import QMimeData, QPointF, Qt, QUrl
from qtpy.QtGui import QDropEvent, QGuiApplication
from toys import tiny_checkpoint

from napari_prdit.generation import preset_words
from napari_prdit.session import open_session, save_session
from napari_prdit.widgets.generate import GenerateDock
from napari_prdit.widgets.time_travel import THROTTLE_MS
from napari_prdit.writer import write_nifti
from prdit_core.config import SamplingConfig
from prdit_core.presets import sampling_preset

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytestqt.qtbot import QtBot

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
    qtbot.waitUntil(lambda: not dock.job.running, timeout=PATIENCE_MS)


def copied(dock: GenerateDock) -> list[str]:
    """Words of the command that goes to the clipboard."""
    dock.ending.copy.click()
    clipboard = QGuiApplication.clipboard()
    assert clipboard is not None
    return shlex.split(clipboard.text())


def test_opening_the_dock_loads_no_torch(display: None) -> None:
    code = (
        "import sys; from napari.components import ViewerModel; from qtpy.QtWidgets import "
        "QApplication; app = QApplication([]); from napari_prdit.widgets.generate import "
        "GenerateDock; d = GenerateDock(ViewerModel()); assert 'torch' not in sys.modules; "
        "assert d.model.about.text().startswith('<b>Chest CT, ')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_a_volume_is_what_the_command_makes(qtbot: QtBot, dock: GenerateDock) -> None:
    from prdit_core import generate, load
    from prdit_core.machine import use_threads

    dock.walk.seed.setValue(5)
    dock.generate()
    finish(qtbot, dock)
    (layer,) = dock.viewer.layers
    use_threads()
    expected = generate(load("demo").at_size(32), SamplingConfig(steps=6), seed=5)
    np.testing.assert_array_equal(layer.data, expected.voxels_hu)
    ours = layer.metadata["prdit"]
    assert {k: ours[k] for k in expected.metadata} == dict(expected.metadata)
    np.testing.assert_allclose(layer.scale, expected.spacing_mm)
    assert tuple(layer.contrast_limits) == (-1000, 400)


def test_the_copied_command_makes_the_same_volume(
    qtbot: QtBot, dock: GenerateDock, tmp_path: Path
) -> None:
    dock.walk.seed.setValue(2)
    dock.generate()
    finish(qtbot, dock)
    words = copied(dock)
    command = [sys.executable, "-m", "prdit_core.cli", *words[1:-1], str(tmp_path / "out")]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
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
    dock.travel.slider.setValue(2)
    assert original.data.shape == (8, 8, 8)
    dock.branch(2, 4)
    finish(qtbot, dock)
    assert dock.message.kind == "note"
    (_, layer) = dock.viewer.layers
    assert layer.metadata["prdit"]["branches"] == ["3:4"]
    saved = save_session(tmp_path / "s.prdit", [layer.as_layer_data_tuple()])
    ((data, attributes, _),) = open_session(saved)
    assert data.shape == (8, 8, 8) and attributes["metadata"]["prdit"]["size"] == 8


# --- while it works -----------------------------------------------------------------------------


def test_the_volume_emerges_live(
    qtbot: QtBot, dock: GenerateDock, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Any] = []
    show = dock.live.show

    def watched(voxels: Any) -> None:
        show(voxels)
        shown.append(np.array(dock.viewer.layers[0].data))

    monkeypatch.setattr(dock.live, "show", watched)
    dock.walk.steps.setValue(100)
    dock.generate()
    finish(qtbot, dock)
    final = dock.viewer.layers[0].data
    away = [float(np.abs(voxels - final).mean()) for voxels in shown]
    assert len(shown) >= 10 and away[0] > 50 > away[-1] and away[len(away) // 2] < away[0]


def test_pause_step_stop_and_partial_result(qtbot: QtBot, dock: GenerateDock) -> None:
    dock.walk.steps.setValue(500)
    dock.generate()
    qtbot.waitUntil(lambda: dock.progress.value() > 2, timeout=PATIENCE_MS)
    dock.pause.click()
    qtbot.waitUntil(lambda: "paused" in dock.message.text(), timeout=PATIENCE_MS)
    assert dock.pause.text() == "Resume"
    qtbot.wait(2000)  # the step at hand comes to its end
    before = dock.progress.value()
    dock.one.click()
    qtbot.waitUntil(lambda: dock.progress.value() == before + 1, timeout=PATIENCE_MS)
    dock.halt.click()
    finish(qtbot, dock)
    assert dock.viewer.layers[0].metadata["prdit"]["estimate_at_step"] == before + 1
    assert "stopped after step" in dock.message.text() and dock.go.isEnabled()
    assert not dock.halt.isEnabled() and dock.pause.text() == "Pause"


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
    dock.ending.keep.click()
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
    assert dock.sheet.count() == 3 and not dock.sheet.isHidden()
    layers = {layer.name: layer for layer in dock.viewer.layers}
    volumes = [dock.run.volumes[number].voxels_hu for number in range(3)]
    mean, spread = layers["mean of 3 volumes"], layers["spread of 3 volumes"]
    np.testing.assert_allclose(mean.data, np.mean(volumes, axis=0), atol=0.01)
    np.testing.assert_allclose(spread.data, np.std(volumes, axis=0, ddof=1), atol=0.01)
    dock.sheet.itemClicked.emit(dock.sheet.item(1))
    np.testing.assert_array_equal(layers["PRDiT volume"].data, volumes[1])
    assert layers["PRDiT volume"].metadata["prdit"]["index"] == 1


def go_to(qtbot: QtBot, dock: GenerateDock, place: int) -> None:
    """Move the slider; a fast hand moves it more often than steps are shown."""
    dock.travel.slider.setValue(place)
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
    assert np.abs(layer.data - final).mean() > 10 and "step 4 of 10" in dock.travel.where.text()
    assert layer.metadata["prdit"]["estimate_at_step"] == 4
    write_nifti(str(tmp_path / "v.nii"), layer.data, layer.as_layer_data_tuple()[1])
    saved = json.loads((tmp_path / "v.json").read_text())
    assert saved["estimate_at_step"] == 4 and "estimate at step 4 of 10" in saved["description"]
    go_to(qtbot, dock, 9)
    np.testing.assert_array_equal(layer.data, final)
    assert layer.metadata["prdit"] == record
    go_to(qtbot, dock, 3)
    dock.ending.keep.click()
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
    dock.halt.click()
    finish(qtbot, dock)
    assert layer.metadata["prdit"]["estimate_at_step"] == dock.progress.value()


def test_a_branch_has_a_layer_of_its_own_and_a_command_that_makes_it(
    qtbot: QtBot, dock: GenerateDock, chain: Path, tmp_path: Path
) -> None:
    """Off the second of two volumes, and a branch of the branch: byte for byte."""
    dock.choose_checkpoint(str(chain))
    dock.walk.steps.setValue(10)
    dock.walk.count.setValue(2)
    dock.generate()
    finish(qtbot, dock)
    original = dock.live.layer
    assert original is not None
    final, record = np.array(original.data), dict(original.metadata["prdit"])
    go_to(qtbot, dock, 6)
    dock.travel.seed.setValue(4)
    dock.travel.branched.emit(dock.travel.step, 4)
    finish(qtbot, dock)
    branch = dock.live.layer
    assert branch is not None and branch is not original
    np.testing.assert_array_equal(original.data, final)
    assert original.metadata["prdit"] == record
    assert dock.viewer.layers.selection.active is branch
    assert dock.recording.indices == list(range(10))
    assert branch.metadata["prdit"]["branches"] == ["7:4"]
    assert np.abs(branch.data - final).mean() > 0
    same_bytes(dock, branch, tmp_path / "once")

    go_to(qtbot, dock, 8)
    dock.branch(8, 5)
    finish(qtbot, dock)
    twice = dock.live.layer
    assert twice is not None and twice.metadata["prdit"]["branches"] == ["7:4", "9:5"]
    same_bytes(dock, twice, tmp_path / "twice")


def same_bytes(dock: GenerateDock, layer: Any, folder: Path) -> None:
    """The copied command writes the file that saving the layer writes."""
    words = copied(dock)
    command = [sys.executable, "-m", "prdit_core.cli", *words[1:-1], str(folder)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    (file,) = folder.glob("*.nii.gz")
    write_nifti(str(folder / "layer.nii.gz"), layer.data, layer.as_layer_data_tuple()[1])
    assert file.read_bytes() == (folder / "layer.nii.gz").read_bytes()


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
    assert dock.message.kind == "error" and "bad" in dock.message.text()
    dock.generate()
    finish(qtbot, dock)
    assert dock.message.kind == "error" and "bad" in dock.message.text()
    dock.choose_checkpoint("demo")
    dock.generate()
    finish(qtbot, dock)
    assert dock.message.kind == "note" and len(dock.viewer.layers) == 1


def test_out_of_memory_is_said_and_the_next_run_works(
    qtbot: QtBot, dock: GenerateDock, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prdit_core.models.prior import Prior

    local_part, calls = Prior.local_part, []

    def failing(self: Prior, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return local_part(self, *arguments)

    monkeypatch.setattr(Prior, "local_part", failing)
    dock.generate()
    finish(qtbot, dock)
    assert dock.message.kind == "error" and "ran out of memory" in dock.message.text()
    assert dock.go.isEnabled()
    dock.generate()
    finish(qtbot, dock)
    assert dock.message.kind == "note"
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

    words = preset_words(config)
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


def test_closing_while_it_works_leaves_no_thread(qtbot: QtBot, dock: GenerateDock) -> None:
    dock.walk.steps.setValue(2000)
    dock.generate()
    qtbot.waitUntil(lambda: dock.progress.value() > 1, timeout=PATIENCE_MS)
    dock.close()
    assert not dock.job.running

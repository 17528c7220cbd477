"""The dock that imagines a painted region anew: bits outside, proposals, undo, faults, windows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import pytest
from napari.components import ViewerModel

from napari_prdit.layers import OURS, image_layer
from napari_prdit.reader import read_scan
from napari_prdit.regeneration import mask_layer
from napari_prdit.sample_data import phantom
from napari_prdit.widgets.planes import planes_of
from napari_prdit.widgets.reconstruct import REGION, ReconstructDock
from napari_prdit.writer import write_labels
from prdit_core.data.phantoms import make_phantom
from prdit_core.errors import InputRejected, UsageError
from prdit_core.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import napari
    from napari.layers import Image, Labels
    from pytestqt.qtbot import QtBot

    from napari_prdit.widgets.regeneration_panel import RegenerationPanel

    MakeViewer = Callable[..., napari.Viewer]

PATIENCE_MS = 240_000


@pytest.fixture
def viewer() -> ViewerModel:
    return ViewerModel()


@pytest.fixture
def scan(viewer: ViewerModel) -> Image:
    volume = make_phantom(2, 7, spacing_mm=8.0).volume
    data, attributes, _ = image_layer(volume, "chest")
    return viewer.add_image(data, **attributes)


@pytest.fixture
def dock(qtbot: QtBot, viewer: ViewerModel, scan: Image) -> Iterator[RegenerationPanel]:
    made = ReconstructDock(viewer)
    qtbot.addWidget(made)
    yield small(made)
    made.shut_down()


def small(dock: ReconstructDock) -> RegenerationPanel:
    """The panel of this task, at its quickest."""
    dock.choose(REGION)
    dock.model.size_choice.choose(32)
    dock.region.form.steps.setValue(4)
    dock.region.form.count.setValue(1)
    return dock.region


def painted(dock: RegenerationPanel, share: float = 0.3) -> Labels:
    """Paint a box in the middle, with the dock's own layer."""
    dock.paint()
    layer = dock.form.region.chosen
    assert layer is not None
    layer.data[:] = 0
    layer.data[middle(layer.data.shape, share)] = 1
    layer.refresh()
    return layer


def middle(shape: tuple[int, ...], share: float) -> tuple[slice, ...]:
    return tuple(slice(round(n * (1 - share) / 2), round(n * (1 + share) / 2) + 1) for n in shape)


def finish(qtbot: QtBot, dock: RegenerationPanel) -> None:
    qtbot.waitUntil(lambda: not dock.job.running, timeout=PATIENCE_MS)


def result(dock: RegenerationPanel) -> Image:
    layer = dock.live.layer
    assert layer is not None, dock.message.text()
    return layer


def test_only_what_is_painted_changes(qtbot: QtBot, dock: RegenerationPanel, scan: Image) -> None:
    before = scan.data.copy()
    region = painted(dock).data != 0
    dock.controls.go.click()
    finish(qtbot, dock)
    layer = result(dock)
    assert layer.data.dtype == before.dtype
    np.testing.assert_array_equal(layer.data[~region], before[~region])
    np.testing.assert_array_equal(scan.data, before)
    assert np.mean(layer.data[region] != before[region]) > 0.9
    np.testing.assert_array_equal(layer.scale, scan.scale)
    np.testing.assert_array_equal(layer.translate, scan.translate)
    ours = layer.metadata[OURS]
    assert ours["notice"] == "synthetic, not for diagnosis" and ours["checkpoint_sha256"]
    assert ours["description"].startswith("synthetic, not for diagnosis; region of a scan; ")
    assert ours["region"]["voxels"] == np.count_nonzero(region)
    assert ours["region"]["box"] == [[part.start, part.stop] for part in middle(region.shape, 0.3)]
    mask = mask_layer(dock.viewer)
    assert mask is not None and mask.contour == 1
    np.testing.assert_array_equal(mask.data != 0, region)


def test_the_verb_makes_the_same(qtbot: QtBot, dock: RegenerationPanel, scan: Image) -> None:
    import prdit_core
    from prdit_core.verbs.reconstruct import WALK

    region = painted(dock).data.copy()
    dock.form.seed.setValue(4)
    dock.regenerate()
    finish(qtbot, dock)
    volume = make_phantom(2, 7, spacing_mm=8.0).volume
    config = WALK.model_copy(update={"steps": 4})
    prior = prdit_core.load("demo").at_size(32)
    expected = prdit_core.regenerate(prior, volume, region, config, seed=4)
    np.testing.assert_array_equal(result(dock).data, expected.voxels_hu)


def test_proposals_differ_where_it_is_painted_and_each_can_be_shown(
    qtbot: QtBot, dock: RegenerationPanel
) -> None:
    region = painted(dock).data != 0
    dock.form.count.setValue(3)
    dock.regenerate()
    finish(qtbot, dock)
    assert [dock.sheet.item(i).text() for i in range(dock.sheet.count())] == [
        "proposal 1",
        "proposal 2",
        "proposal 3",
    ]
    seen = []
    for number in range(3):
        dock.sheet.itemClicked.emit(dock.sheet.item(number))
        seen.append(result(dock).data.copy())
        assert result(dock).metadata[OURS]["index"] == number
    for one, other in ((0, 1), (1, 2), (0, 2)):
        np.testing.assert_array_equal(seen[one][~region], seen[other][~region])
        assert np.mean(seen[one][region] != seen[other][region]) > 0.5


def test_undo_brings_back_the_result_before_and_then_the_scan(
    qtbot: QtBot, dock: RegenerationPanel, viewer: ViewerModel
) -> None:
    painted(dock)
    dock.regenerate()
    finish(qtbot, dock)
    first, mask = result(dock).data.copy(), np.array(mask_layer(viewer).data)  # type: ignore[union-attr]
    painted(dock, 0.5)
    dock.ending.another.click()
    finish(qtbot, dock)
    assert np.any(result(dock).data != first)
    dock.back.click()
    np.testing.assert_array_equal(result(dock).data, first)
    np.testing.assert_array_equal(mask_layer(viewer).data, mask)  # type: ignore[union-attr]
    dock.back.click()
    assert dock.live.layer is None and mask_layer(viewer) is None
    assert not dock.back.isEnabled() and next(layer.name for layer in viewer.layers) == "chest"


def test_a_result_is_edited_further_and_the_mask_knows_both_regions(
    qtbot: QtBot, dock: RegenerationPanel, viewer: ViewerModel, scan: Image
) -> None:
    region = painted(dock)
    dock.regenerate()
    finish(qtbot, dock)
    first, one = result(dock).data.copy(), region.data != 0
    dock.form.source.choose(result(dock))
    region.data[:] = 0
    region.data[2:5, 2:12, 5:20] = 1
    two = region.data != 0
    dock.regenerate()
    finish(qtbot, dock)
    both = result(dock).data
    np.testing.assert_array_equal(both[~two], first[~two])
    np.testing.assert_array_equal(both[~(one | two)], scan.data[~(one | two)])
    np.testing.assert_array_equal(mask_layer(viewer).data != 0, one | two)  # type: ignore[union-attr]
    assert len(result(dock).metadata[OURS]["earlier_regions"]) == 1


def test_kept_results_stay_with_their_masks(
    qtbot: QtBot, dock: RegenerationPanel, viewer: ViewerModel
) -> None:
    painted(dock)
    dock.regenerate()
    finish(qtbot, dock)
    kept = result(dock)
    before = kept.data.copy()
    dock.ending.keep.click()
    dock.regenerate()
    finish(qtbot, dock)
    np.testing.assert_array_equal(kept.data, before)
    assert "regenerated, PRDiT seed 0 index 0, imagined" in [layer.name for layer in viewer.layers]
    assert result(dock) is not kept and mask_layer(viewer) is not None


def test_saved_are_the_scan_and_a_mask_that_no_reader_takes_for_one(
    qtbot: QtBot, dock: RegenerationPanel, scan: Image, tmp_path: Path
) -> None:
    region = painted(dock).data != 0
    dock.regenerate()
    finish(qtbot, dock)
    dock.ending.save_wanted.emit("NIfTI", str(tmp_path / "edited.nii.gz"))
    qtbot.waitUntil(lambda: not dock.saving.running, timeout=PATIENCE_MS)
    assert dock.message.text().count("edited") == 2
    mask = nibabel.load(tmp_path / "edited-imagined.nii.gz")
    saved = nibabel.load(tmp_path / "edited.nii.gz")
    assert mask.get_data_dtype() == np.uint8
    assert b"synthetic, not for diagnosis" in mask.header["descrip"].item()
    np.testing.assert_allclose(mask.affine, saved.affine)
    np.testing.assert_array_equal(np.asarray(mask.dataobj).T != 0, region)
    ((data, attributes, _),) = read_scan(str(tmp_path / "edited.nii.gz"))
    np.testing.assert_array_equal(data, np.rint(result(dock).data))
    assert attributes["metadata"][OURS]["region"]["voxels"] == np.count_nonzero(region)
    with pytest.raises(InputRejected, match="label map"):
        read_scan(str(tmp_path / "edited-imagined.nii.gz"))


def test_labels_that_do_not_fit_a_byte_are_refused(tmp_path: Path) -> None:
    labels = np.full((4, 5, 6), 256)
    with pytest.raises(UsageError, match="beyond 0 to 255"):
        write_labels(str(tmp_path / "organs.nii.gz"), labels, {"name": "organs"})
    assert not list(tmp_path.iterdir())


def test_a_dock_opened_anew_leaves_the_result_of_the_one_before(
    qtbot: QtBot, dock: RegenerationPanel, viewer: ViewerModel
) -> None:
    region = painted(dock)
    dock.regenerate()
    finish(qtbot, dock)
    earlier = result(dock)
    before = earlier.data.copy()
    dock.shut_down()
    opened = ReconstructDock(viewer)
    qtbot.addWidget(opened)
    again = small(opened)
    again.form.region.choose(region)
    region.data[:] = 0
    again.regenerate()  # which fails
    finish(qtbot, again)
    assert earlier in viewer.layers
    region.data[2:6, 2:8, 2:8] = 1
    again.regenerate()
    finish(qtbot, again)
    np.testing.assert_array_equal(earlier.data, before)
    assert result(again) is not earlier
    again.shut_down()


# --- what is refused ------------------------------------------------------------------------------


def refused(qtbot: QtBot, dock: RegenerationPanel) -> str:
    dock.regenerate()
    finish(qtbot, dock)
    assert dock.message.kind == "error" and dock.live.layer is None
    assert dock.controls.go.isEnabled()
    return str(dock.message.text())


def test_faults_are_one_line_each(
    qtbot: QtBot, dock: RegenerationPanel, viewer: ViewerModel, scan: Image
) -> None:
    assert refused(qtbot, dock).startswith("press Paint")
    layer = painted(dock)
    layer.data[:] = 0
    assert refused(qtbot, dock).startswith("nothing is painted")
    layer.data[:] = 1
    assert refused(qtbot, dock).startswith("the whole scan is painted")
    layer.data[0, 0, 0] = 0  # one voxel of the scan, and none of the model's larger ones
    assert refused(qtbot, dock).startswith("the region leaves nothing")
    for shape, scale in ((scan.data.shape, (1, 2, 3)), ((4, 4, 4), scan.scale)):
        other = viewer.add_labels(np.ones(shape, np.uint8), scale=scale, units=scan.units)
        dock.form.region.choose(other)
        assert "does not lie on the grid of the scan" in refused(qtbot, dock)
    dock.paint()  # which makes one that fits
    assert dock.form.region.chosen is not other


def test_a_region_beyond_the_models_cube_is_refused(
    qtbot: QtBot, dock: RegenerationPanel, viewer: ViewerModel
) -> None:
    chest = make_phantom(2, 7, spacing_mm=8.0).volume
    wide = np.pad(chest.voxels_hu, ((0, 0), (0, 0), (20, 20)), constant_values=-1000)
    data, attributes, _ = image_layer(Volume(wide, chest.affine), "wide")
    dock.form.source.choose(viewer.add_image(data, **attributes))
    layer = painted(dock)
    layer.data[:] = 0
    layer.data[4:8, 4:8, :3] = 1
    assert "beyond the 320 mm cube" in refused(qtbot, dock)


def test_an_empty_viewer_and_a_foreign_image_say_what_to_do(
    qtbot: QtBot, viewer: ViewerModel
) -> None:
    opened = ReconstructDock(viewer)
    qtbot.addWidget(opened)
    dock = small(opened)
    viewer.add_image(np.random.default_rng(0).random((4, 4, 4)), name="photo")
    dock.paint()
    assert "drop a CT scan" in dock.message.text() and "photo" in dock.message.text()
    dock.shut_down()


def test_an_organ_map_is_not_forgotten_unless_it_is_chosen(
    dock: RegenerationPanel, viewer: ViewerModel, scan: Image
) -> None:
    organs = viewer.add_labels(np.ones(scan.data.shape, np.uint8), scale=scan.scale)
    assert dock.form.region.chosen is None
    dock.form.region.choose(organs)
    assert dock.form.region.chosen is organs
    viewer.layers.remove(organs)
    assert dock.form.region.chosen is None


def test_stopping_and_closing_in_the_middle(qtbot: QtBot, dock: RegenerationPanel) -> None:
    region = painted(dock).data != 0
    dock.form.steps.setValue(500)
    dock.regenerate()
    qtbot.waitUntil(lambda: dock.live.layer is not None, timeout=PATIENCE_MS)
    dock.controls.halt.click()
    finish(qtbot, dock)
    assert dock.message.text().startswith("Stopped after step")
    assert result(dock).metadata[OURS]["estimate_at_step"] < 500
    assert np.any(region) and dock.back.isEnabled()
    dock.regenerate()
    dock.shut_down()
    assert not dock.job.running


# --- real windows ---------------------------------------------------------------------------------


def shown_change(viewer: Any, dock: RegenerationPanel, qtbot: QtBot) -> Any:
    """Pixels of the axial plane that the result shows differently than the scan below it."""
    mask_layer(dock.viewer).visible = False  # type: ignore[union-attr]
    pictures = []
    for visible in (False, True):
        result(dock).visible = visible
        qtbot.wait(300)
        pictures.append(viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int))
    return np.abs(pictures[1] - pictures[0]).max(-1) > 8


def changes_one_place(changed: Any) -> bool:
    """A part of the picture, most of which is new, and nothing elsewhere."""
    rows, columns = np.nonzero(changed)
    box = changed[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    return bool(0.005 < changed.mean() < 0.3 and box.size < 0.3 * changed.size and box.mean() > 0.2)


@pytest.mark.slow
def test_a_painted_region_of_a_phantom_is_seen_anew(
    make_napari_viewer: MakeViewer, qtbot: QtBot
) -> None:
    viewer = make_napari_viewer(show=True)
    viewer.window._qt_window.resize(1400, 900)
    for layer in phantom():
        viewer._add_layer_from_data(*layer)
    _, opened = viewer.window.add_plugin_dock_widget("napari-prdit", "Reconstruct and edit")
    dock = small(opened)
    qtbot.waitUntil(lambda: planes_of(viewer) is not None, timeout=PATIENCE_MS)
    painted(dock)
    dock.form.count.setValue(2)
    dock.controls.go.click()
    qtbot.waitUntil(lambda: not dock.job.running, timeout=PATIENCE_MS)
    second = shown_change(viewer, dock, qtbot)
    assert changes_one_place(second)
    planes = planes_of(viewer)
    assert planes is not None and all(
        np.std(picture.view.screenshot(flash=False)[..., :3]) > 20 for picture in planes._pictures
    )
    dock.sheet.itemClicked.emit(dock.sheet.item(0))
    first = shown_change(viewer, dock, qtbot)
    assert changes_one_place(first) and np.any(first != second)
    dock.shut_down()


@pytest.mark.slow
def test_a_painted_region_of_a_real_scan_is_seen_anew(
    make_napari_viewer: MakeViewer, qtbot: QtBot, real_data: Path
) -> None:
    viewer = make_napari_viewer(show=True)
    viewer.window._qt_window.resize(1400, 900)
    ((data, attributes, _),) = read_scan(str(real_data / "ct/lidc-idri-0001-slab"))
    scan = viewer.add_image(data, **attributes)
    _, opened = viewer.window.add_plugin_dock_widget("napari-prdit", "Reconstruct and edit")
    dock = small(opened)
    qtbot.waitUntil(lambda: planes_of(viewer) is not None, timeout=PATIENCE_MS)
    before, region = scan.data.copy(), painted(dock).data != 0
    dock.controls.go.click()
    qtbot.waitUntil(lambda: not dock.job.running, timeout=PATIENCE_MS)
    layer = result(dock)
    np.testing.assert_array_equal(layer.data[~region], before[~region])
    assert np.std(layer.data[region].astype(float)) > 20  # more than a grey patch
    assert changes_one_place(shown_change(viewer, dock, qtbot))
    dock.shut_down()

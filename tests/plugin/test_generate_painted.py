"""The dock that generates, with a model that heeds painted organs."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from latents import tiny_control, tiny_latent
from napari.components import ViewerModel
from scipy.ndimage import binary_dilation, center_of_mass

import prdit_core
from napari_prdit.conditions import LABEL_NAMES, PAINTED, new_labels, palette, wear
from napari_prdit.layers import OURS, layer_volume, placement
from napari_prdit.widgets.generate import GenerateDock
from prdit_core.data.phantoms import LABELS, make_phantom
from prdit_core.geometry import cubic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from napari.layers import Labels
    from pytestqt.qtbot import QtBot

    MakeViewer = Callable[..., Any]

PATIENCE_MS = 240_000
LUNGS = (LABELS["lung_right"], LABELS["lung_left"])
NAMES = tuple(name for name, number in LABELS.items() if number)


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Path:
    desk = tmp_path_factory.mktemp("desk")
    return tiny_control(desk / "control", tiny_latent(desk / "base"), NAMES)


@pytest.fixture
def dock(qtbot: QtBot, control: Path) -> Iterator[GenerateDock]:
    made = GenerateDock(ViewerModel())
    qtbot.addWidget(made)
    made.walk.device.setCurrentText("cpu")
    made.walk.steps.setValue(3)
    made.choose_checkpoint(str(control))
    made.model.size_choice.choose(16)
    yield made
    made.shut_down()


def finish(qtbot: QtBot, dock: GenerateDock) -> None:
    qtbot.waitUntil(lambda: not dock.panel.job.running, timeout=PATIENCE_MS)


def add_chest(dock: GenerateDock, spacing_mm: float = 20.0, **more: Any) -> Labels:
    """A phantom's organs, moved in space, chosen as what volumes belong to."""
    phantom = make_phantom(4, 0, spacing_mm=spacing_mm)
    affine = phantom.volume.affine.copy()
    affine[:3, 3] += (11.0, -7.0, 33.0)
    layer = dock.viewer.add_labels(phantom.labels, **{"name": "chest", **placement(affine), **more})
    dock.condition.layers.choose(layer)
    return layer


def listed(dock: GenerateDock) -> list[str]:
    organs = dock.condition.organs
    return [organs.item(place).text() for place in range(organs.count())]


def test_only_a_model_with_a_control_asks_for_labels(dock: GenerateDock) -> None:
    assert not dock.condition.isHidden()
    assert listed(dock) == [f"{number} {name}" for number, name in enumerate(NAMES, 1)]
    add_chest(dock)
    assert dock.request().condition is not None
    dock.choose_checkpoint("demo")
    assert dock.condition.isHidden() and dock.request().condition is None
    dock.choose_checkpoint("nowhere")
    assert dock.condition.isHidden()


def test_labels_work_for_what_the_control_was_trained_on_and_the_dock_says_so(
    qtbot: QtBot, dock: GenerateDock
) -> None:
    form = dock.condition
    assert form.note.text() == "" and form.new.isEnabled()
    dock.model.size_choice.choose(32)
    assert "Labels work for chest, 16 x 16 x 16 voxels" in form.note.text()
    assert not form.new.isEnabled()
    add_chest(dock)
    dock.generate()
    finish(qtbot, dock)
    assert "trained on 16 x 16 x 16 voxels, not on 32 x 32 x 32" in dock.panel.message.text()
    dock.model.class_choice.setCurrentText("head")
    assert "Labels work for chest" in form.note.text()


def test_a_volume_lies_on_the_painted_layer_and_says_what_it_belongs_to(
    qtbot: QtBot, dock: GenerateDock, control: Path
) -> None:
    labels = add_chest(dock, spacing_mm=10.0)
    dock.condition.scale.setValue(0.5)
    dock.walk.seed.setValue(2)
    dock.generate()
    finish(qtbot, dock)
    layer = dock.panel.live.layer
    assert layer is not None and dock.panel.message.kind != "error", dock.panel.message.text()
    assert layer.data.shape == labels.data.shape == (32, 32, 32)
    np.testing.assert_allclose(layer.scale, labels.scale)
    np.testing.assert_allclose(layer.translate, labels.translate)
    assert dock.viewer.layers[-1] is labels  # and not hidden below
    prior = prdit_core.load(control).of_control()
    painted = layer_volume(*labels.as_layer_data_tuple()[:2])
    expected = prdit_core.paint(prior, painted, dock.request().config, scale=0.5, seed=2)
    np.testing.assert_allclose(layer.data, expected.voxels_hu, atol=1e-3)
    record = layer.metadata[OURS]["condition"]
    assert record["layer"] == "chest" and record["scale"] == 0.5
    assert record["labels_sha256"] == expected.metadata["condition"]["labels_sha256"]
    assert len(record["sha256"]) == 64 and record["sha256"] != record["labels_sha256"]
    words = shlex.split(dock.request().command())
    assert words[words.index("--condition") + 1] == "chest.nii.gz"
    assert words[words.index("--control-scale") + 1] == "0.5"
    dock.panel.ending.copy.click()
    assert "save the labels as chest.nii.gz" in dock.panel.message.text()


def test_what_was_painted_stays_part_of_time_travel_and_of_other_endings(
    qtbot: QtBot, dock: GenerateDock, control: Path
) -> None:
    labels = add_chest(dock, spacing_mm=10.0)
    asked = dock.request()
    dock.generate()
    finish(qtbot, dock)
    labels.data = np.zeros_like(labels.data)  # too late for this volume
    dock.panel.travel.back()
    layer = dock.panel.live.layer
    assert layer is not None and layer.data.shape == (32, 32, 32)
    assert layer.metadata[OURS]["estimate_at_step"] == 2
    dock.panel.branch(1, 7)
    finish(qtbot, dock)
    assert dock.panel.message.kind != "error" and dock.panel.live.layer is not None
    assert asked.condition is not None
    painting = asked.condition.painting(prdit_core.load(control).of_control())
    branch = prdit_core.Branch(1, 7)
    volume = prdit_core.generate(painting.prior, asked.config, seed=0, branches=[branch])
    found = dock.panel.live.layer.data
    np.testing.assert_allclose(found, painting.on_labels(volume).voxels_hu, atol=0.5)


def test_weight_0_makes_the_volume_of_the_base(qtbot: QtBot, dock: GenerateDock) -> None:
    made = []
    for layer, scale in ((True, 0.0), (True, 1.0), (False, 1.0)):
        if layer:
            add_chest(dock)
        else:
            dock.condition.layers.setCurrentIndex(dock.condition.layers.findText("none"))
        dock.condition.scale.setValue(scale)
        assert (dock.request().condition is not None) == layer
        dock.generate()
        finish(qtbot, dock)
        assert dock.panel.live.layer is not None and dock.panel.message.kind != "error"
        made.append(np.array(dock.panel.live.layer.data))
    np.testing.assert_array_equal(made[0], made[2])
    assert np.abs(made[1] - made[0]).mean() > 0.1


FAULTS = [
    ({"data": 99}, "layer 'odd' has label 99, which the model does not know; it knows 1 table"),
    ({"data": 0}, "layer 'odd' is empty; paint at least one label there"),
    ({"data": 999}, "it holds 999, but labels are whole numbers of 0 to 255"),
    ({"units": ("s", "mm", "mm")}, "layer 'odd' is in"),
    ({"rotate": 30.0}, "layer 'odd' is rotated or sheared"),
]


@pytest.mark.parametrize(("fault", "words"), FAULTS)
def test_what_cannot_be_heeded_is_refused_in_one_line(
    fault: dict[str, Any], words: str, qtbot: QtBot, dock: GenerateDock
) -> None:
    labels = np.full((4, 4, 4), fault.pop("data", 1), np.uint16)
    dock.condition.layers.choose(dock.viewer.add_labels(labels, name="odd", **fault))
    dock.generate()
    finish(qtbot, dock)
    assert dock.panel.message.kind == "error" and words in dock.panel.message.text()
    assert "\n" not in dock.panel.message.text() and dock.panel.live.layer is None


def test_flat_and_moving_layers_say_why_they_cannot_be_chosen(dock: GenerateDock) -> None:
    for shape in ((8, 8), (2, 8, 8, 8)):
        dock.viewer.add_labels(np.ones(shape, np.uint8))
    assert [text.split("(")[1] for text in dock.condition.layers.refused] == [
        "2D, not 3D)",
        "4D, not 3D)",
    ]
    assert dock.request().condition is None


def test_new_labels_lie_where_the_model_makes_volumes_in_its_colours(
    qtbot: QtBot, dock: GenerateDock
) -> None:
    dock.generate()  # without labels
    finish(qtbot, dock)
    volume = dock.panel.live.layer
    assert volume is not None
    dock.condition.new.click()
    labels = dock.condition.layers.chosen
    assert labels is not None and labels.name == PAINTED and labels.mode == "paint"
    assert labels.data.shape == volume.data.shape == (16, 16, 16)
    np.testing.assert_allclose(labels.extent.world, volume.extent.world)
    dock.condition.organs.itemClicked.emit(dock.condition.organs.item(2))
    assert labels.selected_label == 3
    labels.paint((8, 8, 8), 3)
    np.testing.assert_allclose(labels.get_color(3), palette(NAMES)[2].colour, atol=0.01)
    dock.generate()
    finish(qtbot, dock)
    assert (
        dock.panel.live.layer is volume and volume.metadata[OURS]["condition"]["layer"] == PAINTED
    )
    condition = volume.metadata[OURS]["condition"]
    assert condition["sha256"] == condition["labels_sha256"]  # one grid


@pytest.mark.slow
def test_a_painted_change_is_seen_where_it_was_painted(
    make_napari_viewer: MakeViewer, qtbot: QtBot
) -> None:
    """The bundled model, in a real window: a heart that was painted larger."""
    viewer: Any = make_napari_viewer(show=True)
    viewer.window._qt_window.resize(1200, 800)
    _, dock = viewer.window.add_plugin_dock_widget("napari-prdit", "Generate CT volume")
    dock.walk.device.setCurrentText("cpu")
    dock.choose_checkpoint("demo-control")
    dock.walk.steps.setValue(6)
    labels = add_chest(dock, spacing_mm=5.0)
    heart, lungs = labels.data == LABELS["heart"], np.isin(labels.data, LUNGS)
    viewer.dims.set_point(0, labels.data_to_world(center_of_mass(heart))[0])
    volumes, pictures = [], []
    for grown in (0, 3):
        if grown:
            larger = binary_dilation(heart, iterations=grown) & lungs
            labels.data = np.where(larger, LABELS["heart"], labels.data)
        dock.generate()
        finish(qtbot, dock)
        assert dock.panel.message.kind != "error", dock.panel.message.text()
        labels.opacity = 0.0
        qtbot.wait(500)
        volumes.append(np.array(dock.panel.live.layer.data))
        pictures.append(viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(float))
    gained = volumes[1] - volumes[0]
    body = (labels.data > 0) & (labels.data != LABELS["table"]) & ~larger
    assert gained[larger].mean() > 100  # HU: from lung towards flesh
    assert np.abs(gained[body]).mean() < 0.25 * gained[larger].mean()
    assert (np.abs(pictures[1] - pictures[0]).mean(-1) > 20).mean() > 0.001
    dock.shut_down()


def test_every_organ_has_a_colour_of_its_own() -> None:
    colours = np.array([organ.colour[:3] for organ in palette([str(n) for n in range(24)])])
    apart = np.linalg.norm(colours[:, None] - colours, axis=-1) + 9 * np.eye(len(colours))
    assert apart.min() > 0.1 and np.linalg.norm(colours - 1, axis=-1).min() > 0.1  # nor white


def test_numbers_of_a_layer_keep_their_meaning_for_another_model() -> None:
    viewer = ViewerModel()
    layer = new_labels(viewer, cubic(4, 80.0))
    wear(layer, ("heart", "lung"))
    organs = wear(layer, ("lung", "liver"))
    assert [(organ.number, organ.name) for organ in organs] == [(2, "lung"), (3, "liver")]
    assert layer.metadata[OURS][LABEL_NAMES] == {"heart": 1, "lung": 2, "liver": 3}
    np.testing.assert_allclose(layer.get_color(1), (1, 1, 1, 1))  # a heart is unknown to it

"""The dock that splits a prediction: layers that add up, words, plots, faults."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Layer
from napari.utils.key_bindings import KeymapHandler
from pyqtgraph import BarGraphItem
from qtpy.QtWidgets import QLabel
from toys import tiny_checkpoint

import prdit_core
from napari_prdit.inspector import (
    LEVELS,
    LayerSource,
    Model,
    noise_in_words,
    refusal,
    sizes_in_words,
    split_work,
    summary,
)
from napari_prdit.jobs import Control
from napari_prdit.layers import image_layer
from napari_prdit.reader import read_scan
from napari_prdit.sample_data import phantom
from napari_prdit.split_layers import SIGNED
from napari_prdit.widgets.residual_inspector import ResidualInspector
from prdit_core.errors import InputRejected
from prdit_core.verbs.shares import EnergyShares, PartEnergies
from prdit_core.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pytestqt.qtbot import QtBot

PATIENCE_MS = 240_000
X0_LAYERS = [
    "scan, as the model sees it",
    "noisy scan",
    "local part",
    "global residual",
    "local + global",
    "error",
]
CHAIN_LAYERS = [*X0_LAYERS[:4], "refiner", "local + global + refiner", "error"]


@pytest.fixture
def viewer() -> ViewerModel:
    made = ViewerModel()
    for layer in phantom():
        made.add_layer(Layer.create(*layer))
    return made


@pytest.fixture
def dock(qtbot: QtBot, viewer: ViewerModel, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr("napari_prdit.inspector.LEVELS", LEVELS[::4])
    monkeypatch.setattr("napari_prdit.widgets.residual_inspector.LEVELS", LEVELS[::4])
    made = ResidualInspector(viewer)
    qtbot.addWidget(made)
    made.question.size_choice.choose(32)
    yield made
    made.shut_down()


def finish(qtbot: QtBot, dock: ResidualInspector) -> None:
    qtbot.waitUntil(lambda: not dock.job.running, timeout=PATIENCE_MS)


def split(qtbot: QtBot, dock: ResidualInspector) -> None:
    dock.go.click()
    finish(qtbot, dock)


def results(dock: ResidualInspector) -> dict[str, Image]:
    """Layers of parts, kept ones too, by name."""
    layers = dock.viewer.layers
    return {layer.name: layer for layer in layers if "part" in layer.metadata.get("prdit", {})}


def visible(dock: ResidualInspector) -> list[str]:
    return [layer.name for layer in dock.viewer.layers if layer.visible]


def state() -> tuple[np.ndarray, float]:
    """A step of a walk."""
    for step in prdit_core.generate_steps(
        prdit_core.load("demo").at_size(32), prdit_core.SamplingConfig(steps=6)
    ):
        if step.index == 3:
            return step.x_t[0, 0].numpy(), step.t
    raise AssertionError("the walk has such a step")


# --- what one sees ------------------------------------------------------------------------------


def test_the_parts_in_the_layers_add_up(qtbot: QtBot, dock: ResidualInspector) -> None:
    dock.parts.noise.setChecked(True)
    split(qtbot, dock)
    shown = {name: layer.data.astype(float) for name, layer in results(dock).items()}
    total = shown["local part"] + shown["global residual"]
    np.testing.assert_allclose(total, shown["local + global"], atol=1e-2)
    error = shown["local + global"] - shown["scan, as the model sees it"]
    np.testing.assert_allclose(error, shown["error"], atol=1e-2)
    noise = shown["noise, local part"] + shown["noise, global residual"]
    np.testing.assert_allclose(noise, shown["noise, local + global"], atol=1e-2)


def test_the_layers_are_what_the_core_finds_and_say_how(
    qtbot: QtBot, dock: ResidualInspector, viewer: ViewerModel
) -> None:
    dock.question.level.setValue(250)
    dock.question.seed.setValue(7)
    expected = prdit_core.decompose(
        prdit_core.load("demo").at_size(32),
        Volume(viewer.layers[0].data, source(viewer).affine),
        250,
        seed=7,
    )
    split(qtbot, dock)
    assert list(results(dock)) == X0_LAYERS
    for name, part in [("local part", "x0-local"), ("global residual", "x0-global-residual")]:
        layer = results(dock)[name]
        np.testing.assert_array_equal(layer.data, expected.parts[part].voxels_hu)
        ours = layer.metadata["prdit"]
        assert (ours["t"], ours["seed"], ours["checkpoint"]) == (250, 7, "demo")
        assert ours["checkpoint_sha256"] == prdit_core.load("demo").digest
        assert ours["notice"] == "derived from a scan by a model, not for diagnosis"
    kinds = {name: layer.metadata["prdit"]["kind"] for name, layer in results(dock).items()}
    assert {name for name, kind in kinds.items() if kind == "residual"} == {
        "global residual",
        "error",
    }


def source(viewer: ViewerModel) -> Volume:
    data, attributes, _ = viewer.layers[0].as_layer_data_tuple()
    return LayerSource(data, attributes, 400, 0).volume


def test_the_parts_lie_on_the_scan(
    qtbot: QtBot, dock: ResidualInspector, viewer: ViewerModel
) -> None:
    """Where the scan has a lung, in mm, the part has one too."""
    viewer.layers[0].translate += np.array([40.0, -30.0, 20.0])
    split(qtbot, dock)
    part, scan = results(dock)["scan, as the model sees it"], viewer.layers[0]
    assert part.scale == pytest.approx([10, 10, 10])
    places = np.indices(part.data.shape).reshape(3, -1).T * part.scale + part.translate
    index = np.round((places - scan.translate) / scan.scale).astype(int)
    inside = np.all((index >= 0) & (index < scan.data.shape), axis=1)
    assert inside.sum() > 10_000
    there = np.clip(scan.data[tuple(index[inside].T)], -1000, 400)
    assert np.corrcoef(part.data.ravel()[inside], there)[0, 1] > 0.9


def test_images_have_the_window_of_the_model_and_differences_none_of_it(
    qtbot: QtBot, dock: ResidualInspector
) -> None:
    split(qtbot, dock)
    shown = results(dock)
    assert tuple(shown["local part"].contrast_limits) == (-1000, 400)
    for name in ("global residual", "error"):
        low, high = shown[name].contrast_limits
        assert low == -high < 0
        assert np.abs(shown[name].data).max() >= high > np.abs(shown[name].data).mean()
        np.testing.assert_allclose(shown[name].colormap.map(0.5)[0, :3], 0, atol=0.02)
    assert f"{shown['error'].contrast_limits[1]:.0f} HU" in flipped(dock, "error")


def flipped(dock: ResidualInspector, part: str) -> str:
    dock.parts.flips[part].click()
    return dock.parts.caption.text()


def test_no_line_is_cut_where_room_is_scarce(qtbot: QtBot, dock: ResidualInspector) -> None:
    dock.resize(320, 400)
    dock.show()
    split(qtbot, dock)
    labels = [label for label in dock.findChildren(QLabel) if label.wordWrap() and label.text()]
    shown = [label for label in labels if label.isVisible()]
    assert {dock.shares.summary, dock.parts.caption, dock.question.level_words} <= set(shown)
    for label in shown:
        qtbot.waitUntil(lambda it=label: it.height() >= it.heightForWidth(it.width()))


def test_signed_colours_are_blue_below_zero_and_orange_above() -> None:
    blue, black, orange = SIGNED.map([0.0, 0.5, 1.0])[:, :3]
    np.testing.assert_allclose(blue, [0.35, 0.75, 1.0], atol=0.01)
    np.testing.assert_allclose(black, 0.0, atol=0.01)
    np.testing.assert_allclose(orange, [1.0, 0.65, 0.3], atol=0.01)


def test_what_the_error_adds_is_orange_in_its_layer(qtbot: QtBot, dock: ResidualInspector) -> None:
    """The colour that a voxel gets, from the sign of what it holds."""
    split(qtbot, dock)
    layer = results(dock)["error"]
    low, high = layer.contrast_limits
    for place in (layer.data.argmax(), layer.data.argmin()):
        hu = layer.data.flat[place]
        red, _, blue = layer.colormap.map([(np.clip(hu, low, high) - low) / (high - low)])[0, :3]
        assert (red > blue) == (hu > 0) and abs(red - blue) > 0.5


@pytest.mark.parametrize(
    ("key", "layer"),
    [
        ("1", "scan, as the model sees it"),
        ("2", "noisy scan"),
        ("3", "local part"),
        ("4", "global residual"),
        ("5", "local + global"),
        ("6", "error"),
    ],
)
def test_numbers_show_the_parts(
    qtbot: QtBot, dock: ResidualInspector, monkeypatch: pytest.MonkeyPatch, key: str, layer: str
) -> None:
    show_parts(dock)
    dock.parts.flips["noisy" if key != "2" else "scan"].click()
    press(dock.viewer.layers.selection.active, key)
    assert [name for name, part in results(dock).items() if part.visible] == [layer]


def test_keys_go_back_to_napari(dock: ResidualInspector) -> None:
    show_parts(dock)
    kept = list(results(dock).values())
    assert all(layer.keymap for layer in kept)
    dock.parts.keep.click()
    show_parts(dock)
    assert not any(layer.keymap for layer in kept)
    dock.shut_down()
    assert not any(layer.keymap for layer in results(dock).values())


def show_parts(dock: ResidualInspector) -> None:
    """Invented parts: what they look like does not matter."""
    metadata = {"window_hu": (-1000, 400), "t": 400}
    names = ["local", "global-residual", "total", "error"]
    keys = ["scan", "noisy", *(f"x0-{name}" for name in names)]
    hu = np.linspace(-1000, 400, 27).reshape(3, 3, 3)
    dock.parts.show_volumes({key: Volume(hu, np.eye(4), metadata) for key in keys})


def press(layer: Any, key: str) -> None:
    """As napari does for the selected layer, whose own keys come first."""
    handler = KeymapHandler()
    handler.keymap_providers = [layer]
    assert handler.press_key(key)


def test_one_part_is_visible_at_a_time(qtbot: QtBot, dock: ResidualInspector) -> None:
    assert not any(made.isEnabled() for made in dock.parts.flips.values())
    split(qtbot, dock)
    assert visible(dock) == ["local + global"]
    shown = [part for part, made in dock.parts.flips.items() if not made.isHidden()]
    names = dict(zip(shown, X0_LAYERS, strict=True))
    captions = set()
    for part, name in names.items():
        captions.add(flipped(dock, part))
        assert visible(dock) == [name]
        assert dock.viewer.layers.selection.active.name == name
    assert len(captions) == 6


def test_the_noise_has_layers_and_a_plot_while_it_is_wanted(
    qtbot: QtBot, dock: ResidualInspector
) -> None:
    split(qtbot, dock)
    clean = dock.shares.summary.text()
    dock.parts.noise.setChecked(True)
    assert visible(dock) == ["noise, local + global"] and len(results(dock)) == 10
    assert "noise:" in dock.shares.summary.text() != clean
    dock.parts.noise.setChecked(False)
    assert list(results(dock)) == X0_LAYERS
    assert dock.shares.summary.text() == clean


def test_the_next_split_uses_the_layers_again_unless_they_were_kept(
    qtbot: QtBot, dock: ResidualInspector
) -> None:
    split(qtbot, dock)
    local = results(dock)["local part"]
    local.contrast_limits = (-500, 0)
    before = np.array(local.data)
    dock.question.level.setValue(700)
    split(qtbot, dock)
    assert list(results(dock)) == X0_LAYERS and results(dock)["local part"] is local
    assert tuple(local.contrast_limits) == (-500, 0)
    assert np.abs(local.data - before).mean() > 1 and local.metadata["prdit"]["t"] == 700

    dock.parts.keep.click()
    kept = np.array(local.data)
    dock.question.level.setValue(200)
    split(qtbot, dock)
    assert len(results(dock)) == 12 and local.name == "local part, noise 700, seed 0"
    np.testing.assert_array_equal(local.data, kept)
    assert results(dock)["local part"].metadata["prdit"]["t"] == 200


def test_the_sentence_tells_what_the_layers_show(qtbot: QtBot, dock: ResidualInspector) -> None:
    split(qtbot, dock)
    shown = {name: layer.data.astype(float) for name, layer in results(dock).items()}
    scan = shown["scan, as the model sees it"]
    alone, both = (
        np.sqrt(np.square(shown[name] - scan).mean()) for name in ("local part", "local + global")
    )
    text = dock.shares.summary.text()
    assert f"{alone:.0f} HU off, with it {both:.0f} HU" in text
    assert f"{1 - both / alone:.0%} less" in text


def test_a_plot_by_size_and_by_noise_level(qtbot: QtBot, dock: ResidualInspector) -> None:
    assert "Press Split" in dock.shares.summary.text()
    assert dock.shares.plot.energy.isHidden()
    split(qtbot, dock)
    axis = dock.shares.plot.energy.plot.getAxis("bottom")
    assert [word for _, word in axis._tickLevels[0]] == ["> 80", "40–80", "20–40", "< 20"]
    assert not dock.shares.plot.error.isHidden()
    dock.go_levels.click()
    finish(qtbot, dock)
    curves = dock.shares.plot.energy.plot.listDataItems()
    assert len(curves) == 5  # four sizes and all together
    for curve in curves:
        ts, shares = curve.getData()
        assert list(ts) == [100, 500, 900]
        assert np.all((shares >= 0) & (shares <= 100))
    assert list(results(dock)) == X0_LAYERS  # untouched
    dock.shares.by.setCurrentText("by size of detail")
    assert "Noise level 400" in dock.shares.summary.text()


# --- a chain ------------------------------------------------------------------------------------


@pytest.fixture
def refined(qtbot: QtBot, dock: ResidualInspector, chain: Path) -> ResidualInspector:
    """The dock, after the prediction of a chain was split."""
    dock.question.checkpoint.choose(str(chain))
    split(qtbot, dock)
    return dock


def test_a_chain_has_a_refiner_to_flip_to(refined: ResidualInspector) -> None:
    assert list(results(refined)) == CHAIN_LAYERS
    assert "refiner adds" in flipped(refined, "refiner") and visible(refined) == ["refiner"]
    low, high = results(refined)["refiner"].contrast_limits
    assert low == -high < 0
    assert results(refined)["refiner"].metadata["prdit"]["kind"] == "residual"
    assert "All added" in flipped(refined, "total")


def test_the_three_parts_of_a_chain_add_up(refined: ResidualInspector) -> None:
    refined.parts.noise.setChecked(True)
    shown = {name: layer.data.astype(float) for name, layer in results(refined).items()}
    assert len(shown) == 12
    for noise in ("", "noise, "):
        parts = ("local part", "global residual", "refiner")
        total = shown[f"{noise}local + global + refiner"]
        np.testing.assert_allclose(sum(shown[noise + part] for part in parts), total, atol=0.02)


def test_the_sentence_and_the_plot_tell_of_the_refiner(refined: ResidualInspector) -> None:
    text = refined.shares.summary.text()
    assert "from the refiner" in text and "with the refiner" in text
    plot = refined.shares.plot
    assert "refiner" in plot.energy._legend.text() and plot.refiner.isHidden()
    for panel in (plot.energy, plot.error):
        drawn = panel.plot.getPlotItem().items
        assert sum(isinstance(item, BarGraphItem) for item in drawn) == 3


def test_all_noise_levels_of_a_chain_have_curves_of_the_refiner(
    qtbot: QtBot, refined: ResidualInspector
) -> None:
    refined.go_levels.click()
    finish(qtbot, refined)
    plot = refined.shares.plot
    shown = [panel.plot.listDataItems() for panel in (plot.energy, plot.refiner, plot.error)]
    assert len(shown[0]) == len(shown[1]) > 2 and len(shown[2]) == 3
    assert not plot.refiner.isHidden()
    of_all = [curves[-1].getData()[1] for curves in shown[:2]]
    assert np.all(np.min(of_all, axis=0) > 0) and np.all(np.sum(of_all, axis=0) < 100)


def test_a_plain_model_looks_as_ever_after_a_chain(
    qtbot: QtBot, refined: ResidualInspector, tmp_path: Path
) -> None:
    flipped(refined, "refiner")
    plain = tiny_checkpoint(tmp_path / "plain", size=16)
    refined.question.checkpoint.choose(str(plain))
    split(qtbot, refined)
    assert list(results(refined)) == X0_LAYERS and visible(refined) == ["local + global"]
    assert refined.parts.flips["refiner"].isHidden()
    assert "refiner" not in refined.shares.summary.text()
    assert "refiner" not in refined.shares.plot.energy._legend.text()


def test_a_chain_is_inspected_at_the_chosen_size(
    qtbot: QtBot, dock: ResidualInspector, chain: Path
) -> None:
    dock.question.checkpoint.choose(str(chain))
    dock.question.size_choice.choose(8)
    split(qtbot, dock)
    assert list(results(dock)) == X0_LAYERS
    assert results(dock)["local part"].data.shape == (8, 8, 8)


# --- a patch prior ------------------------------------------------------------------------------


def test_a_patch_prior_is_seen_with_and_without_context_and_coordinates(
    qtbot: QtBot, dock: ResidualInspector, patch_prior: Path
) -> None:
    dock.question.checkpoint.choose(str(patch_prior))
    split(qtbot, dock)
    assert dock.message.kind != "error", dock.message.text()
    shown = {name: layer.data.astype(float) for name, layer in results(dock).items()}
    blind = ("tile alone", "without context", "without coordinates")
    assert {*blind, "with both", "context and coordinates", "error"} <= set(shown)
    assert len({shown[name].tobytes() for name in (*blind, "with both")}) == 4
    added = shown["tile alone"] + shown["context and coordinates"]
    np.testing.assert_allclose(added, shown["with both"], atol=0.02)
    assert "nothing of the volume as a whole" in flipped(dock, "no-context")
    assert visible(dock) == ["without context"]
    assert "what the model takes" in dock.parts.flips["total"].toolTip().lower()
    assert dock.parts.flips["refiner"].isHidden()
    assert not dock.parts.flips["no-coordinates"].isHidden()


@pytest.mark.parametrize(("size", "parts"), [(8, 4), (16, 5)])
def test_a_step_of_a_chain_is_split_at_the_size_it_was_generated_at(
    qtbot: QtBot, dock: ResidualInspector, chain: Path, size: int, parts: int
) -> None:
    prior = prdit_core.load(chain).at_size(size)
    (step,) = prdit_core.generate_steps(prior, prdit_core.SamplingConfig(steps=1))
    dock.question.checkpoint.choose(str(chain))
    dock.question.size_choice.choose(24 - size)  # the other one, which is for scans
    dock.inspect_state(str(chain), step.x_t[0, 0].numpy(), step.t)
    assert dock.question.size_choice.isHidden()
    finish(qtbot, dock)
    shown = results(dock)
    assert len(shown) == parts and shown["noisy scan"].data.shape == (size,) * 3
    dock.question.source.setCurrentIndex(0)  # back to the scan
    assert not dock.question.size_choice.isHidden()


# --- what is split ------------------------------------------------------------------------------


def test_only_scans_can_be_chosen(qtbot: QtBot, dock: ResidualInspector) -> None:
    viewer, choice = dock.viewer, dock.question.source
    viewer.add_image(np.zeros((8, 8, 3), np.uint8), name="photo", rgb=True)
    viewer.add_image(np.zeros((8, 8)), name="flat")
    viewer.add_image(np.zeros((2, 8, 8, 8)), name="film")
    viewer.add_image([np.zeros((8, 8, 8)), np.zeros((4, 4, 4))], name="tiles", multiscale=True)
    split(qtbot, dock)  # its layers are no choices either
    assert choice.chosen is viewer.layers["phantom"]
    assert [choice.itemText(i) for i in range(choice.count())] == ["phantom", *choice.refused]
    assert choice.refused == [
        "photo (a colour picture)",
        "flat (2D, not 3D)",
        "film (4D, not 3D)",
        "tiles (a pyramid of resolutions)",
    ]


def test_the_choice_follows_the_layers(qtbot: QtBot, dock: ResidualInspector) -> None:
    viewer, choice = dock.viewer, dock.question.source
    other = viewer.add_image(viewer.layers["phantom"].data, name="other")
    assert choice.chosen is viewer.layers["phantom"]
    choice.setCurrentIndex(1)
    other.name = "renamed"
    assert choice.chosen is other and choice.currentText() == "renamed"
    viewer.layers.remove(other)
    assert choice.chosen is viewer.layers["phantom"]
    viewer.layers.clear()
    assert choice.chosen is None


def test_no_scan_is_said_and_the_next_run_works(qtbot: QtBot, dock: ResidualInspector) -> None:
    dock.viewer.layers.clear()
    dock.viewer.add_image(np.zeros((8, 8)), name="flat")
    split(qtbot, dock)
    assert dock.message.kind == "error" and "flat (2D, not 3D)" in dock.message.text()
    dock.viewer.add_layer(Layer.create(*phantom()[0]))
    split(qtbot, dock)
    assert dock.message.text() == "" and list(results(dock)) == X0_LAYERS


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda scan: setattr(scan, "units", ("um",) * 3), "give its scale in mm"),
        (lambda scan: setattr(scan, "rotate", (0, 0, 20)), "rotated"),
        (lambda scan: setattr(scan, "data", with_one_nan(scan.data)), "NaN"),
    ],
)
def test_a_scan_that_cannot_be_used_is_said_and_the_next_run_works(
    qtbot: QtBot, dock: ResidualInspector, change: Callable[[Image], None], reason: str
) -> None:
    bad = dock.viewer.add_image(dock.viewer.layers["phantom"].data, name="bad")
    change(bad)
    dock.question.source.setCurrentIndex(1)
    split(qtbot, dock)
    assert dock.message.kind == "error" and reason in dock.message.text()
    dock.question.source.setCurrentIndex(0)
    split(qtbot, dock)
    assert dock.message.text() == "" and list(results(dock)) == X0_LAYERS


def with_one_nan(voxels: np.ndarray) -> np.ndarray:
    damaged = voxels.astype(np.float32)
    damaged[1, 1, 1] = np.nan
    return damaged


def test_values_that_are_no_hu_are_told_before_any_work(
    dock: ResidualInspector, viewer: ViewerModel
) -> None:
    scan = viewer.layers["phantom"].data.astype(np.float32)
    low, high = scan.min(), scan.max()
    viewer.layers.clear()
    viewer.add_image((scan - low) / (high - low), name="normalised")
    assert dock.question.source.chosen is None
    (refused,) = dock.question.source.refused  # a sample tells, so nearly from 0 to 1
    assert refused.startswith("normalised (not CT in HU: values from 0 to 0.99")
    dock.go.click()
    assert not dock.job.running
    assert dock.message.kind == "error" and "not CT in HU" in dock.message.text()
    viewer.add_image(scan, name="in HU")
    assert dock.question.source.currentText() == "in HU"


def test_what_looks_like_hu_in_the_list_is_judged_again_before_a_model_is_loaded() -> None:
    with pytest.raises(InputRejected, match="layer 'scan': not CT in HU: values from 0 to 1;"):
        list(
            split_work(
                Model("no such model", "cpu"),
                LayerSource(np.eye(9)[None] * np.ones((9, 1, 1)), {"name": "scan"}, 400, 0),
                Control(),
            )
        )


def test_what_a_weak_model_made_may_be_inspected_and_is_doubted() -> None:
    weak = Volume(np.full((8, 8, 8), 250.0), np.eye(4), {"checkpoint_sha256": "ab" * 32})
    layer = Layer.create(*image_layer(weak, "weak"))
    assert refusal(layer) == ""
    data, attributes, _ = layer.as_layer_data_tuple()
    (note,) = LayerSource(data, attributes, 400, 0).volume.metadata["notes"]
    assert "Hounsfield" in note


def test_an_oblique_scan_keeps_its_place() -> None:
    """napari shows it unturned; the model gets it as it lies in the patient."""
    turned = np.diag([-2.0, -2.0, 2.0, 1.0])
    turned[1:3, 1:3] = 2 * np.array([[-np.cos(0.2), np.sin(0.2)], [np.sin(0.2), np.cos(0.2)]])
    oblique = Volume(np.full((6, 7, 8), -1000, np.int16), turned)
    layer = Layer.create(*image_layer(oblique, "oblique"))
    data, attributes, _ = layer.as_layer_data_tuple()
    np.testing.assert_allclose(LayerSource(data, attributes, 1, 0).volume.affine, turned)


def test_a_step_of_a_run_has_parts_but_no_truth(qtbot: QtBot, dock: ResidualInspector) -> None:
    x_t, t = state()
    dock.inspect_state("demo", x_t, t)
    finish(qtbot, dock)
    shown = results(dock)
    assert list(shown) == ["noisy scan", "local part", "global residual", "local + global"]
    np.testing.assert_allclose(
        shown["local part"].data + shown["global residual"].data,
        shown["local + global"].data,
        atol=1e-2,
    )
    assert "synthetic" in shown["local part"].metadata["prdit"]["notice"]
    assert not dock.parts.flips["error"].isEnabled()
    assert "no error" in dock.shares.summary.text() and dock.shares.plot.error.isHidden()
    assert dock.question.level.isHidden() and not dock.go_levels.isEnabled()
    assert f"<b>{t:.0f}</b>" in dock.question.level_words.text()
    dock.question.source.setCurrentIndex(0)  # back to the scan
    assert not dock.question.level.isHidden() and dock.go_levels.isEnabled()
    split(qtbot, dock)
    assert set(results(dock)) == set(X0_LAYERS)


def test_a_step_of_another_model_is_refused(qtbot: QtBot, dock: ResidualInspector) -> None:
    dock.inspect_state("demo", np.zeros((8, 8, 8), np.float32), 400)
    finish(qtbot, dock)
    assert dock.message.kind == "error" and "generated with" in dock.message.text()


# --- faults -------------------------------------------------------------------------------------


def test_a_second_click_is_answered(qtbot: QtBot, dock: ResidualInspector) -> None:
    dock.go.click()
    assert not dock.go.isEnabled() and dock.halt.isEnabled()
    dock.split()
    assert dock.message.kind == "warning" and "still at work" in dock.message.text()
    finish(qtbot, dock)
    assert list(results(dock)) == X0_LAYERS and dock.go.isEnabled()


def test_a_deleted_part_is_said_and_comes_back(qtbot: QtBot, dock: ResidualInspector) -> None:
    split(qtbot, dock)
    dock.viewer.layers.remove("error")
    flipped(dock, "error")
    assert dock.message.kind == "warning" and "deleted" in dock.message.text()
    split(qtbot, dock)
    assert set(results(dock)) == set(X0_LAYERS) and visible(dock) == ["error"]


def test_layers_deleted_on_the_way_do_no_harm(qtbot: QtBot, dock: ResidualInspector) -> None:
    split(qtbot, dock)
    dock.go.click()
    dock.viewer.layers.clear()
    finish(qtbot, dock)
    assert dock.message.kind == "note" and list(results(dock)) == X0_LAYERS


@pytest.mark.parametrize("what", ["missing", "damaged"])
def test_an_unreadable_checkpoint_is_said_and_the_next_run_works(
    qtbot: QtBot, dock: ResidualInspector, tmp_path: Path, what: str
) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    if what == "damaged":
        (bad / "checkpoint.json").write_text("{")
    dock.question.checkpoint.choose(str(bad))
    assert dock.message.kind == "error" and "bad" in dock.message.text()
    split(qtbot, dock)
    assert dock.message.kind == "error" and "bad" in dock.message.text()
    assert "\n" not in dock.message.text() and not results(dock)
    dock.question.checkpoint.choose("demo")
    split(qtbot, dock)
    assert dock.message.text() == "" and list(results(dock)) == X0_LAYERS


@pytest.mark.parametrize("ask", ["split", "split_levels"])
def test_out_of_memory_is_said_and_the_next_run_works(
    qtbot: QtBot, dock: ResidualInspector, monkeypatch: pytest.MonkeyPatch, ask: str
) -> None:
    def starve(*_: object) -> None:
        raise RuntimeError("CUDA out of memory.\nTried to allocate 20 GiB")

    with monkeypatch.context() as patch:
        patch.setattr(prdit_core.Prior, "decompose", starve)
        getattr(dock, ask)()
        finish(qtbot, dock)
    assert dock.message.kind == "error" and "ran out of memory" in dock.message.text()
    assert dock.progress.isHidden() and not results(dock)
    split(qtbot, dock)
    assert dock.message.kind == "note" and list(results(dock)) == X0_LAYERS


def test_a_stopped_series_keeps_what_it_has(
    qtbot: QtBot, dock: ResidualInspector, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_level = dock.shares.add_level

    def stop_after(shares: Any) -> int:
        dock.halt.click()
        return add_level(shares)

    monkeypatch.setattr("napari_prdit.inspector.LEVELS", (200.0,) * 500)
    monkeypatch.setattr(dock.shares, "add_level", stop_after)
    dock.go_levels.click()
    finish(qtbot, dock)
    assert dock.message.text() == "stopped" and dock.go_levels.isEnabled()
    points = len(dock.shares.plot.error.plot.listDataItems()[0].getData()[0])
    assert 1 <= points < 500
    split(qtbot, dock)
    assert list(results(dock)) == X0_LAYERS


def test_a_dock_that_is_let_go_leaves_no_thread_and_no_ear(
    qtbot: QtBot, viewer: ViewerModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """napari's cross takes a dock out of the window; it is freed, so nobody else may close it."""
    from qtpy.QtWidgets import QMainWindow

    dock = ResidualInspector(viewer)
    dock.question.size_choice.choose(32)
    monkeypatch.setattr("napari_prdit.inspector.LEVELS", (200.0,) * 500)
    window = QMainWindow()
    qtbot.addWidget(window)
    window.setCentralWidget(dock)
    dock.go_levels.click()
    qtbot.waitUntil(lambda: dock.progress.value() > 0, timeout=PATIENCE_MS)
    dock.setParent(None)
    assert not dock.job.running
    before = dock.question.source.count()
    viewer.add_layer(Layer.create(*phantom()[0]))
    assert dock.question.source.count() == before


# --- words --------------------------------------------------------------------------------------


def test_every_noise_level_has_words() -> None:
    words = [noise_in_words(t) for t in range(1, 1001)]
    assert len(set(words)) == 5 and words[0] != words[-1]


def test_sizes_read_from_coarse_to_fine() -> None:
    assert sizes_in_words((np.inf, 80, 2.5, 0)) == ["> 80", "2.5–80", "< 2.5"]


def test_a_global_part_that_does_harm_is_told_so() -> None:
    one = np.ones(2)
    energies = PartEnergies(9 * one, one, 10 * one, error_local=200 * one, error_total=450 * one)
    text = summary(EnergyShares(400, (np.inf, 2, 0), energies, energies), "x0")
    assert "10.0% of the energy" in text and "20 HU off, with it 30 HU: 50% more" in text


def test_a_refiner_that_does_harm_is_told_so() -> None:
    one = np.ones(2)
    energies = PartEnergies(
        *(8 * one, one, 10 * one, 200 * one, 450 * one), refiner=one, error_base=50 * one
    )
    text = summary(EnergyShares(400, (np.inf, 2, 0), energies, energies), "x0")
    assert "10.0% of the energy comes from the global part, 10.0% from the refiner" in text
    assert "alone is 20 HU off, with the global part 10 HU (50% less)" in text
    assert "with the refiner 30 HU (200% more)" in text


# --- in the window ------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_real_scan_in_a_real_window(
    make_napari_viewer: Callable[..., Any], qtbot: QtBot, real_data: Path
) -> None:
    """From the menu's dock to pixels: the residual is coloured, the image is grey."""
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1200, 900)
    for layer in read_scan(str(real_data / "ct/lidc-idri-0314")):
        viewer.add_layer(Layer.create(*layer))
    _, dock = viewer.window.add_plugin_dock_widget("napari-prdit", "Inspect local and global part")
    split(qtbot, dock)
    scan = viewer.layers[0]
    low, high = results(dock)["local part"].extent.world
    assert np.all(high - low > 200)  # a cube of the chest, within the scan's place
    middle = (scan.extent.world[0] + scan.extent.world[1]) / 2
    assert np.all((low < middle) & (middle < high))

    def pixels(part: str) -> np.ndarray:
        dock.parts.flips[part].click()
        qtbot.wait(100)
        return viewer.screenshot(flash=False)[..., :3].astype(float)

    # At 1280 x 720 the parts can be reached at once.
    viewer.window.resize(1280, 720)
    qtbot.wait(100)
    split(qtbot, dock)
    assert not dock.parts.flips["error"].visibleRegion().isEmpty()

    canvas = viewer.window._qt_viewer.canvas.native
    for key, name in (("3", "local part"), ("4", "global residual")):
        qtbot.keyClick(canvas, key)
        assert [n for n, layer in results(dock).items() if layer.visible] == [name]
    dock.question.seed.setFocus()
    qtbot.keyClick(dock.question.seed, "3")  # is typed, and shows no part
    assert "3" in dock.question.seed.text() and results(dock)["global residual"].visible
    dock.parts.keep.setFocus()
    qtbot.keyClick(dock.parts.keep, "1")  # what a button has no use for reaches the picture
    assert results(dock)["scan, as the model sees it"].visible

    image, residual = pixels("total"), pixels("global-residual")
    assert image.std() > 20 and residual.std() > 5
    assert np.ptp(image, axis=-1).max() < 30  # grey
    assert np.ptp(residual, axis=-1).max() > 60
    dock.shut_down()

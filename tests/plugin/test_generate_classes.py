"""The dock that generates, with a model of several classes in latents."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import numpy as np
import pytest
from latents import tiny_latent
from napari.components import ViewerModel
from toys import tiny_checkpoint

import prdit_core
from napari_prdit.layers import OURS
from napari_prdit.widgets.generate import GenerateDock
from napari_prdit.widgets.residual_inspector import ResidualInspector
from prdit_core.models.latent.autoencoder import Decoder
from prdit_core.models.latent.patch_volume import PatchVolume

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytestqt.qtbot import QtBot

PATIENCE_MS = 240_000


@pytest.fixture(scope="module")
def latent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_latent(tmp_path_factory.mktemp("latent") / "tiny")


@pytest.fixture
def dock(qtbot: QtBot, latent: Path) -> Iterator[GenerateDock]:
    made = GenerateDock(ViewerModel())
    qtbot.addWidget(made)
    made.walk.device.setCurrentText("cpu")
    made.walk.steps.setValue(4)
    made.choose_checkpoint(str(latent))
    yield made
    made.shut_down()


def finish(qtbot: QtBot, dock: GenerateDock) -> None:
    qtbot.waitUntil(lambda: not dock.panel.job.running, timeout=PATIENCE_MS)


def offered(dock: GenerateDock) -> list[int]:
    sizes = dock.model.size_choice
    return [sizes.itemData(number) for number in range(sizes.count())]


def test_a_class_has_its_own_sizes_and_is_said_first(dock: GenerateDock) -> None:
    model = dock.model
    classes = [model.class_choice.itemText(n) for n in range(model.class_choice.count())]
    assert classes == ["chest", "head", "head-t1"] and model.label == "chest"
    assert offered(dock) == [32, 16]
    assert model.about.text().startswith("<b>Class chest, ")
    model.class_choice.setCurrentText("head")
    model.size_choice.choose(16)
    assert model.about.text().startswith("<b>Class head, 16 x 32 x 16 voxels of 4 x 2 x 2 mm</b>")
    assert "classes chest, head, head-t1" in model.about.toolTip()
    model.class_choice.setCurrentText("head-t1")
    assert offered(dock) == []  # there is one
    assert "in a.u." in model.about.text()
    dock.choose_checkpoint("demo")
    assert model.label is None and not model.rows.isRowVisible(model.class_choice)


def test_it_makes_what_the_command_makes(
    qtbot: QtBot, dock: GenerateDock, latent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What emerges is a linear picture of the latents; they are decoded once, at the end."""
    decoded, seen = [], []
    decode, preview = Decoder.forward, PatchVolume.preview
    monkeypatch.setattr(Decoder, "forward", lambda *of: decoded.append(1) or decode(*of))
    monkeypatch.setattr(PatchVolume, "preview", lambda *of: seen.append(1) or preview(*of))
    dock.model.class_choice.setCurrentText("head")
    dock.model.size_choice.choose(16)
    dock.walk.seed.setValue(3)
    words = shlex.split(dock.request().command())
    assert words[words.index("--class") + 1] == "head" and words[words.index("--size") + 1] == "16"
    dock.panel.frames.take()  # somebody looks
    dock.generate()
    finish(qtbot, dock)
    assert len(decoded) == 1 and seen
    (layer,) = dock.viewer.layers
    prior = prdit_core.load(latent).of_class("head").at_size(16)
    volume = prdit_core.generate(prior, dock.request().config, seed=3)
    np.testing.assert_array_equal(layer.data, volume.voxels_hu)
    assert layer.metadata[OURS]["class"] == "head"
    dock.panel.travel.back()
    assert layer.data.shape == volume.shape and layer.metadata[OURS]["estimate_at_step"] == 3
    assert "head" in str(dock.panel.live.keep())


def test_the_inspector_says_that_there_are_no_parts(
    qtbot: QtBot, dock: GenerateDock, latent: Path
) -> None:
    dock.generate()
    finish(qtbot, dock)
    assert dock.panel.travel.inspect.isHidden()  # the dock does not offer it
    moment = dock.panel.recording.at(1)
    inspector = ResidualInspector(dock.viewer)
    qtbot.addWidget(inspector)
    inspector.inspect_state(str(latent), moment.x_t[0, 0], moment.t)
    qtbot.waitUntil(lambda: not inspector.job.running, timeout=PATIENCE_MS)
    assert "no local and global part" in inspector.message.text()


def test_a_model_with_parts_offers_to_look_into_them(
    qtbot: QtBot, dock: GenerateDock, latent: Path, tmp_path: Path
) -> None:
    parts = tiny_checkpoint(tmp_path / "tiny")
    for model, hidden in ((parts, False), (latent, True), (parts, False)):
        dock.choose_checkpoint(str(model))
        dock.generate()
        finish(qtbot, dock)
        assert dock.panel.travel.inspect.isHidden() == hidden

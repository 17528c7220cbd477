"""Stage control: a ControlNet learns to obey label maps, and its base stays as it is."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from latents import AUTOENCODER, BIFLOW, tiny_codec, tiny_latent
from safetensors.torch import load_file
from trainings import (
    NEVER,
    closed_after,
    content,
    flip,
    last,
    resumed,
    train,
    unlike,
)
from typer.testing import CliRunner

import prdit_core
from prdit_core.checkpoints.controls import controlled
from prdit_core.checkpoints.publish import publish
from prdit_core.checkpoints.store import read_header, read_weights
from prdit_core.cli.app import app
from prdit_core.config import SamplingConfig
from prdit_core.data.classed import ClassedData
from prdit_core.data.datasets import PreparedData
from prdit_core.data.label_maps import renumbered
from prdit_core.data.labelled_sets import LabelledData
from prdit_core.data.latent_sets import PreparedLatents
from prdit_core.data.phantoms import LABELS
from prdit_core.errors import CheckpointError, InputRejected, MemoryLimit, OutputError, UsageError
from prdit_core.intensity import Intensity
from prdit_core.models.latent.config import ControlConfig
from prdit_core.models.latent.control import label_hint
from prdit_core.training.batches import Batch, Batches, split
from prdit_core.training.families.latent.control import ControlError, ControlRecipe
from prdit_core.training.families.latent.settings import ControlTraining
from prdit_core.training.settings import resolve
from prdit_core.training.volumes import trained_on
from prdit_core.verbs.latents import latents
from prdit_core.verbs.phantoms import phantoms
from prdit_core.verbs.train import train_steps

if TYPE_CHECKING:
    from pathlib import Path

    from prdit_core.models.prior import Prior

NAMES = tuple(name for name, number in LABELS.items() if number)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base that learnt nothing, and latents of chests on two grids with their label maps."""
    shelf = tmp_path_factory.mktemp("shelf")
    tiny_latent(shelf / "base")
    phantoms(6, size=16, seed=0, out=shelf / "small")
    phantoms(3, size=32, seed=1, out=shelf / "large")
    for name in ("small", "large"):
        latents(shelf / name, codec=shelf / "base", out=shelf / f"{name}-latents", labels=True)
    (shelf / "classes.json").write_text('{"chest": ["small-latents", "large-latents"]}')
    (shelf / "small.json").write_text('{"chest": ["small-latents"]}')
    return shelf


def settings(shelf: Path, run: Path, **more: Any) -> ControlTraining:
    given: dict[str, Any] = {
        "data": shelf / "small.json",
        "start": str(shelf / "base"),
        "run": run,
        "iterations": 4,
        "batch_size": 2,
        "save_every": 2,
        "preview_every": NEVER,
        "precision": "32-true",
        "threads": 1,
        "lr": 1e-2,
        "ema_from": 2,
        "ema_every": 2,
    }
    return ControlTraining(**(given | more))


@pytest.fixture(scope="module")
def run(shelf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("run") / "run"
    config = settings(shelf, place, data=shelf / "classes.json", preview_every=4)
    train(config)
    return config.run


def chest(shelf: Path, prior: Prior) -> tuple[Prior, np.ndarray]:
    """The prior for small chests, and the label map of one."""
    data = PreparedData.open(shelf / "small")
    return prior.of_class("chest").at_shape((16, 16, 16)), np.array(data.labels_of(data.train[0]))


# --- label maps beside latents ------------------------------------------------------------------


def test_label_maps_come_along_with_the_latents_of_the_same_patients(
    shelf: Path, tmp_path: Path
) -> None:
    own, made = PreparedData.open(shelf / "large"), PreparedLatents.open(shelf / "large-latents")
    made.verify()
    assert made.label_names == own.label_names == LABELS
    for volume, latent in zip(own.cases, made.cases, strict=True):
        np.testing.assert_array_equal(made.labels_of(latent), own.labels_of(volume))
    latents(
        shelf / "large", codec=shelf / "base", out=tmp_path / "box", shape=(16, 32, 20), labels=True
    )
    part = PreparedLatents.open(tmp_path / "box")
    found = part.labels_of(part.cases[0])
    np.testing.assert_array_equal(found, own.labels_of(own.cases[0])[8:24, :, 6:26])
    flip(tmp_path / "box" / "labels" / f"{part.cases[0].id}.npy")
    with pytest.raises(InputRejected, match="damaged or changed"):
        part.labels_of(part.cases[0])


def test_without_labels_a_set_of_latents_is_what_it_was(shelf: Path, tmp_path: Path) -> None:
    plain = latents(shelf / "small", codec=shelf / "base", out=tmp_path / "L").folder
    assert not (plain / "labels").exists()
    assert PreparedLatents.open(plain).label_names == {}
    with pytest.raises(OutputError, match="prepared with other settings"):
        latents(shelf / "small", codec=shelf / "base", out=plain, labels=True)


def test_a_model_in_latents_encodes_as_its_own_codec_does(shelf: Path, tmp_path: Path) -> None:
    latents(shelf / "small", codec=tiny_codec(tmp_path / "codec"), out=tmp_path / "L")
    one, other = PreparedLatents.open(tmp_path / "L"), PreparedLatents.open(shelf / "small-latents")
    np.testing.assert_array_equal(one.volume(one.cases[0]), other.volume(other.cases[0]))
    assert other.codec == read_header(shelf / "base").codec_digest != one.codec


def test_labels_are_numbered_by_their_names() -> None:
    labels = np.array([[[0, 5, 9]]], np.uint8)
    found = renumbered(labels, {"air": 0, "liver": 5, "heart": 9}, ("heart", "bone", "liver"))
    assert found.tolist() == [[[0, 3, 1]]]
    with pytest.raises(
        InputRejected, match=r"has label 9 heart, which .* it knows 1 bone, 2 liver"
    ):
        renumbered(labels, {"liver": 5, "heart": 9}, ("bone", "liver"))
    with pytest.raises(InputRejected, match="has label 9, which"):
        renumbered(labels, {"liver": 5}, ("bone", "liver"))


def test_shares_keep_what_the_nearest_voxel_misses() -> None:
    config = ControlConfig(channels=4, base=BIFLOW, labels=("heart", "nodule"), hint="share")
    labels = torch.zeros(2, 8, 8, 4, dtype=torch.uint8)
    labels[0, :6] = 1
    labels[1, 4, 4, 0] = 2
    hint = label_hint(labels, config, (2, 2, 1))
    assert hint.shape == (2, 2, 2, 2, 1)
    assert hint[0, 0, :, 0, 0].tolist() == [1.0, 0.5]
    assert hint[1, 1].flatten().tolist() == [0, 0, 0, 1 / 64] and not hint[1, 0].any()
    near = label_hint(labels, config.model_copy(update={"hint": "nearest"}), (2, 2, 1))
    assert not near[1].any()
    padded = label_hint(labels[:, :4], config, (2, 2, 1), (8, 8, 4))
    assert padded[0, 0, :, 0, 0].tolist() == [1.0, 0.0]


def test_batches_carry_the_label_maps_of_their_volumes(shelf: Path) -> None:
    data = LabelledData(ClassedData.open(shelf / "classes.json", PreparedLatents), BIFLOW.names)
    assert data.labels == NAMES
    source = trained_on(data, Intensity())
    batch = Batches(source, 0, 2)[0]
    assert isinstance(batch, Batch) and batch.conditions is not None
    for place, name in enumerate(batch.cases):
        number = source.names.index(name)
        np.testing.assert_array_equal(batch.conditions[place], source.condition(number))
    parts = [part.conditions for part in split(batch, 1)]
    assert all(part is not None and len(part) == 1 for part in parts)


# --- the stage ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_holds_the_base_byte_for_byte_and_a_control_that_moves_it(
    shelf: Path, run: Path
) -> None:
    header, base = read_header(last(run)), read_header(shelf / "base")
    assert header.control is not None and isinstance(header.control.config, ControlConfig)
    for name in ("weights.safetensors", "codec.safetensors"):
        assert (last(run) / name).read_bytes() == (shelf / "base" / name).read_bytes()
    assert header.control.base == header.base_digest == base.digest
    config = header.control.config
    assert config.labels == NAMES and config.hint == "share" and not config.dual
    shapes = [grid.shape for one in config.classes for grid in one.geometries]
    assert config.classes[0].name == "chest" and shapes == [(16, 16, 16), (32, 32, 32)]
    assert all(w.any() for n, w in load_file(last(run) / "control.safetensors").items() if "z" in n)
    assert (run / "previews" / "iteration-00000004.png").stat().st_size > 10_000
    assert str(shelf) not in json.dumps(header.record)  # no folders of this machine
    prior, labels = chest(shelf, prdit_core.load(run))
    alone, _ = chest(shelf, prdit_core.load(shelf / "base"))
    walk = SamplingConfig(steps=2)
    plain = prdit_core.generate(alone, walk, seed=1).voxels_hu
    for same in (prior, prior.under(labels, 0.0)):
        np.testing.assert_array_equal(prdit_core.generate(same, walk, seed=1).voxels_hu, plain)
    made = prdit_core.generate(prior.under(labels), walk, seed=1).voxels_hu
    assert np.abs(made - plain).mean() > 1


def test_the_base_in_memory_stays_bit_for_bit_and_step_0_is_the_base(
    shelf: Path, tmp_path: Path
) -> None:
    config, recipe = settings(shelf, tmp_path / "run"), ControlRecipe()
    data = recipe.opened(config)
    header = read_header(shelf / "base")
    weights = read_weights(shelf / "base", header)
    resolved = resolve(config, data, header)
    (player,) = (task := recipe.task(resolved.config, resolved.plan, weights)).players
    objective = task.judge(player.network)
    assert isinstance(objective, ControlError)
    batch = Batches(trained_on(data, Intensity()), 0, 2)[0]
    assert isinstance(batch, Batch)
    x, times, rows = batch.x0, torch.tensor([9.0, 500.0]), torch.tensor([0, 1])
    alone = objective.base(x, times, rows)
    assert torch.equal(objective.predicted(x, times, rows, batch), alone)
    optimiser = player.optimiser(list(player.network.parameters()), 1e-2)
    for _ in range(3):
        optimiser.zero_grad()
        player.objective(batch).objective.mean().backward()
        optimiser.step()
    assert not torch.equal(objective.predicted(x, times, rows, batch), alone)
    assert torch.equal(objective.base(x, times, rows), alone)
    for name, weight in objective.base.state_dict().items():
        assert torch.equal(weight, weights[name])


@pytest.mark.slow
def test_a_stopped_run_ends_with_the_bytes_of_one_go(
    shelf: Path, run: Path, tmp_path: Path
) -> None:
    cut = settings(shelf, tmp_path / "cut", data=shelf / "classes.json")
    closed_after(cut, 4)
    assert unlike(resumed(cut), content(run)) == []


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["encoder", "dual"])
def test_it_learns(variant: str, shelf: Path, tmp_path: Path) -> None:
    more: dict[str, Any] = {"variant": variant, "iterations": 60, "batch_size": 4}
    config = settings(shelf, tmp_path / "run", save_every=NEVER, **more)
    steps = [event for event in train(config) if hasattr(event, "grad_norm")]
    losses = [step.losses["total"] for step in steps]  # type: ignore[union-attr]
    assert np.mean(losses[-15:]) < 0.9 * np.mean(losses[:3])


@pytest.mark.slow
def test_a_run_goes_on_from_a_published_control_and_from_no_other(
    shelf: Path, run: Path, tmp_path: Path
) -> None:
    """Published twice its base is what it was, so that it still names the published base."""
    out = publish(run, tmp_path / "control")
    base = publish(shelf / "base", tmp_path / "base")
    header = read_header(out)
    assert header.control is not None and header.control.base == read_header(base).digest
    again = read_header(publish(out, tmp_path / "again"))
    assert again.digest == header.digest
    prior, labels = chest(shelf, prdit_core.load(out))
    assert prdit_core.generate(prior.under(labels), SamplingConfig(steps=1)).voxels_hu.any()
    more: dict[str, Any] = {"start": str(run), "data": shelf / "classes.json"}
    on = settings(shelf, tmp_path / "on", iterations=1, lr=1e-9, ema_decay=0, **more)
    train(on)
    learnt, kept = (load_file(last(one) / "control.safetensors") for one in (run, on.run))
    assert all(torch.allclose(learnt[name], kept[name], atol=1e-6) for name in learnt)
    refused("has a control of other", settings(shelf, tmp_path / "new", hint="nearest", **more))


def test_the_base_keeps_its_own_record_below_that_of_any_control(shelf: Path, run: Path) -> None:
    control = read_header(last(run)).control
    assert control is not None
    base = read_header(shelf / "base").model_copy(update={"record": {"stage": "latent"}})
    once = controlled(base, control.config, {"stage": "control"})
    saved = once.model_copy(update={"files": base.files})
    again = controlled(saved, control.config, {"stage": "control", "iteration": 2})
    assert once.record == {"base": {"stage": "latent"}, "stage": "control"}
    assert again.record["base"] == {"stage": "latent"}


# --- what does not fit --------------------------------------------------------------------------


def refused(reason: str, config: ControlTraining) -> None:
    with pytest.raises((UsageError, InputRejected, MemoryLimit), match=reason) as refusal:
        next(iter(train_steps(config)))
    assert "\n" not in str(refusal.value)


def test_what_does_not_fit_is_refused_in_one_line(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = tmp_path / "new"
    refused("starts from a checkpoint", settings(shelf, new, start=None))
    refused("no checkpoint at", settings(shelf, new, start=str(tmp_path / "gone")))
    refused("is no model in latents but prdit", settings(shelf, new, start="demo"))
    refused("holds volumes, not latents", settings(shelf, new, data=shelf / "small"))
    refused("the base knows chest, head", settings(shelf, new, data=shelf / "small-latents"))
    named = tmp_path / "named.json"
    named.write_text(json.dumps({"head": [str(shelf / "small-latents")]}))
    refused("class head, with its units", settings(shelf, new, data=named))
    for name, codec, more in (
        ("bare", shelf / "base", {}),
        ("other", tiny_codec(tmp_path / "codec"), {"labels": True}),
    ):
        latents(shelf / "small", codec=codec, out=tmp_path / name, **more)
    named.write_text(json.dumps({"chest": ["bare"]}))
    refused("bare has no label maps", settings(shelf, new, data=named))
    named.write_text(json.dumps({"chest": ["other"]}))
    refused("encode it with latents --labels", settings(shelf, new, data=named))
    refused("fsdp cannot", settings(shelf, new, strategy="fsdp"))
    with pytest.raises(UsageError, match="no labels to take along"):
        without = shutil.copytree(shelf / "small", tmp_path / "without")
        manifest = PreparedData.open(without).manifest.model_copy(update={"label_names": {}})
        prdit_core.data.datasets.write_manifest(without, manifest)
        latents(without, codec=shelf / "base", out=tmp_path / "none", labels=True)
    for module in ("machine", "verbs.train"):
        monkeypatch.setattr(f"prdit_core.{module}.memory_of", lambda _: 4 * 2**20)
    refused(r"--micro-batch \d would fit|smaller --model", settings(shelf, new, batch_size=8))
    assert not new.exists()


def test_a_run_goes_on_with_its_own_base_alone(shelf: Path, run: Path, tmp_path: Path) -> None:
    """Not even with --allow-change: what was learnt beside one base is noise beside another."""
    mine = shutil.copytree(run, tmp_path / "run")
    other = publish(shelf / "base", tmp_path / "base")  # rounded, so that it is another
    latents(shelf / "small", codec=other, out=tmp_path / "L", labels=True)
    named = tmp_path / "named.json"
    named.write_text('{"chest": ["L"]}')
    changed = settings(shelf, mine, start=str(other), data=named, iterations=6)
    with pytest.raises(UsageError, match=r"cannot change .*base: "):
        train(changed, "change")


@pytest.mark.parametrize(
    ("fault", "words"),
    [("missing", "is missing or unreadable|names no"), ("another", "trained on the base")],
)
def test_a_control_without_its_base_makes_nothing(
    fault: str, words: str, shelf: Path, run: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(last(run), tmp_path / "control")
    if fault == "missing":
        (folder / "weights.safetensors").unlink()
    else:
        other = publish(shelf / "base", tmp_path / "base")
        header = json.loads((folder / "checkpoint.json").read_text())
        shutil.copy(other / "weights.safetensors", folder)
        header["files"]["weights.safetensors"] = read_header(other).files["weights.safetensors"]
        (folder / "checkpoint.json").write_text(json.dumps(header))
    with pytest.raises(CheckpointError, match=words):
        prdit_core.load(folder)


@pytest.mark.slow
def test_the_command_trains_it(shelf: Path, tmp_path: Path) -> None:
    words = ["train", "--stage", "control", "--data", shelf / "small.json"]
    words += ["--from", shelf / "base", "--run", tmp_path / "run", "--iterations", 1]
    words += ["--batch-size", 2, "--variant", "dual", "--hint", "nearest", "--preview-every", NEVER]
    result = CliRunner().invoke(app, [*map(str, words)])
    assert result.exit_code == 0, result.output
    assert "generate with --checkpoint" in result.stdout
    header = read_header(last(tmp_path / "run"))
    assert header.codec == AUTOENCODER and header.control is not None
    assert header.control.config.dual  # type: ignore[attr-defined]

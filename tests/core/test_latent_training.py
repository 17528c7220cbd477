"""Latents of prepared data, and training in them: classes and grids jointly."""

from __future__ import annotations

import json
import os
import shutil
import signal
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import recorded_latent
import torch
from latents import AUTOENCODER, random_weights, tiny_codec
from recorded import load, tensor
from safetensors.torch import load_file
from trainings import (
    NEVER,
    child,
    closed_after,
    content,
    flip,
    iterating,
    last,
    resumed,
    train,
    trained,
    unlike,
)
from typer.testing import CliRunner

import prdit_core
from prdit_core.checkpoints.catalog import load_codec
from prdit_core.checkpoints.store import read_header, save_checkpoint
from prdit_core.cli.app import app
from prdit_core.config import SamplingConfig
from prdit_core.data.classed import ClassedData
from prdit_core.data.datasets import PreparedData
from prdit_core.data.latent_sets import PreparedLatents
from prdit_core.errors import InputRejected, MemoryLimit, UsageError
from prdit_core.geometry import cubic
from prdit_core.intensity import Intensity
from prdit_core.models.families import family_of
from prdit_core.models.latent.biflownet import BiFlowNet, initialise
from prdit_core.models.latent.config import BiFlowConfig
from prdit_core.schedule import VPCosineSchedule
from prdit_core.training.batches import Batch, Batches
from prdit_core.training.ema import Ema, Pace
from prdit_core.training.families.latent import settings as latent_settings
from prdit_core.training.families.latent.flow import FlowError
from prdit_core.training.families.latent.settings import FlowTraining, JointTraining
from prdit_core.training.rate import Rate
from prdit_core.training.volumes import ClassedVolumes, held_out, trained_on
from prdit_core.verbs.latents import latents, latents_steps
from prdit_core.verbs.phantoms import phantoms
from prdit_core.verbs.train import train_steps

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

TINY = {
    "width": 12,
    "multipliers": (1, 1, 2),
    "sub_volume": 4,
    "attention": (2,),
    "heads": 1,
    "intra_heads": 2,
    "groups": 4,
}


@pytest.fixture(scope="module", autouse=True)
def small_is_tiny() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(latent_settings.FLOWS, "small", TINY)
        yield


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Volumes, an autoencoder that learnt nothing, and latents: two classes, one of two grids."""
    shelf = tmp_path_factory.mktemp("shelf")
    phantoms(6, size=16, seed=0, out=shelf / "small")
    phantoms(3, size=32, seed=1, out=shelf / "large")
    phantoms(4, size=32, seed=2, out=shelf / "other")
    codec = tiny_codec(shelf / "codec")
    (shelf / "volumes.json").write_text('{"chest": ["small", "large"]}')
    latents(shelf / "volumes.json", codec=codec, out=shelf / "chests")
    latents(shelf / "other", codec=codec, out=shelf / "flat", shape=(16, 32, 32))
    named = {"chest": ["chests/chest-1", "chests/chest-2"], "flat": ["flat"]}
    (shelf / "classes.json").write_text(json.dumps(named))
    return shelf


def settings(shelf: Path, run: Path, **more: Any) -> FlowTraining:
    given: dict[str, Any] = {
        "stage": "latent",
        "data": shelf / "classes.json",
        "codec": str(shelf / "codec"),
        "run": run,
        "iterations": 6,
        "batch_size": 2,
        "save_every": 2,
        "preview_every": NEVER,
        "precision": "32-true",
        "threads": 1,
        "ema_from": 2,
        "ema_every": 2,
    }
    return FlowTraining(**(given | more))


# ------------------------------------------------------------------------- encoded once


def test_latents_are_what_the_codec_makes_of_the_volumes_of_the_same_patients(shelf: Path) -> None:
    own = PreparedData.open(shelf / "large")
    made = PreparedLatents.open(shelf / "chests" / "chest-2")
    made.verify()
    module = family_of(AUTOENCODER).build(AUTOENCODER)
    module.load_state_dict(random_weights(AUTOENCODER, 2))
    codec = family_of(AUTOENCODER).codec(module.eval())  # type: ignore[misc]
    for part in ("train", "validation"):
        pairs = zip(getattr(own, part), getattr(made, part), strict=True)
        for volume, latent in pairs:
            assert (volume.id, volume.patient) == (latent.id, latent.patient)
            assert latent.source_sha256 == volume.sha256
            x = own.intensity.to_model(own.volume(volume))
            expected = codec.encode(torch.from_numpy(x)[None, None])[0]
            np.testing.assert_array_equal(made.model_units(latent), expected)
            share = float((expected.abs() > 1).float().mean())
            assert latent.record["clipped"] == pytest.approx(share, abs=1e-6)
    assert made.codec == read_header(shelf / "codec").digest
    assert made.grid == (4, 8, 8, 8) and made.geometry == own.geometry
    named = json.loads((shelf / "chests" / "classes.json").read_text())
    assert named == {"chest": ["chest-1", "chest-2"]}


def test_a_box_keeps_its_place_in_the_patient(shelf: Path) -> None:
    """Its affine moves by as many voxels as were left out before it."""
    own, made = PreparedData.open(shelf / "other"), PreparedLatents.open(shelf / "flat")
    assert made.geometry.shape == (16, 32, 32) and made.grid == (4, 4, 8, 8)
    whole, part = np.array(own.train[0].affine), np.array(made.train[0].affine)
    np.testing.assert_allclose(part @ [3, 4, 5, 1], whole @ [3, 4, 5 + 8, 1])


@pytest.mark.slow
def test_what_is_no_whole_patch_gets_air_and_loses_it_again(shelf: Path, tmp_path: Path) -> None:
    """Defect 6: of 20 slices the release drops four, of 12 all."""
    naive = 20 // 16 * 16
    latents(shelf / "other", codec=shelf / "codec", out=tmp_path / "L", shape=(20, 32, 32))
    made = PreparedLatents.open(tmp_path / "L")
    assert made.grid == (4, 8, 8, 8) and made.geometry.shape == (20, 32, 32)
    config = settings(shelf, tmp_path / "run", data=tmp_path / "L", iterations=1)
    train(config)
    volume = prdit_core.generate(prdit_core.load(config.run), SamplingConfig(steps=2), seed=0)
    assert volume.voxels_hu.shape == (20, 32, 32) != (naive, 32, 32)


def test_it_goes_on_where_it_was_stopped_and_does_nothing_twice(
    shelf: Path, tmp_path: Path
) -> None:
    call: dict[str, Any] = {"codec": shelf / "codec", "out": tmp_path / "L"}
    steps = latents_steps(shelf / "small", **call)
    first = next(steps)
    steps.close()
    with pytest.raises(InputRejected, match="no prepared data set"):
        PreparedLatents.open(tmp_path / "L")  # never half a set
    again = list(latents_steps(shelf / "small", **call))
    assert [event.reused for event in again[:-1]] == [True] + [False] * 5  # type: ignore[union-attr]
    manifest = (tmp_path / "L" / "manifest.json").read_bytes()
    flip(tmp_path / "L" / "volumes" / f"{first.case.id}.npy")  # type: ignore[union-attr]
    with pytest.raises(InputRejected, match="differs from the manifest"):
        PreparedLatents.open(tmp_path / "L").verify()
    mended = list(latents_steps(shelf / "small", **call))
    assert [event.reused for event in mended[:-1]] == [False] + [True] * 5  # type: ignore[union-attr]
    assert (tmp_path / "L" / "manifest.json").read_bytes() == manifest
    at_once = latents(shelf / "small", codec=shelf / "codec", out=tmp_path / "M").folder
    assert (at_once / "manifest.json").read_bytes() == manifest


BAD = [
    (["--codec", "demo"], 2, "demo is no codec but PRDiT"),
    (["--shape", "64,32,32"], 2, "a box of 64 x 32 x 32 voxels does not fit"),
    (["--shape", "0,32,32"], 2, "a box of 0 x 32 x 32 voxels does not fit"),
    (["--shape", "16,32"], 2, "shape '16,32' is not D,H,W"),
    (["--data", "nowhere"], 3, "no prepared data set"),
    (["--out", "codec"], 6, "holds other files"),
    (["--out", "flat", "--shape", "32,32,32"], 6, "was prepared with other settings"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("change", "code", "reason"), BAD)
def test_bad_input_is_one_line(
    change: list[str], code: int, reason: str, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shelf)
    words = {"--data": "other", "--codec": "codec", "--out": "new"}
    words |= dict(zip(change[::2], change[1::2], strict=True))
    given = [word for pair in words.items() for word in pair]
    result = CliRunner().invoke(app, ["latents", *given])
    assert result.exit_code == code, result.output
    assert reason in result.stderr and result.stderr.count("\n") == 1


def test_latents_and_volumes_are_not_mistaken_for_each_other(shelf: Path) -> None:
    with pytest.raises(InputRejected, match="holds latents, not volumes"):
        PreparedData.open(shelf / "flat")
    with pytest.raises(InputRejected, match="holds volumes, not latents"):
        PreparedLatents.open(shelf / "small")
    with pytest.raises(InputRejected, match="holds latents, not volumes"):
        ClassedData.open(shelf / "classes.json")


@pytest.mark.slow
def test_a_model_alone_is_all_that_training_on_needs(shelf: Path, tmp_path: Path) -> None:
    """Its own autoencoder makes latents to train it on with, and its decoder learns on."""
    train(settings(shelf, tmp_path / "first"))
    model = str(last(tmp_path / "first"))
    latents(shelf / "volumes.json", codec=model, out=tmp_path / "chests")
    latents(shelf / "other", codec=model, out=tmp_path / "flat", shape=(16, 32, 32))
    named = {"chest": ["chests/chest-1", "chests/chest-2"], "flat": ["flat"]}
    (tmp_path / "classes.json").write_text(json.dumps(named))
    data = {"data": tmp_path / "classes.json", "codec": model}
    train(settings(shelf, tmp_path / "on", start=model, **data))
    before, after = (read_header(last(tmp_path / run)) for run in ("first", "on"))
    assert after.codec_digest == before.codec_digest and after.digest != before.digest
    with pytest.raises(UsageError, match="give that which made the latents"):
        train(settings(shelf, tmp_path / "other", start=model, codec=model))
    decoder = JointTraining(
        data=shelf / "other", run=tmp_path / "joint", start=model, iterations=1, batch_size=1
    )
    train(decoder)
    own, learnt = load_codec(model).codec, load_codec(tmp_path / "joint").codec
    x = torch.rand(1, 1, 32, 32, 32)
    torch.testing.assert_close(learnt.encode(x), own.encode(x), rtol=0, atol=0)
    assert not torch.equal(learnt.decode(own.encode(x)), own.decode(own.encode(x)))


# ------------------------------------------------------------------------- buckets


class Grids:
    """Ten volumes of three grids, one of them not cubic."""

    shapes = ((4, 4, 4),) * 5 + ((8, 8, 8),) * 2 + ((4, 8, 8),) * 3
    names = tuple("abcdefghij")
    labels = (0, 0, 0, 1, 1, 0, 0, 2, 2, 2)

    def read(self, number: int) -> NDArray[np.float32]:
        return np.full((2, *self.shapes[number]), number, np.float32)

    def condition(self, number: int) -> None:
        del number


def drawn(count: int, size: int = 2, rank: int = 0, world: int = 1, seed: int = 0) -> list[Batch]:
    found = [Batches(Grids(), seed, size, rank, world)[number] for number in range(count)]
    return [batch for batch in found if isinstance(batch, Batch)]


def test_a_batch_holds_one_grid_and_knows_its_classes() -> None:
    for batch in drawn(24):
        numbers = [Grids.names.index(case) for case in batch.cases]
        assert {Grids.shapes[number] for number in numbers} == {tuple(batch.x0.shape[2:])}
        assert batch.labels == tuple(Grids.labels[number] for number in numbers)
        assert batch.unit_noise.shape == batch.x0.shape == (2, 2, *batch.x0.shape[2:])


def test_all_cases_of_a_grid_are_seen_before_any_is_seen_again() -> None:
    """And every grid in every epoch: 2, 1 and 2 batches; nothing is dropped (defect 6)."""
    seen: dict[tuple[int, ...], list[str]] = {}
    for batch in drawn(50):
        seen.setdefault(tuple(batch.x0.shape[2:]), []).extend(batch.cases)
    for shape, cases in seen.items():
        of_grid = [n for n, s in zip(Grids.names, Grids.shapes, strict=True) if s == shape]
        for start in range(0, len(cases) - len(of_grid), len(of_grid)):
            assert sorted(cases[start : start + len(of_grid)]) == of_grid
    turns = {shape: len(cases) // 2 for shape, cases in seen.items()}
    assert turns == {(4, 4, 4): 20, (8, 8, 8): 10, (4, 8, 8): 20}


def test_batches_of_several_grids_are_a_pure_function_and_shared() -> None:
    """Two processes have halves of the same batch; the release gives both the same (defect 7)."""
    once, again = drawn(12), drawn(12)
    assert [b.cases for b in once] == [b.cases for b in again]
    assert [b.cases for b in once] != [b.cases for b in drawn(12, seed=1)]
    halves = drawn(12, rank=0, world=2), drawn(12, rank=1, world=2)
    for whole, *parts in zip(once, *halves, strict=True):
        assert tuple(case for part in parts for case in part.cases) == whole.cases
        assert torch.equal(torch.cat([part.unit_noise for part in parts]), whole.unit_noise)
        assert [part.places for part in parts] == [(0,), (1,)]
    assert sum(one.cases != other.cases for one, other in zip(*halves, strict=True)) > 8
    naive = drawn(12, size=1), drawn(12, size=1)  # each process as if it were alone
    assert not any(one.cases != other.cases for one, other in zip(*naive, strict=True))


def test_held_out_cases_come_from_every_set_in_turn(shelf: Path) -> None:
    data = ClassedData.open(shelf / "classes.json", PreparedLatents)
    source = held_out(data, Intensity())
    assert isinstance(source, ClassedVolumes)
    assert [name.rpartition("/")[0] for name in source.names] == [
        "chests/chest-1", "chests/chest-2", "flat",
    ]  # fmt: skip
    assert source.labels == (0, 0, 1) and source.shapes[2] == (16, 32, 32)
    assert source.read(2).shape == (4, 4, 8, 8)
    assert len(trained_on(data, Intensity()).names) == 5 + 2 + 3


# ------------------------------------------------------------------------- what is minimised


def test_the_loss_is_the_recorded_one(parity: Path) -> None:
    weights, numbers = load(parity / "med_biflow_mini.npz"), load(parity / "med_diffusion.npz")
    inner, resolution = recorded_latent.biflownet(weights), tensor(numbers["train/res"])

    class OfTheRecording(torch.nn.Module):
        """The recorded resolution is not that of the recorded grid."""

        def forward(self, x: torch.Tensor, t: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
            return inner(x, t, label, resolution)

    network: Any = OfTheRecording()
    x0, eps = tensor(numbers["train/x0"]), tensor(numbers["train/noise"])
    t = torch.from_numpy(np.asarray(numbers["train/t"])).float() + 1  # entry i is time i + 1
    labels = tuple(int(y) for y in numbers["train/y"])
    batch = Batch(x0, eps, t, tuple("ab")[: len(x0)], 0, tuple(range(len(x0))), labels)
    found = FlowError(network, VPCosineSchedule(), seed=0)(batch).objective.mean().item()
    expected = float(numbers["train/loss_l1"])
    assert found == pytest.approx(expected, abs=2e-5)
    squared = FlowError(network, VPCosineSchedule(), seed=0, loss="l2")(batch).objective
    assert abs(squared.mean().item() - expected) > 0.01  # the paper's, where L1 is the release's


def test_one_volume_in_ten_is_shown_without_its_class() -> None:
    labels: list[torch.Tensor] = []

    class Looks(torch.nn.Module):
        config = BiFlowConfig(
            **TINY,  # type: ignore[arg-type]
            channels=2,
            classes=recorded_classes(3),
        )

        def forward(self, x: torch.Tensor, t: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
            labels.append(label)
            return torch.zeros_like(x)

    error = FlowError(Looks(), VPCosineSchedule(), seed=0, unnamed=0.1)  # type: ignore[arg-type]
    x = torch.zeros(50, 2, 1, 1, 1)
    for iteration in range(20):
        places = tuple(range(50))
        error(Batch(x, x, torch.full((50,), 9.0), ("a",) * 50, iteration, places, (1,) * 50))
    rows = torch.cat(labels)
    assert set(rows.tolist()) == {1, 3}  # its class, and the row of none
    assert (rows == 3).float().mean().item() == pytest.approx(0.1, abs=0.03)
    judge = FlowError(Looks(), VPCosineSchedule(), seed=0)  # type: ignore[arg-type]
    judge(Batch(x, x, torch.full((50,), 9.0), ("a",) * 50, 0, tuple(range(50)), (2,) * 50))
    assert set(labels[-1].tolist()) == {2}


def recorded_classes(count: int) -> Any:
    from prdit_core.classes import VolumeClass

    return tuple(
        VolumeClass(name=f"c{n}", intensity=Intensity(), geometries=(cubic(16, 320.0),))
        for n in range(count)
    )


def test_the_average_copies_first_and_then_moves_every_so_often() -> None:
    """0.995 every second step from the fourth on; one that moved at every step would be nearer."""
    model = torch.nn.Linear(1, 1, bias=False)
    ema = Ema(model, 0.5, Pace(every=2, begins=4))
    seen = []
    for iteration in range(6):
        with torch.no_grad():
            model.weight.fill_(float(iteration + 1))
        ema.update(model, iteration)
        seen.append(round(float(ema.weights["weight"]), 4))
    kept = [min(0.5, (1 + i) / (10 + i)) for i in (3, 5)]
    fourth = 4 - kept[0] * (4 - 2)
    assert seen[1] == 2 and seen[2] == seen[1]
    assert seen[3] == pytest.approx(fourth, abs=1e-4) and seen[4] == seen[3]
    assert seen[5] == pytest.approx(6 - kept[1] * (6 - fourth), abs=1e-4)


def test_a_rate_falls_by_a_power_of_what_is_left() -> None:
    rate = Rate("polynomial", 2.0, 100)
    assert [rate.at(0), rate.at(50), rate.at(99)] == pytest.approx([2, 2 * 0.5**0.9, 2 * 0.01**0.9])


def test_first_weights_let_the_flows_begin_apart() -> None:
    """The maps of the intra-patch flow are zero at first, and all of it learns from there."""
    network = BiFlowNet(BiFlowConfig(**TINY, channels=2, classes=recorded_classes(1)))  # type: ignore[arg-type]
    initialise(network, 1)
    other = BiFlowNet(network.config)
    initialise(other, 1)
    for name, weight in network.state_dict().items():
        assert torch.equal(weight, other.state_dict()[name])
    x, c = torch.randn(1, 2, 4, 4, 4), torch.randn(1, 96)
    assert network.intra is not None
    assert not any(found.any() for found in network.intra(x, c))
    assert network(x, torch.tensor([3.0]), torch.tensor([0])).std() > 0.01


# ------------------------------------------------------------------------- the stage


@pytest.fixture(scope="module")
def run(shelf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = settings(shelf, tmp_path_factory.mktemp("run") / "run", preview_every=6)
    train(config)
    return config.run


def test_classes_and_grids_are_learnt_jointly_and_generated_each(shelf: Path, run: Path) -> None:
    header = read_header(last(run))
    assert isinstance(header.model, BiFlowConfig) and header.codec == AUTOENCODER
    assert header.model.names == ("chest", "flat")
    shapes = [[grid.shape for grid in one.geometries] for one in header.model.classes]
    assert shapes == [[(16, 16, 16), (32, 32, 32)], [(16, 32, 32)]]
    codec = load_file(last(run) / "codec.safetensors")
    given = load_file(shelf / "codec" / "weights.safetensors")
    assert all(torch.equal(codec[name], weight) for name, weight in given.items())
    prior = prdit_core.load(run)
    for name, shape in (("chest", (16, 16, 16)), ("chest", (32, 32, 32)), ("flat", (16, 32, 32))):
        one = prior.of_class(name).at_shape(shape)
        volume = prdit_core.generate(one, SamplingConfig(steps=2), seed=1)
        assert volume.voxels_hu.shape == shape
    assert (run / "previews" / "iteration-00000006.png").stat().st_size > 10_000
    assert header.record["training"]["data_sha256"]
    assert str(shelf) not in json.dumps(header.record)  # no folders of this machine


@pytest.mark.slow
@pytest.mark.parametrize(("flows", "left"), [("inter", (False, "dit")), ("u-net", (True, "u-net"))])
def test_the_command_trains_the_paper_s_ablations(
    flows: str, left: tuple[bool, str], shelf: Path, tmp_path: Path
) -> None:
    """Table IV: without the intra-patch flow, and with blocks of the U-Net in it."""
    words = ["train", "--stage", "latent", "--data", shelf / "flat", "--codec", shelf / "codec"]
    words += ["--run", tmp_path / "run", "--iterations", 1, "--batch-size", 2, "--flows", flows]
    words += ["--lr-schedule", "polynomial", "--preview-every", NEVER]
    result = CliRunner().invoke(app, [*map(str, words)])
    assert result.exit_code == 0, result.output
    model = read_header(last(tmp_path / "run")).model
    assert isinstance(model, BiFlowConfig)
    assert (model.intra, model.blocks) == left and model.names == ("volume",)


@pytest.mark.slow
def test_it_learns(shelf: Path, tmp_path: Path) -> None:
    config = settings(shelf, tmp_path / "run", iterations=80, lr=3e-3, save_every=NEVER)
    steps = [event for event in train(config) if hasattr(event, "grad_norm")]
    losses = [step.losses["total"] for step in steps]  # type: ignore[union-attr]
    assert np.mean(losses[-20:]) < 0.8 * np.mean(losses[:5])


@pytest.mark.slow
def test_a_stopped_run_ends_with_the_bytes_of_one_go(
    shelf: Path, run: Path, tmp_path: Path
) -> None:
    cut = settings(shelf, tmp_path / "cut", preview_every=6)
    closed_after(cut, 4)
    assert unlike(resumed(cut), content(run)) == []


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.slow
def test_a_killed_run_ends_with_the_bytes_of_one_go(shelf: Path, tmp_path: Path) -> None:
    once = settings(shelf, tmp_path / "once", iterations=12, model="demo")
    expected = trained(once)
    killed = once.model_copy(update={"run": tmp_path / "killed"})
    with child(killed, "--resume") as process:
        iterating(process, killed.run, 5)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert unlike(resumed(killed), expected) == []


def refused(reason: str, config: FlowTraining) -> None:
    with pytest.raises((UsageError, InputRejected, MemoryLimit), match=reason):
        next(iter(train_steps(config)))


def test_what_does_not_fit_is_refused_in_one_line(
    shelf: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = tmp_path / "new"
    refused("holds volumes, not latents", settings(shelf, new, data=shelf / "small"))
    refused("is no BiFlowNet but prdit", settings(shelf, new, start="demo"))
    refused(
        "knows chest, flat; the data are of volume",
        settings(shelf, new, data=shelf / "flat", start=str(run)),
    )
    other = shutil.copytree(shelf / "codec", tmp_path / "codec")
    header = read_header(other)
    save_checkpoint(other, header, random_weights(AUTOENCODER, 3))
    refused("was encoded by autoencoder", settings(shelf, new, codec=str(other)))
    monkeypatch.setitem(latent_settings.FLOWS, "small", {**TINY, "sub_volume": 8})
    refused(r"latents in .*: a grid of \(4, 4, 4\) .* multiples of 8", settings(shelf, new))
    monkeypatch.setitem(latent_settings.FLOWS, "small", TINY)
    for module in ("machine", "verbs.train"):
        monkeypatch.setattr(f"prdit_core.{module}.memory_of", lambda _: 16 * 2**20)
    refused(r"--micro-batch \d would fit", settings(shelf, new, batch_size=8))


def test_what_is_missing_is_named_and_not_all_that_was_given(tmp_path: Path) -> None:
    words = ["train", "--stage", "latent", "--data", str(tmp_path), "--run", str(tmp_path / "run")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2
    assert done.stderr.strip().endswith("codec: must be given")

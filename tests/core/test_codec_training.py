"""Training of the Patch-Volume autoencoder: two players, moving codes, and two stages."""

from __future__ import annotations

import copy
import itertools
import json
import os
import shutil
import signal
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import recorded_latent
import torch
from lightning_fabric import Fabric
from recorded import load, tensor
from safetensors.torch import load_file, save_file
from trainings import (
    NEVER,
    child,
    closed_after,
    content,
    iterating,
    iterations,
    last,
    resumed,
    train,
    trained,
    unlike,
    without_metrics,
)
from typer.testing import CliRunner

from prdit_core.checkpoints.catalog import saved
from prdit_core.checkpoints.store import read_header, read_weights
from prdit_core.cli.app import app
from prdit_core.data.datasets import PreparedData
from prdit_core.errors import MemoryLimit, UsageError
from prdit_core.models.latent.autoencoder import Autoencoder
from prdit_core.models.latent.config import AutoencoderConfig
from prdit_core.models.latent.discriminator import Discriminator
from prdit_core.models.latent.patch_volume import PatchVolume, decoded_by_patches
from prdit_core.models.latent.quantiser import Quantiser, as_vectors
from prdit_core.runs.metrics import read_lines
from prdit_core.training.batches import Batch
from prdit_core.training.families.latent import settings as latent_settings
from prdit_core.training.families.latent.autoencoder import AutoencoderRecipe, JointRecipe, adam
from prdit_core.training.families.latent.boxes import TrainingBoxes, turned
from prdit_core.training.families.latent.codebook import Codebook
from prdit_core.training.families.latent.fit import fit
from prdit_core.training.families.latent.players import (
    AutoencoderError,
    DecoderError,
    Duel,
    HingeError,
)
from prdit_core.training.families.latent.settings import AutoencoderTraining, JointTraining
from prdit_core.training.volumes import Volumes
from prdit_core.verbs.phantoms import phantoms

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

TINY = AutoencoderConfig(ratio=4, width=4, groups=2, codes=16, patch=8)
COMMON: dict[str, Any] = {
    "batch_size": 2,
    "save_every": 2,
    "preview_every": NEVER,
    "threads": 1,
    "lr": 1e-3,
}


@pytest.fixture(autouse=True)
def small_is_tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(latent_settings.AUTOENCODERS, "small-4x", TINY)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    phantoms(8, size=16, seed=0, out=folder)
    return folder


def first(data: Path, run: Path, **more: Any) -> AutoencoderTraining:
    given = {"model": "small-4x", "patch": 8, "iterations": 6, "discriminator_from": 3}
    return AutoencoderTraining(stage="autoencoder", data=data, run=run, **(COMMON | given | more))


def second(data: Path, start: Path, run: Path, **more: Any) -> JointTraining:
    given = {"stage": "autoencoder-joint", "iterations": 4}
    return JointTraining(data=data, run=run, start=str(start), **(COMMON | given | more))


@pytest.fixture(scope="module")
def stage_one(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("one") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(latent_settings.AUTOENCODERS, "small-4x", TINY)
        train(first(data, run))
    return run


# ------------------------------------------------------------------------- what is minimised


class Same:
    """The volumes as they are."""

    def of(self, batch: Any) -> Tensor:
        return batch.x0


@pytest.mark.parametrize("iteration", [4, 5])
def test_a_step_of_both_players_is_as_recorded(iteration: int, parity: Path) -> None:
    """From the start on; before it the discriminator has no say, in the closed form L1 + codes."""
    weights, numbers = load(parity / "med_ae_4x.npz"), load(parity / "med_ae_train.npz")
    network = recorded_latent.autoencoder(weights)
    network.quantiser.initialised.fill_(1)
    duel = Duel(recorded_latent.discriminator(weights).train(), start=5)
    codebook = Codebook(network.quantiser, seed=0)
    batch = SimpleNamespace(x0=tensor(numbers["step/x"]), iteration=iteration)
    found = AutoencoderError(network, Same(), duel, codebook)(batch)  # type: ignore[arg-type]
    alone = numbers["step/g/recon_loss"] + numbers["step/g/commitment_loss"]
    whole = numbers["step/g/total_without_perceptual"]
    expected = float(alone if iteration < 5 else whole)
    assert found.objective.mean().item() == pytest.approx(expected, abs=1e-4)
    assert abs(float(whole) - float(alone)) > 1  # what the wrong side of the start would give
    assert len(duel.pairs) == (iteration == 5)
    if duel.pairs:
        duel.discriminator.load_state_dict(recorded_latent.discriminator(weights).state_dict())
        hinge = HingeError(duel)(batch)  # type: ignore[arg-type]
        recorded = float(numbers["step/d/disc_loss"])
        assert hinge.objective.mean().item() == pytest.approx(recorded, abs=1e-4)


def test_both_optimisers_are_the_release_s() -> None:
    (group,) = adam([torch.nn.Parameter(torch.zeros(1))], 3e-4).param_groups
    assert (group["lr"], group["betas"], group["weight_decay"]) == (3e-4, (0.5, 0.9), 0)


@pytest.mark.slow
def test_the_discriminator_begins_at_its_step_and_not_before(data: Path, tmp_path: Path) -> None:
    """Steps of the generator are counted; a counter of both players' would begin at 2 of 3."""
    config = first(data, tmp_path / "run", save_every=1, iterations=5)
    weights, kinds = [], []
    for event in closed_events(config):
        kinds.append(set(event.losses))
        weights.append(load_file(last(config.run) / "raw.safetensors"))
    judged = "discriminator.layers.0.0.weight"
    still = [torch.equal(a[judged], b[judged]) for a, b in itertools.pairwise(weights)]
    assert still == [True, True, False, False]
    assert ["discriminator" in kind for kind in kinds] == [False, False, False, True, True]
    moments = load_file(last(config.run) / "optimizer.safetensors")
    assert float(moments[f"{judged}.step"]) == 2  # of 5 iterations
    lines = [line for line in read_lines(config.run / "metrics.jsonl") if line["kind"] == "train"]
    assert [line["loss"]["adversarial"] == 0 for line in lines] == [True, True, True, False, False]


def closed_events(config: AutoencoderTraining) -> Any:
    """Steps of a run that saves after each: looked at once the next one was asked for."""
    from prdit_core.training.events import Saved, TrainStep
    from prdit_core.verbs.train import train_steps

    step = None
    for event in train_steps(config):
        if isinstance(event, TrainStep):
            step = event
        if isinstance(event, Saved):
            yield step


def test_patches_are_boxes_of_the_volumes_mirrored_and_turned() -> None:
    x = torch.arange(2 * 12 * 8 * 8, dtype=torch.float32).view(2, 1, 12, 8, 8)
    x[0, :, :11] = -1.0  # almost only air
    batch = Batch(x, x, torch.zeros(2), ("a", "b"), 7, (0, 1))
    boxes = TrainingBoxes(3, 4)
    found = boxes.of(batch)
    assert found.shape == (2, 1, 4, 4, 4)
    assert torch.equal(found, boxes.of(batch))
    assert not torch.equal(found, TrainingBoxes(4, 4).of(batch))
    one = batch._replace(x0=x[1:], cases=("b",), places=(1,))
    assert torch.equal(boxes.of(one), found[1:])  # whoever else is in the batch
    assert set(found[1].flatten().tolist()) <= set(x[1].flatten().tolist())
    assert found[0].max() > -1  # patches of one value are drawn again
    whole = TrainingBoxes(3, None).of(batch)
    assert torch.equal(whole.flatten(1).sort().values, x.flatten(1).sort().values)


def test_views_have_all_eight_directions_in_the_axial_plane_and_keep_the_long_axis() -> None:
    cube = torch.arange(2 * 3 * 3.0).view(1, 2, 3, 3)
    flat = torch.arange(2 * 3 * 4.0).view(1, 2, 3, 4)
    streams = [torch.Generator().manual_seed(seed) for seed in range(64)]
    assert len({tuple(turned(cube, s).flatten().tolist()) for s in streams}) == 8
    streams = [torch.Generator().manual_seed(seed) for seed in range(64)]
    assert {turned(flat, s).shape for s in streams} == {flat.shape}
    assert torch.equal(turned(cube, streams[0]).flatten(2).sum(2), cube.flatten(2).sum(2))


# ------------------------------------------------------------------------- codes


def test_codes_are_taken_from_the_first_batch_once_and_never_again() -> None:
    """Defect 1: the release does not save that it was done, so going on begins anew."""
    z = torch.randn(2, 4, 2, 2, 2, generator=torch.Generator().manual_seed(0))
    one = Quantiser(8, 4)
    book = Codebook(one, seed=1)
    book.begin(z, 0)
    assert one.initialised and {tuple(code) for code in one.embeddings.tolist()} <= {
        tuple(vector) for vector in as_vectors(z).tolist()
    }
    book.see(z, one(z).indices)
    book.move(0)
    kept = one.state_dict()
    right, naive = Quantiser(8, 4), Quantiser(8, 4)
    right.load_state_dict(kept)
    naive.load_state_dict({**kept, "initialised": torch.zeros(())})
    for other in (right, naive):
        Codebook(other, seed=1).begin(z + 1, 1)
    assert torch.equal(right.embeddings, kept["embeddings"])
    assert float((naive.embeddings - kept["embeddings"]).abs().max()) > 0.1


def test_codes_move_once_an_iteration_by_all_parts_of_a_batch() -> None:
    z = torch.randn(4, 4, 2, 2, 2, generator=torch.Generator().manual_seed(0))
    found = []
    for parts in (1, 2, 4):
        quantiser = Quantiser(8, 4)
        book = Codebook(quantiser, seed=1)
        book.begin(z, 0)
        for part in z.chunk(parts):
            book.see(part, quantiser(part).indices)
        book.move(0)
        found.append(quantiser.state_dict())
    for other in found[1:]:
        assert all(torch.equal(value, found[0][name]) for name, value in other.items())


def test_codes_are_compared_in_float32_whatever_the_precision() -> None:
    """In bf16 distances are rounded to 1 in 256, and neighbours are mistaken."""
    stream = torch.Generator().manual_seed(0)
    quantiser = Quantiser(64, 8)
    quantiser.embeddings.copy_(1 + 0.01 * torch.randn(64, 8, generator=stream))
    z = 1 + 0.01 * torch.randn(1, 8, 6, 6, 6, generator=stream)
    exact = quantiser(z).indices
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(quantiser(z).indices, exact)
        codes = quantiser.embeddings
        rounded = (codes.square().sum(1) - 2 * as_vectors(z) @ codes.T).argmin(1)
    assert (rounded != exact.flatten()).float().mean() > 0.1


# ------------------------------------------------------------------------- stages


@pytest.mark.slow
def test_it_learns_and_says_what_it_is(data: Path, tmp_path: Path) -> None:
    config = first(data, tmp_path / "run", iterations=40, batch_size=4, discriminator_from=1000)
    train(config.model_copy(update={"save_every": NEVER, "preview_every": 40, "lr": 5e-3}))
    lines = read_lines(config.run / "metrics.jsonl")
    errors = [line["loss"]["reconstruction"] for line in lines if line["kind"] == "train"]
    assert sum(errors[-5:]) / 5 < 0.75 * errors[0]
    assert all(0 <= line["loss"].get("dead", 0) <= 1 for line in lines)
    assert (config.run / "previews" / "iteration-00000040.png").stat().st_size > 10_000
    header = read_header(last(config.run))
    assert header.model == TINY and header.record["training"]["stage"] == "autoencoder"
    result = CliRunner().invoke(app, ["info", str(config.run)])
    assert "patch-volume" in result.stdout and result.exit_code == 0


@pytest.mark.slow
def test_stage_two_leaves_all_that_comes_before_the_decoder_bit_equal(
    data: Path, stage_one: Path, tmp_path: Path
) -> None:
    """Defect 2: a logger that toggles training mode makes the release's codes move again."""
    config = second(data, stage_one, tmp_path / "run", preview_every=1, save_every=1)
    before = read_weights(saved(stage_one)[-1], read_header(saved(stage_one)[-1]))
    train(config)
    after = read_weights(last(config.run), read_header(last(config.run)))
    frozen = [n for n in before if n.startswith(("encoder.", "before.", "quantiser."))]
    assert len(frozen) > 40 and all(torch.equal(before[name], after[name]) for name in frozen)
    for name in ("low", "high", "picture", "picture_bias"):  # which follow from these
        assert torch.equal(before[name], after[name])
    moved = [n for n in before if n.startswith(("decoder.", "after."))]
    assert sum(not torch.equal(before[name], after[name]) for name in moved) == len(moved)
    network = Autoencoder(TINY)
    network.load_state_dict(before)
    x = torch.rand(1, 1, 8, 8, 8)
    with torch.no_grad():  # what moves the codes in stage 1, done once more as the release does
        book, z = Codebook(network.quantiser, 0), network.encode(x)
        book.see(z, network.quantiser(z).indices)
        book.move(0)
    assert not torch.equal(network.quantiser.embeddings, before["quantiser.embeddings"])


class Perceptual(torch.nn.Module):
    """A perceptual term as LPIPS has it: features, and dropout before the heads that weigh them."""

    def __init__(self) -> None:
        super().__init__()
        self.features = torch.nn.Conv2d(1, 8, 3)
        self.head = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Conv2d(8, 1, 1, bias=False))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.head((self.features(x[:, :, 4]) - self.features(y[:, :, 4])).square()).mean()


@torch.no_grad()
def test_no_mode_changes_the_loss_of_stage_two(stage_one: Path) -> None:
    """Defect 3: the toggle of defect 2 turns on dropout, and equal batches get unequal losses."""
    network = Autoencoder(TINY)
    network.load_state_dict(read_weights(saved(stage_one)[-1], read_header(saved(stage_one)[-1])))
    x = torch.rand(2, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    batch: Any = SimpleNamespace(x0=x, iteration=0)
    error = DecoderError(network, Same(), Duel(Discriminator(1, 4), start=1))  # type: ignore[arg-type]
    once, again, still = (error.train(mode)(batch).objective for mode in (True, True, False))
    assert torch.equal(once, again) and torch.equal(once, still)
    naive, decoded = Perceptual(), network.decode(network.encode(x))
    toggled = [float(naive.train(mode)(x, decoded)) for mode in (True, True, False, False)]
    assert toggled[2] == toggled[3] and len(set(toggled)) == 3
    assert abs(toggled[0] - toggled[1]) > 0.01 * toggled[2]


@pytest.mark.slow
def test_looking_at_a_run_changes_nothing_that_is_trained(
    data: Path, stage_one: Path, tmp_path: Path
) -> None:
    """Defects 2 and 3 in a run: pictures and validations between its iterations toggle nothing.

    Batch normalisation of the discriminator follows the mode: it would judge otherwise from the
    first picture on.
    """
    seldom, often = (
        second(
            data, stage_one, tmp_path / name, iterations=3, save_every=every, preview_every=every
        )
        for name, every in (("seldom", NEVER), ("often", 1))
    )
    assert without_metrics(trained(seldom)) == without_metrics(trained(often))
    judge, x = Discriminator(1, 4), torch.rand(2, 1, 8, 8, 8)
    right, naive = (judge.train(mode)(x)[-1].detach() for mode in (True, False))
    assert float((naive - right).abs().max()) > 0.1


@pytest.mark.slow
def test_stage_two_goes_on_with_the_discriminator_of_stage_one(
    data: Path, stage_one: Path, tmp_path: Path
) -> None:
    config = second(data, stage_one, tmp_path / "run", iterations=1, lr=1e-9)
    train(config)
    one, two = (load_file(last(run) / "raw.safetensors") for run in (stage_one, config.run))
    name = "discriminator.layers.4.0.weight"
    torch.testing.assert_close(two[name], one[name], atol=1e-6, rtol=0)
    shutil.copytree(last(stage_one), tmp_path / "bare")
    (tmp_path / "bare" / "raw.safetensors").unlink()
    header = json.loads((tmp_path / "bare" / "checkpoint.json").read_text())
    header["files"] = {"weights.safetensors": header["files"]["weights.safetensors"]}
    (tmp_path / "bare" / "checkpoint.json").write_text(json.dumps(header))
    anew = second(data, tmp_path / "bare", tmp_path / "anew", iterations=1, lr=1e-9)
    train(anew)
    other = load_file(last(anew.run) / "raw.safetensors")[name]
    assert float((other - one[name]).abs().max()) > 1e-3


def test_the_scale_clips_one_in_five_hundred_and_the_picture_is_the_best_linear_one(
    data: Path, stage_one: Path
) -> None:
    header = read_header(saved(stage_one)[-1])
    network = Autoencoder(TINY)
    network.load_state_dict(read_weights(saved(stage_one)[-1], header))
    prepared = PreparedData.open(data)
    volumes = Volumes(prepared, prepared.train, prepared.intensity)
    codec = PatchVolume(network)
    x = torch.stack([torch.from_numpy(volumes.read(n)) for n in range(len(volumes.names))])
    z = codec.encode(x)
    beyond = (z.abs() > 1).float().mean((0, 2, 3, 4))
    assert header.record["latents"]["clipped"] == pytest.approx(float(beyond.mean()), abs=1e-5)
    assert 0 < float(beyond.max()) < 0.01
    shown, means = codec.preview(z), torch.nn.functional.avg_pool3d(x, 4)
    error = torch.nn.functional.avg_pool3d(shown, 4) - means
    assert abs(float(error.mean())) < 1e-4  # what least squares with a constant leaves
    products = torch.einsum("bzdhw,bcdhw->z", z, error) / error.numel()
    assert float(products.abs().max()) < 1e-4
    before = {name: value.clone() for name, value in network.state_dict().items()}
    fit(network, volumes)  # the same again
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_whole_decoding_is_judged_in_stage_two_and_patches_in_stage_one(
    data: Path, stage_one: Path, tmp_path: Path
) -> None:
    config = second(data, stage_one, tmp_path / "run", iterations=1, lr=1e-9)
    train(config)
    network = Autoencoder(TINY)
    network.load_state_dict(read_weights(last(config.run), read_header(last(config.run))))
    prepared = PreparedData.open(data)
    held_out = Volumes(prepared, prepared.validation, prepared.intensity)
    x = torch.from_numpy(held_out.read(0))[None]
    codec = PatchVolume(network)
    with torch.no_grad():
        z = codec.encode(x)
        joint = 4 * float((codec.decode(z) - x).abs().mean())
        apart = 4 * float((decoded_by_patches(network, codec.unscaled(z)) - x).abs().mean())
    (line,) = [n for n in read_lines(config.run / "metrics.jsonl") if n["kind"] == "validation"]
    assert line["loss"]["total"] == pytest.approx(joint, rel=1e-4)
    *_, line = [n for n in read_lines(stage_one / "metrics.jsonl") if n["kind"] == "validation"]
    assert line["loss"]["reconstruction"] == pytest.approx(apart, rel=1e-3)
    assert abs(joint - apart) > 1e-3


# ------------------------------------------------------------------------- promises


@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.slow
def test_a_stopped_run_ends_with_the_bytes_of_one_go(
    stage: int, data: Path, stage_one: Path, tmp_path: Path
) -> None:
    """Codes, whether they were begun, and the moments of both players among them."""
    once = (
        first(data, tmp_path / "once") if stage == 1 else second(data, stage_one, tmp_path / "once")
    )
    expected = trained(once)
    names = set(load_file(last(once.run) / "raw.safetensors"))
    assert {"quantiser.embeddings", "quantiser.counts", "quantiser.initialised"} <= names
    assert any(name.startswith("discriminator.") for name in names)
    for number in (2, 5):
        cut = once.model_copy(update={"run": tmp_path / f"cut-{number}"})
        closed_after(cut, number)
        assert unlike(resumed(cut), expected) == [], number


@pytest.mark.slow
def test_codes_that_are_begun_anew_on_the_way_give_other_bytes(data: Path, tmp_path: Path) -> None:
    """Defect 1 in a run: with the flag lost, going on ends elsewhere."""
    once = first(data, tmp_path / "once")
    train(once)
    cut = once.model_copy(update={"run": tmp_path / "cut"})
    closed_after(cut, 5)
    raw = last(cut.run) / "raw.safetensors"
    save_file(load_file(raw) | {"quantiser.initialised": torch.zeros(())}, raw)
    header = json.loads((raw.parent / "checkpoint.json").read_text())
    from prdit_core.files import sha256_of

    header["files"][raw.name] = sha256_of(raw)
    (raw.parent / "checkpoint.json").write_text(json.dumps(header))
    train(cut, "resume")
    codes = [load_file(last(run) / raw.name)["quantiser.embeddings"] for run in (once.run, cut.run)]
    assert not torch.equal(*codes)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.slow
def test_a_killed_run_of_two_players_ends_with_the_bytes_of_one_go(
    data: Path, tmp_path: Path
) -> None:
    once = first(data, tmp_path / "once", iterations=24, save_every=4, discriminator_from=8)
    once = once.model_copy(update={"model": "small-8x"})  # children know no tiny one
    expected = trained(once)
    killed = once.model_copy(update={"run": tmp_path / "killed"})
    for count in (5, 9):
        with child(killed, "--resume") as process:
            iterating(process, killed.run, count)
            time.sleep(0.05)
            process.kill()
            assert process.wait() == -signal.SIGKILL
    train(killed, "resume")
    assert iterations(killed.run) == list(range(1, 25))
    assert unlike(content(killed.run), expected) == []


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.slow
def test_a_killed_run_of_stage_two_ends_with_the_bytes_of_one_go(
    data: Path, stage_one: Path, tmp_path: Path
) -> None:
    """Whose network the child knows from the checkpoint to start from."""
    once = second(data, stage_one, tmp_path / "once", iterations=24, save_every=4)
    expected = trained(once)
    killed = once.model_copy(update={"run": tmp_path / "killed"})
    for count in (5, 9):
        with child(killed, "--resume") as process:
            iterating(process, killed.run, count)
            process.kill()
            assert process.wait() == -signal.SIGKILL
    assert len(iterations(killed.run)) < 24  # there was something left to do
    assert unlike(resumed(killed), expected) == []


@pytest.mark.slow
def test_a_batch_in_parts_trains_the_same_codes(data: Path, tmp_path: Path) -> None:
    """Before the discriminator plays, whose batch normalisation sees one part at a time."""
    whole = first(data, tmp_path / "whole", iterations=2)
    parts = first(data, tmp_path / "parts", iterations=2, micro_batch=1)
    train(whole)
    train(parts)
    a, b = (load_file(last(run) / "raw.safetensors") for run in (whole.run, parts.run))
    assert a["quantiser.counts"].sum() == pytest.approx(float(b["quantiser.counts"].sum()))


def test_memory_is_said_before_the_start(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tiny network's 6 patches of 16^3 keep 22 MiB, one of them 4 MiB."""
    for module in ("machine", "verbs.train"):
        monkeypatch.setattr(f"prdit_core.{module}.memory_of", lambda _: 10 * 2**20)
    with pytest.raises(MemoryLimit, match=r"--micro-batch 1 would fit"):
        train(first(data, tmp_path / "run", patch=16, batch_size=6))


def test_memory_grows_with_patches_and_joint_decoding_with_the_volume() -> None:
    """Published size: one 64^3 patch keeps about 2.6 GiB in stage 1; measured 42 to 45 levels."""
    network, shape = latent_settings.AUTOENCODERS["paper-4x"], (128, 128, 128)
    config = AutoencoderTraining(data=".", run=".", micro_batch=1)
    one, two = (
        AutoencoderRecipe().memory(config.model_copy(update={"micro_batch": n}), network, shape)
        for n in (1, 2)
    )
    assert two - one == pytest.approx(4 * 56 * 48 * 64**3, rel=1e-6)
    joint = JointTraining(data=".", run=".", start="x", micro_batch=1)
    whole = JointRecipe().memory(joint, network, shape)
    crop = JointRecipe().memory(joint.model_copy(update={"crop": 64}), network, shape)
    assert whole - crop == pytest.approx(7 * 4 * 32 * 48 * 64**3, rel=1e-6)


BAD = [
    ({"patch": 10}, "patch 10 does not fit small-4x: .* no multiple of the ratio 4"),
    ({"patch": 32}, "not made of whole patches of 32 voxels"),
    ({"strategy": "fsdp"}, "fsdp cannot split"),
]


@pytest.mark.parametrize(("change", "reason"), BAD)
def test_bad_settings_are_one_line(
    change: dict[str, Any], reason: str, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=reason):
        train(first(data, tmp_path / "run", **change))


def test_a_start_that_is_no_autoencoder_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no autoencoder but prdit"):
        train(second(data, "demo", tmp_path / "run"))  # type: ignore[arg-type]
    words = ["train", "--stage", "autoencoder-joint", "--data", data, "--run", tmp_path / "run"]
    result = CliRunner().invoke(app, [*map(str, words)])
    assert result.exit_code == 2 and "starts from a checkpoint" in result.stderr
    assert result.stderr.count("\n") == 1


def test_stage_two_crops_what_is_too_large_for_one_decoding(stage_one: Path) -> None:
    header = read_header(saved(stage_one)[-1])
    config = JointTraining(data=stage_one, run=stage_one, start="x")
    for edge, crop in ((64, None), (256, 192)):
        one = SimpleNamespace(geometry=SimpleNamespace(shape=(edge,) * 3))
        shaped = SimpleNamespace(sets=[SimpleNamespace(data=one)])
        assert JointRecipe().plan(config, shaped, header).resolved["crop"] == crop  # type: ignore[arg-type]


def test_batch_statistics_are_those_of_one_process_when_alone() -> None:
    """The shared norm is torch's own where there is one process; with two, see distributed."""
    torch.manual_seed(0)
    ours = Discriminator(1, 4).train()
    x = torch.randn(2, 1, 16, 16, 16)
    norm = ours.layers[1][1]
    theirs = torch.nn.BatchNorm3d(norm.num_features)
    theirs.load_state_dict(norm.state_dict())
    y = ours.layers[1][0](ours.layers[0](x))
    assert torch.equal(norm(y), theirs(y))
    assert torch.equal(norm.running_var, theirs.running_var)
    assert Fabric(accelerator="cpu", devices=1).world_size == 1
    assert copy.deepcopy(norm)(y).shape == y.shape

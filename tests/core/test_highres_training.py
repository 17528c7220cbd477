"""Stage refine and chains in training: what trains, from where, and what it promises."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from chains import CUTS, OURS, chain, network, states
from lightning_fabric import Fabric
from safetensors.torch import load_file
from toys import TINY, tiny_checkpoint
from trainings import (
    NEVER,
    child,
    closed_after,
    content,
    iterating,
    last,
    resumed,
    settings,
    train,
    trained,
    unlike,
)
from typer.testing import CliRunner

import prdit_core
from prdit_core.checkpoints.store import read_header
from prdit_core.cli.app import app
from prdit_core.errors import UsageError
from prdit_core.models.prdit.highres_refiner import downsample, shown, upsample
from prdit_core.models.prdit.memory import training_memory
from prdit_core.models.tensor_files import load_tensors
from prdit_core.prdit_config import ModelConfig, RefinerConfig, TrainConfig
from prdit_core.runs.folder import RunFolder
from prdit_core.runs.metrics import read_lines
from prdit_core.schedule import CosineSchedule
from prdit_core.training.batches import Batch
from prdit_core.training.checkpointing import RAW
from prdit_core.training.events import Previewed, Started
from prdit_core.training.families.prdit.crop import Crop
from prdit_core.training.families.prdit.network import prepare
from prdit_core.training.families.prdit.objective import inconsistency
from prdit_core.training.families.prdit.recipe import task_of
from prdit_core.training.families.prdit.stages import PRDIT_STAGES
from prdit_core.training.loop import Trainer
from prdit_core.training.rate import Rate
from prdit_core.verbs.phantoms import phantoms

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

OWN: dict[str, Any] = {"sees": "below", "shows": "averages"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of the same phantoms at every size of the chain, by edge."""
    folder = tmp_path_factory.mktemp("data")
    for size in (8, 16, 32):
        phantoms(4, size=size, seed=0, out=folder / str(size), validation_fraction=0.2)
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base of 8^3 with random weights."""
    return tiny_checkpoint(tmp_path_factory.mktemp("base") / "base", size=8)


@pytest.fixture(scope="module")
def middle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chain 8 -> 16 with random weights."""
    return tiny_checkpoint(tmp_path_factory.mktemp("chain") / "middle", size=16, model=chain(1))


def refine(data: Path, run: Path, start: Path, **more: Any) -> TrainConfig:
    """A short run on data twice as fine as what `start` makes."""
    edge = 2 * read_header(start).geometry.shape[0]
    given = {"stage": "refine", "start": str(start), "iterations": 4} | more
    return settings(data / str(edge), run, **given)


def trainer(
    stage: str, config: ModelConfig, *, micro_batch: int = 4, lr: float = 1e-3, **more: Any
) -> Trainer:
    """On top of random weights below."""
    torch.set_num_threads(1)
    below = config.refined_by(*config.refiners[:-1]) if stage == "refine" else config
    begun = (below, network(below).state_dict())
    made = prepare(config, PRDIT_STAGES[stage], 0, begun)
    return Trainer(
        task_of(made, CosineSchedule(noise_std=0.5), **more),
        Fabric(accelerator="cpu", devices=1, precision="32-true"),
        rate=Rate("constant", lr, 1),
        clip=1.0,
        decay=0.99,
        micro_batch=micro_batch,
    )


def batch(edge: int, volumes: int = 4, seed: int = 0, iteration: int = 0) -> Batch:
    """Smooth volumes with something fine on them."""
    stream = torch.Generator().manual_seed(seed)
    low = torch.rand(volumes, 1, edge // 4, edge // 4, edge // 4, generator=stream)
    x0 = torch.nn.functional.interpolate(low, scale_factor=4, mode="trilinear")
    x0[..., ::2] += 0.5
    noise = torch.randn(x0.shape, generator=stream)
    t = 1000 * (1 - torch.rand(volumes, generator=stream))
    return Batch(x0, noise, t, tuple(map(str, range(volumes))), iteration, tuple(range(volumes)))


def gradients(work: Trainer) -> dict[str, Tensor]:
    """Of the weights that train, before the optimiser has taken and dropped them."""
    return {n: w.grad for n, w in work.task.network.named_parameters() if w.grad is not None}


# ------------------------------------------------------------------------- what trains


@pytest.mark.slow
@pytest.mark.parametrize("crop", [None, 8])
def test_refining_trains_the_last_refiner_only(
    data: Path, middle: Path, tmp_path: Path, crop: int | None
) -> None:
    train(refine(data, tmp_path / "run", middle, crop=crop))
    header = read_header(last(tmp_path / "run"))
    below = RefinerConfig(patch=4, stride=2, padding=1, width=24)
    assert header.model == TINY.refined_by(CUTS[0], below)
    before = load_tensors(middle / "weights.safetensors")
    for file in (RAW, "weights.safetensors"):
        after = load_file(last(tmp_path / "run") / file)
        assert all(torch.equal(after[name], weight) for name, weight in before.items())
        new = after.keys() - before.keys()
        assert all(name.startswith("refiners.1.") for name in new)
        assert after["refiners.1.local.out.weight"].any()
    moments = load_file(last(tmp_path / "run") / "optimizer.safetensors")
    assert all(name.startswith("refiners.1.") for name in moments)


def test_refining_starts_at_the_upsampled_prediction() -> None:
    work = trainer("refine", chain(2))
    x, t = states(16, 16, 16)
    assert torch.equal(
        work.task.network(x, t), upsample(network(chain(1))(downsample(x), t), "voxels")
    )


@pytest.mark.slow
def test_fine_tuning_a_chain_trains_all_of_it(data: Path, middle: Path, tmp_path: Path) -> None:
    config = settings(data / "16", tmp_path / "run", stage="finetune", start=str(middle), lr=1e-3)
    train(config)
    before = load_tensors(middle / "weights.safetensors")
    after = load_file(last(config.run) / RAW)
    assert before.keys() == after.keys()
    assert not [name for name, weight in before.items() if torch.equal(weight, after[name])]


@pytest.mark.slow
def test_refining_learns_what_the_base_cannot_show() -> None:
    work = trainer("refine", chain(1), lr=3e-3, consistency=0.1)
    losses = [work.advance(batch(8, seed=n, iteration=n))[0].loss()["x0"] for n in range(120)]
    assert np.mean(losses[-20:]) < 0.7 * np.mean(losses[:10])


# ------------------------------------------------------------------------- consistency


def test_a_prediction_whose_average_is_the_one_below_is_consistent() -> None:
    low = torch.randn(2, 2, 4, 4, 4)
    fine = torch.randn(2, 1, 8, 8, 8)
    fine -= (
        torch.nn.functional.avg_pool3d(fine, 2)
        .repeat_interleave(2, 2)
        .repeat_interleave(2, 3)
        .repeat_interleave(2, 4)
    )
    x0 = low[:, 1:].repeat_interleave(2, 2).repeat_interleave(2, 3).repeat_interleave(2, 4) + fine
    output = torch.cat([torch.randn_like(x0), x0], dim=1)
    assert inconsistency(output, low).max() < 1e-12
    output[1, 1] += 0.5
    found = inconsistency(output, low)
    assert found[0] < 1e-12 and found[1].item() == pytest.approx(0.25, rel=1e-5)


def test_consistency_pulls_at_the_finer_image_only() -> None:
    output = torch.randn(1, 2, 8, 8, 8, requires_grad=True)
    below = torch.randn(1, 2, 4, 4, 4, requires_grad=True)
    inconsistency(output, below).sum().backward()
    assert below.grad is None and output.grad is not None
    assert not output.grad[:, 0].any() and output.grad[:, 1].all()


def test_consistency_is_minimised_and_not_told() -> None:
    """Its weight changes the gradient, but the losses are those of Eq. 3, which compare."""
    found = {
        weight: trainer("refine", chain(1), consistency=weight).advance(batch(8))
        for weight in (0.0, 0.1, 10.0)
    }
    plain = found[0.0][0].loss()
    assert all(tally.loss() == plain for tally, _ in found.values())
    assert len({norm for _, norm in found.values()}) == 3


@pytest.mark.parametrize("box", [None, 4])
def test_the_gradient_is_that_of_the_error_plus_the_weighed_inconsistency(box: int | None) -> None:
    """Computed anew from the whole prediction, of which a crop looks at a part."""
    crop = None if box is None else Crop(seed=3, edge=box, multiple=2)
    work = trainer("refine", chain(1), consistency=0.7, crop=crop, lr=1e-12)
    given, kept = batch(8, iteration=5), {}
    work.turns[0].optimiser.register_step_pre_hook(lambda *_: kept.update(gradients(work)))
    work.clip = 1e9
    work.advance(given)

    model = prepare(chain(1), PRDIT_STAGES["refine"], 0, (TINY, network(TINY).state_dict()))
    at = (slice(0, 8),) * 3 if crop is None else crop.box(5, (8, 8, 8))
    half = tuple(slice(part.start // 2, part.stop // 2) for part in at)
    angle = (torch.pi / 2000 * given.t)[:, None, None, None, None]
    eps = 0.5 * given.unit_noise
    x_t = angle.cos() * given.x0 + angle.sin() * eps
    low, top = model.pyramid(x_t, given.t)
    whole = (top - torch.cat([eps, given.x0], dim=1)).square()
    pooled = torch.nn.functional.avg_pool3d(top[:, 1:], 2) - low[:, 1:]
    error = whole[(..., *at)].mean() * 2 + 0.7 * pooled[(..., *half)].square().mean()
    error.backward()
    assert kept.keys() == {n for n, w in model.named_parameters() if w.requires_grad}
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            torch.testing.assert_close(kept[name], weight.grad, rtol=1e-4, atol=1e-6)


# ------------------------------------------------------------------------- every size of a chain


@pytest.mark.slow
@pytest.mark.parametrize("cuts", [CUTS, OURS])
def test_the_loss_at_lower_sizes_is_that_of_what_they_are_shown(
    cuts: tuple[RefinerConfig, ...],
) -> None:
    """Its gradient reaches what lies below, and the losses that are told are the highest alone."""
    config = TINY.refined_by(*cuts)

    def advanced(weight: float) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Gradients and losses."""
        work, kept = trainer("finetune", config, lower_sizes=weight, lr=1e-12), {}
        work.turns[0].optimiser.register_step_pre_hook(lambda *_: kept.update(gradients(work)))
        work.clip = 1e9
        return kept, work.advance(batch(16, iteration=5))[0].loss()

    (alone, losses), (every, losses_too) = advanced(0.0), advanced(0.7)
    assert losses == losses_too

    given, model = batch(16), network(config).requires_grad_(True)
    angle = (torch.pi / 2000 * given.t)[:, None, None, None, None]
    eps = 0.5 * given.unit_noise
    predictions = model.pyramid(angle.cos() * given.x0 + angle.sin() * eps, given.t)
    errors = []
    for prediction, step in zip(predictions, (4, 2, 1), strict=True):
        target = torch.cat([eps, given.x0], dim=1)[..., ::step, ::step, ::step]
        if cuts == OURS:  # the noise of means is weaker, and predicted at full strength
            means = [torch.nn.functional.avg_pool3d(part, step) for part in (eps, given.x0)]
            target = torch.cat([step**1.5 * means[0], means[1]], dim=1)
        errors.append(2 * (prediction - target).square().mean())
    (errors[2] + 0.7 * (errors[1] + errors[0])).backward()
    for name, weight in model.named_parameters():
        torch.testing.assert_close(every[name], weight.grad, rtol=1e-4, atol=1e-6)
    changed = {n for n, g in alone.items() if not torch.equal(g, every[n])}
    assert changed == {n for n in alone if not n.startswith("refiners.1.")}


@pytest.mark.slow
def test_fine_tuning_at_every_size_resumes_exactly_and_warns_of_none(
    data: Path, middle: Path, tmp_path: Path
) -> None:
    more = {"stage": "finetune", "start": str(middle), "lr": 1e-3, "lower_sizes": 0.5}
    once = settings(data / "16", tmp_path / "once", **more)
    started = train(once)[0]
    assert isinstance(started, Started)
    assert not any("get worse" in note for note in started.notes)
    config = settings(data / "16", tmp_path / "run", **more)
    closed_after(config, 4)
    assert unlike(resumed(config), content(once.run)) == []
    alone = {**more, "lower_sizes": None}
    highest = trained(settings(data / "16", tmp_path / "highest", **alone))
    nothing = trained(settings(data / "16", tmp_path / "nothing", **{**more, "lower_sizes": 0.0}))
    assert unlike(nothing, highest) == []
    assert "raw.safetensors" in unlike(highest, content(once.run))


# ------------------------------------------------------------------------- crops


def test_boxes_are_places_of_the_volume_and_depend_on_seed_and_iteration_only() -> None:
    crop = Crop(seed=1, edge=8, multiple=4)
    found = [crop.box(iteration, (16, 24, 8)) for iteration in range(200)]
    assert [crop.box(iteration, (16, 24, 8)) for iteration in range(200)] == found
    for axis, starts in enumerate(({0, 4, 8}, {0, 4, 8, 12, 16}, {0})):
        assert {box[axis].start for box in found} == starts
        assert all(box[axis].stop - box[axis].start == 8 for box in found)
    assert [Crop(2, 8, 4).box(n, (16, 24, 8)) for n in range(200)] != found


@pytest.mark.parametrize("crop", [None, Crop(seed=0, edge=4, multiple=2)])
def test_a_batch_held_in_parts_gives_the_gradient_of_the_whole(crop: Crop | None) -> None:
    works = [trainer("refine", chain(1), micro_batch=m, crop=crop, consistency=1) for m in (5, 2)]
    results = [work.advance(batch(8, 5)) for work in works]
    assert results[0][1] == pytest.approx(results[1][1], rel=1e-5)
    assert results[0][0].loss() == pytest.approx(results[1][0].loss(), rel=1e-5)


# ------------------------------------------------------------------------- the trainer's promises


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [{}, {"crop": 8}, {"crop": 8, "sees": "below", "shows": "averages", "lr_schedule": "cosine"}],
)
def test_a_stopped_refining_goes_on_to_the_same_bytes(
    data: Path, base: Path, tmp_path: Path, more: dict[str, Any]
) -> None:
    once = trained(refine(data, tmp_path / "once", base, **more))
    config = refine(data, tmp_path / "run", base, **more)
    closed_after(config, 3)
    assert unlike(resumed(config), once) == []


@pytest.mark.slow
def test_a_killed_refining_goes_on_to_the_same_bytes(
    data: Path, base: Path, tmp_path: Path
) -> None:
    more = {"crop": 8, "iterations": 12}
    once = trained(refine(data, tmp_path / "once", base, **more))
    config = refine(data, tmp_path / "run", base, **more)
    with child(config) as process:
        iterating(process, config.run, 3)
        process.kill()
    assert unlike(resumed(config), once) == []


@pytest.mark.slow
def test_fine_tuning_a_chain_resumes_exactly(data: Path, middle: Path, tmp_path: Path) -> None:
    more = {"stage": "finetune", "start": str(middle), "lr": 1e-3, "consistency": 1.0}
    once = trained(settings(data / "16", tmp_path / "once", **more))
    config = settings(data / "16", tmp_path / "run", **more)
    closed_after(config, 4)
    assert unlike(resumed(config), once) == []


@pytest.mark.slow
def test_a_run_from_before_chains_goes_on(data: Path, tmp_path: Path) -> None:
    """Its config.json knows none of what came with them and after."""
    import json

    config = settings(data / "8", tmp_path / "run")
    once = trained(settings(data / "8", tmp_path / "once"))
    closed_after(config, 3)
    file = RunFolder(config.run).config
    content = json.loads(file.read_text())
    for name in ("consistency", "crop", "sees", "shows", "heads", "lower_sizes", "lr_schedule"):
        assert content["settings"].pop(name) is None
    assert "refiners" not in content["facts"]["network"]
    file.write_text(json.dumps(content))
    assert unlike(resumed(config), once) == []


@pytest.mark.slow
def test_a_refined_model_is_validated_shown_and_generates(
    data: Path, middle: Path, tmp_path: Path
) -> None:
    config = refine(data, tmp_path / "run", middle, preview_every=3, crop=4)
    events = train(config)
    pictures = [event.path for event in events if isinstance(event, Previewed)]
    assert len(pictures) == 2 and all(path.is_file() for path in pictures)
    lines = read_lines(RunFolder(config.run).metrics)
    losses = [line["loss"]["total"] for line in lines if line["kind"] == "validation"]
    assert len(losses) == 2 and np.isfinite(losses).all()
    prior = prdit_core.load(config.run)
    assert prior.sizes == (8, 16, 32)
    assert prdit_core.generate(prior, prdit_core.SamplingConfig(steps=2)).voxels_hu.shape == (
        32,
        32,
        32,
    )
    training = prior.record["training"]
    assert (training["consistency"], training["crop"], training["lr"]) == (0.1, 4, 6e-5)


@pytest.mark.slow
def test_stages_chain_up(data: Path, base: Path, tmp_path: Path) -> None:
    """8 -> 16 -> 32, each run from the one before, then all of it."""
    train(refine(data, tmp_path / "16", base, iterations=2))
    more = {"iterations": 2, "save_every": NEVER}
    above = settings(
        data / "32", tmp_path / "32", stage="refine", start=str(tmp_path / "16"), crop=8, **more
    )
    train(above)
    whole = settings(
        data / "32", tmp_path / "all", stage="finetune", start=str(above.run), batch_size=1, **more
    )
    started = train(whole)[0]
    assert isinstance(started, Started)
    assert any("lower sizes get worse" in note for note in started.notes)
    prior = prdit_core.load(whole.run)
    assert prior.sizes == (8, 16, 32)
    assert [cut.patch for cut in prior.network.config.refiners] == [4, 4]


# ------------------------------------------------------------------------- from part of a chain


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chain 8 -> 16 -> 32 with random weights."""
    return tiny_checkpoint(tmp_path_factory.mktemp("chain") / "whole", size=32, model=chain(2))


@pytest.mark.slow
@pytest.mark.parametrize(("size", "refiners"), [(8, 0), (16, 1), (32, 2)])
def test_fine_tuning_takes_as_much_of_a_chain_as_the_data_are_fine(
    data: Path, whole: Path, tmp_path: Path, size: int, refiners: int
) -> None:
    config = settings(
        data / str(size), tmp_path / "run", stage="finetune", start=str(whole), iterations=1
    )
    started = train(config)[0]
    assert isinstance(started, Started)
    header = read_header(last(config.run))
    assert header.model == chain(refiners) and header.geometry.shape == (size,) * 3
    assert header.record["training"]["start_sha256"] == read_header(whole).digest
    noted = any(f"up to edge {size}" in note for note in started.notes)
    assert noted == (refiners < 2)


def test_a_refiner_can_be_trained_anew_within_a_chain(
    data: Path, whole: Path, tmp_path: Path
) -> None:
    config = settings(
        data / "16", tmp_path / "run", stage="refine", start=str(whole), model="small", iterations=1
    )
    train(config)
    own = RefinerConfig(patch=6, stride=4, padding=1, width=192)
    assert read_header(last(config.run)).model == TINY.refined_by(own)
    kept = load_tensors(last(config.run) / "weights.safetensors")
    before = load_tensors(whole / "weights.safetensors")
    assert all(torch.equal(kept[n], w) for n, w in before.items() if not n.startswith("refiners"))


@pytest.mark.slow
def test_a_refiner_has_patches_of_its_own_and_sees_what_it_is_told_to(
    data: Path, base: Path, tmp_path: Path
) -> None:
    config = refine(data, tmp_path / "run", base, model="8/4/2/18", iterations=2, **OWN)
    train(config)
    own = RefinerConfig(patch=8, stride=4, padding=2, width=18, **OWN)
    assert read_header(last(config.run)).model == TINY.refined_by(own)
    assert load_file(last(config.run) / RAW)["refiners.0.local.out.weight"].any()
    work = trainer("refine", TINY.refined_by(own))
    x, t = states(8, 8, 8)
    low, earlier = shown(x, t, "averages")
    assert torch.equal(work.task.network(x, t), upsample(network(TINY)(low, earlier), "averages"))


def test_the_base_of_a_chain_goes_on_alone(data: Path, whole: Path, tmp_path: Path) -> None:
    config = settings(data / "8", tmp_path / "run", stage="global", start=str(whole), iterations=1)
    train(config)
    assert read_header(last(config.run)).model == TINY


# ------------------------------------------------------------------------- what is refused


def refused(config: TrainConfig) -> str:
    with pytest.raises(UsageError) as caught:
        train(config)
    assert "\n" not in str(caught.value) and not config.run.exists()
    return str(caught.value)


REFUSED = [
    ({"start": None}, "stage refine starts from a checkpoint"),
    ({"data": "32"}, "edge 8, so the data must be of edge 16, not 32"),
    ({"data": "8"}, "of edge 16, not 8"),
    ({"objective": "velocity"}, "predicts image-and-noise"),
    ({"model": "PRDiT-B/12/4", "crop": 4}, "multiple of 8"),
    ({"crop": 3}, "crop 3 must be a multiple of 2"),
    ({"crop": 32}, "at most the edge 16"),
    ({"model": "big"}, "small, or size/patch/depth"),
    ({"model": "8/4/1/192"}, "patch 8 must be stride 4"),
    ({"stage": "finetune", "data": "8", "sees": "below"}, "sees is for stage refine"),
    ({"stage": "finetune", "data": "8", "shows": "voxels"}, "shows is for stage refine"),
    ({"lower_sizes": 1.0}, "lower_sizes is for stage finetune of a chain"),
    ({"stage": "finetune", "data": "8", "lower_sizes": 1.0}, "lower_sizes is for"),
    ({"stage": "finetune", "data": "8", "crop": 4}, "crop is for stage refine"),
    ({"stage": "finetune", "data": "8", "consistency": 0.5}, "consistency is for chains"),
    ({"stage": "local", "data": "8", "start": None, "consistency": 0.0}, "consistency is for"),
]


@pytest.mark.parametrize(("change", "hint"), REFUSED)
def test_settings_that_make_no_sense_for_a_chain_are_refused(
    data: Path, base: Path, tmp_path: Path, change: dict[str, Any], hint: str
) -> None:
    given = {"stage": "refine", "data": "16", "start": str(base)} | change
    config = settings(data / given.pop("data"), tmp_path / "run", **given)
    assert hint in refused(config)


def test_a_chain_is_continued_by_stages_that_know_it(
    data: Path, whole: Path, tmp_path: Path
) -> None:
    def begun(stage: str, size: int, **more: Any) -> TrainConfig:
        return settings(data / str(size), tmp_path / "run", stage=stage, start=str(whole), **more)

    assert "makes volumes of edge 8, the data are of edge 32" in refused(begun("global", 32))
    assert "8 or 16 or 32, so the data must be of edge 16 or 32 or 64" in refused(
        begun("refine", 8)
    )
    assert "other refiners (4/2/1, 6/4/1)" in refused(begun("finetune", 32, model="small"))


def test_a_velocity_cannot_be_refined(data: Path, tmp_path: Path) -> None:
    velocity = TINY.model_copy(update={"output": "velocity"})
    start = tiny_checkpoint(tmp_path / "velocity", size=8, model=velocity)
    assert "image-and-noise" in refused(refine(data, tmp_path / "run", start))


@pytest.mark.slow
def test_other_settings_of_a_chain_are_refused_or_recorded(
    data: Path, base: Path, tmp_path: Path
) -> None:
    config = refine(data, tmp_path / "run", base, crop=8)
    closed_after(config, 3)
    for change in ({"crop": 4}, {"crop": None}, {"consistency": 0.0}, {"lr_schedule": "cosine"}):
        other = config.model_copy(update=change)
        with pytest.raises(UsageError, match=next(iter(change))):
            train(other, "resume")
    train(config.model_copy(update={"crop": 4}), "change")


@pytest.mark.slow
def test_with_a_falling_rate_the_number_of_iterations_is_part_of_the_result(
    data: Path, base: Path, tmp_path: Path
) -> None:
    config = refine(data, tmp_path / "run", base, lr_schedule="cosine")
    closed_after(config, 3)
    with pytest.raises(UsageError, match="iterations: 4 -> 6"):
        train(config.model_copy(update={"iterations": 6}), "resume")
    train(config.model_copy(update={"iterations": 6}), "change")
    rates = [
        line["lr"] for line in read_lines(RunFolder(config.run).metrics) if line["kind"] == "train"
    ]
    assert len(rates) == 6 and rates[-1] < 0.1 * rates[0]


def test_the_command_refines(data: Path, base: Path, tmp_path: Path) -> None:
    words = ["train", "--stage", "refine", "--data", data / "16", "--run", tmp_path / "run"]
    words += ["--from", base, "--iterations", 1, "--batch-size", 2, "--crop", 4]
    words += ["--model", "4/2/1/12", "--sees", "below", "--shows", "averages"]
    words += ["--heads", "agree", "--lr-schedule", "cosine"]
    done = CliRunner().invoke(app, [*map(str, words), "--consistency", "0"])
    assert done.exit_code == 0, done.output
    record = read_header(last(tmp_path / "run")).record["training"]
    assert (record["consistency"], record["crop"]) == (0.0, 4)
    assert [record[n] for n in OWN] == ["below", "averages"]
    assert (record["heads"], record["lr_schedule"]) == ("agree", "cosine")


def test_memory_of_training_follows_what_is_kept() -> None:
    small = ModelConfig(patch=6, stride=4, padding=1, width=192, depth=4, heads=6)
    cut = RefinerConfig(patch=6, stride=4, padding=1, width=192)
    config = small.refined_by(cut, cut)

    def needed(stage: str, edge: int, crop: int | None = None) -> int:
        trains = PRDIT_STAGES[stage].trained(config)
        return training_memory(
            config, (edge, edge, edge), trains=trains, volumes=1, activations="keep", crop=crop
        )

    assert needed("refine", 128) > 4 * needed("refine", 64)
    assert needed("refine", 128, 32) < 0.3 * needed("refine", 128)
    assert needed("finetune", 128) > needed("refine", 128)

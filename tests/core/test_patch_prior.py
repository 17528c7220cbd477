"""The 3D patch prior: its network, its tiles, and what it is taught."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn
from toys import TINY_PATCH, patch_checkpoint, random_patch
from trainings import closed_after, resumed, train, trained, unlike
from typer.testing import CliRunner

import prdit_core
from prdit_core import machine
from prdit_core.checkpoints.catalog import newest
from prdit_core.checkpoints.store import read_header
from prdit_core.cli.app import app
from prdit_core.config import SamplingConfig
from prdit_core.errors import MemoryLimit, UsageError
from prdit_core.inverse import scanners
from prdit_core.inverse.calibration import Calibration, ErrorTable
from prdit_core.inverse.couplings import Coupling
from prdit_core.models.contracts import Decomposition, Key
from prdit_core.models.families import parameter_count
from prdit_core.models.patch.config import PatchConfig, PatchTraining, patch_config
from prdit_core.models.patch.denoiser import LOOKS, PatchDenoiser, separated
from prdit_core.models.patch.face import PatchNetwork, patch_memory
from prdit_core.models.patch.seen import View, border_shape
from prdit_core.models.patch.tiles import (
    context,
    coordinates,
    cut,
    inside,
    stitch,
    surround,
    tile_starts,
)
from prdit_core.models.patch.unet import UNet3d, initialise
from prdit_core.noise import Draw, generator
from prdit_core.runs.metrics import read_lines
from prdit_core.schedule import VPLinearSchedule
from prdit_core.training.batches import Batch, Batches
from prdit_core.training.families.patch import PatchRecipe, TileError
from prdit_core.verbs.phantoms import phantoms
from prdit_core.verbs.reconstruct import problem_of, reconstruct
from prdit_core.verbs.simulate import simulate
from prdit_core.volume import Volume, axial_affine

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

FLAT = TINY_PATCH.model_copy(update={"tile": (4, 4, 2), "target": "v"})


BOX = Volume(np.full((4, 8, 8), -900.0, np.float32), axial_affine((3, 2, 2), (4, 8, 8)))
BOX.voxels_hu[1:3, 2:6, 3:7] = 100.0


def state(config: PatchConfig, seed: int = 1) -> Tensor:
    stream = torch.Generator().manual_seed(seed)
    return torch.randn((1, config.channels, *config.shape), generator=stream)


# ------------------------------------------------------------------------- network


@pytest.mark.parametrize(
    ("shape", "tile", "attention"),
    [((256, 256, 256), (32, 32, 32), (2,)), ((512, 512, 256), (64, 64, 32), (3,))],
)
def test_the_papers_network_has_its_number_of_weights(
    shape: tuple[int, int, int], tile: tuple[int, int, int], attention: tuple[int, ...]
) -> None:
    config = patch_config("paper", shape)
    assert (config.tile, config.attention) == (tile, attention)
    assert parameter_count(config) == 68_590_209


def test_its_variants_have_those_of_the_specification() -> None:
    """In millions; what the paper's 68.59 rule out (spec 3)."""
    paper = patch_config("paper", (256, 256, 256))
    for change, millions in (
        ({"attention": ()}, 67.27),
        ({"attention": (1, 2)}, 68.92),
        ({"attention": (2, 3)}, 69.91),
        ({"blocks": 1}, 46.93),
    ):
        count = parameter_count(paper.model_copy(update=change))
        assert count / 1e6 == pytest.approx(millions, abs=0.006), change
    assert parameter_count(patch_config("small", (64, 64, 64))) == pytest.approx(0.73e6, rel=0.01)


@pytest.mark.parametrize("config", [TINY_PATCH, FLAT])
@pytest.mark.parametrize("inputs", ["all", "no-context", "no-coordinates", "tile"])
def test_a_tile_in_gives_a_tile_out(config: PatchConfig, inputs: str) -> None:
    config = config.model_copy(update={"inputs": inputs})
    seen = torch.randn(3, config.input_channels, *config.tile)
    output = random_patch(config)(seen, torch.tensor([0.0, 500.0, 999.0]))
    assert output.shape == (3, 1, *config.tile)
    assert len({float(part.sum()) for part in output}) == 3


def test_it_starts_at_zero() -> None:
    network = UNet3d(TINY_PATCH)
    initialise(network, 3)
    assert not network(torch.randn(1, 5, 4, 4, 4), torch.tensor([10.0])).any()


# ------------------------------------------------------------------------- tiles


def test_tiles_are_the_recorded_ones(parity: Path) -> None:
    gold = np.load(parity / "tiles.npz")
    edge, tile = (int(gold["N"]),) * 3, (int(gold["P"]),) * 3
    starts = tile_starts(edge, tile, tuple(gold["offset"].tolist()))
    assert starts == [tuple(row) for row in gold["tile_start_padded"].tolist()]
    volume = torch.from_numpy(gold["volume"])[None, None]
    around = torch.full((1, 1, *(e + 2 * p for e, p in zip(edge, tile, strict=True))), -1.0)
    surrounded = surround(volume, tile, around)
    tiles = torch.stack([cut(surrounded, start, tile)[0, 0] for start in starts])
    np.testing.assert_array_equal(tiles.numpy(), gold["tiles"])
    owner = torch.stack([torch.full((1, *tile), float(n)) for n in range(len(starts))])
    stitched = stitch(list(owner), starts, edge, tile)[0]
    np.testing.assert_array_equal(stitched.numpy(), gold["owner"])
    for number, start in enumerate(starts):
        boxes = inside(start, edge, tile)
        assert boxes is not None
        assert [part.start for part in boxes[0]] == gold["inside_lo"][number].tolist()
        assert [part.stop for part in boxes[0]] == gold["inside_hi"][number].tolist()
    np.testing.assert_allclose(context(volume, 3)[0, 0], gold["downsampled_area"], atol=1e-6)
    places = coordinates(edge, tile)
    np.testing.assert_allclose(places[0, :, 0, 0], gold["coordinate_line_padded"], atol=1e-6)
    for number, expected in zip((0, 21, 63), gold["coordinate_tiles_0_21_63"], strict=True):
        np.testing.assert_allclose(cut(places, starts[number], tile), expected, atol=1e-6)
    nowhere = [
        start for start in tile_starts(edge, tile, (0, 0, 0)) if not inside(start, edge, tile)
    ]
    assert len(nowhere) == int(gold["offset0_tiles_wholly_padding"])


@pytest.mark.parametrize(("shape", "tile"), [((8, 8, 8), (4, 4, 4)), ((8, 12, 6), (4, 4, 2))])
def test_the_tiles_of_every_offset_cover_the_volume_once(
    shape: tuple[int, int, int], tile: tuple[int, int, int]
) -> None:
    for offset in np.ndindex(*tile):
        seen = np.zeros(shape, int)
        for start in tile_starts(shape, tile, offset):
            boxes = inside(start, shape, tile)
            if boxes is not None:
                seen[boxes[0]] += 1
        assert (seen == 1).all()


# ------------------------------------------------------------------------- one walk's denoiser


def test_a_prediction_depends_on_key_and_time_and_not_on_tiles_at_once() -> None:
    network, schedule, x = random_patch(FLAT), VPLinearSchedule(), state(FLAT)
    whole = PatchDenoiser(network, schedule, Key(4, 2), renoise=2, at_once=1000)(x, 400.0)
    for at_once in (1, 7):
        again = PatchDenoiser(network, schedule, Key(4, 2), renoise=2, at_once=at_once)(x, 400.0)
        torch.testing.assert_close(again.x0, whole.x0, rtol=0, atol=1e-5)
        torch.testing.assert_close(again.eps, whole.eps, rtol=0, atol=1e-5)
    for key in (Key(5, 2), Key(4, 3)):
        other = PatchDenoiser(network, schedule, key, renoise=2)(x, 400.0)
        assert not torch.equal(other.eps, whole.eps)


@pytest.mark.parametrize("target", ["noise", "v"])
def test_image_and_noise_agree_with_the_state(target: str) -> None:
    config = TINY_PATCH.model_copy(update={"target": target, "air": -1e9, "largest": 1e9})
    x, schedule = state(config), VPLinearSchedule()
    for t in (30.0, 600.0, 990.0):
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        x0, eps = separated(torch.randn_like(x), x, alpha, sigma, config)
        torch.testing.assert_close(alpha * x0 + sigma * eps, x, rtol=0, atol=1e-4)


def test_noise_of_several_looks_keeps_its_strength() -> None:
    """eps is the sum by sqrt(K): of independent looks it has the variance of one (eq. 15)."""
    network, schedule, x = random_patch(TINY_PATCH), VPLinearSchedule(), state(TINY_PATCH)
    denoiser = PatchDenoiser(network, schedule, Key(0, 0), renoise=3)
    looks = [denoiser._look(x[0], 700.0, 0)]
    for look in (0, 1):
        fresh = denoiser._draw(Draw.RENOISE, x, tuple(x[0].shape), 700.0, look)
        again = schedule.alpha(700.0) * looks[-1][0] + schedule.sigma(700.0) * fresh
        looks.append(denoiser._look(again, 700.0, look + 1))
    found = denoiser(x, 700.0)
    expected = sum(eps for _, eps in looks) / 3**0.5
    torch.testing.assert_close(found.eps[0], expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.x0[0], sum(x0 for x0, _ in looks) / 3, rtol=0, atol=1e-5)


def test_what_cannot_be_walked_is_refused_by_name() -> None:
    network = PatchNetwork(random_patch())
    with pytest.raises(UsageError, match=r"--renoise 2 needs .*ddim.* not increment-2"):
        network.denoiser(VPLinearSchedule(), SamplingConfig(renoise=2), Key(0, 0))
    network.denoiser(VPLinearSchedule(), SamplingConfig(renoise=2, sampler="ddim"), Key(0, 0))
    with pytest.raises(UsageError, match="no residual to reuse"):
        network.denoiser(VPLinearSchedule(), SamplingConfig(refresh_every=2), Key(0, 0))
    denoiser = network.denoiser(VPLinearSchedule(), SamplingConfig(), Key(0, 0))
    with pytest.raises(UsageError, match=r"knows volumes of \(8, 8, 8\)"):
        denoiser(torch.zeros(1, 1, 8, 8, 12), 500.0)


def test_volumes_need_not_be_cubes(tmp_path: Path) -> None:
    """From the command to the file; records say how the paper's preset walked."""
    checkpoint, file = patch_checkpoint(tmp_path / "flat", FLAT), tmp_path / "a.nii.gz"
    words = ["generate", "--checkpoint", str(checkpoint), "--preset", "paper", "--steps", "4"]
    done = CliRunner().invoke(app, [*words, "--renoise", "2", "--out", str(file)])
    assert done.exit_code == 0, done.output
    volume = prdit_core.read_volume(file)
    assert volume.voxels_hu.shape == (8, 8, 4)
    assert volume.spacing_mm == pytest.approx((3, 2, 1))
    record = json.loads((tmp_path / "a.json").read_text())
    used = {name: record[name] for name in ("steps", "sampler", "grid", "renoise")}
    assert used == {"steps": 4, "sampler": "ddim-even", "grid": "exact", "renoise": 2}
    assert "eta" not in record  # the sampler's own, 0.4
    again = prdit_core.generate(
        prdit_core.load(checkpoint), SamplingConfig(eta=0.4, **used), seed=0
    )
    np.testing.assert_allclose(again.voxels_hu, volume.voxels_hu, atol=1)


def test_it_reconstructs_volumes_that_are_no_cubes(tmp_path: Path) -> None:
    """As the paper does, K = 2 and eta 0.8; even a prior that knows nothing fits the data."""
    flat = TINY_PATCH.model_copy(update={"tile": (2, 4, 4), "target": "v"})
    prior = prdit_core.load(patch_checkpoint(tmp_path / "flat", flat, spacing_mm=(3, 2, 2)))
    spec = scanners.parallel_scan(BOX.shape, BOX.spacing_mm, 12, 180.0)
    walk = SamplingConfig(steps=6, sampler="ddim-even", grid="exact", eta=0.8, renoise=2)
    found = reconstruct(prior, simulate(BOX, spec), walk, iterations=10)
    assert found.voxels_hu.shape == (4, 8, 8)
    assert (found.metadata["renoise"], found.metadata["eta"]) == (2, 0.8)
    assert found.metadata["misfit"] < 0.05
    np.testing.assert_array_equal(found.affine, BOX.affine)


class Reads(torch.nn.Module):
    """A network that predicts as noise what one of its inputs says."""

    def __init__(self, channel: int) -> None:
        super().__init__()
        self.config, self.channel = TINY_PATCH, channel

    def forward(self, seen: Tensor, times: Tensor) -> Tensor:
        return seen[:, self.channel, None]


def parts_of(module: Any) -> Decomposition:
    found = PatchNetwork(module).parts(VPLinearSchedule())
    assert found is not None
    return found.decompose(state(TINY_PATCH), 500.0)


def test_it_is_looked_into_without_context_and_without_coordinates() -> None:
    x_t = state(TINY_PATCH)
    tile, whole, place = (parts_of(Reads(channel)) for channel in (0, 1, 2))
    torch.testing.assert_close(tile.total.eps, x_t)  # neither is missed
    for found in (tile.local, *tile.blinded.values()):
        torch.testing.assert_close(found.eps, x_t)
    assert whole.total.eps.std() > 0.1
    torch.testing.assert_close(whole.blinded["no-coordinates"].eps, whole.total.eps)
    for found in (whole.local, whole.blinded["no-context"]):  # nothing but its mean
        torch.testing.assert_close(found.eps, context(x_t, 2).mean().expand_as(x_t))
    torch.testing.assert_close(place.blinded["no-context"].eps, place.total.eps)
    for found in (place.local, place.blinded["no-coordinates"]):  # all lie in the middle
        assert not found.eps.any()
    for one in (tile, whole, place):
        torch.testing.assert_close(one.local.x0 + one.global_residual.x0, one.total.x0)
    assert one.refiner is None


def test_what_it_is_looked_into_by_is_a_mean_over_offsets() -> None:
    network, schedule = random_patch(), VPLinearSchedule()
    looks = [
        PatchDenoiser(network, schedule, Key(0, 0))._look(state(TINY_PATCH)[0], 300.0, look)
        for look in range(LOOKS)
    ]
    mean = torch.stack([x0 for x0, _ in looks]).mean(0)
    torch.testing.assert_close(parts_of_at(network, 300.0).total.x0[0], mean)
    assert LOOKS > 1 and not torch.equal(looks[0][0], looks[1][0])
    blind = TINY_PATCH.model_copy(update={"inputs": "no-context"})
    assert PatchNetwork(random_patch(blind)).parts(schedule) is None


def parts_of_at(module: UNet3d, t: float) -> Decomposition:
    found = PatchNetwork(module).parts(VPLinearSchedule())
    assert found is not None
    return found.decompose(state(TINY_PATCH), t)


@pytest.mark.parametrize("target", ["noise", "v"])
def test_its_derivative_is_that_of_differences(target: str) -> None:
    """Through tiles, context and stitching; the bound of clean volumes is out of reach here."""
    config = TINY_PATCH.model_copy(update={"target": target, "air": -1e3, "largest": 1e3})
    network = random_patch(config)
    look = PatchNetwork(network).differentiable(VPLinearSchedule())
    u, v, x = (state(config, seed) for seed in (2, 3, 4))
    x.requires_grad_()
    (back,) = torch.autograd.grad(look(x, 400.0).x0, x, v)
    ahead, behind = (look(x.detach() + h * u, 400.0).x0 for h in (0.01, -0.01))
    expected = float((v * (ahead - behind)).sum()) / 0.02
    assert float((u * back).sum()) == pytest.approx(expected, rel=0.02)
    assert all(weight.grad is None for weight in network.parameters())


@pytest.mark.slow
def test_the_command_reconstructs_as_its_paper_does(tmp_path: Path) -> None:
    flat = TINY_PATCH.model_copy(update={"tile": (2, 4, 4), "target": "v"})
    checkpoint = patch_checkpoint(tmp_path / "flat", flat, (3, 2, 2))
    spec = scanners.parallel_scan(BOX.shape, BOX.spacing_mm, 12, 180.0)
    data = str(prdit_core.write_measurement(simulate(BOX, spec), tmp_path / "views.npz"))
    words = ["reconstruct", data, "--preset", "paper", "--steps", "3", "--out"]
    done = CliRunner().invoke(app, [*words, str(tmp_path / "a"), "--checkpoint", str(checkpoint)])
    assert done.exit_code == 0, done.output
    record = json.loads((tmp_path / "a" / "seed-0_index-0000.json").read_text())
    used = {name: record[name] for name in ("steps", "sampler", "grid", "eta", "renoise", "k")}
    assert used == {
        **{"steps": 3, "sampler": "ddim-even", "grid": "exact"},
        **{"eta": 0.8, "renoise": 2, "k": 1.0},
    }
    refused = CliRunner().invoke(app, [*words, str(tmp_path / "b")])
    assert refused.exit_code == 2 and "the paper of demo reconstructs nothing" in refused.output


@pytest.mark.slow
@pytest.mark.parametrize("coupling", ["pigdm", "posterior"])
def test_couplings_with_derivatives_bring_it_to_the_data(coupling: Any, tmp_path: Path) -> None:
    flat = TINY_PATCH.model_copy(update={"tile": (2, 4, 4), "target": "v"})
    prior = prdit_core.load(patch_checkpoint(tmp_path / "flat", flat, spacing_mm=(3, 2, 2)))
    spec = scanners.parallel_scan(BOX.shape, BOX.spacing_mm, 12, 180.0)
    times, errors = (5.0, 999.0), (0.3, 0.5)
    table = ErrorTable(size=4, times=times, errors=errors, volumes=1, data_sha256="", seed=0)
    known = Calibration(checkpoint_sha256=prior.digest, tables=(table,))
    measured, config = simulate(BOX, spec), Coupling(coupling).walk(steps=8)
    found = reconstruct(
        prior, measured, config, coupling=coupling, calibration=known, last_step="none"
    )
    problem, free = problem_of(prior, measured, None), prdit_core.generate(prior, config)
    without = problem.misfit(problem.measured(torch.from_numpy(free.voxels_hu)[None, None]))
    assert found.metadata["misfit"] < 0.5 * without


# ------------------------------------------------------------------------- what is taught


def given(config: PatchConfig, volumes: int = 2, t: float = 300.0) -> Batch:
    stream = torch.Generator().manual_seed(7)
    shape = (volumes, 1, *config.shape)
    x0, noise = (torch.randn(shape, generator=stream) for _ in range(2))
    names = tuple(map(str, range(volumes)))
    return Batch(x0.clamp(-1, 1), noise, torch.full((volumes,), t), names, 3, (0, 1)[:volumes])


class Gain(torch.nn.Module):
    """A network of one weight: the tile times a number."""

    def __init__(self, config: PatchConfig, gain: float) -> None:
        super().__init__()
        self.config, self.gain = config, torch.nn.Parameter(torch.tensor(gain))

    def forward(self, seen: Tensor, t: Tensor) -> Tensor:
        return self.gain * seen[:, :1]


def test_the_least_error_of_a_linear_network_is_the_known_one() -> None:
    """White volumes in air of 0: a tile has a voxel of the volume with chance (N / (N + P))^3.

    The best gain is sigma / v, v = sigma^2 + chance alpha^2, and leaves 1 - sigma^2 / v.
    """
    config, schedule = TINY_PATCH.model_copy(update={"air": 0.0}), VPLinearSchedule()
    alpha, sigma = schedule.alpha(300.0), schedule.sigma(300.0)
    v = sigma**2 + (8 / 12) ** 3 * alpha**2
    network = Gain(config, sigma / v)
    error = TileError(network, schedule, seed=0, tiles=200, draw=Draw.TILES)
    stream = torch.Generator().manual_seed(1)
    losses = []
    for iteration in range(10):
        x0, noise = (torch.randn((4, 1, 8, 8, 8), generator=stream) for _ in range(2))
        batch = Batch(x0, noise, torch.full((4,), 300.0), tuple("abcd"), iteration, (0, 1, 2, 3))
        losses.append(error(batch).objective.mean())
    loss = torch.stack(losses).mean()
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == pytest.approx(1 - sigma**2 / v, rel=0.02)
    assert network.gain.grad is not None
    assert abs(float(network.gain.grad)) < 0.02  # 2 (v gain - sigma); 2 sigma at gain 0


class Perfect(torch.nn.Module):
    """Knows the noise that lies on the volume, by its place; a network's stand-in."""

    def __init__(self, config: PatchConfig, answer: Tensor) -> None:
        super().__init__()
        self.config, self.answer = config, torch.nn.Parameter(answer)

    def forward(self, seen: Tensor, t: Tensor) -> Tensor:
        return seen[:, :1] * 0 + self.answer


@pytest.mark.parametrize("target", ["noise", "v"])
def test_only_the_tiles_noise_is_learnt(target: str) -> None:
    """The error is that against the tile's own target, and its gradient is zero at it."""
    config = TINY_PATCH.model_copy(update={"target": target})
    batch, schedule = given(config, 1), VPLinearSchedule()
    error = TileError(
        Perfect(config, torch.zeros(1, 1, 4, 4, 4)), schedule, seed=5, tiles=1, draw=Draw.TILES
    )

    stream = generator(Draw.TILES, 5, 0, 3, 0)
    around = torch.randn(border_shape(config), generator=stream)
    start = tuple(int(torch.randint(12, (1,), generator=stream)) for _ in range(3))
    noise = surround(batch.unit_noise, config.tile, around[None].clone())
    clean = surround(batch.x0, config.tile, torch.full_like(around[None], -1.0))
    alpha, sigma = schedule.alpha(300.0), schedule.sigma(300.0)
    wanted = cut(noise if target == "noise" else alpha * noise - sigma * clean, start, config.tile)
    losses = error(batch)
    torch.testing.assert_close(losses.objective.mean(), wanted.square().mean(), rtol=1e-5, atol=0)
    losses.objective.sum().backward()
    gradient = error.network.answer.grad
    torch.testing.assert_close(gradient, -2 * wanted / wanted.numel(), rtol=1e-4, atol=1e-6)
    right = TileError(Perfect(config, wanted), schedule, seed=5, tiles=1, draw=Draw.TILES)
    assert float(right(batch).objective.detach()) < 1e-10


def test_the_network_sees_the_noisy_tile_the_noisy_volume_and_the_place() -> None:
    x = state(TINY_PATCH)[0]
    border = torch.zeros(border_shape(TINY_PATCH))
    (seen,) = View(TINY_PATCH, x, border).tiles([(6, 4, 5)])
    torch.testing.assert_close(seen[:1], cut(x, (2, 0, 1), TINY_PATCH.tile))
    torch.testing.assert_close(seen[1:2], context(x[None], 2)[0])
    assert seen[2:].shape == (3, 4, 4, 4)
    assert seen[2, 0, 0, 0] == pytest.approx(2 * 2 / 7 - 1)


# ------------------------------------------------------------------------- training as a whole


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "8"
    phantoms(5, size=8, seed=0, out=folder, validation_fraction=0.2)
    return folder


def settings(data: Path, run: Path, **more: Any) -> PatchTraining:
    given = {"iterations": 4, "batch_size": 2, "tiles": 2, "factor": 2, "lr": 1e-3, "threads": 1}
    paces = {"save_every": 2, "preview_every": 4, "precision": "32-true"}
    return PatchTraining(data=data, run=run, **(given | paces | more))


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_same_bytes(data: Path, tmp_path: Path) -> None:
    once = trained(settings(data, tmp_path / "once"))
    config = settings(data, tmp_path / "run")
    closed_after(config, 4)
    assert unlike(resumed(config), once) == []
    halves = trained(settings(data, tmp_path / "halves", micro_batch=1))
    assert halves.keys() == once.keys()
    assert len(list((tmp_path / "once" / "previews").iterdir())) == 1


@pytest.mark.slow
def test_where_a_level_is_two_voxels_deep_a_cpu_trains_in_float32(
    data: Path, tmp_path: Path
) -> None:
    """In bf16 gradients there were wrong, or not finite, on a CPU that is fast at bf16."""
    train(settings(data, tmp_path / "run", precision="auto", device="cpu", iterations=1))
    record = read_header(newest(tmp_path / "run")).record
    assert record["training"]["precision"] == "32-true"


@pytest.mark.parametrize("depth", [1, 3, 4, 8, 16])
def test_gradients_in_bf16_are_right_at_all_other_depths(depth: int) -> None:
    conv = nn.Conv3d(16, 16, 3, padding=1)
    x = torch.randn(2, 16, depth, 4, 4, generator=torch.Generator().manual_seed(0))
    gradients = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            y = conv(x)
        gradients += torch.autograd.grad(y.float().square().mean(), conv.weight)
    exact, rounded = gradients
    assert (rounded - exact).norm() < 0.02 * exact.norm()


def test_two_processes_learn_what_one_does(data: Path, tmp_path: Path) -> None:
    """Tiles and noise belong to the place of a volume in the batch, not to who holds it."""
    batches = [Batches(Source(), 0, 2, rank, 2)[3] for rank in (0, 1)]
    whole = Batches(Source(), 0, 2)[3]
    error = TileError(random_patch(), VPLinearSchedule(), seed=0, tiles=2, draw=Draw.TILES)
    together = error(whole).objective
    apart = torch.cat([error(batch).objective for batch in batches])
    torch.testing.assert_close(apart, together, rtol=1e-5, atol=1e-6)


class Source:
    names = ("a", "b", "c")
    labels = (0, 0, 0)
    shapes = ((8, 8, 8),) * 3

    def read(self, number: int) -> NDArray[np.float32]:
        return np.random.default_rng(number).uniform(-1, 1, (1, 8, 8, 8)).astype(np.float32)

    def condition(self, number: int) -> None:
        del number


@pytest.mark.slow
def test_training_lowers_the_loss_and_the_model_generates(data: Path, tmp_path: Path) -> None:
    config = settings(data, tmp_path / "run", iterations=60, lr=3e-3, save_every=60)
    train(config)
    lines = read_lines(config.run / "metrics.jsonl")
    totals = [line["loss"]["total"] for line in lines if line["kind"] == "train"]
    assert np.mean(totals[-15:]) < 0.7 * np.mean(totals[:5])
    prior = prdit_core.load(config.run)
    walk = SamplingConfig(steps=6, sampler="ddim-even", grid="exact", renoise=2)
    volume = prdit_core.generate(prior, walk, seed=1)
    again = prdit_core.generate(prior, walk, seed=1)
    np.testing.assert_array_equal(volume.voxels_hu, again.voxels_hu)
    assert volume.metadata["renoise"] == 2
    steps = list(prdit_core.generate_steps(prior, walk, seed=1))
    branched = list(prdit_core.branch_steps(prior, steps[3].x0, 3, walk, seed=2))
    assert [step.index for step in branched] == [3, 4, 5]
    assert not torch.equal(branched[-1].x0, steps[-1].x0)
    assert prior.parts is not None  # with and without context and coordinates


@pytest.mark.slow
def test_it_goes_on_from_its_own_kind_only(data: Path, tmp_path: Path) -> None:
    train(settings(data, tmp_path / "run", target="noise", inputs="no-context"))
    begun = {"start": str(tmp_path / "run"), "iterations": 1, "factor": None}
    train(settings(data, tmp_path / "more", **begun))
    header = read_header(newest(tmp_path / "more"))
    assert isinstance(header.model, PatchConfig)
    assert (header.model.target, header.model.inputs) == ("noise", "no-context")
    for change, words in (
        ({"target": "v"}, "has target noise, not v"),
        ({"model": "demo"}, "leave out --model"),
        ({"start": "demo"}, "is no patch prior but prdit"),
    ):
        with pytest.raises(UsageError, match=words):
            train(settings(data, tmp_path / "other", **(begun | change)))
    with pytest.raises(UsageError, match="no multiples of the factor 3"):
        train(settings(data, tmp_path / "other", factor=3))


@pytest.mark.slow
def test_training_that_cannot_fit_is_refused_with_what_would(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(data, tmp_path / "run", micro_batch=1)
    network = patch_config("small", (8, 8, 8), factor=2)
    enough = PatchRecipe().memory(config, network, (8, 8, 8))
    monkeypatch.setattr(machine, "_physical_memory", lambda: enough)
    with pytest.raises(MemoryLimit, match="--micro-batch 1 would fit"):
        train(settings(data, tmp_path / "run"))
    train(config)


def test_memory_of_large_volumes_is_bounded_by_the_tiles_at_once() -> None:
    """Of the paper's network at 256^3: weights, 16 tiles of 32^3, and some volumes."""
    config = patch_config("paper", (256, 256, 256))
    assert patch_memory(config, 16) < 3 * 2**30
    assert patch_memory(config, 512) > 5 * patch_memory(config, 16)

"""High resolution: chains of refiners predict, generate and are kept like any other model."""

from __future__ import annotations

import json
import math
from collections import deque
from typing import TYPE_CHECKING, Any

import pytest
import torch
from chains import CUTS, OURS, chain, network, states
from pydantic import ValidationError
from toys import TINY, tiny_checkpoint

import prdit_core
from prdit_core.checkpoints.header import HEADER, Header
from prdit_core.checkpoints.publish import publish
from prdit_core.checkpoints.store import read_header
from prdit_core.errors import CheckpointError, UsageError
from prdit_core.models.families import parameter_count
from prdit_core.models.prdit.highres_refiner import (
    HighResRefiner,
    below,
    bytes_per_token,
    downsample,
    shown,
    upsample,
)
from prdit_core.models.prdit.memory import memory_needed
from prdit_core.models.prdit.network import PRDiT, initialise
from prdit_core.noise import Draw, unit_noise
from prdit_core.prdit_config import ModelConfig, RefinerConfig
from prdit_core.sampling.sampler import SAMPLERS
from prdit_core.schedule import CosineSchedule
from prdit_core.training.objective import add_noise

if TYPE_CHECKING:
    from pathlib import Path

SHAPES = [(16, 16, 16), (16, 24, 40)]
BEFORE_CHAINS = "ab60198ddad95895f74c63201ea19fc081975b920842b7eaa660e70b2580dd61"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return tiny_checkpoint(tmp_path / "chain", size=16, model=chain(2))


def rewrite(checkpoint: Path, **model: Any) -> None:
    content = json.loads((checkpoint / HEADER).read_text())
    content["model"].update(model)
    (checkpoint / HEADER).write_text(json.dumps(content))


def refused(checkpoint: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        prdit_core.load(checkpoint)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ------------------------------------------------------------------------- down and up


def test_every_second_voxel_is_kept_so_noise_keeps_its_strength() -> None:
    x = torch.arange(2.0 * 4 * 6 * 8).reshape(1, 2, 4, 6, 8)
    low = downsample(x)
    assert low.shape == (1, 2, 2, 3, 4)
    assert low[0, 1, 1, 2, 3] == x[0, 1, 2, 4, 6]
    noise = 0.5 * unit_noise((1, 1, 64, 64, 64), Draw.START, 0)
    assert downsample(noise).std().item() == pytest.approx(0.5, rel=0.01)
    assert downsample(downsample(noise)).std().item() == pytest.approx(0.5, rel=0.03)


def test_noise_is_repeated_and_the_image_interpolated() -> None:
    """Constants stay constant; a ramp stays one in the interior, half a voxel in between."""
    ramp = torch.arange(5.0).expand(1, 1, 3, 4, 5)
    up = upsample(torch.cat([ramp, ramp], dim=1), "voxels")
    assert up.shape == (1, 2, 6, 8, 10)
    eps, x0 = up[0, 0, 3, 3], up[0, 1, 3, 3]
    assert eps.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert x0.tolist() == [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.25, 3.75, 4]
    flat = upsample(torch.full((1, 2, 3, 4, 5), 0.7), "voxels")
    torch.testing.assert_close(flat, torch.full_like(flat, 0.7))


def test_channels_stay_apart() -> None:
    """Of 2C channels the first C are noise."""
    prediction = torch.randn(1, 4, 3, 3, 3)
    for channel, (noise, image) in enumerate(((0, 2), (1, 3))):
        alone = upsample(prediction[:, [noise, image]], "voxels")
        torch.testing.assert_close(upsample(prediction, "voxels")[:, [channel, channel + 2]], alone)


# ------------------------------------------------------------------------- tiles


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("strides", [1, 2, 3, 5])
def test_tiles_give_what_the_whole_gives(shape: tuple[int, ...], strides: int) -> None:
    """Also tiles that do not divide the volume: 12 of 16, 20 of 24 voxels."""
    model = network(chain(2))
    x, t = states(*shape)
    whole = model(x, t)
    for refiner in model.refiners:
        tiled_by(refiner, strides, len(x))
    tiled = model(x, t)
    assert (tiled - whole).abs().max() < 1e-5 * whole.abs().max().clamp(min=1)


def test_tiles_leave_no_seam() -> None:
    """Steps across the borders of tiles are like those across all borders of patches."""
    model = network(chain(1))
    x, t = states(40, 40, 40, batch=1)
    whole = model(x, t)
    tiled_by(model.refiners[0], 5, 1)
    tiled = model(x, t)
    seams = torch.tensor([9, 19, 29])  # a step to the next voxel, from the last one of a tile
    others = torch.tensor([n for n in range(1, 39, 2) if n not in seams])
    for axis in (2, 3, 4):
        steps = tiled.diff(dim=axis)
        across, elsewhere = (steps.index_select(axis, at).abs().mean() for at in (seams, others))
        assert 0.9 < across / elsewhere < 1.1
        torch.testing.assert_close(steps, whole.diff(dim=axis), rtol=1e-4, atol=1e-5)


def tiled_by(refiner: HighResRefiner, strides: int, batch: int) -> None:
    """Let tiles be of this many strides."""
    one = bytes_per_token(refiner.token_width) * batch
    refiner.tile_bytes = strides**3 * one
    assert refiner.tile_edge(batch) == strides * refiner.config.stride


def test_tiles_are_as_large_as_their_bound_allows() -> None:
    refiner = network(chain(1)).refiners[0]
    refiner.tile_bytes = 0
    assert refiner.tile_edge(1) == refiner.config.stride
    refiner.tile_bytes = 27 * bytes_per_token(refiner.token_width)
    assert refiner.tile_edge(1) == 3 * refiner.config.stride
    assert refiner.tile_edge(2) == 2 * refiner.config.stride


# ------------------------------------------------------------------------- chains


@pytest.mark.parametrize("refiners", range(4))
@pytest.mark.parametrize("ours", [{}, {"sees": "below", "shows": "averages"}])
def test_the_parts_of_a_chain_sum_to_its_prediction(refiners: int, ours: dict[str, str]) -> None:
    cuts = (cut.model_copy(update=ours) for cut in chain(refiners).refiners)
    model = network(chain(refiners).refined_by(*cuts))
    scale = 2 ** (refiners + 1)
    x, t = states(2 * scale, 2 * scale, 4 * scale)
    local, residual, refined = model.parts(x, t)
    assert residual is not None and (refined is None) == (refiners == 0)
    total = local + residual if refined is None else local + residual + refined
    torch.testing.assert_close(total, model(x, t), rtol=1e-5, atol=1e-5)


def test_a_stage_sees_every_second_voxel_of_the_state_above_it() -> None:
    model = network(chain(2))
    x, t = states(16, 24, 32)
    low, middle, top = model.pyramid(x, t)
    assert torch.equal(top, model(x, t))
    assert torch.equal(model.stopped_at(1)(downsample(x), t), middle)
    assert torch.equal(model.stopped_at(0)(downsample(downsample(x)), t), low)
    assert torch.equal(model.stopped_at(2)(x, t), top)


def test_averages_of_a_state_are_a_state_of_an_earlier_time() -> None:
    """Of the averaged image, with noise as strong as any: nothing that a model does not know."""
    schedule = CosineSchedule(noise_std=0.5)
    x0, eps = torch.rand(4, 1, 16, 16, 16), 0.5 * torch.randn(4, 1, 16, 16, 16)
    t = torch.tensor([0.0, 1.0, 600.0, 1000.0])
    low, earlier = shown(add_noise(schedule, x0, eps, t), t, "averages")
    x0_low, eps_low = below(x0, eps, "averages")
    torch.testing.assert_close(low, add_noise(schedule, x0_low, eps_low, earlier))
    torch.testing.assert_close(x0_low, torch.nn.functional.avg_pool3d(x0, 2))
    assert eps_low.std().item() == pytest.approx(0.5, rel=0.05)
    ratio = [math.tan(math.pi / 2000 * float(each)) for each in (t[2], earlier[2])]
    assert ratio[0] / ratio[1] == pytest.approx(8**0.5, rel=1e-4)
    assert earlier[0] == 0 and earlier[3].item() == pytest.approx(1000)
    assert shown(low, t, "voxels")[1] is t and torch.equal(
        shown(low, t, "voxels")[0], downsample(low)
    )


def test_the_noise_of_averages_comes_up_as_the_mean_of_their_voxels() -> None:
    x0, eps = torch.rand(1, 1, 8, 8, 8), torch.randn(1, 1, 8, 8, 8)
    x0_low, eps_low = below(x0, eps, "averages")
    noise, image = upsample(torch.cat([eps_low, x0_low], dim=1), "averages").chunk(2, dim=1)
    torch.testing.assert_close(
        torch.nn.functional.avg_pool3d(noise, 2), torch.nn.functional.avg_pool3d(eps, 2)
    )
    assert torch.equal(image, upsample(torch.cat([x0_low, x0_low], dim=1), "voxels")[:, 1:])


def test_a_stage_below_one_that_shows_averages_is_asked_at_their_time() -> None:
    model = network(TINY.refined_by(*OURS))
    x, t = states(16, 24, 32)
    low, middle, top = model.pyramid(x, t)
    assert torch.equal(top, model(x, t))
    state, earlier = shown(x, t, "averages")
    assert torch.equal(model.stopped_at(1)(state, earlier), middle)
    state, earlier = shown(state, earlier, "averages")
    assert torch.equal(model.stopped_at(0)(state, earlier), low)


def test_a_stopped_chain_shares_its_weights() -> None:
    model = network(chain(2))
    lower = model.stopped_at(1)
    assert lower.config == chain(1) and not any(w.requires_grad for w in lower.parameters())
    for name, weight in lower.state_dict().items():
        assert weight.data_ptr() == model.state_dict()[name].data_ptr()


@pytest.mark.slow
@pytest.mark.parametrize("tiles", [1, 100])
@pytest.mark.parametrize("cuts", [CUTS, OURS])
def test_a_box_is_what_the_whole_has_there(tiles: int, cuts: tuple[RefinerConfig, ...]) -> None:
    model = network(TINY.refined_by(*cuts))
    x, t = states(16, 24, 32)
    for refiner in model.refiners:
        tiled_by(refiner, tiles, len(x))
    whole = model.pyramid(x, t)
    corner = (slice(8, 16), slice(0, 4), slice(20, 32))
    for box in (corner, (slice(0, 16), slice(0, 24), slice(0, 32))):
        *below, top = model.pyramid(x, t, box)
        torch.testing.assert_close(top, whole[-1][(..., *box)], rtol=1e-5, atol=1e-5)
        assert all(torch.equal(a, b) for a, b in zip(below, whole, strict=False))


def test_heads_that_agree_add_up_to_the_state_and_keep_their_velocity() -> None:
    cut = CUTS[1].model_copy(update={"sees": "below", "shows": "averages"})
    apart, agree = (
        network(TINY.refined_by(cut.model_copy(update={"heads": heads})))
        for heads in ("apart", "agree")
    )
    x, t = states(8, 16, 16)
    theta = (t * (math.pi / 2000))[:, None, None, None, None]

    def heads(model: PRDiT) -> tuple[torch.Tensor, torch.Tensor]:
        eps, x0 = model(x, t).chunk(2, dim=1)
        return theta.cos() * x0 + theta.sin() * eps, theta.cos() * eps - theta.sin() * x0

    (state, velocity), (other, same) = heads(agree), heads(apart)
    torch.testing.assert_close(state, x, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(velocity, same, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(other, x, atol=0.1)


def test_a_base_whose_heads_agree_keeps_its_velocity_and_the_sum_of_its_parts() -> None:
    agreed = TINY.model_copy(update={"base_heads": "agree"})
    assert TINY.depth > 0 and "base_heads" not in TINY.model_dump()
    apart, agree = network(TINY), network(agreed)
    x, t = states(8, 8, 8)
    theta = (t * (math.pi / 2000))[:, None, None, None, None]
    eps, x0 = agree(x, t).chunk(2, dim=1)
    torch.testing.assert_close(theta.cos() * x0 + theta.sin() * eps, x, rtol=1e-5, atol=1e-5)
    other_eps, other_x0 = apart(x, t).chunk(2, dim=1)
    velocity = theta.cos() * eps - theta.sin() * x0
    same = theta.cos() * other_eps - theta.sin() * other_x0
    torch.testing.assert_close(velocity, same, rtol=1e-5, atol=1e-5)
    parts = agree.parts(x, t)
    assert parts.global_residual is not None
    torch.testing.assert_close(parts.local + parts.global_residual, agree(x, t))
    local = network(agreed.model_copy(update={"depth": 0}))  # the local part is whole by itself
    eps, x0 = local(x, t).chunk(2, dim=1)
    torch.testing.assert_close(theta.cos() * x0 + theta.sin() * eps, x, rtol=1e-5, atol=1e-5)


def test_a_velocity_has_no_heads_that_agree() -> None:
    with pytest.raises(ValueError, match="no two heads"):
        ModelConfig(**{**dict(TINY), "output": "velocity", "base_heads": "agree"})


def test_a_fresh_refiner_changes_nothing() -> None:
    model = network(chain(1))
    above = PRDiT(chain(2))
    initialise(above, 0)
    above.load_state_dict(model.state_dict(), strict=False)
    x, t = states(16, 16, 16)
    assert torch.equal(above(x, t), upsample(model(downsample(x), t), "voxels"))


def test_a_refiner_sees_only_its_patches() -> None:
    model = network(chain(1))
    x, t = states(16, 16, 16, batch=1)
    far = x.clone()
    far[..., -1] += 1.0
    a, b = (model.refiners[0](volume, torch.zeros(1, 2, 16, 16, 16), t) for volume in (x, far))
    assert torch.equal(a[..., :14], b[..., :14]) and not torch.equal(a, b)


def test_a_refiner_that_sees_below_follows_the_image_below_within_its_patch_and_not_the_noise() -> (
    None
):
    cut = OURS[1].model_copy(update={"heads": "apart"})
    refiner = network(TINY.refined_by(cut)).refiners[0]
    x, t = states(16, 16, 16, batch=1)
    rough = torch.randn(1, 2, 16, 16, 16)
    noise, image = rough.clone(), rough.clone()
    noise[:, 0] += 1.0
    image[:, 1, ..., -1] += 1.0
    found, as_noise, as_image = (refiner(x, seen, t) for seen in (rough, noise, image))
    assert torch.equal(found, as_noise)
    assert torch.equal(found[..., :12], as_image[..., :12])
    assert not torch.equal(found[..., 12:], as_image[..., 12:])


@pytest.mark.parametrize("cut", [CUTS[0], OURS[1]])
def test_several_channels_are_refined(cut: RefinerConfig) -> None:
    model = network(TINY.model_copy(update={"channels": 2}).refined_by(cut))
    x = torch.randn(1, 2, 8, 8, 8)
    local, residual, refined = model.parts(x, torch.tensor([5.0]))
    assert residual is not None and refined is not None
    assert refined.shape == (1, 4, 8, 8, 8)
    torch.testing.assert_close(local + residual + refined, model(x, torch.tensor([5.0])))


def test_the_gradient_of_the_state_is_that_without_tiles() -> None:
    """Guidance differentiates with respect to the noisy volume."""
    model = network(chain(1))
    found = []
    for strides in (100, 3):
        tiled_by(model.refiners[0], strides, 1)
        x, t = states(16, 16, 16, batch=1)
        model(x.requires_grad_(True), t).square().sum().backward()
        assert x.grad is not None
        found.append(x.grad)
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------------- a prior like any other


def test_a_chain_comes_back_from_its_checkpoint(checkpoint: Path, tmp_path: Path) -> None:
    prior = prdit_core.load(checkpoint)
    assert prior.network.config == chain(2) and prior.sizes == (4, 8, 16)
    assert prior.shape == (1, 1, 16, 16, 16)
    small = prdit_core.load(publish(checkpoint, tmp_path / "small"))
    x, _ = states(16, 16, 16, batch=1)
    a, b = (each.denoise(x, 500.0).x0 for each in (prior, small))
    assert (a - b).abs().max() < 0.02 * a.abs().max()


def test_a_chain_is_decomposed_into_three_parts(checkpoint: Path) -> None:
    prior = prdit_core.load(checkpoint)
    x, _ = states(16, 16, 16, batch=1)
    parts, prediction = prior.decompose(x, 400.0), prior.denoise(x, 400.0)
    assert parts.refiner is not None
    for name in ("x0", "eps"):
        total = sum(getattr(part, name) for part in (parts.local, parts.global_residual))
        total = total + getattr(parts.refiner, name)
        torch.testing.assert_close(total, getattr(prediction, name), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(getattr(parts.total, name), total)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_walks_on_a_chain(checkpoint: Path, sampler: str) -> None:
    prior = prdit_core.load(checkpoint)
    volume = prdit_core.generate(prior, prdit_core.SamplingConfig(steps=3, sampler=sampler))
    assert volume.voxels_hu.shape == (16, 16, 16)
    low, high = prior.intensity.window_hu
    assert volume.voxels_hu.min() >= low and volume.voxels_hu.max() <= high


@pytest.mark.parametrize(("size", "number"), [(4, 0), (8, 1), (16, 2)])
def test_a_size_picks_the_stage_of_a_chain(checkpoint: Path, size: int, number: int) -> None:
    prior = prdit_core.load(checkpoint)
    chosen = prior.at_size(size)
    assert chosen.geometry.shape == (size, size, size)
    assert chosen.geometry.field_of_view_mm == prior.geometry.field_of_view_mm
    spacing = prior.geometry.spacing_mm[0] * 16 / size
    assert chosen.geometry.spacing_mm == (spacing, spacing, spacing)
    assert chosen.sizes == (4, 8, 16)[: number + 1]
    x, t = states(16, 16, 16, batch=1)
    state = x[..., :: 16 // size, :: 16 // size, :: 16 // size]
    prediction = chosen.denoise(state, float(t))
    with torch.no_grad():
        eps, x0 = prior.network.module.pyramid(x, t)[number].chunk(2, dim=1)
    assert torch.equal(prediction.x0, x0) and torch.equal(prediction.eps, eps)
    (last,) = deque(prdit_core.generate_steps(chosen, prdit_core.SamplingConfig(steps=2)), maxlen=1)
    assert last.x0.shape == (1, 1, size, size, size)


def test_a_size_that_a_chain_has_not_is_refused(checkpoint: Path) -> None:
    with pytest.raises(UsageError, match="edge 4, 8, 16, not 12"):
        prdit_core.load(checkpoint).at_size(12)


# ------------------------------------------------------------------------- checkpoints


def test_plain_models_are_written_as_before(tmp_path: Path) -> None:
    """Not a word of families or refiners: the digests of older checkpoints stay valid."""
    path = tiny_checkpoint(tmp_path / "plain")
    written = json.loads((path / HEADER).read_text())["model"]
    known = ["patch", "stride", "padding", "channels", "width", "depth", "heads", "norm", "output"]
    assert list(written) == sorted(known) and list(TINY.model_dump()) == known
    rewrite(path, refiners=[])
    before = read_header(path)
    assert before.model == TINY
    assert read_header(tiny_checkpoint(tmp_path / "same")).digest == before.digest


def test_the_digest_of_a_known_header_never_changes() -> None:
    """As the version before chains computed it."""
    content = {
        "model": TINY.model_dump(),
        "schedule": {"kind": "cosine", "noise_std": 0.5},
        "intensity": {},
        "geometry": {"shape": [8, 8, 8], "spacing_mm": [1, 1, 1], "field_of_view_mm": 8},
        "files": {"weights.safetensors": "0" * 64},
    }
    assert (
        Header.model_validate(content).digest
        == "ab60198ddad95895f74c63201ea19fc081975b920842b7eaa660e70b2580dd61"
    )


def test_a_chain_of_the_papers_kind_is_written_as_before() -> None:
    """Not a word of what refiners see; the digest is that of the version before it could differ."""
    content = {
        "model": chain(2).model_dump(),
        "schedule": {"kind": "cosine", "noise_std": 0.5},
        "intensity": {},
        "geometry": {"shape": [16, 16, 16], "spacing_mm": [1, 1, 1], "field_of_view_mm": 16},
        "files": {"weights.safetensors": "0" * 64},
    }
    assert [list(cut) for cut in content["model"]["refiners"]] == [list(CUTS[0].model_dump())] * 2
    assert CUTS[0].model_dump().keys().isdisjoint({"sees", "shows", "heads"})
    known = "7f9b2ef71b524cf66a311fb8ecd5ebde7eb542e04b76b1496221ce70764b6d74"
    assert Header.model_validate(content).digest == known
    content["model"] = TINY.refined_by(*OURS).model_dump()
    assert Header.model_validate(content).model.refiners == OURS
    assert Header.model_validate(content).digest != known


def test_a_chain_that_sees_below_comes_back_and_generates(tmp_path: Path) -> None:
    model = TINY.refined_by(*OURS)
    prior = prdit_core.load(tiny_checkpoint(tmp_path / "seeing", size=16, model=model))
    assert prior.network.config == model
    assert prior.at_size(8).network.config == model.stopped_at(1)
    volume = prdit_core.generate(prior, prdit_core.SamplingConfig(steps=2))
    assert volume.voxels_hu.shape == (16, 16, 16)


def test_the_digest_follows_the_refiners(tmp_path: Path) -> None:
    digests = set()
    for number, cut in enumerate(CUTS):
        model = TINY.refined_by(cut)
        path = tiny_checkpoint(tmp_path / str(number), size=8, model=model)
        digests.add(read_header(path).digest)
        rewrite(path, refiners=[cut.model_dump() | {"width": 30}])
        digests.add(read_header(path).digest)
    assert len(digests) == 4


SILLY = [
    ({"output": "velocity"}, "image-and-noise"),
    ({"refiners": [CUTS[0].model_dump()] * 7}, "at most 6"),
    ({"refiners": [CUTS[0].model_dump()] * 4}, "multiples of 32"),
    ({"refiners": [CUTS[0].model_dump() | {"stride": 3, "patch": 5}]}, "multiples of"),
    ({"refiners": [CUTS[0].model_dump() | {"patch": 5}]}, "patch 5 must be"),
    ({"refiners": [CUTS[0].model_dump() | {"width": 10**9}]}, "width"),
    ({"refiners": [CUTS[0].model_dump() | {"depth": 1}]}, "depth"),
    ({"refiners": 2}, "refiners"),
    ({"refiners": [CUTS[0].model_dump() | {"sees": "above"}]}, "sees"),
    ({"refiners": [CUTS[0].model_dump() | {"sees": "below"}]}, "does not fit"),
    ({"refiners": [{}]}, "refiners"),
    ({"refiners": [CUTS[0].model_dump()]}, "unexpected refiners.1."),
    ({"refiners": [cut.model_dump() | {"width": 6} for cut in CUTS]}, "refiners.0.time."),
    ({"refiners": [{"patch": 64, "stride": 16, "padding": 24, "width": 8192}]}, "does not fit"),
]


@pytest.mark.parametrize(("change", "hint"), SILLY)
def test_a_header_with_impossible_refiners_is_refused(
    checkpoint: Path, change: dict[str, Any], hint: str
) -> None:
    rewrite(checkpoint, **change)
    assert hint in refused(checkpoint)


def test_edges_must_fit_every_stage() -> None:
    above = RefinerConfig(patch=8, stride=6, padding=1, width=12)
    config = TINY.refined_by(CUTS[1], above)
    assert config.edge_multiple == 24 and config.scale == 4
    assert TINY.edge_multiple == 2 and TINY.scale == 1
    assert TINY.refined_by(above, CUTS[0]).edge_multiple == 24
    network(config)(torch.zeros(1, 1, 24, 24, 48), torch.zeros(1))
    with pytest.raises(UsageError, match="multiple of the stride"):
        network(config)(torch.zeros(1, 1, 24, 24, 36), torch.zeros(1))


def test_a_velocity_cannot_be_refined() -> None:
    velocity = TINY.model_copy(update={"output": "velocity"})
    with pytest.raises(ValidationError, match="image-and-noise"):
        velocity.refined_by(CUTS[0])


def test_a_refiner_of_the_bundled_kind_has_few_weights() -> None:
    small = ModelConfig(patch=6, stride=4, padding=1, width=192, depth=4, heads=6)
    cut = RefinerConfig(patch=6, stride=4, padding=1, width=192)
    own = parameter_count(small.refined_by(cut)) - parameter_count(small)
    assert own / 1e6 == pytest.approx(0.68, abs=0.01)


def test_memory_of_a_chain_grows_with_the_volume_and_not_with_its_patches() -> None:
    """Patches of 256^3 would take 1.4 GB at once."""
    small = ModelConfig(patch=6, stride=4, padding=1, width=192, depth=4, heads=6)
    config = small.refined_by(*[RefinerConfig(patch=6, stride=4, padding=1, width=192)] * 3)
    needed = [memory_needed(config, (edge, edge, edge)) for edge in (64, 128, 256)]
    assert needed[0] < needed[1] < needed[2] < 2 * 2**30

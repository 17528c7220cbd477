"""Our networks give the numbers recorded from the official releases."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import recorded
import torch

from prdit_core.geometry import cubic
from prdit_core.intensity import Intensity
from prdit_core.models.prdit.evaluation import PRDiTNetwork
from prdit_core.models.prdit.highres_refiner import bytes_per_token, downsample, upsample
from prdit_core.models.prdit.layers import position_table, time_features
from prdit_core.models.prdit.zoo import SIZES, model_config
from prdit_core.models.prior import Prior
from prdit_core.patches import extract_patches
from prdit_core.sampling.grid import time_grid
from prdit_core.sampling.sampler import SAMPLERS, sample_steps
from prdit_core.schedule import CosineSchedule

if TYPE_CHECKING:
    from pathlib import Path

CASES = [
    *(("prdit", case) for case in ("p6s4d2", "p6s4d0", "p4s2d2")),
    # 36 million weights to draw by the recipe take seconds
    *(pytest.param("prdit", case, marks=pytest.mark.slow) for case in ("p12s8d2", "p12s8d0")),
    *(("tf", case) for case in ("p6s4d2", "p4s2d2")),
    *(("fm", case) for case in ("p4s2d2", "p6s4d0")),
]


def close(found: torch.Tensor, expected: np.ndarray, atol: float = 2e-5) -> None:
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=0, atol=atol)


@pytest.mark.parametrize(("family", "case"), CASES)
@torch.inference_mode()
def test_network_reproduces_the_release(family: str, case: str, parity: Path) -> None:
    numbers = recorded.load(parity / f"{family}_model_{case}.npz")
    model = recorded.network(numbers, family)
    x, t = recorded.tensor(numbers["x"]), recorded.tensor(numbers["t"])
    local, residual, _ = model.parts(x, t)
    close(model(x, t), numbers["out"])
    close(local, numbers["coarse"])
    if residual is None:
        assert model.config.depth == 0
    else:
        close(residual, numbers["fine"])


@pytest.mark.parametrize(("family", "case"), CASES)
@torch.inference_mode()
def test_conditions_and_tokens_reproduce_the_release(family: str, case: str, parity: Path) -> None:
    numbers = recorded.load(parity / f"{family}_model_{case}.npz")
    model = recorded.network(numbers, family)
    config = model.config
    x, t = recorded.tensor(numbers["x"]), recorded.tensor(numbers["t"])
    c = model.time.base(t)
    close(time_features(t), numbers["t_sinusoid"])
    close(model.time.local_head(c), numbers["c_coarse"])
    v = extract_patches(x, config.patch, config.stride, config.padding)
    if "patches" in numbers:
        close(v, numbers["patches"], atol=0)
        close(model.local(v, model.time.local_head(c)), numbers["coarse_tokens"])
    if model.global_residual is None:
        return
    c_global = model.time.global_head(c)
    close(c_global, numbers["c_fine"])
    grid = tuple(edge // config.stride for edge in x.shape[-3:])
    close(position_table(grid, config.width), numbers["pos_embed"])
    if "patch_embed" in numbers:
        close(model.global_residual.embedding(v), numbers["patch_embed"])
    tokens = model.global_residual.embed(v, grid)
    for number, block in enumerate(model.global_residual.blocks):
        tokens = block(tokens, c_global)
        if f"block_{number}" in numbers:
            close(tokens, numbers[f"block_{number}"])


@pytest.mark.parametrize(
    ("family", "case"),
    [("prdit", "p6s4d2"), ("prdit", "p4s2d2"), ("tf", "p6s4d2"), ("tf", "p4s2d2")],
)
@torch.inference_mode()
def test_bf16_attention_of_the_release_is_near(family: str, case: str, parity: Path) -> None:
    numbers = recorded.load(parity / f"{family}_model_{case}.npz")
    model = recorded.network(numbers, family)
    out = model(recorded.tensor(numbers["x"]), recorded.tensor(numbers["t"]))
    close(out, numbers["out_flash_bf16"], atol=3e-2 if family == "tf" else 2e-3)


def test_the_norm_variant_matters(parity: Path) -> None:
    """Same names, same weights, another network: loading alone cannot tell them apart."""
    numbers = recorded.load(parity / "tf_model_p4s2d2.npz")
    x, t = recorded.tensor(numbers["x"]), recorded.tensor(numbers["t"])
    wrong = recorded.network(numbers, "prdit")(x, t).detach().numpy()
    assert np.abs(wrong - numbers["out"]).max() > 0.5


def test_position_tables(parity: Path) -> None:
    for name, table in recorded.load(parity / "prdit_pos_enc.npz").items():
        edge, width = (int(part[1:]) for part in name.split("_")[1:])
        close(position_table((edge, edge, edge), width)[0], table)


def test_registered_names_of_the_patch_12_family(parity: Path) -> None:
    names = [str(name) for name in recorded.load(parity / "prdit_registry.npz")["names"]]
    family = [name for name in names if name.split("/")[1] == "12"]
    assert family
    for name in family:
        size, _, depth = name.split("-")[1].split("/")
        if size == "L" and int(depth):
            continue
        config = model_config(name)
        assert (config.patch, config.stride, config.padding) == (12, 8, 2)
        assert config.width == SIZES[size][0]


@torch.inference_mode()
def test_a_refined_network_reproduces_the_release(parity: Path) -> None:
    """Fig. 3 part by part: what the base sees and says, how that is enlarged, what is added."""
    numbers = recorded.load(parity / "sr_model.npz")
    model = recorded.network(numbers, "prdit")
    x, t = recorded.tensor(numbers["x"]), recorded.tensor(numbers["t"])
    close(downsample(x), numbers["x_low"], atol=0)
    base, out = model.pyramid(x, t)
    close(base, numbers["base_out"])
    close(model.stopped_at(0)(downsample(x), t), numbers["base_out"])
    close(upsample(base, "voxels"), numbers["base_upsampled"])
    close(model.refiners[0](x, upsample(base, "voxels"), t), numbers["local"])
    close(out, numbers["out"])
    local, residual, refined = model.parts(x, t)
    close(local + residual, numbers["base_upsampled"])
    close(refined, numbers["local"])


@pytest.mark.parametrize("edge", [1, 3, 8])
@torch.inference_mode()
def test_a_refined_network_reproduces_the_release_in_tiles(edge: int, parity: Path) -> None:
    """Tiles of 1, 3 and all 8 tokens along an axis; 3 leaves a rest."""
    numbers = recorded.load(parity / "sr_model.npz")
    model = recorded.network(numbers, "prdit")
    refiner = model.refiners[0]
    refiner.tile_bytes = len(numbers["x"]) * edge**3 * bytes_per_token(refiner.token_width)
    close(model(recorded.tensor(numbers["x"]), recorded.tensor(numbers["t"])), numbers["out"])


@pytest.mark.parametrize(("walk", "k"), [("gen", 1.0), ("pc", 2.0)])
def test_trajectories_of_a_refined_network(walk: str, k: float, parity: Path) -> None:
    """Cold and hot walk of the release through base and refiner at every step (Alg. 1)."""
    numbers = recorded.load(parity / "sr_model.npz")
    schedule = CosineSchedule(noise_std=0.5, last_t=999)
    module = recorded.network(numbers, "prdit")
    prior = Prior(PRDiTNetwork(module), schedule, Intensity(), cubic(16, 320), "recorded", "")
    draws = [recorded.tensor(draw) for draw in numbers["pc_unit_noise"]] if k > 1 else []
    *_, step = sample_steps(
        prior.denoise,
        schedule,
        recorded.tensor(numbers["z"]),
        sampler=SAMPLERS["euler"],
        grid=time_grid("release", 8, schedule),
        k=k,
        noise=lambda _: draws.pop(0),
    )
    assert not draws
    close(step.x, numbers[f"{walk}_x_final"], atol=2e-4)
    close(step.x0, numbers[f"{walk}_x0_final"], atol=2e-4)

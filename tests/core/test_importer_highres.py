"""Official files of high resolution become chains of two sizes, or are refused with the reason."""

from __future__ import annotations

import ast
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import recorded
import torch
from typer.testing import CliRunner

import prdit_core
from prdit_core.cli.app import app
from prdit_core.errors import CheckpointError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

# What the shapes of a high-resolution file leave open
OPEN = {"norm": "layer", "size": 16, "heads": 4}


@pytest.fixture
def refined(parity: Path) -> dict[str, Any]:
    return recorded.load(parity / "sr_model.npz")


@pytest.fixture
def refined_file(tmp_path: Path, refined: dict[str, Any]) -> Path:
    return recorded.official_file(tmp_path / "refined.pt", refined)


def changed(refined: dict[str, Any], path: Path, **weights: torch.Tensor | None) -> Path:
    """A high-resolution file with other weights of some names ("__" for "."), None for without."""
    state: dict[str, Any] = recorded.official_state(refined)
    for name, weight in weights.items():
        state[name.replace("__", ".")] = weight
    torch.save({"ema": {name: w for name, w in state.items() if w is not None}}, path)
    return path


def test_an_imported_refined_file_predicts_the_recorded_numbers(
    refined: dict[str, Any], refined_file: Path, tmp_path: Path
) -> None:
    prior = prdit_core.load(prdit_core.import_official(refined_file, tmp_path / "c", **OPEN))
    assert (prior.sizes, prior.geometry.shape) == ((8, 16), (16, 16, 16))
    assert prior.schedule.noise_std == 0.5
    x, x_low = recorded.tensor(refined["x"]), recorded.tensor(refined["x_low"])
    for row in range(2):
        t = float(refined["t"][row])
        prediction, below = prior.denoise(x[row : row + 1], t), prior.at_size(8)
        both = torch.cat([prediction.eps, prediction.x0], dim=1)[0]
        np.testing.assert_allclose(both.numpy(), refined["out"][row], atol=2e-5)
        prediction = below.denoise(x_low[row : row + 1], t)
        both = torch.cat([prediction.eps, prediction.x0], dim=1)[0]
        np.testing.assert_allclose(both.numpy(), refined["base_out"][row], atol=2e-5)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_refined_file_s_own_configuration_is_believed(
    prefix: str, refined: dict[str, Any], refined_file: Path, tmp_path: Path
) -> None:
    theirs = ast.literal_eval(str(refined["config"]))
    state = {f"{prefix}{n}": w for n, w in recorded.official_state(refined).items()}
    torch.save({"ema": state, "config": theirs}, tmp_path / "own.pt")
    converted = prdit_core.import_official(tmp_path / "own.pt", tmp_path / "a", norm="layer")
    stated = prdit_core.import_official(refined_file, tmp_path / "b", **OPEN)
    assert prdit_core.load(converted).digest == prdit_core.load(stated).digest


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"refiner_patch": 6}, "says refiner_patch 4, but --refiner-patch 6"),
        ({"refiner_stride": 1}, "says refiner_stride 2, but --refiner-stride 1"),
        ({"refiner_padding": 0}, "says refiner_padding 1, but --refiner-padding 0"),
        ({"patch": 6}, "says patch 4, but --patch 6"),
        ({"heads": 6}, "says heads 4, but --heads 6"),
        ({"size": 8}, "says size 16, but --size 8"),
    ],
)
def test_what_a_refined_file_says_is_not_overruled(
    given: dict[str, int], message: str, refined: dict[str, Any], tmp_path: Path
) -> None:
    theirs = ast.literal_eval(str(refined["config"]))
    source = recorded.official_file(tmp_path / "f.pt", refined, config=theirs)
    with pytest.raises(UsageError, match=message):
        prdit_core.import_official(source, tmp_path / "c", norm="layer", **given)
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("sizes", [{"base_input_size": 8}, {"base": {"input_size": 8}}])
def test_a_refiner_makes_twice_the_size_of_its_base(
    sizes: dict[str, Any], refined: dict[str, Any], tmp_path: Path
) -> None:
    source = recorded.official_file(tmp_path / "a.pt", refined, config=sizes)
    with pytest.raises(UsageError, match="--size: give"):
        prdit_core.import_official(source, tmp_path / "c", norm="layer", heads=4)
    with pytest.raises(UsageError, match=r"sees 8\^3.*cannot be 32"):
        prdit_core.import_official(source, tmp_path / "c", **{**OPEN, "size": 32})
    prdit_core.import_official(source, tmp_path / "c", **OPEN)
    source = recorded.official_file(
        tmp_path / "b.pt", refined, config={**sizes, "target_input_size": 32}
    )
    with pytest.raises(CheckpointError, match=r"sees 8\^3.*cannot be 32"):
        prdit_core.import_official(source, tmp_path / "d", norm="layer", heads=4)


@pytest.mark.parametrize("size", [15, 18])
def test_a_size_must_fit_every_resolution(size: int, refined_file: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="multiple of 4"):
        prdit_core.import_official(refined_file, tmp_path / "c", **{**OPEN, "size": size})


def heads_of(token_width: int, tile_width: int, embedding: str, local: str) -> dict[str, Any]:
    """The weights whose shapes tell a local part's geometry."""
    return {
        f"{embedding}.mlp.0.weight": torch.zeros(24, 256),
        f"{embedding}.coarse_head.weight": torch.zeros(token_width, 24),
        f"{local}.mlp_denoise.linear_final.weight": torch.zeros(tile_width, token_width),
    }


def test_several_geometries_of_a_refined_file_are_listed(tmp_path: Path) -> None:
    """216 = 1 x 6^3 = 8 x 3^3, of base and refiner alike; 64 of a refiner is one channel's."""
    base = heads_of(216, 16, "base.t_embedder", "base.coarse")
    both = {**base, **heads_of(216, 16, "t_embedder_sr", "sr")}
    torch.save({"ema": both}, tmp_path / "both.pt")
    listed = (
        "--patch 3 --stride 1 --padding 1 "
        "--refiner-patch 3 --refiner-stride 1 --refiner-padding 1 --channels 8"
    )
    with pytest.raises(UsageError, match=f"choose one: .*{listed}"):
        prdit_core.import_official(tmp_path / "both.pt", tmp_path / "c", **OPEN)
    torch.save({"ema": {**base, **heads_of(64, 16, "t_embedder_sr", "sr")}}, tmp_path / "one.pt")
    with pytest.raises(CheckpointError, match="is missing, expected"):  # the geometry was found
        prdit_core.import_official(tmp_path / "one.pt", tmp_path / "c", **OPEN)


def test_a_velocity_model_is_not_refined(tmp_path: Path) -> None:
    state = {
        **heads_of(64, 8, "base.t_embedder", "base.coarse"),
        **heads_of(64, 8, "t_embedder_sr", "sr"),
    }
    torch.save({"ema": state}, tmp_path / "velocity.pt")
    with pytest.raises(CheckpointError, match="velocity model under a refiner"):
        prdit_core.import_official(tmp_path / "velocity.pt", tmp_path / "c", **OPEN)


@pytest.mark.parametrize("prefix", ["base.", "t_embedder_sr.", "sr."])
def test_a_refined_file_must_have_every_part(
    prefix: str, refined: dict[str, Any], tmp_path: Path
) -> None:
    state = recorded.official_state(refined)
    kept = {name: weight for name, weight in state.items() if not name.startswith(prefix)}
    torch.save({"ema": kept}, tmp_path / "f.pt")
    with pytest.raises(CheckpointError, match=rf"f\.pt.*without any weight {prefix}\*"):
        prdit_core.import_official(tmp_path / "f.pt", tmp_path / "c", **OPEN)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sr__mlp_denoise__mlp1__fc2__bias": None}, r"refiners\.0\.local\.first\.out.* missing"),
        ({"sr__mlp_denoise__linear_final__weight": None}, "is missing"),
        ({"sr__mlp_denoise__mlp2__fc2__weight": torch.zeros(64, 63)}, r"\(64, 63\), expected"),
        ({"sr__mlp_denoise__mlp1__norm__bias": torch.full((64,), torch.nan)}, "NaN"),
        ({"t_embedder_sr__mlp__0__bias": torch.full((48,), torch.inf)}, "NaN or infinite"),
        ({"t_embedder_sr__fine_head__weight": torch.zeros(48, 48)}, "expected nothing"),
        ({"t_embedder__mlp__0__bias": torch.zeros(48)}, "no part of a high-resolution model"),
        ({"sr__mlp_denoise__surprise": torch.zeros(1)}, "belongs to no PRDiT network"),
    ],
)
def test_damaged_refined_files_are_refused(
    change: dict[str, Any], message: str, refined: dict[str, Any], tmp_path: Path
) -> None:
    source = changed(refined, tmp_path / "f.pt", **change)
    with pytest.raises(CheckpointError, match=message) as caught:
        prdit_core.import_official(source, tmp_path / "c", **OPEN)
    assert "f.pt" in str(caught.value)
    assert not (tmp_path / "c").exists()


def test_raw_weights_of_a_refined_model_may_be_the_whole_file(
    refined: dict[str, Any], refined_file: Path, tmp_path: Path
) -> None:
    torch.save(recorded.official_state(refined), tmp_path / "raw.pt")
    a = prdit_core.import_official(tmp_path / "raw.pt", tmp_path / "a", weights="model", **OPEN)
    b = prdit_core.import_official(refined_file, tmp_path / "b", **OPEN)
    assert prdit_core.load(a).digest == prdit_core.load(b).digest


def test_the_command_imports_a_chain_and_tells_its_sizes(
    refined: dict[str, Any], refined_file: Path, tmp_path: Path
) -> None:
    def call(source: Path, *words: str) -> Any:
        out = str(tmp_path / "c")
        return CliRunner().invoke(app, ["import", str(source), "--out", out, *words])

    stated = [f"--{name}={value}" for name, value in OPEN.items()]
    assert call(refined_file, *stated, "--refiner-patch=6").exit_code == 2
    hurt = changed(refined, tmp_path / "f.pt", sr__mlp_denoise__mlp1__fc2__bias=None)
    refused = call(hurt, *stated)
    assert refused.exit_code == 5 and refused.stderr.count("\n") == 1
    done = call(refined_file, *stated, "--refiner-patch=4")
    assert done.exit_code == 0, done.output
    info = CliRunner().invoke(app, ["info", str(tmp_path / "c")]).stdout
    for text in (done.stdout, info):
        lines = {line[:17].strip(): line[17:] for line in text.splitlines()}
        assert lines["sizes"] == "8, 16"
        assert lines["refiner to 16"] == "patch 4, stride 2, padding 1, width 48"
        assert "refiners" not in text
    info = json.loads(CliRunner().invoke(app, ["info", str(tmp_path / "c"), "--json"]).stdout)
    assert info["sizes"] == [8, 16]
    assert info["model"]["refiners"] == [{"patch": 4, "stride": 2, "padding": 1, "width": 48}]


def test_a_chain_of_three_sizes_is_told_line_by_line(tmp_path: Path) -> None:
    from toys import TINY, tiny_checkpoint

    from prdit_core.prdit_config import RefinerConfig

    refiners = [RefinerConfig(patch=p, stride=s, padding=1, width=24) for p, s in ((4, 2), (6, 4))]
    path = tiny_checkpoint(tmp_path / "c", size=32, model=TINY.refined_by(*refiners))
    info = CliRunner().invoke(app, ["info", str(path)]).stdout
    assert [
        line.split() for line in info.splitlines() if line.startswith(("sizes", "refiner"))
    ] == [
        "sizes 8, 16, 32".split(),
        "refiner to 16 patch 4, stride 2, padding 1, width 24".split(),
        "refiner to 32 patch 6, stride 4, padding 1, width 24".split(),
    ]

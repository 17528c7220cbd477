"""Official files become our checkpoints, or are refused with the reason."""

from __future__ import annotations

import argparse
import ast
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import recorded
import torch
from typer.testing import CliRunner

import prdit_core
from prdit_core.cli.app import app
from prdit_core.errors import CheckpointError, OutputError, PrditError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

GEOMETRY = {"size": 16, "patch": 4, "stride": 2, "padding": 1, "channels": 1, "heads": 6}


@pytest.fixture
def numbers(parity: Path) -> dict[str, Any]:
    return recorded.load(parity / "prdit_model_p4s2d2.npz")


@pytest.fixture
def file(tmp_path: Path, numbers: dict[str, Any]) -> Path:
    return recorded.official_file(tmp_path / "official.pt", numbers)


CASES = [
    ("prdit", "p6s4d2", "layer"),
    ("prdit", "p6s4d0", "layer"),
    ("prdit", "p4s2d2", "layer"),
    ("tf", "p6s4d2", "rms"),
    ("tf", "p4s2d2", "rms"),
    ("fm", "p4s2d2", "layer"),
    ("fm", "p6s4d0", "layer"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("family", "case", "norm"), CASES)
def test_an_imported_file_predicts_the_recorded_numbers(
    family: str, case: str, norm: str, parity: Path, tmp_path: Path
) -> None:
    numbers = recorded.load(parity / f"{family}_model_{case}.npz")
    theirs = ast.literal_eval(str(numbers["config"]))
    source = recorded.official_file(tmp_path / "official.pt", numbers)
    out = prdit_core.import_official(
        source,
        tmp_path / "ours",
        norm=norm,
        size=theirs["input_size"],
        patch=theirs["patch_size"],
        stride=theirs["stride"],
        padding=theirs["padding"],
        channels=1,
        heads=theirs["num_heads"],
    )
    prior = prdit_core.load(out)
    assert not prior.intensity.exact and not prior.geometry.exact
    x = recorded.tensor(numbers["x"])
    for row in range(2):
        t = float(numbers["t"][row])
        time = 1000 - t if family == "fm" else t  # their flow time runs the other way
        prediction = prior.denoise(x[row : row + 1], time)
        if family == "fm":
            velocity = numbers["out"][row]
            sigma = time / 1000
            np.testing.assert_allclose(
                prediction.x0[0].numpy(), x[row].numpy() + sigma * velocity, atol=3e-5
            )
        else:
            np.testing.assert_allclose(prediction.eps[0].numpy(), numbers["eps"][row], atol=2e-5)
            np.testing.assert_allclose(prediction.x0[0].numpy(), numbers["img"][row], atol=2e-5)


def test_times_beyond_the_training_are_asked_as_the_last(file: Path, tmp_path: Path) -> None:
    prior = prdit_core.load(
        prdit_core.import_official(file, tmp_path / "c", norm="layer", **GEOMETRY)
    )
    x = torch.randn(prior.shape)
    assert torch.equal(prior.denoise(x, 1000.0).x0, prior.denoise(x, 999.0).x0)
    assert not torch.equal(prior.denoise(x, 999.0).x0, prior.denoise(x, 998.0).x0)


def test_noise_std_is_the_release_s_unless_stated(file: Path, tmp_path: Path) -> None:
    def std(name: str, norm: str, **more: Any) -> float:
        out = prdit_core.import_official(file, tmp_path / name, norm=norm, **GEOMETRY, **more)
        return prdit_core.load(out).schedule.noise_std

    assert std("a", "layer") == 0.5
    assert std("b", "rms") == 1.0
    assert std("c", "layer", noise_std=0.7) == 0.7


@pytest.mark.parametrize("left_out", ["size", "heads", "norm"])
def test_what_shapes_cannot_tell_must_be_said(left_out: str, file: Path, tmp_path: Path) -> None:
    stated = {**GEOMETRY, "norm": "layer"}
    del stated[left_out]
    with pytest.raises(UsageError, match=f"--{left_out}"):
        prdit_core.import_official(file, tmp_path / "c", **stated)


@pytest.mark.slow
def test_several_fitting_geometries_are_listed(parity: Path, tmp_path: Path) -> None:
    """1728 = 1 x 12^3 = 8 x 6^3, and both have a stride that fits."""
    numbers = recorded.load(parity / "prdit_model_p12s8d0.npz")
    source = recorded.official_file(tmp_path / "f.pt", numbers)
    with pytest.raises(UsageError, match=r"several geometries.*--patch 12.*--patch 6"):
        prdit_core.import_official(source, tmp_path / "c", norm="layer", size=32)
    prdit_core.import_official(source, tmp_path / "c", norm="layer", size=32, channels=1)


def test_a_geometry_that_does_not_fit_is_refused(file: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such geometry"):
        prdit_core.import_official(
            file, tmp_path / "c", norm="layer", **{**GEOMETRY, "patch": 6, "stride": 4}
        )


@pytest.mark.parametrize("container", [dict, argparse.Namespace])
def test_the_file_s_own_configuration_is_believed(
    container: type, numbers: dict[str, Any], tmp_path: Path
) -> None:
    theirs = ast.literal_eval(str(numbers["config"]))
    source = recorded.official_file(tmp_path / "f.pt", numbers, config=container(**theirs))
    prior = prdit_core.load(prdit_core.import_official(source, tmp_path / "c", norm="layer"))
    assert (prior.network.config.heads, prior.geometry.shape) == (6, (16, 16, 16))
    with pytest.raises(UsageError, match="says heads 6, but --heads 4"):
        prdit_core.import_official(source, tmp_path / "d", norm="layer", heads=4)


def test_raw_weights_only_on_request(file: Path, numbers: dict[str, Any], tmp_path: Path) -> None:
    state = recorded.official_state(numbers)
    torch.save({"model": state}, tmp_path / "raw.pt")
    with pytest.raises(CheckpointError, match="no 'ema' weights; it has model"):
        prdit_core.import_official(tmp_path / "raw.pt", tmp_path / "c", norm="layer", **GEOMETRY)
    a = prdit_core.import_official(
        tmp_path / "raw.pt", tmp_path / "d", norm="layer", weights="model", **GEOMETRY
    )
    b = prdit_core.import_official(file, tmp_path / "e", norm="layer", **GEOMETRY)
    assert prdit_core.load(a).digest == prdit_core.load(b).digest


class Canary:
    """Creates a file when unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    torch.save({"ema": Canary(str(tmp_path / "canary"))}, tmp_path / "evil.pt")
    with pytest.raises(CheckpointError, match="code"):
        prdit_core.import_official(tmp_path / "evil.pt", tmp_path / "c", norm="layer", **GEOMETRY)
    assert not (tmp_path / "canary").exists() and not (tmp_path / "c").exists()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_file_is_refused(share: float, file: Path, tmp_path: Path) -> None:
    raw = file.read_bytes()
    (tmp_path / "cut.pt").write_bytes(raw[: int(len(raw) * share)])
    with pytest.raises(CheckpointError):
        prdit_core.import_official(tmp_path / "cut.pt", tmp_path / "c", norm="layer", **GEOMETRY)


def test_other_networks_are_refused(tmp_path: Path) -> None:
    torch.save({"ema": {"encoder.weight": torch.zeros(2, 2)}}, tmp_path / "other.pt")
    for name in ("other.pt", "missing.pt"):
        with pytest.raises(PrditError):
            prdit_core.import_official(tmp_path / name, tmp_path / "c", norm="layer", **GEOMETRY)


def test_a_flipped_bit_is_seen(file: Path, tmp_path: Path) -> None:
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    (tmp_path / "flipped.pt").write_bytes(raw)
    with pytest.raises(CheckpointError, match="damaged"):
        prdit_core.import_official(
            tmp_path / "flipped.pt", tmp_path / "c", norm="layer", **GEOMETRY
        )


@pytest.mark.parametrize("change", [{"size": 15}, {"noise_std": 0.0}, {"noise_std": -1.0}])
def test_what_could_not_be_used_is_refused(
    change: dict[str, Any], file: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError):
        prdit_core.import_official(file, tmp_path / "c", norm="layer", **{**GEOMETRY, **change})


def test_the_command_imports(file: Path, tmp_path: Path) -> None:
    words = [f"--{name}={value}" for name, value in GEOMETRY.items()]
    call = ["import", str(file), "--out", str(tmp_path / "c"), *words]
    done = CliRunner().invoke(app, [*call, "--norm", "layer"])
    assert done.exit_code == 0, done.output
    assert prdit_core.load(tmp_path / "c").network.config.norm == "layer"
    unsaid = CliRunner().invoke(app, [*call[:3], str(tmp_path / "d"), *words])
    assert unsaid.exit_code == 2 and "--norm" in unsaid.stderr


def test_an_existing_target_is_kept(file: Path, tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    with pytest.raises(OutputError, match="exists"):
        prdit_core.import_official(file, tmp_path / "c", norm="layer", **GEOMETRY)


def test_several_channels_load_and_denoise_but_have_no_hu(tmp_path: Path) -> None:
    from toys import TINY, tiny_checkpoint

    two = TINY.model_copy(update={"channels": 2})
    prior = prdit_core.load(tiny_checkpoint(tmp_path / "two", model=two))
    assert prior.denoise(torch.randn(prior.shape), 500.0).x0.shape == (1, 2, 8, 8, 8)
    with pytest.raises(UsageError, match="2 channels"):
        prdit_core.generate(prior, prdit_core.SamplingConfig(steps=2))


def test_a_file_without_refiner_has_no_refiner_s_options(file: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="leave out --refiner-stride"):
        prdit_core.import_official(file, tmp_path / "c", norm="layer", **GEOMETRY, refiner_stride=2)

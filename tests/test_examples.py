"""Every example runs, on phantoms and in seconds, and says what it promises to say."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import pytest
import torch
from chests import TRAINING, chests, save
from toys import TINY_CHAIN, tiny_checkpoint

from prdit_core import Prediction
from prdit_core.data.io import read_volume
from prdit_core.sampling.predictor import Estimate, Place, increment
from prdit_core.schedule import CosineSchedule

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
LONGEST = 40


def names(number: str) -> dict[str, Any]:
    """What an example defines."""
    (path,) = [path for path in EXAMPLES if path.name.startswith(number)]
    return runpy.run_path(str(path))


def example(number: str) -> Callable[..., None]:
    """The function of an example that its command line calls."""
    main: Callable[..., None] = names(number)["main"]
    return main


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """A folder of phantoms as NIfTI, as if they were somebody's scans."""
    return save(chests(TRAINING, 4), tmp_path / "scans")


def test_examples_are_numbered_short_and_listed() -> None:
    assert [path.name[:2] for path in EXAMPLES] == [f"{i + 1:02}" for i in range(len(EXAMPLES))]
    readme = (ROOT / "README.md").read_text("utf-8")
    site = (ROOT / "docs/examples.md").read_text("utf-8")
    for path in EXAMPLES:
        assert len(path.read_text("utf-8").splitlines()) <= LONGEST, path.name
        assert f"(examples/{path.name})" in readme and f'"examples/{path.name}"' in site
        assert path.stem in {test[len("test_") :] for test in globals() if test.startswith("test_")}


@pytest.mark.slow
def test_01_generate(tmp_path: Path) -> None:
    example("01")(out=tmp_path, steps=2)
    one, other = (read_volume(tmp_path / f"seed-{seed}.nii.gz") for seed in (0, 1))
    assert one.shape == other.shape == (32, 32, 32)
    assert (one.voxels_hu != other.voxels_hu).any()


@pytest.mark.slow
def test_02_watch_a_walk(capsys: pytest.CaptureFixture[str]) -> None:
    example("02")(steps=4)
    shown = capsys.readouterr().out
    assert len(re.findall(r"x0 moved by", shown)) == 4
    first, *_, last = map(int, re.findall(r"(\d+) HU away", shown))
    assert first > last > 0  # anatomy is decided early, texture late


def test_03_split_a_scan(tmp_path: Path, scans: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scan = next(scans.iterdir())
    example("03")(scan=str(scan), out=tmp_path / "out", size=32)
    assert float(re.findall(r"to (\S+) HU\n", capsys.readouterr().out)[-1]) < 0.01
    parts = {path.name for path in (tmp_path / "out").glob("*.nii.gz")}
    assert {"x0-local.nii.gz", "x0-global-residual.nii.gz", "x0-total.nii.gz"} <= parts


@pytest.mark.slow
def test_04_train_and_generate(tmp_path: Path) -> None:
    example("04")(out=tmp_path, count=4, iterations=2)
    assert nibabel.load(tmp_path / "volume.nii.gz").shape == (16, 16, 16)  # no chest as yet


@pytest.mark.slow
def test_05_evaluate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example("05")(out=tmp_path, count=4, steps=5)
    assert (tmp_path / "report.html").is_file()
    values = re.findall(r"MMD, \d+ steps: (\S+)", capsys.readouterr().out)
    assert len(values) == 2 and float(values[0]) < float(values[1])


@pytest.mark.slow
def test_06_own_sampler(capsys: pytest.CaptureFixture[str]) -> None:
    example("06")(steps=2, reference=2)
    assert re.findall(r"(\w+) +\d+ steps", capsys.readouterr().out) == ["increment", "midpoint"]


def test_06_own_sampler_is_exact_where_nothing_changes() -> None:
    x, always = torch.ones(1, 1, 2, 2, 2), Prediction(torch.tensor(0.5), torch.tensor(-0.25))
    place = Place(x, Estimate(800.0, always), None, CosineSchedule(), lambda _x, _t: always)
    torch.testing.assert_close(names("06")["midpoint"](place, 300.0), increment(place, 300.0))


@pytest.mark.slow
def test_07_finetune(tmp_path: Path, scans: Path) -> None:
    model = tiny_checkpoint(tmp_path / "model", size=16, model=TINY_CHAIN)
    example("07")(scans=[scans], out=tmp_path / "out", model=str(model), iterations=2)
    assert nibabel.load(tmp_path / "out/volume.nii.gz").shape == (16, 16, 16)  # no chest as yet
    assert (tmp_path / "out/run/status.json").is_file()


def test_08_reconstruct(capsys: pytest.CaptureFixture[str]) -> None:
    example("08")(steps=4)
    measured, imagined = map(float, re.findall(r"(\S+) HU", capsys.readouterr().out))
    assert measured < 0.1 and 5 < imagined < 150


def test_08_reconstruct_has_an_exact_transpose() -> None:
    module = names("08")
    operator = module["EvenSlices"](
        module["mask_of"](np.arange(24).reshape(4, 2, 3) % 12 < 6), torch.float64
    )
    x = torch.rand(1, 1, 4, 2, 3, dtype=torch.float64)
    y = torch.rand(1, 1, 12, dtype=torch.float64)
    torch.testing.assert_close((operator(x) * y).sum(), (x * operator.adjoint(y)).sum())

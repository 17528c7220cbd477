"""`prdit-core calibrate`: the error of a network's x0, its file beside the weights, and faults."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from chests import chests, save
from test_command import digests, run
from toy_family import Gaussian, GaussianConfig, GaussianNetwork
from toys import TINY_CHAIN, tiny_checkpoint

import prdit_core
from prdit_core.checkpoints.catalog import BUNDLED
from prdit_core.data.datasets import PreparedData
from prdit_core.errors import CheckpointError, InputRejected, NumericalError
from prdit_core.inverse.calibration import CALIBRATION, calibration_beside, read_calibration
from prdit_core.models.prior import Prior
from prdit_core.schedule import CosineSchedule
from prdit_core.verbs.calibrate import TIMES, calibrate, held_out

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four phantoms of 16^3 in voxels of 20 mm, one of them held out."""
    folder = tmp_path_factory.mktemp("data") / "phantoms"
    run("phantoms", "--count", 4, "--size", 16, "--out", folder)
    return folder


def gaussian(data: PreparedData, mean: float = 0.0) -> Prior:
    module = Gaussian(GaussianConfig(std=0.3)).requires_grad_(False)
    module.mean.fill_(mean)
    schedule = CosineSchedule(noise_std=0.5)
    return Prior(GaussianNetwork(module), schedule, data.intensity, data.geometry, "toy", "0" * 64)


def test_the_error_is_what_theory_says_of_a_known_denoiser(data: Path) -> None:
    """x0 = g x_t without mean: the error is (g alpha - 1) x + g sigma eps."""
    prepared = PreparedData.open(data)
    prior = gaussian(prepared)
    found = calibrate(prior, prepared).tables[0]
    assert found.times == TIMES and found.volumes == 4 and found.data_sha256 == prepared.digest
    x = np.stack([prepared.intensity.to_model(prepared.volume(case)) for case in prepared.cases])
    for t, error in zip(found.times, found.errors, strict=True):
        alpha, noise = prior.schedule.alpha(t), 0.5 * prior.schedule.sigma(t)
        gain = alpha * 0.09 / (alpha**2 * 0.09 + noise**2)
        expected = (gain * alpha - 1) ** 2 * np.square(x).mean() + (gain * noise) ** 2
        assert error**2 == pytest.approx(expected, rel=0.06)
    between = (found.times[3] + found.times[4]) / 2
    assert found.at(between) == pytest.approx((found.errors[3] + found.errors[4]) / 2)
    assert found.at(0.0) == found.errors[0] and found.at(1000.0) == found.errors[-1]


def test_what_a_model_was_trained_on_does_not_count(data: Path) -> None:
    prepared = PreparedData.open(data)
    free = gaussian(prepared)
    assert [case.id for case in held_out(free, prepared)] == sorted(c.id for c in prepared.cases)
    record = {"training": {"data_sha256": prepared.digest}}
    trained = Prior(**{**vars(free), "record": record})
    assert tuple(held_out(trained, prepared)) == prepared.validation
    alone = PreparedData(
        prepared.folder,
        prepared.manifest.model_copy(update={"train": prepared.cases, "validation": ()}),
    )
    record["training"]["data_sha256"] = alone.digest
    with pytest.raises(InputRejected, match="trained on all of"):
        held_out(trained, alone)


def test_a_prediction_that_is_not_finite_is_no_error(data: Path) -> None:
    prepared = PreparedData.open(data)
    with pytest.raises(NumericalError, match="not finite"):
        calibrate(gaussian(prepared, mean=float("nan")), prepared)


@pytest.mark.slow
def test_it_lies_beside_the_weights_and_changes_nothing_else(data: Path, tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "chain", size=16, model=TINY_CHAIN, edge_mm=320.0)
    prior, before = prdit_core.load(folder), digests(folder)
    assert calibration_beside(folder, prior) is None
    done = json.loads(run("calibrate", folder, "--data", data, "--json").stdout)
    after = digests(folder)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {CALIBRATION}
    assert prdit_core.load(folder).digest == prior.digest
    found = calibration_beside(folder, prior)
    assert found is not None and found.sizes == (8, 16) == prior.sizes
    assert [table["size"] for table in done["tables"]] == [8, 16]
    assert found.error(8)(500.0) != found.error(16)(500.0)
    again = tmp_path / "again.json"
    run("calibrate", folder, "--data", data, "--out", again)
    assert again.read_bytes() == (folder / CALIBRATION).read_bytes()
    run("calibrate", folder, "--data", data, "--out", again, "--count", 1, "--overwrite")
    assert read_calibration(again, prior).tables[0].volumes == 1


@pytest.mark.slow
def test_other_sizes_are_added(data: Path, tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "chain", size=16, model=TINY_CHAIN, edge_mm=320.0)
    coarse = tmp_path / "coarse"
    run("phantoms", "--count", 2, "--size", 8, "--seed", 3, "--out", coarse)
    run("calibrate", folder, "--data", coarse)
    prior = prdit_core.load(folder)
    first = calibration_beside(folder, prior)
    assert first is not None and first.sizes == (8,)
    done = run("calibrate", folder, "--data", data, code=6)
    assert "size 8" in done.stderr and calibration_beside(folder, prior) == first
    run("calibrate", folder, "--data", data, "--overwrite")
    both = calibration_beside(folder, prior)
    assert both is not None and both.sizes == (8, 16)
    assert {table.data_sha256 for table in both.tables} == {PreparedData.open(data).digest}


@pytest.mark.slow
def test_what_cannot_be_measured_is_refused_in_one_line(data: Path, tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "tiny", size=16, edge_mm=320.0)
    other = tiny_checkpoint(tmp_path / "other", seed=1, size=16, edge_mm=320.0)
    small = tiny_checkpoint(tmp_path / "small", size=8, edge_mm=320.0)
    narrow = tiny_checkpoint(tmp_path / "narrow", size=16, edge_mm=160.0)
    save(chests(0, 1), tmp_path / "scans")
    file = tmp_path / "a.json"
    for words, code, message in (
        (("demo", "--data", data), 2, "--out"),
        (("none-such", "--data", data), 2, "none-such"),
        ((folder, "--data", data, "--out", tmp_path / "a.txt"), 2, ".json"),
        ((folder, "--data", data, "--out", data / "a.json"), 2, "lies in input"),
        ((folder, "--data", tmp_path / "scans"), 3, "no prepared data set"),
        ((small, "--data", data), 3, "edge 16"),
        ((narrow, "--data", data), 3, "--like"),
    ):
        assert message in run("calibrate", *words, code=code).stderr
    assert not (folder / CALIBRATION).exists() and not (data / "a.json").exists()
    run("calibrate", folder, "--data", data, "--out", file)
    assert "other weights" in run("calibrate", other, "--data", data, "--out", file, code=6).stderr
    content = json.loads(file.read_text())
    content["tables"][0]["times"][1] = 1.0
    for text, reason in ((json.dumps(content), "must rise"), ("{", "no calibration")):
        file.write_text(text)
        with pytest.raises(CheckpointError, match=reason):
            read_calibration(file, prdit_core.load(folder))
    run("calibrate", other, "--data", data, "--out", file, "--overwrite")
    assert read_calibration(file, prdit_core.load(other)).sizes == (16,)


def test_the_bundled_model_comes_with_its_errors() -> None:
    """After `make demo-model`, which measures them anew."""
    prior = prdit_core.load("demo")
    found = calibration_beside("demo", prior)
    assert found is not None and found.sizes == prior.sizes and (BUNDLED / "demo").is_dir()
    for table in found.tables:
        late = [error for t, error in zip(table.times, table.errors, strict=True) if t >= 500]
        assert late == sorted(late) and 0.001 < table.errors[0] < late[-1] < 1
    torch.testing.assert_close(found.error(32)(500.0), found.tables[0].at(500.0))

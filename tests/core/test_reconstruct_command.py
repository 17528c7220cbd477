"""`prdit-core reconstruct`: volumes, summary and numbers; reruns, stops, own scans and faults."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from chests import chest, volume
from test_command import digests, run
from typer.testing import CliRunner

import prdit_core
from prdit_core.cli.app import app
from prdit_core.cli.outputs import Outputs
from prdit_core.data.io import read_volume, write_volume
from prdit_core.data.phantoms import make_phantom
from prdit_core.errors import UsageError
from prdit_core.inverse import scanners
from prdit_core.inverse.measurement_files import write_measurement
from prdit_core.inverse.operators.table import build
from prdit_core.inverse.problem import in_measured_unit, projector_of
from prdit_core.inverse.tuning import usual_strength
from prdit_core.metrics.fidelity import grey_fidelity
from prdit_core.verbs import tv_strength
from prdit_core.verbs.simulate import coarser
from prdit_core.volume import Volume

if TYPE_CHECKING:
    from pathlib import Path

WALK = ("--steps", 2, "--threads", 1)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom somewhere in space, what 8 views see of it, and how it should come out."""
    bench = tmp_path_factory.mktemp("bench")
    phantom = make_phantom(5, 19, spacing_mm=5.0).volume
    affine = phantom.affine.copy()
    affine[:3, 3] += (12.0, -30.0, 700.0)
    write_volume(replace(phantom, affine=affine), bench / "scan.nii.gz")
    given = ("--views", 8, "--photons", 1e5, "--truth", bench / "truth.nii.gz")
    run("simulate", bench / "scan.nii.gz", *given, "--out", bench / "m.npz")
    return bench


@pytest.mark.slow
def test_samples_come_with_mean_spread_and_what_was_imagined(bench: Path, tmp_path: Path) -> None:
    given = (*WALK, "--seed", 3, "--count", 2, "--truth", bench / "truth.nii.gz")
    done = run("reconstruct", bench / "m.npz", "--out", tmp_path, *given, "--json")
    report = json.loads(done.stdout)["report"]
    truth = read_volume(bench / "truth.nii.gz")
    both = [read_volume(tmp_path / f"seed-3_index-000{i}.nii.gz") for i in (0, 1)]
    record = json.loads((tmp_path / "seed-3_index-0001.json").read_text())
    digest = prdit_core.read_measurement(bench / "m.npz").digest
    assert {"seed": 3, "index": 1, "steps": 2, "sampler": "increment"}.items() <= record.items()
    assert record["measurement_sha256"] == report["measurement_sha256"] == digest
    assert record["checkpoint_sha256"] == prdit_core.load("demo").at_size(32).digest
    assert "not for diagnosis" in record["notice"] and record["misfit"] < 1
    assert record["measurement"]["operator"]["kind"] == "parallel" and record["version"]
    assert (tmp_path / "seed-3_index-0001.png").is_file()

    summary = tmp_path / "summary_seed-3"
    assert (summary / "picture.png").is_file()
    mean, spread, determined, imagined = (
        read_volume(summary / f"{name}.nii.gz").voxels_hu.astype(float)
        for name in ("mean", "spread", "determined", "imagined")
    )
    stack = np.stack([one.voxels_hu for one in both]).astype(float)
    np.testing.assert_allclose(mean, stack.mean(0), atol=0.51)
    np.testing.assert_allclose(spread, stack.std(0, ddof=1), atol=0.51)
    np.testing.assert_allclose(determined + imagined, mean, atol=1.6)
    assert spread.mean() > 5 and np.abs(imagined).mean() > 20
    for one in both:
        np.testing.assert_allclose(one.affine, truth.affine, atol=1e-3)
    for numbers, one in zip(report["volumes"], both, strict=True):
        grey = grey_fidelity(truth.voxels_hu, one.voxels_hu, (-1000, 400))
        assert numbers["grey"]["psnr"] == pytest.approx(grey.psnr)
        assert numbers["tissues"]["lung"]["mae_hu"] > 0
    assert report["volume"]["grey"]["psnr"] > max(n["grey"]["psnr"] for n in report["volumes"])
    assert json.loads((summary / "report.json").read_text()) == report


@pytest.mark.slow
def test_a_rerun_goes_on_and_other_settings_are_refused(bench: Path, tmp_path: Path) -> None:
    words = ("reconstruct", bench / "m.npz", "--out", tmp_path, *WALK)
    run(*words, "--count", 2)
    before = digests(tmp_path)
    assert "0 made, 2 were there" in run(*words, "--count", 2).stdout
    assert digests(tmp_path) == before
    (tmp_path / "seed-0_index-0001.nii.gz").write_bytes(b"half")
    assert "1 made, 1 were there" in run(*words, "--count", 2).stdout
    assert digests(tmp_path) == before
    run(*words, "--iterations", 3, code=6)
    walk = ("--sampler", "increment", "--k", 2, *WALK)
    run("generate", "--size", 32, *walk, "--out", tmp_path, code=6)
    assert digests(tmp_path) == before
    run(*words, "--iterations", 3, "--overwrite")
    assert json.loads((tmp_path / "seed-0_index-0000.json").read_text())["iterations"] == 3


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_finished_and_a_rerun_ends_as_if_not_stopped(
    bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ("reconstruct", bench / "m.npz", *WALK, "--count", 2, "--out")
    run(*words, tmp_path / "whole")
    write = Outputs.write

    def interrupted(self: Outputs, index: int, made: Volume) -> Path:
        file = write(self, index, made)
        os.kill(os.getpid(), signal.SIGINT)
        return file

    with monkeypatch.context() as patch:
        patch.setattr(Outputs, "write", interrupted)
        done = CliRunner().invoke(app, [str(word) for word in (*words, tmp_path / "stopped")])
    assert done.exit_code == 130 and "stopping after this step" in capfd.readouterr().err
    left = {name for name in digests(tmp_path / "stopped") if name.endswith(".nii.gz")}
    assert left == {"seed-0_index-0000.nii.gz"}
    run(*words, tmp_path / "stopped")
    assert digests(tmp_path / "stopped") == digests(tmp_path / "whole")


@pytest.mark.slow
def test_the_operator_is_built_once_for_all_volumes_and_once_for_their_summary(
    bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[object] = []

    def counted(*given: object) -> object:
        built.append(given)
        return build(*given)

    monkeypatch.setattr("prdit_core.inverse.problem.build", counted)
    for own in ((*WALK, "--count", 2), ("--method", "cg", "--iterations", 2)):
        built.clear()
        run("reconstruct", bench / "m.npz", "--out", tmp_path, *own)
        assert len(built) == 2


@pytest.mark.slow
def test_classical_methods_share_a_folder(bench: Path, tmp_path: Path) -> None:
    words = ("reconstruct", bench / "m.npz", "--truth", bench / "truth.nii.gz", "--out", tmp_path)
    psnr = {}
    for method in ("fbp", "cg", "sirt", "tv"):
        own = {"sirt": ("--iterations", 30), "tv": ("--tv-strength", 2.5e-6)}.get(method, ())
        done = run(*words, "--method", method, *own, "--threads", 1, "--json")
        psnr[method] = json.loads(done.stdout)["report"]["volume"]["grey"]["psnr"]
        record = json.loads((tmp_path / f"{method}.json").read_text())
        assert record["method"] == method and "not for diagnosis" in record["notice"]
    assert psnr["fbp"] < psnr["cg"] < psnr["sirt"] < psnr["tv"]
    assert record["strength_source"] == "given"
    assert not (tmp_path / "summary_tv" / "imagined.nii.gz").exists()
    before = digests(tmp_path)
    assert "0 made" in run(*words, "--method", "cg", "--threads", 1).stdout
    run(*words, "--method", "cg", "--iterations", 7, "--threads", 1, code=6)
    assert digests(tmp_path) == before


@pytest.mark.slow
def test_an_own_scan_comes_back_where_it_was(bench: Path, tmp_path: Path) -> None:
    """A DICOM series, brought to the model's grid, measured and reconstructed."""
    run("export", bench / "scan.nii.gz", "--dicom", tmp_path / "series")
    measured, truth = tmp_path / "m.npz", tmp_path / "truth.nii.gz"
    given = ("--like", "demo", "--size", 32, "--views", 60, "--truth", truth)
    run("simulate", tmp_path / "series", *given, "--out", measured)
    out = tmp_path / "out"
    run("reconstruct", measured, *WALK, "--iterations", 15, "--truth", truth, "--out", out)
    found, expected = read_volume(out / "seed-0_index-0000.nii.gz"), read_volume(truth)
    np.testing.assert_allclose(found.affine, expected.affine, atol=1e-3)
    assert found.spacing_mm == pytest.approx((10, 10, 10))
    assert abs(found.origin_mm[2] - read_volume(bench / "scan.nii.gz").origin_mm[2]) < 30
    assert np.abs(found.voxels_hu - expected.voxels_hu.astype(float)).mean() < 60


# --- the strength of total variation ----------------------------------------------------------


def test_the_usual_strength_is_for_what_was_tuned(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = Volume(np.zeros((1, 64, 64), np.float32), np.diag([5.0, 5.0, 5.0, 1.0]))
    monkeypatch.setattr(tv_strength, "LONGEST_S", 0.0)
    spec = scanners.parallel_scan(wide.shape, wide.spacing_mm, 20, 180.0)
    measurement = prdit_core.simulate(wide, spec)
    problem = in_measured_unit(measurement, "cpu")
    chosen = tv_strength.strength_for(problem)
    assert chosen.value == usual_strength(projector_of(problem), problem.y)
    assert chosen.source == "usual for 20 views over 180 degrees"
    limited = scanners.parallel_scan(wide.shape, wide.spacing_mm, 40, 120.0)
    problem = in_measured_unit(prdit_core.simulate(wide, limited), "cpu")
    chosen = tv_strength.strength_for(problem)
    assert chosen.value == usual_strength(projector_of(problem), problem.y, 120)
    for views, arc in ((20, 120.0), (7, 180.0)):
        spec = scanners.parallel_scan(wide.shape, wide.spacing_mm, views, arc)
        with pytest.raises(UsageError, match=r"give --tv-strength, such as \d"):
            tv_strength.strength_for(in_measured_unit(prdit_core.simulate(wide, spec), "cpu"))


@pytest.mark.slow
def test_a_tuned_strength_is_better_than_others_for_another_body() -> None:
    scan = volume(chest(2, 0), 20.0)
    spec = scanners.parallel_scan((8, 8, 8), (40.0, 40.0, 40.0), 6, 120.0)
    measurement, truth = prdit_core.simulate(scan, spec), coarser(scan)
    chosen = tv_strength.strength_for(in_measured_unit(measurement, "cpu"))
    assert chosen.source == "tuned on a phantom"

    def error(strength: float) -> float:
        found = prdit_core.reconstruct_classically(measurement, "tv", strength=strength)
        return float(np.square(found.voxels_hu - truth.voxels_hu).mean())

    assert error(chosen.value) < min(error(chosen.value * 100), error(chosen.value / 1000) + 1)


@pytest.mark.slow
def test_tune_tv_gives_a_strength_that_reconstructs_better_than_others(tmp_path: Path) -> None:
    scan = volume(chest(2, 0), 20.0)
    spec = scanners.parallel_scan((8, 8, 8), (40.0, 40.0, 40.0), 6, 120.0)
    measurement, truth = prdit_core.simulate(scan, spec), coarser(scan)
    write_measurement(measurement, tmp_path / "m.npz")
    write_volume(volume(chest(3, 0), 20.0), tmp_path / "other.nii.gz")
    for given in (("--phantoms", 2), ("--volume", tmp_path / "other.nii.gz")):
        result = json.loads(run("tune-tv", tmp_path / "m.npz", *given, "--json").stdout)
        strengths = [result["strength"] * factor for factor in (1, 100, 1e-3)]
        errors = [
            float(np.square(found.voxels_hu - truth.voxels_hu).mean())
            for found in (
                prdit_core.reconstruct_classically(measurement, "tv", strength=one)
                for one in strengths
            )
        ]
        assert errors[0] < min(errors[1], errors[2] + 1)
        assert result["share"] == pytest.approx(
            min(result["trials"], key=lambda one: one["error"])["share"], rel=1
        )


# --- faults -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_what_is_asked_for_must_fit_the_method(bench: Path, tmp_path: Path) -> None:
    words = ("reconstruct", bench / "m.npz", "--out", tmp_path / "out")
    for given in (
        ("--method", "tv", "--count", 4),
        ("--method", "fbp", "--iterations", 4),
        ("--method", "sirt", "--checkpoint", "demo"),
        ("--tv-strength", 1),
        ("--method", "tv", "--tv-strength", 0),
        ("--size", 64),
        ("--seed", -1),
        ("--steps", 0),
        ("--checkpoint", "none-such"),
    ):
        run(*words, *given, code=2)
    run("reconstruct", bench / "m.npz", "--out", tmp_path / "out.nii.gz", code=2)
    run("reconstruct", bench / "m.npz", "--out", bench / "m.npz", code=2)
    run("reconstruct", bench / "m.npz", "--out", bench / "m.npz" / "x", code=2)
    run(*words, "--truth", bench / "scan.nii.gz", code=3)
    run(*words, "--truth", bench / "none.nii.gz", code=3)
    assert not list((tmp_path / "out").glob("*"))


def test_what_does_not_fit_into_memory_is_refused(
    bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prdit_core.machine.memory_of", lambda _device: 2**20)
    monkeypatch.setattr("prdit_core.inverse.operators.table.memory_of", lambda _device: 2**20)
    run("reconstruct", bench / "m.npz", "--out", tmp_path / "out", *WALK, code=7)


def test_a_summary_of_somebody_is_kept(bench: Path, tmp_path: Path) -> None:
    (tmp_path / "summary_seed-0").mkdir()
    (tmp_path / "summary_seed-0" / "mine.txt").write_text("mine")
    run("reconstruct", bench / "m.npz", "--out", tmp_path, *WALK, code=6)
    assert [file.name for file in tmp_path.rglob("*.*")] == ["mine.txt"]

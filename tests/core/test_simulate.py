"""Simulated measurements: what they are of, on which grid, with which noise; the command."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from chests import chest, volume
from typer.testing import CliRunner

import prdit_core
from prdit_core.cli.app import app
from prdit_core.data.io import read_volume, write_volume
from prdit_core.errors import UsageError
from prdit_core.inverse import scanners
from prdit_core.inverse.attenuation import of_hu
from prdit_core.inverse.cg import cg
from prdit_core.inverse.fbp import fbp
from prdit_core.inverse.operators.super_resolution import SuperResolutionSpec
from prdit_core.inverse.operators.table import build
from prdit_core.verbs.simulate import coarser

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

    from prdit_core.inverse.operators.projector import ViewsSpec
    from prdit_core.volume import Volume

SCANS = {
    "parallel": scanners.parallel_scan,
    "fan": scanners.fan_scan,
    "cone": scanners.cone_scan,
}


def scan() -> Volume:
    """A phantom of 16^3 voxels, said to be of 10 mm."""
    return volume(chest(2, 0), 10.0)


def spec_on(target: Volume, kind: str = "parallel", views: int = 30) -> ViewsSpec:
    return SCANS[kind](target.shape, target.spacing_mm, views)


@pytest.mark.parametrize("kind", SCANS)
def test_data_come_from_a_twice_finer_grid(kind: str) -> None:
    measurement = prdit_core.simulate(scan(), spec_on(coarser(scan()), kind))
    assert measurement.spec.shape == (8, 8, 8) and not measurement.metadata["inverse_crime"]
    truth = of_hu().per_mm(torch.from_numpy(coarser(scan()).voxels_hu))[None, None]
    operator = build(measurement.spec)
    misfit = operator(truth) - measurement.tensor()
    # Not the same numbers, but the same object: finer voxels are all that differs.
    assert 0.001 < float(misfit.norm() / measurement.tensor().norm()) < 0.08
    total = operator(truth).sum()
    assert float(measurement.tensor().sum()) == pytest.approx(float(total), rel=0.01)


def test_all_of_a_finer_line_integral_is_in_its_coarse_bin() -> None:
    spec = spec_on(coarser(scan()))
    fine = spec.halved()
    assert fine.shape == (16, 16, 16) and fine.spacing_mm == (10.0, 10.0, 10.0)
    places = fine.bin_places().reshape(-1, 2)
    np.testing.assert_allclose(places.mean(1), spec.bin_places())
    np.testing.assert_allclose(places[:, 1] - places[:, 0], spec.bin_mm / 2)


def test_the_same_grid_is_an_inverse_crime_and_recorded() -> None:
    measurement = prdit_core.simulate(scan(), spec_on(scan()))
    assert measurement.metadata["inverse_crime"]
    truth = of_hu().per_mm(torch.from_numpy(scan().voxels_hu))[None, None]
    torch.testing.assert_close(measurement.tensor(), build(measurement.spec)(truth))


@pytest.mark.parametrize("kind", SCANS)
def test_scanners_see_all_of_a_volume(kind: str) -> None:
    """In 120 views of a full volume FBP gives its values back, and no corner is cut."""
    full = prdit_core.Volume(np.zeros((8, 8, 8)), scan().affine)
    spec = spec_on(full, kind, views=120)
    x = fbp(build(spec), prdit_core.simulate(full, spec).tensor())[0, 0, 2:6]
    assert float(x[:, 2:6, 2:6].mean()) == pytest.approx(0.02, rel=0.03)
    assert float(x[:, 0, 0].mean()) > 0.01


def test_a_volume_as_wide_as_the_scanner_is_refused() -> None:
    with pytest.raises(UsageError, match="take parallel beam"):
        scanners.fan_scan((4, 512, 512), (2.0, 2.0, 2.0), 30)


def test_the_record_says_which_volume_it_was_but_not_whose() -> None:
    known = prdit_core.Volume(
        scan().voxels_hu, scan().affine, {"source": "phantom", "patient_key": "a69e"}
    )
    record, other = (
        prdit_core.simulate(one, spec_on(one)).metadata
        for one in (known, prdit_core.Volume(scan().voxels_hu + 1, scan().affine))
    )
    assert record["volume"] == {"source": "phantom"}
    assert len(record["volume_sha256"]) == 64
    assert record["volume_sha256"] != other["volume_sha256"]


def test_noise_is_that_of_photons_and_of_the_seed() -> None:
    spec = spec_on(coarser(scan()))
    clean = prdit_core.simulate(scan(), spec)
    noisy = [prdit_core.simulate(scan(), spec, photons=1e4, seed=seed) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(noisy[0].values, noisy[1].values)
    assert (noisy[0].values != noisy[2].values).any() and clean.weights is None
    assert noisy[0].weights is not None
    scaled = np.sqrt(noisy[0].weights) * (noisy[0].values - clean.values)
    assert scaled.std() == pytest.approx(1, abs=0.05)
    assert {"photons": 1e4, "seed": 0}.items() <= noisy[0].metadata.items()


def test_the_coarser_volume_lies_where_the_fine_one_does() -> None:
    fine = scan()
    coarse = coarser(fine)
    corner = (fine.affine @ [-0.5, -0.5, -0.5, 1], coarse.affine @ [-0.5, -0.5, -0.5, 1])
    np.testing.assert_allclose(*corner)
    assert coarse.spacing_mm == pytest.approx((20, 20, 20))
    odd = prdit_core.Volume(fine.voxels_hu[:15], fine.affine)
    assert coarser(odd).shape == (7, 8, 8)
    np.testing.assert_array_equal(coarser(odd).voxels_hu, coarse.voxels_hu[:7])


def test_other_grids_and_photons_without_rays_are_refused() -> None:
    with pytest.raises(UsageError, match="neither the grid of the volume"):
        prdit_core.simulate(scan(), scanners.parallel_scan((8, 8, 8), (10.0, 10.0, 10.0), 9))
    with pytest.raises(UsageError, match="not by 'super-resolution'"):
        prdit_core.simulate(scan(), SuperResolutionSpec(shape=(16, 16, 16), factor=2), photons=9)


# --- the command ------------------------------------------------------------------------------


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["simulate", *map(str, arguments)])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_volume(scan(), tmp_path / "scan.nii.gz")


def test_the_command_writes_measurement_and_truth(file: Path, tmp_path: Path) -> None:
    out, truth = tmp_path / "out" / "m.npz", tmp_path / "out" / "truth.nii.gz"
    given = ("--views", 40, "--photons", 1e6, "--seed", 3, "--truth", truth, "--json")
    done = run(file, "--out", out, *given)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {
        "measurement": str(out),
        "shape": [8, 40, 12],
        "truth": str(truth),
    }
    measurement, expected = prdit_core.read_measurement(out), read_volume(truth)
    assert measurement.metadata["notice"] == "simulated from a volume, not for diagnosis"
    assert str(file) not in json.dumps(measurement.metadata)
    np.testing.assert_allclose(measurement.affine, expected.affine, atol=1e-4)
    operator = build(measurement.spec)
    x = cg(operator, measurement.tensor(), torch.zeros(1, 1, 8, 8, 8), iterations=15)
    found = of_hu().unit(x)[0, 0].numpy()
    error = np.abs(found - expected.voxels_hu).mean()
    assert error < 0.25 * np.abs(expected.voxels_hu - expected.voxels_hu.mean()).mean()
    before = out.read_bytes(), truth.read_bytes()
    assert run(file, "--out", out, *given).exit_code == 0
    assert (out.read_bytes(), truth.read_bytes()) == before


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        (("--operator", "parallel", "--views", 9, "--arc", 120, "--same-grid"), (16, 9, 23)),
        (("--operator", "fan", "--views", 9), (8, 9, 12)),
        (("--operator", "fan", "--views", 9, "--arc", 230), (8, 9, 12)),
        (("--operator", "x-ray"), (2, 8, 8)),
        (("--operator", "super-resolution", "--factor", 4), (4, 4, 4)),
        (("--operator", "blur", "--sigma", 1), (16, 16, 16)),
    ],
)
def test_the_command_knows_operators(
    options: tuple[object, ...], shape: tuple[int, ...], file: Path, tmp_path: Path
) -> None:
    done = run(file, "--out", tmp_path / "m.npz", *options)
    assert done.exit_code == 0, done.output
    found = prdit_core.read_measurement(tmp_path / "m.npz")
    assert found.values.shape == shape
    assert found.metadata["inverse_crime"] == (found.spec.shape == (16, 16, 16))
    if "--arc" in options:
        step = float(options[options.index("--arc") + 1]) / 9  # type: ignore[arg-type]
        assert found.spec.angles_deg[:2] == pytest.approx((0.0, step))  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--operator", "blur", "--views", 5), 2, "--views is for parallel, fan, cone"),
        (("--operator", "super-resolution", "--factor", 5), 2, "do not fill"),
        (("--operator", "helical"), 2, "helical"),
        (("--photons", 0.5), 2, "photons"),
        (("--out", "m.nii"), 2, "an .npz file"),
        (("--out", "scan.nii.gz/m.npz"), 2, "scan.nii.gz"),
        (("--out", "notes.txt/m.npz"), 6, "cannot write"),
        (("--out", "scan.nii.gz"), 2, "an .npz file"),
    ],
)
def test_faults_of_the_command(
    options: tuple[object, ...],
    code: int,
    message: str,
    file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").touch()
    before = file.read_bytes()
    done = run(file, "--out", "m.npz", *options)
    assert done.exit_code == code and message in done.output
    assert file.read_bytes() == before and not (tmp_path / "m.npz").exists()


@pytest.mark.parametrize("other", ["m.npz", "truth.nii.gz"])
def test_files_that_hold_something_else_are_kept(other: str, file: Path, tmp_path: Path) -> None:
    out, truth = tmp_path / "m.npz", tmp_path / "truth.nii.gz"
    if other == "m.npz":
        run(file, "--out", out, "--views", 5)
    else:
        write_volume(volume(chest(2, 1, 8), 20.0), truth)
    before = (tmp_path / other).read_bytes()
    given = (file, "--out", out, "--truth", truth)
    done = run(*given)
    assert done.exit_code == 6 and f"{other} is there and holds something else" in done.output
    assert (tmp_path / other).read_bytes() == before
    assert sum(kept.exists() for kept in (out, truth)) == 1
    assert run(*given, "--overwrite").exit_code == 0
    assert (tmp_path / other).read_bytes() != before


def test_a_scan_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "scan.nii.gz").write_bytes(b"")
    done = run(tmp_path / "scan.nii.gz", "--out", tmp_path / "m.npz")
    assert done.exit_code == 3 and len(done.stderr.strip().splitlines()) == 1

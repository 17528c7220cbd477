"""Volumes that are no cubes: prepared, trained on, generated, measured and reconstructed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from test_command import run
from toys import TINY_PATCH, patch_checkpoint

import prdit_core
from prdit_core.checkpoints.expected_data import expected_by
from prdit_core.data.datasets import PreparedData
from prdit_core.data.phantoms import make_phantom
from prdit_core.data.presets import PRESETS
from prdit_core.data.transforms import conform
from prdit_core.errors import UsageError
from prdit_core.verbs.phantoms import phantoms
from prdit_core.verbs.regenerate import forget

if TYPE_CHECKING:
    from pathlib import Path

SLAB = PRESETS["chest-320"].model_copy(update={"slab_mm": 160.0})


def test_a_slab_is_the_middle_of_the_cube_where_it_lies() -> None:
    phantom = make_phantom(0, 3, spacing_mm=10.0)
    whole = conform(phantom.volume, PRESETS["chest-320"], 16, phantom.labels)
    slab = conform(phantom.volume, SLAB, 16, phantom.labels)
    np.testing.assert_array_equal(slab.volume.voxels_hu, whole.volume.voxels_hu[4:12])
    np.testing.assert_array_equal(slab.labels, whole.labels[4:12])
    for x, y, z in ((0, 0, 0), (15, 15, 7)):
        inside = whole.volume.affine @ [x, y, z + 4, 1.0]
        np.testing.assert_allclose(slab.volume.affine @ [x, y, z, 1.0], inside, atol=1e-6)
    assert slab.volume.spacing_mm == whole.volume.spacing_mm


def test_slabs_that_are_no_whole_voxels_are_refused_and_cubes_say_nothing_of_them(
    tmp_path: Path,
) -> None:
    for mm in (30.0, 340.0, 5.0):
        with pytest.raises(UsageError, match=f"a slab of {mm:g} mm is not 1 to 16 voxels of 20 mm"):
            phantoms(2, size=16, seed=0, out=tmp_path / "no", slab_mm=mm)
    assert not (tmp_path / "no").exists()
    assert "slab_mm" not in PRESETS["chest-320"].model_dump()
    refused = run("preprocess", tmp_path, "--like", "demo", "--slab", 160, "--out", "x", code=2)
    assert "leave out --slab" in refused.stderr


@pytest.mark.slow
def test_a_prior_of_slabs_is_trained_generates_and_reconstructs(tmp_path: Path) -> None:
    data, model = tmp_path / "data", tmp_path / "run"
    run("phantoms", "--count", 3, "--size", 32, "--slab", 160, "--out", data)
    shape = PreparedData.open(data).geometry.shape
    assert shape == (16, 32, 32)
    words = ("train", "--stage", "patch", "--model", "small", "--data", data, "--run", model)
    few = ("--iterations", 2, "--batch-size", 2, "--tiles", 2, "--preview-every", 2)
    run(*words, *few, "--device", "cpu")
    run("generate", "--checkpoint", model, "--steps", 2, "--out", tmp_path / "v.nii.gz")
    assert prdit_core.read_volume(tmp_path / "v.nii.gz").voxels_hu.shape == shape

    scan = make_phantom(5, 1, spacing_mm=10.0).volume
    prdit_core.write_volume(scan, tmp_path / "scan.nii.gz")
    truth, views = tmp_path / "truth.nii.gz", tmp_path / "views.npz"
    output = run(
        *("simulate", tmp_path / "scan.nii.gz", "--like", model, "--views", 20),
        *("--truth", truth, "--out", views),
    )
    assert output.exit_code == 0
    measured = prdit_core.read_measurement(views)
    assert measured.spec.shape == shape
    found = tmp_path / "found"
    more = ("--checkpoint", model, "--steps", 2, "--truth", truth, "--out", found)
    run("reconstruct", views, *more)
    report = json.loads((found / "summary_seed-0" / "report.json").read_text())
    assert report["volume"]["misfit"] < 0.1
    known = prdit_core.read_volume(truth)
    np.testing.assert_allclose(measured.affine, known.affine, atol=1e-4)
    assert expected_by(model).preset == SLAB


def test_scans_are_looked_into_and_edited_on_a_slab(tmp_path: Path) -> None:
    flat = TINY_PATCH.model_copy(update={"tile": (4, 8, 8)})
    prior = prdit_core.load(patch_checkpoint(tmp_path / "flat", flat, (20, 20, 20)))
    scan = make_phantom(5, 1, spacing_mm=20.0).volume
    region = np.zeros(scan.shape, np.uint8)
    region[7:9, 7:9, 7:9] = 1
    known = forget(prior, scan, region).known.spec
    assert known.shape == (8, 16, 16) and known.range_shape == (8 * 16 * 16 - 8,)
    region[13] = 1
    with pytest.raises(UsageError, match="beyond the 160 mm slab of the 320 mm cube"):
        forget(prior, scan, region)
    assert prdit_core.decompose(prior, scan, 500.0).scan.shape == (8, 16, 16)

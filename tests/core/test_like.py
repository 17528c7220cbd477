"""Scans are prepared as the scans that a checkpoint was trained on, or refused in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from thorax import chest, save
from toys import TINY, TINY_CHAIN, tiny_checkpoint
from typer.testing import CliRunner

from prdit_core.checkpoints.catalog import load
from prdit_core.checkpoints.expected_data import expected_by, expected_data
from prdit_core.checkpoints.header import WEIGHTS
from prdit_core.checkpoints.store import read_header, read_weights, save_checkpoint
from prdit_core.cli.app import app
from prdit_core.data.datasets import PreparedData
from prdit_core.data.io import read_volume
from prdit_core.data.presets import PRESETS, Preset
from prdit_core.data.transforms import conform
from prdit_core.errors import UsageError
from prdit_core.geometry import Geometry, cubic
from prdit_core.intensity import Intensity
from prdit_core.verbs.decompose import decompose

if TYPE_CHECKING:
    from click.testing import Result

SIZE, FIELD_MM = 8, 400.0
INTENSITY, GEOMETRY = Intensity(window_hu=(-900, 700)), cubic(SIZE, FIELD_MM)
FIXED = Preset(
    name="own", window_hu=(-900, 700), field_of_view_mm=FIELD_MM, grid="fixed", centre="volume"
)
FITTED = Preset(name="model", window_hu=(-900, 700), field_of_view_mm=FIELD_MM, grid="fitted")
RECORD = {"preset": FIXED.model_dump(mode="json")}


def checkpoint(
    path: Path,
    record: dict[str, Any],
    intensity: Intensity = INTENSITY,
    geometry: Geometry = GEOMETRY,
) -> Path:
    """A tiny checkpoint of another window, grid and record."""
    plain = tiny_checkpoint(path.with_name(f"plain-{path.name}"))
    header = read_header(plain)
    changed = {"record": record, "intensity": intensity, "geometry": geometry}
    return save_checkpoint(path, header.model_copy(update=changed), read_weights(plain, header))


def preprocess(*words: object, code: int = 0) -> Result:
    done = CliRunner().invoke(app, ["preprocess", *map(str, words)])
    assert done.exit_code == code, (done.output, done.exception)
    return done


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """Off the middle, so that it matters how a preset centres."""
    return save(chest((24, 40, 40), body=(25, -20)), tmp_path / "scan.nii.gz")


# --- preprocess --like ------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cip-64.nrrd", "elastix-right-lung.mha"])
@pytest.mark.parametrize(("record", "preset"), [({}, FITTED), (RECORD, FIXED)])
def test_public_scans_become_the_data_of_the_checkpoint(
    real_data: Path, tmp_path: Path, name: str, record: dict[str, Any], preset: Preset
) -> None:
    model = checkpoint(tmp_path / "model", record)
    done = preprocess(real_data / "ct" / name, "--like", model, "--out", tmp_path / "data")
    data, header = PreparedData.open(tmp_path / "data"), read_header(model)
    assert (data.intensity, data.geometry) == (header.intensity, header.geometry)
    assert data.manifest.preset == preset
    expected = conform(read_volume(real_data / "ct" / name), preset, SIZE).volume.voxels_hu
    assert np.array_equal(data.volume(data.train[0]), expected)
    (note,) = [line for line in done.stderr.splitlines() if line.startswith("note: like ")]
    assert f"-900 to 700 HU, 8^3 voxels, field of view 400 mm, {preset.grid} grid" in note
    assert "approximate" not in note


def test_a_run_is_followed_too_and_no_weights_are_read(scan: Path, tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "run/checkpoints/iteration-00000007", RECORD)
    (folder / WEIGHTS).unlink()
    preprocess(scan, "--like", tmp_path / "run", "--out", tmp_path / "data")
    assert PreparedData.open(tmp_path / "data").manifest.preset == FIXED


@pytest.mark.slow
def test_the_bundled_model_is_followed_without_torch(scan: Path, tmp_path: Path) -> None:
    words = ["preprocess", str(scan), "--like", "demo", "--out", str(tmp_path / "data")]
    code = f"""
import sys
from prdit_core.cli.app import app
try:
    app({words!r})
except SystemExit as end:
    assert not end.code
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, capture_output=True)
    data, demo = PreparedData.open(tmp_path / "data"), load("demo")
    assert (data.intensity, data.geometry) == (demo.intensity, demo.geometry)


def test_what_an_import_assumed_is_called_approximate(scan: Path, tmp_path: Path) -> None:
    imported = Intensity(window_hu=(-1000, 1500), model_range=(-1.007, 3.977), exact=False)
    model = checkpoint(tmp_path / "model", {}, imported, cubic(SIZE, 320, exact=False))
    done = preprocess(scan, "--like", model, "--out", tmp_path / "data")
    assert "approximate" in done.stderr
    data = PreparedData.open(tmp_path / "data")
    assert data.intensity.window_hu == imported.window_hu
    assert data.geometry == cubic(SIZE, 320)


@pytest.mark.parametrize("size", [8, 16, 32])
def test_data_are_made_for_every_resolution_of_a_chain_and_for_one_more_refiner(
    scan: Path, tmp_path: Path, size: int
) -> None:
    model = tiny_checkpoint(tmp_path / "model", size=16, model=TINY_CHAIN)
    done = preprocess(scan, "--like", model, "--size", size, "--out", tmp_path / "data")
    assert f"{size}^3 voxels, field of view 128 mm" in done.stderr
    data, header = PreparedData.open(tmp_path / "data"), read_header(model)
    assert data.intensity == header.intensity
    assert data.geometry == cubic(size, header.geometry.field_of_view_mm)


def test_without_like_the_defaults_stay(scan: Path, tmp_path: Path) -> None:
    preprocess(scan, "--out", tmp_path / "data")
    manifest = PreparedData.open(tmp_path / "data").manifest
    assert (manifest.preset, manifest.size) == (PRESETS["chest-320"], 128)


# --- refusals ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ("--preset", "chest-320"),
        ("--preset", ""),
        ("--field-of-view", "320"),
    ],
)
def test_like_takes_window_and_field_of_view_from_nowhere_else(
    scan: Path, tmp_path: Path, words: tuple[str, str]
) -> None:
    done = preprocess(scan, "--like", "demo", *words, "--out", tmp_path / "data", code=2)
    (line,) = done.stderr.splitlines()
    assert line.endswith(f"leave out {words[0]}")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(("size", "words"), [(4, "not 4"), (64, "not 64"), (0, "not 0")])
def test_a_size_that_no_model_of_the_chain_has_is_refused(
    scan: Path, tmp_path: Path, size: int, words: str
) -> None:
    model = tiny_checkpoint(tmp_path / "model", size=16, model=TINY_CHAIN)
    done = preprocess(scan, "--like", model, "--size", size, "--out", tmp_path / "data", code=2)
    (line,) = done.stderr.splitlines()
    assert "size 8, 16, or 32 for a refiner" in line and words in line
    assert not (tmp_path / "data").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("intensity", "geometry", "reason"),
    [
        (INTENSITY, cubic(12, FIELD_MM), "size 12 does not fit"),
        (INTENSITY, cubic(512, FIELD_MM), "size 512 does not fit"),
        (INTENSITY, GEOMETRY.model_copy(update={"shape": (8, 8, 16)}), "8 x 8 x 16 voxels"),
        (INTENSITY, GEOMETRY.model_copy(update={"spacing_mm": (50, 50, 5)}), "50 x 50 x 5 mm"),
        (Intensity(window_hu=(-900.5, 700)), GEOMETRY, "-900.5 to 700 HU"),
        (Intensity(window_hu=(-90000, 700)), GEOMETRY, "-90000 to 700 HU"),
    ],
)
def test_a_model_that_no_scan_fits_is_refused_in_one_line(
    scan: Path, tmp_path: Path, intensity: Intensity, geometry: Geometry, reason: str
) -> None:
    model = checkpoint(tmp_path / "model", RECORD, intensity, geometry)
    done = preprocess(scan, "--like", model, "--out", tmp_path / "data", code=2)
    (line,) = done.stderr.splitlines()
    assert reason in line and str(model) in line
    assert not (tmp_path / "data").exists()
    with pytest.raises(UsageError, match=reason):
        decompose(load(model), read_volume(scan), 300)


def test_a_model_of_several_channels_is_refused(tmp_path: Path) -> None:
    model = tiny_checkpoint(tmp_path / "model", model=TINY.model_copy(update={"channels": 2}))
    with pytest.raises(UsageError, match="2 channels") as caught:
        expected_by(model)
    assert str(model) in str(caught.value)


@pytest.mark.parametrize(("name", "code"), [("nothing", 2), ("prdit-fm-256", 2), ("damaged", 5)])
def test_no_checkpoint_is_no_data(
    scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: int
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged/checkpoint.json").write_text("{")
    done = preprocess(scan, "--like", name, "--out", "data", code=code)
    assert len(done.stderr.splitlines()) == 1
    assert not Path("data").exists()


# --- what the record says ---------------------------------------------------------------------


@pytest.mark.slow
def test_decompose_prepares_a_scan_as_the_record_says(scan: Path, tmp_path: Path) -> None:
    volume = read_volume(scan)
    recorded, silent = (
        decompose(load(checkpoint(tmp_path / name, record)), volume, 300).scan
        for name, record in (("recorded", RECORD), ("silent", {}))
    )
    for found, preset in ((recorded, FIXED), (silent, FITTED)):
        expected = conform(volume, preset, SIZE).volume
        assert np.array_equal(found.voxels_hu, expected.voxels_hu)
        assert np.array_equal(found.affine, expected.affine)
    assert not np.array_equal(recorded.voxels_hu, silent.voxels_hu)


@pytest.mark.parametrize(
    "lie",
    [
        {"window_hu": [-900, 701]},
        {"field_of_view_mm": FIELD_MM / 2},
        {"field_of_view_mm": float("nan")},
        {"grid": "best"},
        {"window_hu": None},
        {"name": "\x1b[31m"},
        {"unheard": "of"},
    ],
)
def test_a_record_that_lies_is_passed_over(lie: dict[str, Any]) -> None:
    assert expected_data(INTENSITY, GEOMETRY, RECORD).preset == FIXED
    record = {"preset": RECORD["preset"] | lie}
    assert expected_data(INTENSITY, GEOMETRY, record).preset == FITTED


@pytest.mark.parametrize("damaged", [None, 7, "fixed", [], {}])
def test_a_damaged_record_is_passed_over(damaged: object) -> None:
    assert expected_data(INTENSITY, GEOMETRY, {"preset": damaged}).preset == FITTED

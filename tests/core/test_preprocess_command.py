"""`prdit-core preprocess` says which scan it speaks of, and refuses values in one line."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
from pydantic import ValidationError
from scans import chest, chest_hu
from thorax import chest as thorax
from thorax import save
from typer.testing import CliRunner

from prdit_core.cli.app import app
from prdit_core.cli.reading import read_options
from prdit_core.data.io import AS_STATED, ReadOptions, write_volume
from prdit_core.errors import first_fault
from prdit_core.volume import Volume

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result


def prdit(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """A scan, its copy, one with a note and a broken one."""
    folder = tmp_path / "scans"
    first = save(thorax((24, 32, 32)), folder / "a.nii.gz")
    shutil.copy(first, folder / "copy.nii.gz")
    padded = thorax((24, 32, 32), body=(9, 0))
    padded.voxels_hu[0, 0, :3] = -2000
    save(padded, folder / "noted\x1b.nii.gz")
    (folder / "broken\x1b.nii").write_text("no scan")
    return folder


def test_every_message_names_its_scan(scans: Path, tmp_path: Path) -> None:
    done = prdit("preprocess", scans, "--out", tmp_path / "out", "--size", 16)
    assert done.exit_code == 4
    lines = done.stderr.splitlines()
    assert any(line.startswith(r"rejected scans/broken\x1b.nii: ") for line in lines)
    assert r"note scans/noted\x1b.nii.gz: 3 voxels below -1024 HU were set to -1024" in lines
    assert any(line.startswith("skipped scans/copy.nii.gz: the same as case-") for line in lines)
    assert all(line.isprintable() for line in lines)


def test_json_names_the_scans_too(scans: Path, tmp_path: Path) -> None:
    done = prdit("preprocess", scans, "--out", tmp_path / "out", "--size", 16, "--json")
    result = json.loads(done.stdout)
    assert [entry["source"] for entry in result["rejected"]] == [r"scans/broken\x1b.nii"]
    assert [entry["source"] for entry in result["skipped"]] == ["scans/copy.nii.gz"]
    assert {"source": r"scans/noted\x1b.nii.gz"}.items() <= result["scan_notes"][0].items()
    assert result["notes"] == ["2 scans name no patient; split by scan"]
    assert (result["train"], result["validation"]) == (1, 1)


@pytest.mark.parametrize(
    "words",
    [
        ("preprocess", ""),
        ("preprocess", "scans", "--out", ""),
        ("preprocess", "scans", "--validation", "0"),
        ("preprocess", "scans", "--validation", "0.6"),
        ("preprocess", "scans", "--workers", "62"),
        ("preprocess", "scans", "--assume-orientation", "LLS"),
        ("phantoms", "--out", ""),
        ("phantoms", "--workers", "0"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_written(
    words: tuple[str, ...], scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    out = () if "--out" in words else ("--out", "made")
    done = prdit(*words, *out)
    assert done.exit_code == 2
    assert len(done.stderr.splitlines()) == 1
    assert "Value error" not in done.stderr
    assert list(tmp_path.iterdir()) == [scans]


def test_geometry_and_range_of_npz_are_options(tmp_path: Path) -> None:
    bright = np.ascontiguousarray(np.tile(chest_hu((10, 24, 28)), (4, 1, 1)))
    np.savez(tmp_path / "a.npz", ct=np.where(bright == 900, 1500, bright))
    words = ("--npz-spacing", 3, 2, 2.5, "--npz-clip", -900, 1400)
    done = prdit("preprocess", tmp_path / "a.npz", "--out", tmp_path / "out", "--size", 16, *words)
    assert done.exit_code == 0, done.stderr
    (case,) = json.loads((tmp_path / "out/manifest.json").read_text())["train"]
    assert case["record"]["source_spacing_mm"] == [3, 2, 2.5]
    assert "(3.0, 2.0, 2.5) mm and HU clipped to (-900.0, 1400.0)" in case["notes"][0]


def test_options_not_given_are_those_of_reading() -> None:
    assert read_options(series=None, frame=None, hu_offset=0.0) == AS_STATED
    given = read_options(
        series="1.2.3",
        frame=0,
        assume_orientation="lps",
        assume_rescale=(1, -1024),
        hu_offset=5,
        nan_fill=-1000,
        npz_spacing_mm=(1, 2, 3),
        npz_clip_hu=(-9, 9),
    )
    assert given == ReadOptions(
        series="1.2.3",
        frame=0,
        assume_orientation="LPS",
        assume_rescale=(1, -1024),
        hu_offset=5,
        nan_fill=-1000,
        npz_spacing_mm=(1, 2, 3),
        npz_clip_hu=(-9, 9),
    )


@pytest.mark.parametrize("values", [{"npz_clip_hu": (5, 5)}, {"npz_spacing_mm": (1, 0, 1)}])
def test_npz_values_that_make_no_sense_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError) as caught:
        ReadOptions.model_validate(values)
    assert "Value error" not in first_fault(caught.value)


def test_no_layer_holds_whose_scan_it_is() -> None:
    from napari_prdit.layers import image_layer

    volume = Volume(chest_hu(), chest().affine, {"patient_key": "0123", "notes": []})
    _, attributes, _ = image_layer(volume, "scan")
    assert set(attributes["metadata"]["prdit"]) == {"affine", "notes"}


@pytest.mark.parametrize("suffix", [".nii", ".mha", ".mhd"])
def test_no_file_holds_whose_scan_it_is(tmp_path: Path, suffix: str) -> None:
    volume = Volume(chest_hu(), chest().affine, {"patient_key": "0123456789abcdef"})
    write_volume(volume, tmp_path / f"a{suffix}")
    written = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"0123456789abcdef" not in written

"""What strangers' files taught: every row of ../shared/data/field/README.md, as it says.

The files are not ours to copy; test_odd_units.py, test_odd_files.py and test_adding_cases.py have
the same kinds made from phantoms.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from typer.testing import CliRunner

from prdit_core.cli.app import app
from prdit_core.data.datasets import PreparedData
from prdit_core.data.io import AS_STATED, ReadOptions, find_cases, read_volume
from prdit_core.errors import InputRejected

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

    from prdit_core.volume import Volume

LPS = ReadOptions(assume_orientation="LPS")
ORIGIN_MM = (249.51171875, 460.51171875, -681.5)  # RAS+


@pytest.fixture(scope="module")
def field(real_data: Path) -> Path:
    """The folder of the rows."""
    return real_data / "field"


def reason(path: Path, options: ReadOptions = AS_STATED) -> str:
    with pytest.raises(InputRejected) as caught:
        read_volume(path, options)
    return str(caught.value)


def notes_of(volume: Volume) -> str:
    return "\n".join(volume.metadata["notes"])


def prepare(*words: object) -> Result:
    return CliRunner().invoke(app, ["preprocess", *map(str, words)])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "offset"),
    [("raw1000-pad-1000", 1000), ("raw1024-pad-1000", 1024), ("raw1024-pad-1024", 1024)],
)
def test_offset_behind_padding(field, tmp_path, name, offset):
    path = field / "offset-behind-padding" / f"{name}.nii.gz"
    words = (path, "--size", 8, "--out", tmp_path / "out")
    refused = prepare(*words)
    assert refused.exit_code == 3
    assert f"state --hu-offset -{offset}" in refused.stderr
    assert prepare(*words, "--hu-offset", -offset).exit_code == 0
    read = read_volume(path, ReadOptions(hu_offset=-offset))
    stored = np.asanyarray(nib.load(path).dataobj).T.astype(int)
    fill = int(name.split("pad")[1])
    scanned = np.sort(stored[stored != fill]) - offset  # the reader turns its axes
    padded = np.count_nonzero(stored == fill)
    expected = np.sort(np.concatenate([np.full(padded, -1024), np.maximum(scanned, -1024)]))
    np.testing.assert_array_equal(np.sort(read.voxels_hu, axis=None), expected)
    soft = np.count_nonzero((read.voxels_hu > 0) & (read.voxels_hu < 80))
    assert soft > np.count_nonzero(read.voxels_hu > 900)


def test_mr_offset_hint(field, real_data, tmp_path):
    path = field / "mr-offset-hint" / "mr-brain.nrrd"
    words = (path, "--size", 8, "--out", tmp_path / "out")
    refused = prepare(*words)
    assert refused.exit_code == 3
    assert "not CT" in refused.stderr and "--hu-offset" not in refused.stderr
    for offset in (-1024, -1000):
        again = prepare(*words, "--hu-offset", offset)
        assert again.exit_code == 3
        assert "probably no CT" in again.stderr
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_no_mr_fits_whatever_it_is_multiplied_by(field, real_data, tmp_path):
    for source in (field / "mr-offset-hint" / "mr-brain.nrrd", real_data / "ct/not-ct-mr.nii.gz"):
        image = sitk.ReadImage(str(source), sitk.sitkFloat32)
        for factor in np.geomspace(0.2, 8, 12):
            path = tmp_path / "scaled.nrrd"
            sitk.WriteImage(image * float(factor), str(path))
            assert "--hu-offset" not in reason(path), factor
            for offset in (-1024, -1000):
                reason(path, ReadOptions(hu_offset=offset))


@pytest.mark.slow
def test_preprocess_twice(field, tmp_path):
    a, b = (field / "preprocess-twice" / f"{name}.nii.gz" for name in "ab")
    for path in (a, b, a):
        assert prepare(path, "--size", 32, "--out", tmp_path / "X").exit_code == 0
    data = PreparedData.open(tmp_path / "X")
    data.verify()
    assert len(data.cases) == 2
    assert {f"{case.id}.npy" for case in data.cases} == {
        path.name for path in (tmp_path / "X" / "volumes").iterdir()
    }
    report = json.loads((tmp_path / "X" / "report.json").read_text())
    assert sorted(entry["source"] for entry in report["prepared"]) == ["a.nii.gz", "b.nii.gz"]


@pytest.mark.slow
def test_preprocess_twice_at_once(field, tmp_path):
    out = tmp_path / "X"
    command = [sys.executable, "-m", "prdit_core.cli", "preprocess", "--size", "32", "--out", out]
    started = [
        subprocess.Popen([*command, field / "preprocess-twice" / f"{name}.nii.gz"]) for name in "ab"
    ]
    assert [process.wait(timeout=240) for process in started] == [0, 0]
    data = PreparedData.open(out)
    data.verify()
    assert len(data.cases) == 2


@pytest.mark.parametrize(
    ("name", "padding"), [("unsigned-63536", 63536), ("padding-4095", 4095), ("padding-0HU", 1024)]
)
def test_pixel_padding_value(field, name, padding):
    folder = field / "pixel-padding-value" / name
    slices = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
    stored = np.stack([slice_.pixel_array for slice_ in slices]).astype(int)
    volume = read_volume(folder)
    air = volume.voxels_hu == -1024
    assert volume.voxels_hu.max() < 1500
    count = int(notes_of(volume).partition(" voxels of padding became air")[0])
    kept = (stored == padding) & ~air
    if name == "padding-0HU":  # some voxels inside the body are 0 HU in truth: they stay
        assert 0 < kept.sum() < 0.01 * count
        assert not kept[:, 0].any() and not kept[:, :, 0].any()
    else:
        assert not kept.any()
    assert count == np.count_nonzero(stored == padding) - kept.sum()
    np.testing.assert_array_equal(volume.voxels_hu, np.where(air, -1024, stored - 1024))
    assert np.count_nonzero(air) <= count + np.count_nonzero(stored == 0)


def test_assume_orientation_origin(field):
    folder = field / "assume-orientation-origin"
    for name in ("notm.mhd", "spacings.nrrd"):
        assert "--assume-orientation" in reason(folder / name)
        volume = read_volume(folder / name, LPS)
        np.testing.assert_allclose(volume.affine[:3, 3], ORIGIN_MM)
        assert volume.metadata["notes"][0] == "orientation assumed"
        whole = read_volume(field / "dot-slash-data-file" / "dot.mhd")
        np.testing.assert_array_equal(volume.affine, whole.affine)
        np.testing.assert_array_equal(volume.voxels_hu, whole.voxels_hu)


def test_dicomdir_other_name(field, tmp_path):
    folder = field / "dicomdir-other-name"
    volume = read_volume(folder)
    assert volume.shape == (6, 128, 128)
    assert "1 files that are no DICOM image were ignored" in notes_of(volume)
    assert find_cases(folder) == [folder]
    assert prepare(folder, "--size", 8, "--out", tmp_path / "out").exit_code == 0


def test_padding_not_sharp(field):
    blurred = {"lossy-j2k-CT1_J2KI": (3, 512, 512), "resampled": (12, 96, 96)}
    for name, shape in blurred.items():
        volume = read_volume(field / "padding-not-sharp" / name)
        assert volume.shape == shape
        assert "its padding is not sharp" in notes_of(volume)
        assert volume.voxels_hu[:, 0, 0].max() == -1024
        assert volume.voxels_hu.max() > 300  # bone is there


def test_dot_slash_data_file(field):
    volumes = [read_volume(field / "dot-slash-data-file" / f"dot.{s}") for s in ("mhd", "nhdr")]
    for volume in volumes:
        stored = np.fromfile(field / "dot-slash-data-file" / "v.raw", "<i2").reshape(volume.shape)
        np.testing.assert_array_equal(volume.voxels_hu, np.maximum(stored, -1024))
        np.testing.assert_allclose(volume.affine[:3, 3], ORIGIN_MM)


def test_no_preamble(field, tmp_path):
    folder = field / "no-preamble"
    volume = read_volume(folder)
    files = sorted((folder / "all").iterdir())
    stored = [np.frombuffer(pydicom.dcmread(path, force=True).PixelData, "<i2") for path in files]
    expected = np.maximum(np.stack(stored).reshape(volume.shape).astype(int) - 1024, -1024)
    np.testing.assert_array_equal(volume.voxels_hu, expected)
    assert find_cases(folder) == [folder / "all"]
    assert prepare(folder, "--size", 8, "--out", tmp_path / "out").exit_code == 0


@pytest.mark.parametrize(
    ("name", "why", "remedy"),
    [
        ("notgz.nii.gz", "it is NIfTI, not gzip", "rename it to end in .nii"),
        ("gz.nii", "it is gzip, not NIfTI", "rename it to end in .nii.gz"),
        ("lfs.nii.gz", "it is a git-lfs pointer", "git lfs pull"),
    ],
)
def test_wrong_suffix(field, name, why, remedy):
    message = reason(field / "wrong-suffix" / name)
    assert message.startswith(f"{name}: {why}")
    assert message.endswith(remedy) or (remedy == "git lfs pull" and remedy in message)

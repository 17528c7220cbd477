"""What was imagined, as a DICOM segmentation beside the exported series."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import highdicom
import numpy as np
import pytest
from chests import chest, volume
from test_command import digests, run

from prdit_core.data.io import write_labels, write_volume
from prdit_core.volume import Volume

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def edited(tmp_path: Path) -> Path:
    """A scan somewhere in space and the mask of a region of it, as the dock saves them."""
    scan = volume(chest(2, 0), 10.0)
    affine = scan.affine.copy()
    affine[:3, 3] += (12.0, -30.0, 700.0)
    write_volume(Volume(scan.voxels_hu, affine), tmp_path / "scan.nii.gz")
    region = np.zeros(scan.shape, np.uint8)
    region[3:6, 4:9, 5:12] = 1
    write_labels(Volume(region, affine), tmp_path / "mask.nii.gz")
    write_labels(Volume(0 * region, affine), tmp_path / "empty.nii.gz")
    write_labels(Volume(region, scan.affine), tmp_path / "elsewhere.nii.gz")
    return tmp_path


def words(folder: Path, mask: str = "mask.nii.gz") -> tuple[object, ...]:
    return "export", folder / "scan.nii.gz", "--dicom", folder / "out", "--mask", folder / mask


@pytest.mark.slow
def test_a_segmentation_lies_where_the_region_does(edited: Path) -> None:
    report = json.loads(run(*words(edited), "--json").stdout)
    assert report["segmentation"] == str(edited / "out-imagined.dcm")
    found = highdicom.seg.segread(report["segmentation"])
    assert found.SegmentSequence[0].SegmentLabel == "Imagined by a generative model"
    assert found.SyntheticData == "YES" and found.PatientName == "ANONYMOUS"
    assert found.ReferencedSeriesSequence[0].SeriesInstanceUID == report["series"]
    segment = found.get_volume(combine_segments=True)
    places = np.argwhere(segment.array) @ segment.affine[:3, :3].T + segment.affine[:3, 3]
    mask = np.argwhere(np.ones((3, 5, 7)))[:, ::-1] + (5, 4, 3)  # x, y, z
    affine = volume(chest(2, 0), 10.0).affine
    ras = mask @ affine[:3, :3].T + affine[:3, 3] + (12.0, -30.0, 700.0)
    np.testing.assert_allclose(
        sorted(map(tuple, places.round(3))), sorted(map(tuple, (ras * (-1, -1, 1)).round(3)))
    )


@pytest.mark.slow
def test_what_is_there_is_kept(edited: Path) -> None:
    (edited / "out-imagined.dcm").write_text("mine")
    run(*words(edited), code=6)
    assert (edited / "out-imagined.dcm").read_text() == "mine"
    run(*words(edited), "--overwrite")
    first = highdicom.seg.segread(edited / "out-imagined.dcm").SOPInstanceUID
    run(*words(edited), "--overwrite")
    assert highdicom.seg.segread(edited / "out-imagined.dcm").SOPInstanceUID == first


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mask", "code", "line"),
    [
        ("empty.nii.gz", 2, "nothing was imagined"),
        ("elsewhere.nii.gz", 3, "lies on another grid than out"),
        ("none.nii.gz", 3, "No such file"),
        ("mask.png", 3, "no NIfTI file"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(mask: str, code: int, line: str, edited: Path) -> None:
    before = digests(edited)
    assert line in run(*words(edited, mask), code=code).stderr
    after = digests(edited)
    assert not (edited / "out-imagined.dcm").exists()
    assert before.items() <= after.items()


def test_without_highdicom_the_package_is_named(
    edited: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "highdicom", None)
    assert "pip install highdicom" in run(*words(edited), code=2).stderr

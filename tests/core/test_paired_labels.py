"""Label maps are prepared with their scans, lie where those lie, and are checked against them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from prdit_core.cli.app import app
from prdit_core.data.datasets import PreparedData, case_path
from prdit_core.data.io import write_labels, write_volume
from prdit_core.data.phantoms import LABELS, Phantom, make_phantom
from prdit_core.data.presets import PRESETS
from prdit_core.data.transforms import conform
from prdit_core.errors import InputRejected, PartialFailure, UsageError
from prdit_core.verbs.preprocess import CasePrepared, CaseRejected, preprocess, preprocess_steps
from prdit_core.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

SIZE = 16
PRESET = PRESETS["chest-320"]


def chest(index: int) -> Phantom:
    return make_phantom(11, index, spacing_mm=16.0)


@pytest.fixture
def desk(tmp_path):
    """Three scans and their label maps, one in a folder below and one called as nnU-Net does."""
    for index, name in enumerate(("a", "below/b", "c")):
        there = chest(index)
        scan = tmp_path / "scans" / f"{name}{'_0000' if name == 'c' else ''}.nii.gz"
        labels = tmp_path / "labels" / f"{name}.nii.gz"
        for path in (scan, labels):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_volume(there.volume, scan)
        write_labels(Volume(there.labels, there.volume.affine), labels)
    return tmp_path


def prepared(desk: Path, **settings: Any) -> PreparedData:
    preprocess(
        [desk / "scans"],
        preset=PRESET,
        size=SIZE,
        out=desk / "out",
        labels=desk / "labels",
        **settings,
    )
    return PreparedData.open(desk / "out")


def rejections(desk: Path) -> list[str]:
    """What is said of scans that are refused; the others are prepared."""
    events = preprocess_steps(
        [desk / "scans"], preset=PRESET, size=SIZE, out=desk / "out", labels=desk / "labels"
    )
    reasons = []
    with pytest.raises(PartialFailure):
        for event in events:
            if isinstance(event, CaseRejected):
                reasons.append(f"{event.source}: {event.reason}")
    assert all("\n" not in reason for reason in reasons)
    return reasons


def change(path: Path, edit: Callable[[NDArray[Any], NDArray[Any]], tuple[Any, Any]]) -> None:
    """Write a NIfTI anew with other voxels (x, y, z) or another affine."""
    image = nib.Nifti1Image.from_filename(path)
    voxels, affine = edit(np.asanyarray(image.dataobj), np.array(image.affine))
    nib.Nifti1Image(voxels, affine).to_filename(path)


def test_labels_lie_as_those_of_phantoms_do(desk):
    data = prepared(desk)
    assert len(data.cases) == 3
    expected = [conform(p.volume, PRESET, SIZE, p.labels) for p in map(chest, range(3))]
    for case in data.cases:
        labels = data.labels_of(case)
        assert labels.shape == (SIZE,) * 3
        (own,) = (e for e in expected if np.array_equal(e.volume.voxels_hu, data.volume(case)))
        np.testing.assert_array_equal(labels, own.labels)
        assert set(np.unique(labels)) <= set(case.record["labels"]["numbers"])
    numbers = sorted({n for case in data.cases for n in case.record["labels"]["numbers"]})
    names = {"background": 0} | {f"label-{number}": number for number in numbers if number}
    assert data.label_names == names


def test_a_map_that_is_stored_the_other_way_round_is_the_same_map(desk):
    def turn(voxels: NDArray[Any], affine: NDArray[Any]) -> tuple[Any, Any]:
        flip = np.diag([-1.0, 1, 1, 1])
        flip[0, 3] = voxels.shape[0] - 1
        return voxels[::-1].transpose(1, 0, 2), affine @ flip @ np.eye(4)[:, [1, 0, 2, 3]]

    straight = {case.id: case.labels_sha256 for case in prepared(desk).cases}
    change(desk / "labels" / "a.nii.gz", turn)
    assert {case.id: case.labels_sha256 for case in prepared(desk).cases} == straight


def test_names_are_taken_from_beside_the_maps(desk):
    (desk / "labels" / "labels.json").write_text(json.dumps(LABELS))
    assert prepared(desk).label_names == LABELS


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"lung": 300}, "does not name numbers of 0 to 255"),
        ({"lung": "4"}, "does not name numbers of 0 to 255"),
        ([], "does not name numbers"),
        ({"lung": 4, "heart": 4}, "two names have one number"),
    ],
)
def test_names_that_are_none_are_refused(desk, content, message):
    (desk / "labels" / "labels.json").write_text(json.dumps(content))
    with pytest.raises(InputRejected, match=message):
        prepared(desk)


def test_every_map_that_does_not_fit_its_scan_is_told_of_in_one_line(desk):
    labels = desk / "labels"
    (labels / "a.nii.gz").unlink()
    change(labels / "below" / "b.nii.gz", lambda v, a: (v[:-1], a))
    change(labels / "c.nii.gz", lambda v, a: (v, a @ np.diag([-1.0, 1, 1, 1])))
    events = preprocess_steps(
        [desk / "scans"], preset=PRESET, size=SIZE, out=desk / "out", labels=labels
    )
    reasons = {}
    with pytest.raises(InputRejected, match="none of 3 scans"):
        for event in events:
            assert isinstance(event, CaseRejected)
            reasons[event.source] = event.reason
    assert "it has no label map a.nii.gz in" in reasons["scans/a.nii.gz"]
    assert (
        "b.nii.gz: it has 20 x 20 x 19 voxels (z, y, x), its scan 20 x 20 x 20"
        in (reasons["scans/below/b.nii.gz"])
    )
    assert (
        "c.nii.gz: it lies elsewhere than its scan, or turned: its corners are"
        in (reasons["scans/c_0000.nii.gz"])
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("value", "reason"), [(0.5, "it holds 0.5"), (300.0, "it holds 300"), (-1.0, "it holds -1"),
                          (np.nan, "it holds nan")],
)  # fmt: skip
def test_what_is_no_label_is_refused(desk, value, reason):
    def spoil(voxels: NDArray[Any], affine: NDArray[Any]) -> tuple[Any, Any]:
        spoilt = voxels.astype(np.float32)
        spoilt[1, 2, 3] = value
        return spoilt, affine

    change(desk / "labels" / "a.nii.gz", spoil)
    (rejection,) = rejections(desk)
    assert f"{reason}, but labels are whole numbers of 0 to 255" in rejection


def test_a_number_without_a_name_is_refused(desk):
    (desk / "labels" / "labels.json").write_text(json.dumps({"fat": 2}))
    with pytest.raises(InputRejected, match="none of 3 scans"):
        prepared(desk)
    assert "labels.json has no name for its label" in (desk / "out" / "report.json").read_text()


def test_an_empty_map_is_noted(desk):
    change(desk / "labels" / "a.nii.gz", lambda v, a: (0 * v, a))
    notes = [note for case in prepared(desk).cases for note in case.notes]
    assert notes.count("its label map is empty") == 1


def test_a_second_run_takes_a_corrected_map_and_no_other(desk):
    prepared(desk)
    change(desk / "labels" / "a.nii.gz", lambda v, a: (np.where(v == 9, 3, v).astype(np.uint8), a))
    events = preprocess_steps(
        [desk / "scans"], preset=PRESET, size=SIZE, out=desk / "out", labels=desk / "labels"
    )
    reused = [event.reused for event in events if isinstance(event, CasePrepared)]
    assert sorted(reused) == [False, True, True]
    PreparedData.open(desk / "out").verify()


def test_labels_do_not_lie_among_the_scans_and_a_set_has_them_or_not(desk):
    with pytest.raises(UsageError, match=r"label maps .* lies in input"):
        preprocess([desk], preset=PRESET, size=SIZE, out=desk / "out", labels=desk / "labels")
    prepared(desk)
    with pytest.raises(Exception, match="other settings"):
        preprocess([desk / "scans"], preset=PRESET, size=SIZE, out=desk / "out")
    preprocess([desk / "scans"], preset=PRESET, size=SIZE, out=desk / "plain")
    plain = PreparedData.open(desk / "plain")
    assert plain.label_names == {}
    assert "labels" not in plain.manifest.settings
    with pytest.raises(InputRejected, match="has no labels; prepare the data with"):
        plain.labels_of(plain.train[0])


def test_damaged_labels_are_named(desk):
    data = prepared(desk)
    path = case_path(desk / "out", "labels", data.train[0].id)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputRejected, match="damaged or changed"):
        data.labels_of(data.train[0])


def test_the_command_takes_them(desk):
    words = ["preprocess", str(desk / "scans"), "--labels", str(desk / "labels"), "--size", "16"]
    done = CliRunner().invoke(app, [*words, "--out", str(desk / "out"), "--json"])
    assert done.exit_code == 0, done.output
    assert PreparedData.open(desk / "out").label_names["background"] == 0

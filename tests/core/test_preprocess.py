"""Folders of scans and numbers of phantoms become prepared data sets."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from typing import TYPE_CHECKING

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import generate_uid
from scans import write_series
from thorax import chest, save

from prdit_core.data import preparing
from prdit_core.data.builder import in_order, split_by_patient
from prdit_core.data.datasets import Case, PreparedData
from prdit_core.data.io import ReadOptions
from prdit_core.data.presets import PRESETS
from prdit_core.errors import (
    InputRejected,
    MemoryLimit,
    OutputError,
    PartialFailure,
    UsageError,
)
from prdit_core.verbs.phantoms import phantom_steps, phantoms
from prdit_core.verbs.preprocess import (
    CasePrepared,
    CaseRejected,
    CaseSkipped,
    DataSetWritten,
    preprocess,
    preprocess_steps,
)
from prdit_core.volume import Volume

if TYPE_CHECKING:
    from pathlib import Path

SMALL = {"preset": PRESETS["chest-320"], "size": 16}


def scan(number: int) -> Volume:
    return chest((24, 32, 32), body=(2 * number, 0), noise=number + 1)


def tree(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def scans(tmp_path):
    """Three scans, which no test may change."""
    folder = tmp_path / "scans"
    for number in range(3):
        save(scan(number), folder / f"scan {number}.nii.gz")
    before = tree(folder)
    yield folder
    assert {name: tree(folder).get(name) for name in before} == before


def run(steps):
    """All events, and the error that ended them, if one did."""
    events = []
    try:
        for event in steps:
            events.append(event)
    except (PartialFailure, InputRejected) as error:
        return events, error
    return events, None


def report(folder: Path):
    return json.loads((folder / "report.json").read_text())


def test_scans_become_a_data_set(scans, tmp_path):
    written = preprocess([scans], out=tmp_path / "out", **SMALL)
    assert (written.train, written.validation) == (2, 1)
    assert written.notes == ("3 scans name no patient; split by scan",)
    data = PreparedData.open(tmp_path / "out")
    data.verify()
    assert data.geometry.spacing_mm == (20.0,) * 3
    assert data.volume(data.train[0]).shape == (16, 16, 16)
    assert data.train[0].record["source_spacing_mm"] == [10, 10, 10]
    prepared = report(tmp_path / "out")["prepared"]
    assert {entry["source"] for entry in prepared} == {f"scans/scan {n}.nii.gz" for n in range(3)}
    assert {entry["case"] for entry in prepared} == {case.id for case in data.cases}


def test_one_bad_scan_does_not_harm_the_others(scans, tmp_path):
    broken = scans / "broken\x1b]0;.nii.gz"
    broken.write_bytes((scans / "scan 0.nii.gz").read_bytes()[:-50])
    events, error = run(preprocess_steps([scans], out=tmp_path / "out", **SMALL))
    assert isinstance(error, PartialFailure)
    assert "1 of 4" in str(error)
    prepared = [event.source for event in events if isinstance(event, CasePrepared)]
    assert prepared == [f"scans/scan {n}.nii.gz" for n in range(3)]
    assert isinstance(events[-1], DataSetWritten)
    (rejected,) = report(tmp_path / "out")["rejected"]
    assert rejected["source"] == r"scans/broken\x1b]0;.nii.gz"
    assert "broken" in rejected["reason"]
    assert len(PreparedData.open(tmp_path / "out").cases) == 3


def test_only_bad_scans_or_none_are_refused(tmp_path):
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "text.nii").write_text("not a scan")
    events, error = run(preprocess_steps([bad], out=tmp_path / "out", **SMALL))
    assert isinstance(error, InputRejected)
    assert isinstance(events[0], CaseRejected)
    assert len(report(tmp_path / "out")["rejected"]) == 1
    assert not (tmp_path / "out" / "manifest.json").exists()
    (tmp_path / "empty").mkdir()
    for nothing in ("empty", "absent"):
        with pytest.raises(InputRejected):
            preprocess([tmp_path / nothing], out=tmp_path / "other", **SMALL)
    assert not (tmp_path / "other").exists()


@pytest.mark.slow
def test_bytes_depend_on_the_scans_and_not_on_names_order_or_workers(scans, tmp_path):
    renamed = tmp_path / "dir with späce" / "体\n"
    renamed.mkdir(parents=True)
    for number in range(3):
        shutil.copy(scans / f"scan {number}.nii.gz", renamed / f"{9 - number}.nii.gz")
    preprocess([scans], out=tmp_path / "a", **SMALL)
    files = [renamed / f"{9 - number}.nii.gz" for number in (1, 0, 2)]
    preprocess(files, out=tmp_path / "b", workers=2, **SMALL)
    a, b = tree(tmp_path / "a"), tree(tmp_path / "b")
    assert a.pop("report.json") != b.pop("report.json")  # which alone names files
    assert a == b


def test_a_stopped_run_goes_on(scans, tmp_path):
    preprocess([scans], out=tmp_path / "whole", **SMALL)
    out = tmp_path / "out"
    steps = preprocess_steps([scans], out=out, **SMALL)
    first = next(steps)
    steps.close()
    with pytest.raises(InputRejected):
        PreparedData.open(out)
    (out / "volumes" / ".123.partial.case.npy").write_bytes(b"killed while writing")
    written = (out / "volumes" / f"{first.case.id}.npy").stat().st_mtime_ns
    events, _ = run(preprocess_steps([scans], out=out, **SMALL))
    assert [event.reused for event in events[:3]] == [True, False, False]
    assert (out / "volumes" / f"{first.case.id}.npy").stat().st_mtime_ns == written
    (out / "volumes" / ".123.partial.case.npy").unlink()
    assert tree(out) == tree(tmp_path / "whole")


def test_a_damaged_cube_or_entry_is_made_again(scans, tmp_path):
    out = tmp_path / "out"
    preprocess([scans], out=out, **SMALL)
    before = tree(out)
    first, second, _ = sorted((out / "volumes").iterdir())
    first.write_bytes(first.read_bytes()[:-2])
    (out / "cases" / f"{second.stem}.json").write_text("{}")
    events, _ = run(preprocess_steps([scans], out=out, **SMALL))
    assert sorted(event.reused for event in events[:3]) == [False, False, True]
    assert tree(out) == before


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"size": 32}, "size 16, now 32"),
        ({"preset": PRESETS["lidc-idri"]}, "preset.name chest-320, now lidc-idri"),
        ({"read_options": ReadOptions(hu_offset=-1024)}, "read_options.hu_offset 0.0, now"),
        ({"seed": 1}, "seed 0, now 1"),
        ({"validation_fraction": 0.5}, "validation_fraction"),
    ],
)
def test_other_settings_do_not_mix_in_one_folder(change, named, scans, tmp_path):
    one = scans / "scan 0.nii.gz"
    preprocess([one], out=tmp_path / "out", **SMALL)
    before = tree(tmp_path / "out")
    with pytest.raises(OutputError, match="choose another folder") as caught:
        preprocess([one], out=tmp_path / "out", **{**SMALL, **change})
    assert named in str(caught.value)
    assert tree(tmp_path / "out") == before


def test_cases_of_another_version_are_not_mixed_in(scans, tmp_path, monkeypatch):
    preprocess([scans], out=tmp_path / "out", **SMALL)
    module = sys.modules[preprocess.__module__]
    monkeypatch.setattr(module, "package_version", lambda: "99.0")
    with pytest.raises(OutputError, match="now napari-prdit 99"):
        preprocess([scans], out=tmp_path / "out", **SMALL)


def test_a_folder_with_other_files_is_left_alone(scans, tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(OutputError, match="other files"):
        preprocess([scans], out=tmp_path, **SMALL)
    with pytest.raises(OutputError):
        preprocess([scans], out=tmp_path / "thesis.txt" / "out", **SMALL)


def test_output_in_an_input_is_refused(scans, tmp_path):
    (tmp_path / "link").symlink_to(scans)
    for out in (scans, scans / "out", tmp_path / "link" / "out", scans / "scan 0.nii.gz"):
        with pytest.raises(UsageError, match="lies in input"):
            preprocess([scans, scans / "scan 0.nii.gz"], out=out, **SMALL)


@pytest.mark.parametrize(
    "change",
    [
        {"size": 48},
        {"validation_fraction": 0.0},
        {"validation_fraction": float("nan")},
        {"workers": 62},
    ],
)
def test_settings_out_of_range_are_refused_before_anything_is_written(change, scans, tmp_path):
    with pytest.raises(UsageError):
        preprocess([scans], out=tmp_path / "out", **{**SMALL, **change})
    assert not (tmp_path / "out").exists()


def test_the_same_scan_counts_once(scans, tmp_path):
    extra = tmp_path / "xtra"  # sorted behind the scans
    extra.mkdir()
    shutil.copy(scans / "scan 0.nii.gz", extra / "copy.nii.gz")
    sitk.WriteImage(sitk.ReadImage(scans / "scan 1.nii.gz"), extra / "other container.mha")
    (extra / "link.nii.gz").symlink_to(scans / "scan 2.nii.gz")
    events, error = run(preprocess_steps([scans, extra], out=tmp_path / "out", **SMALL))
    assert error is None
    skipped = [event for event in events if isinstance(event, CaseSkipped)]
    cases = PreparedData.open(tmp_path / "out").cases
    assert len(cases) == 3
    assert [event.source for event in skipped] == ["xtra/copy.nii.gz", "xtra/other container.mha"]
    content = report(tmp_path / "out")
    assert {entry["same_as"] for entry in content["skipped"]} <= {case.id for case in cases}
    sources = {entry["source"] for kind in ("prepared", "skipped") for entry in content[kind]}
    assert len(sources) == 5  # each once; the link is the scan it leads to


def test_a_detached_data_file_is_part_of_the_scan(tmp_path):
    for number in range(2):
        folder = tmp_path / "in" / str(number)
        save(scan(number), folder / "a.nii")
        sitk.WriteImage(sitk.ReadImage(folder / "a.nii"), folder / "a.mhd")
        (folder / "a.nii").unlink()
    assert preprocess([tmp_path / "in"], out=tmp_path / "out", **SMALL).train == 1


def test_a_scan_that_changes_while_it_is_read_is_rejected(tmp_path, monkeypatch):
    path = save(scan(0), tmp_path / "in" / "a.nii")
    real = preparing.read_volume

    def read_and_change(path, options):
        volume = real(path, options)
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        return volume

    monkeypatch.setattr(preparing, "read_volume", read_and_change)
    events, error = run(preprocess_steps([path], out=tmp_path / "out", **SMALL))
    assert isinstance(error, InputRejected)
    assert "modified while being read" in events[0].reason
    assert list((tmp_path / "out").glob("volumes/*")) == []


def test_a_patient_is_either_trained_on_or_validated_with(tmp_path, monkeypatch):
    for number in range(6):
        save(scan(number), tmp_path / "in" / f"{number}.nii.gz")
    real = preparing.read_volume

    def read_with_key(path, options):
        key = f"patient {int(path.name[0]) // 2}"
        volume = real(path, options)
        return Volume(volume.voxels_hu, volume.affine, {**volume.metadata, "patient_key": key})

    monkeypatch.setattr(preparing, "read_volume", read_with_key)
    preprocess([tmp_path / "in"], out=tmp_path / "out", **SMALL)
    data = PreparedData.open(tmp_path / "out")
    assert (len(data.train), len(data.validation)) == (4, 2)
    assert len({case.patient for case in data.cases}) == 3
    assert "patient 0" not in (tmp_path / "out" / "manifest.json").read_text()


@pytest.fixture
def series(tmp_path):
    """Four DICOM series of two patients."""
    for number in range(4):
        uid = generate_uid()

        def edit(dataset, index, number=number, uid=uid):
            dataset.PatientID = f"SECRET{number % 2}"
            dataset.PatientName = "Secret^Name"
            dataset.SeriesInstanceUID = uid
            dataset.PixelSpacing = [10, 10]
            dataset.ImagePositionPatient = [-155, -155, 10 * index]

        write_series(tmp_path / "in" / f"s{number}", scan(number).voxels_hu, edit=edit)
    return tmp_path / "in"


@pytest.mark.slow
def test_dicom_series_leave_nothing_behind_to_know_a_patient_by(series, tmp_path):
    """Nor a hash that can be recomputed from a guessed ID, however often it is hashed."""
    uid = pydicom.dcmread(next((series / "s0").iterdir())).SeriesInstanceUID
    chosen = {"all": (series, ReadOptions()), "one": (series / "s0", ReadOptions(series=uid))}
    for out, (place, options) in chosen.items():
        for _ in range(2):  # made, and found again
            preprocess([place], out=tmp_path / out, read_options=options, **SMALL)
    written = b"".join(
        p.read_bytes() for out in ("all", "one") for p in (tmp_path / out).rglob("*") if p.is_file()
    )
    assert b"secret" not in written.lower()
    assert uid.encode() not in written
    for number in range(2):
        key = f"SECRET{number}"
        for text in ("patient {}", "prdit patient {}"):
            digest = hashlib.sha256(text.format(key).encode()).hexdigest()
            assert digest[:16].encode() not in written
            key = digest[:16]
    patients = [case.patient for case in PreparedData.open(tmp_path / "all").cases]
    assert sorted(patients) == ["patient-0001"] * 2 + ["patient-0002"] * 2


@pytest.mark.slow
def test_patients_stay_apart_when_a_run_goes_on(series, tmp_path):
    preprocess([series], out=tmp_path / "whole", **SMALL)
    first, *_ = sorted(series.iterdir())
    preprocess([first], out=tmp_path / "out", **SMALL)
    events, _ = run(preprocess_steps([series], out=tmp_path / "out", **SMALL))
    assert [event.reused for event in events[:-1]] == [True, False, False, False]
    assert (tmp_path / "out/manifest.json").read_text() == (
        tmp_path / "whole/manifest.json"
    ).read_text()


@pytest.mark.slow
def test_scans_without_a_patient_among_others_are_counted(series, tmp_path):
    save(scan(5), series / "a.nii.gz")
    written = preprocess([series], out=tmp_path / "out", **SMALL)
    assert written.notes == ("1 scan names no patient; split by scan",)


def test_links_to_folders_are_said(scans, tmp_path):
    (scans / "loop\n").symlink_to(scans)
    written = preprocess([scans], out=tmp_path / "out", **SMALL)
    assert written.notes[0] == r"links to folders are not followed: loop\n"
    (scans / "loop\n").unlink()


def test_an_empty_path_is_not_this_folder(scans, tmp_path, monkeypatch):
    monkeypatch.chdir(scans)
    with pytest.raises(UsageError, match="empty path"):
        preprocess([""], out=tmp_path / "out", **SMALL)
    with pytest.raises(UsageError, match="empty path"):
        preprocess([scans / "scan 0.nii.gz"], out="", **SMALL)
    with pytest.raises(UsageError, match="empty path"):
        phantoms(1, size=16, seed=0, out="")


@pytest.mark.slow
def test_dicom_series_of_one_patient_stay_together(series, tmp_path):
    written = preprocess([series], out=tmp_path / "out", **SMALL)
    assert (written.train, written.validation) == (2, 2)


def test_one_patient_alone_is_trained_on_and_that_is_said(scans, tmp_path):
    written = preprocess([scans / "scan 1.nii.gz"], out=tmp_path / "out", **SMALL)
    assert (written.train, written.validation) == (1, 0)
    assert written.notes == ("one scan only, so none is left to validate with",)
    (one,) = phantoms(1, size=16, seed=0, out=tmp_path / "phantom").notes
    assert one.startswith("one phantom only")


def test_one_patient_with_two_scans_is_trained_on_and_that_is_said(series, tmp_path):
    of_one = [folder for folder in sorted(series.iterdir()) if folder.name in ("s0", "s2")]
    written = preprocess(of_one, out=tmp_path / "out", **SMALL)
    assert (written.train, written.validation) == (2, 0)
    assert written.notes == ("all scans are of one patient, so none is left to validate with",)


def case(name: int, patient: int) -> Case:
    row = (1.0, 0.0, 0.0, 0.0)
    return Case(
        id=f"case-{name}",
        patient=f"p{patient}",
        source_sha256="0" * 64,
        sha256="0" * 64,
        affine=(row, row, row, row),
    )


@given(
    patients=st.lists(st.integers(0, 40), min_size=1, max_size=60),
    fraction=st.floats(0.01, 0.5),
    seed=st.integers(0, 5),
)
def test_the_split_is_by_patient_of_the_right_size_and_blind_to_order(patients, fraction, seed):
    cases = [case(name, patient) for name, patient in enumerate(patients)]
    train, validation = split_by_patient(cases, fraction=fraction, seed=seed)
    assert split_by_patient(cases[::-1], fraction=fraction, seed=seed) == (train, validation)
    assert sorted([*train, *validation], key=lambda c: c.id) == sorted(cases, key=lambda c: c.id)
    held_out = {c.patient for c in validation}
    assert not held_out & {c.patient for c in train}
    assert train
    expected = fraction * len(set(patients))
    assert abs(len(held_out) - expected) <= 1
    assert bool(held_out) == (len(set(patients)) > 1)


def test_a_killed_worker_is_told_from_a_bad_scan():
    with pytest.raises(MemoryLimit, match="fewer workers"):
        list(in_order(os._exit, [9], workers=2))
    with pytest.raises(UsageError):
        list(in_order(abs, [1], workers=0))


@pytest.mark.slow
def test_phantoms_are_a_labelled_data_set(tmp_path):
    written = phantoms(5, size=16, seed=3, out=tmp_path / "out")
    assert (written.train, written.validation) == (4, 1)
    data = PreparedData.open(tmp_path / "out")
    data.verify()
    case = data.train[0]
    volume, labels = data.volume(case), data.labels(case)
    lungs = [value for name, value in data.label_names.items() if name.startswith("lung")]
    assert volume[np.isin(labels, lungs)].mean() < -600
    assert case.record["working_edge"] == 32


@pytest.mark.slow
def test_phantom_i_is_the_same_whatever_the_count(tmp_path):
    phantoms(2, size=16, seed=3, out=tmp_path / "out")
    events, _ = run(phantom_steps(3, size=16, seed=3, out=tmp_path / "out"))
    assert [event.reused for event in events[:3]] == [True, True, False]
    phantoms(3, size=16, seed=3, out=tmp_path / "whole", workers=2)
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")
    with pytest.raises(OutputError, match="seed 3, now 4"):
        phantoms(3, size=16, seed=4, out=tmp_path / "out")


@pytest.mark.parametrize("change", [{"count": 0}, {"seed": -1}, {"size": 20}])
def test_phantoms_out_of_range_are_refused(change, tmp_path):
    wanted = {"count": 1, "seed": 0, "size": 16, "out": tmp_path / "out", **change}
    with pytest.raises(UsageError):
        phantoms(**wanted)


@pytest.mark.slow
def test_real_scans(real_data, tmp_path):
    names = ("ct/cip-64.nrrd", "ct/lidc-idri-0001-slab", "ct/not-ct-mr.nii.gz")
    sources = [real_data / name for name in (*names, "dicom_bad/CT_small.dcm")]
    events, error = run(preprocess_steps(sources, out=tmp_path / "out", **SMALL))
    assert isinstance(error, PartialFailure)
    assert (events[-1].train, events[-1].validation) == (1, 1)
    rejected = [entry["source"] for entry in report(tmp_path / "out")["rejected"]]
    assert rejected == ["CT_small.dcm", "not-ct-mr.nii.gz"]
    PreparedData.open(tmp_path / "out").verify()

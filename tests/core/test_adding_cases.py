"""A data set grows by commands that follow each other or run at once, and loses cases by name."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom.uid import generate_uid
from scans import write_series
from thorax import chest, save
from typer.testing import CliRunner

from prdit_core.cli.app import app
from prdit_core.data.datasets import PreparedData
from prdit_core.data.presets import PRESETS
from prdit_core.errors import OutputError, UsageError
from prdit_core.verbs.phantoms import phantoms
from prdit_core.verbs.preprocess import CasePrepared, CaseSkipped, preprocess, preprocess_steps
from prdit_core.verbs.remove_cases import remove_cases
from prdit_core.volume import Volume

if TYPE_CHECKING:
    from pathlib import Path

SMALL = {"preset": PRESETS["chest-320"], "size": 16}


def scan(number: int) -> Volume:
    return chest((24, 32, 32), body=(2 * number, 0), noise=2)


def tree(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def scans(tmp_path: Path) -> list[Path]:
    """Four scans, one file each."""
    return [save(scan(number), tmp_path / "in" / f"{number}.nii.gz") for number in range(4)]


@pytest.fixture
def series(tmp_path: Path) -> list[Path]:
    """Four DICOM series of three patients."""
    folders = []
    for number in range(4):
        uid = generate_uid()

        def edit(dataset, index, number=number, uid=uid):
            dataset.PatientID = dataset.PatientName = f"SECRET{number % 3}"
            dataset.SeriesInstanceUID = uid
            dataset.PixelSpacing = [10, 10]
            dataset.ImagePositionPatient = [-155, -155, 10 * index]

        folders.append(tmp_path / "series" / f"s{number}")
        write_series(folders[-1], scan(number).voxels_hu, edit=edit)
    return folders


def report(folder: Path):
    return json.loads((folder / "report.json").read_text())


@pytest.mark.slow
def test_one_after_the_other_is_as_all_at_once(scans, tmp_path):
    preprocess(scans, out=tmp_path / "once", **SMALL)
    for order in (scans, scans[::-1]):
        out = tmp_path / f"from {order[0].stem}"
        for number, path in enumerate(order):
            written = preprocess([path], out=out, **SMALL)
            assert written.train + written.validation == number + 1
        PreparedData.open(out).verify()
        assert tree(out) == tree(tmp_path / "once")
        assert "3 cases of earlier commands are kept" in " ".join(written.notes)


@pytest.mark.slow
def test_two_commands_at_once_lose_nothing(scans, tmp_path):
    """All start before any has a manifest; each would have written one with its own case alone."""
    out = tmp_path / "out"
    words = ("preprocess", "--size", "16", "--out", str(out))
    command = [sys.executable, "-m", "prdit_core.cli", *words]
    started = [subprocess.Popen([*command, str(path)], stderr=subprocess.PIPE) for path in scans]
    for process in started:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors
    preprocess(scans, out=tmp_path / "once", **SMALL)
    assert tree(out) == tree(tmp_path / "once")


def test_a_manifest_written_meanwhile_is_not_forgotten(scans, tmp_path):
    """As above, in an order that is sure."""
    out = tmp_path / "out"
    slow = preprocess_steps(scans[:2], out=out, **SMALL)
    next(slow)
    preprocess(scans[2:], out=out, **SMALL)
    list(slow)
    assert len(PreparedData.open(out).cases) == 4
    assert {entry["source"] for entry in report(out)["prepared"]} == {p.name for p in scans}


def test_the_same_scan_is_not_doubled(scans, tmp_path):
    out = tmp_path / "out"
    preprocess(scans[:2], out=out, **SMALL)
    before = tree(out)
    shutil.copy(scans[0], tmp_path / "copy.nii.gz")
    first, *_ = preprocess_steps([tmp_path / "copy.nii.gz"], out=out, **SMALL)
    assert isinstance(first, CasePrepared) and first.reused
    again = tmp_path / "other container.mha"
    sitk.WriteImage(sitk.ReadImage(scans[1]), again)
    second, *_ = preprocess_steps([again], out=out, **SMALL)
    cases = PreparedData.open(out).cases
    assert isinstance(second, CaseSkipped)
    assert second.same_as in {case.id for case in cases}
    assert len(cases) == 2
    assert tree(out)["manifest.json"] == before["manifest.json"]
    assert [entry["same_as"] for entry in report(out)["skipped"]] == [second.same_as]


@pytest.mark.slow
def test_patients_stay_on_one_side_from_one_command_to_the_next(series, tmp_path):
    preprocess(series, out=tmp_path / "once", **SMALL)
    whole = (tmp_path / "once" / "manifest.json").read_text()
    for order in (series, series[::-1]):
        out = tmp_path / f"from {order[0].name}"
        for folder in order:
            preprocess([folder], out=out, **SMALL)
        assert (out / "manifest.json").read_text() == whole
        shutil.rmtree(out)
    assert len({case.patient for case in PreparedData.open(tmp_path / "once").cases}) == 3


def test_what_tells_patients_apart_names_none_and_is_salted(series, tmp_path):
    for name in ("a", "b"):
        preprocess(series[:1], out=tmp_path / name, **SMALL)
    first, second = (json.loads((tmp_path / n / "patients.json").read_text()) for n in ("a", "b"))
    assert first["notice"] == "not for sharing"
    assert first["patients"].keys() == second["patients"].keys()
    assert set(first["patients"].values()).isdisjoint(second["patients"].values())
    assert all(len(token) == 32 for token in first["patients"].values())
    content = (tmp_path / "a" / "patients.json").read_text()
    assert "SECRET" not in content


@pytest.mark.slow
def test_without_what_tells_patients_apart_nothing_is_added(series, tmp_path):
    out = tmp_path / "out"
    preprocess(series[:2], out=out, **SMALL)
    (out / "patients.json").unlink()
    before = tree(out)
    with pytest.raises(OutputError, match="give the scans that are in the data set again"):
        preprocess(series[2:3], out=out, **SMALL)
    assert tree(out)["manifest.json"] == before["manifest.json"]
    preprocess(series[:3], out=out, **SMALL)  # as the advice says
    assert len(PreparedData.open(out).cases) == 3
    (out / "patients.json").write_text("{")
    with pytest.raises(OutputError, match=r"patients\.json is damaged"):
        preprocess(series[3:4], out=out, **SMALL)


def test_a_damaged_manifest_is_neither_replaced_nor_trusted(scans, tmp_path):
    out = tmp_path / "out"
    preprocess(scans[:2], out=out, **SMALL)
    manifest = out / "manifest.json"
    manifest.write_text(manifest.read_text().replace("train", "brain", 1))
    before = manifest.read_bytes()
    with pytest.raises(OutputError, match=r"remove manifest\.json and give all scans again"):
        preprocess(scans[2:], out=out, **SMALL)
    assert manifest.read_bytes() == before
    manifest.unlink()  # as the advice says
    preprocess(scans, out=out, **SMALL)
    assert len(PreparedData.open(out).cases) == 4


def test_models_that_saw_what_now_validates_are_spoken_of(scans, tmp_path):
    """The one case of the first command is trained on; of two, one validates."""
    note = "1 cases that were to train on validate now; earlier models saw them"
    noted = []
    for first, second in (scans[:2], scans[1::-1]):
        out = tmp_path / first.stem
        preprocess([first], out=out, **SMALL)
        (trained,) = PreparedData.open(out).train
        written = preprocess([second], out=out, **SMALL)
        assert (note in written.notes) == (trained.id == PreparedData.open(out).validation[0].id)
        noted.append(note in written.notes)
    assert sorted(noted) == [False, True]


def test_refusals_of_earlier_commands_stay_in_the_report_until_the_scan_is_mended(scans, tmp_path):
    out, bad = tmp_path / "out", tmp_path / "bad.nii.gz"
    content = scans[3].read_bytes()
    bad.write_bytes(content[:-40])
    preprocess([scans[0]], out=out, **SMALL)
    for attempt in range(2):
        run = CliRunner().invoke(app, ["preprocess", str(bad), "--size", "16", "--out", str(out)])
        assert run.exit_code == 3, attempt
    preprocess([scans[1]], out=out, **SMALL)
    assert [entry["source"] for entry in report(out)["rejected"]] == ["bad.nii.gz"]
    bad.write_bytes(content)
    preprocess([bad], out=out, **SMALL)
    assert report(out)["rejected"] == []
    assert len(PreparedData.open(out).cases) == 3


def test_other_settings_are_refused_with_exit_code_6(scans, tmp_path):
    out = tmp_path / "out"
    preprocess(scans[:1], out=out, **SMALL)
    before = tree(out)
    words = ["preprocess", str(scans[1]), "--size", "32", "--out", str(out)]
    refused = CliRunner().invoke(app, words)
    assert refused.exit_code == 6
    assert "size 16, now 32" in refused.stderr and "choose another folder" in refused.stderr
    assert tree(out) == before


def test_settings_may_change_as_long_as_there_is_no_case(scans, tmp_path):
    """As when the first try was refused, and said with which option to try again."""
    out, lifted = tmp_path / "out", tmp_path / "lifted.nii"
    volume = scan(0)
    save(Volume((volume.voxels_hu + 1024).astype(np.int16), volume.affine), lifted)
    words = ["preprocess", str(lifted), "--size", "16", "--out", str(out)]
    refused = CliRunner().invoke(app, words)
    assert refused.exit_code == 3 and "--hu-offset -1024" in refused.stderr
    assert CliRunner().invoke(app, [*words, "--hu-offset", "-1024"]).exit_code == 0
    assert CliRunner().invoke(app, words).exit_code == 6
    slow = preprocess_steps(scans[:2], out=tmp_path / "both", **SMALL)
    next(slow)
    (tmp_path / "both" / "settings.json").write_text("{}")  # another claimed it meanwhile
    with pytest.raises(OutputError, match="other settings"):
        list(slow)


@pytest.mark.slow
def test_a_case_leaves_by_name_and_takes_its_files_along(scans, tmp_path):
    out = tmp_path / "out"
    preprocess(scans[:3], out=tmp_path / "without", **SMALL)
    preprocess(scans, out=out, **SMALL)
    gone = CliRunner().invoke(app, ["remove-cases", str(out), "3.nii.gz", "--json"])
    assert gone.exit_code == 0, gone.stderr
    counts = json.loads(gone.stdout)
    assert counts["train"] + counts["validation"] == 3
    assert tree(out) == tree(tmp_path / "without")
    first = PreparedData.open(out).cases[0].id
    remove_cases(out, [first])  # by id, too
    assert first not in {case.id for case in PreparedData.open(out).cases}
    preprocess(scans, out=out, **SMALL)
    assert len(PreparedData.open(out).cases) == 4


def test_nothing_is_removed_by_mistake(scans, tmp_path):
    out = tmp_path / "out"
    preprocess(scans[:2], out=out, **SMALL)
    before = tree(out)
    ids = [case.id for case in PreparedData.open(out).cases]
    for names, why in ((["case-0"], "not in"), (["../case-0", ids[0]], "not in"), (ids, "no case")):
        with pytest.raises(UsageError, match=why):
            remove_cases(out, names)
    for folder, code in ((tmp_path / "in", 3), (tmp_path / "absent", 3)):
        run = CliRunner().invoke(app, ["remove-cases", str(folder), ids[0]])
        assert run.exit_code == code
    assert tree(out) == before
    assert not (tmp_path / "absent").exists()


def test_a_name_that_two_scans_had_is_not_guessed_at(scans, tmp_path):
    out = tmp_path / "out"
    for number in range(2):
        again = tmp_path / str(number) / "a.nii.gz"
        again.parent.mkdir()
        shutil.copy(scans[number], again)
        preprocess([again], out=out, **SMALL)
    with pytest.raises(UsageError, match=r"became case-.*, case-.*; give one of these"):
        remove_cases(out, ["a.nii.gz"])
    (out / "report.json").write_text('{"prepared": [{"case": 3}]}')
    with pytest.raises(UsageError, match="not in"):
        remove_cases(out, ["a.nii.gz"])
    assert len(PreparedData.open(out).cases) == 2


@pytest.mark.slow
def test_fewer_phantoms_forget_none(tmp_path):
    out = tmp_path / "out"
    phantoms(3, size=16, seed=0, out=out)
    before = tree(out)
    written = phantoms(1, size=16, seed=0, out=out)
    assert written.train + written.validation == 3
    assert tree(out) == before
    remove_cases(out, ["phantom-0-000002"])
    phantoms(2, size=16, seed=0, out=tmp_path / "two")
    assert tree(out) == tree(tmp_path / "two")

"""A file that names several prepared sets and their classes, and what it must not name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from trainings import settings, train
from typer.testing import CliRunner

from prdit_core.cli.app import app
from prdit_core.data.classed import ClassedData, one_grid, open_data
from prdit_core.data.datasets import Manifest, PreparedData, case_path, write_case, write_manifest
from prdit_core.data.presets import PRESETS
from prdit_core.data.transforms import Conformed
from prdit_core.errors import InputRejected, UsageError
from prdit_core.training.families.latent.settings import AutoencoderTraining
from prdit_core.volume import Volume, axial_affine

if TYPE_CHECKING:
    from pathlib import Path

CLASSES = {"chest": ["chest-8", "chest-16"], "head": ["head-8"]}


def prepared(
    folder: Path, size: int, first: int, *, preset: str = "chest-320", held_out: int = 3
) -> Path:
    """Four cases with ids from `first` on; the one numbered `held_out` is for validation."""
    cases = {}
    for number in range(4):
        shape = (size, size, size)
        voxels = np.full(shape, 10 * first + number, np.int16)
        volume = Volume(voxels, axial_affine((320 / size,) * 3, shape))
        name = f"case-{first + number}"
        conformed = Conformed(volume, None, {}, ())
        cases[number] = write_case(folder, name, conformed, patient=name, source_sha256="0" * 64)
    validation = (cases.pop(held_out),)
    write_manifest(
        folder,
        Manifest(
            preset=PRESETS[preset], size=size, train=tuple(cases.values()), validation=validation
        ),
    )
    return folder


@pytest.fixture
def file(tmp_path):
    prepared(tmp_path / "chest-8", 8, 0)
    prepared(tmp_path / "chest-16", 16, 10)
    prepared(tmp_path / "head-8", 8, 20, preset="rad-chestct")
    return written(tmp_path, CLASSES)


def written(folder: Path, content: Any) -> Path:
    path = folder / "classes.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_every_case_has_its_class_grid_and_units(file):
    data = ClassedData.open(file)
    assert data.classes == ("chest", "head")
    assert [case.name for case in data.validation] == [
        "chest-8/case-3",
        "chest-16/case-13",
        "head-8/case-23",
    ]
    seen = {(c.home.place, c.label, c.number, c.geometry.shape, c.intensity.window_hu[1])
            for c in data.train}  # fmt: skip
    assert seen == {
        ("chest-8", "chest", 0, (8, 8, 8), 400),
        ("chest-16", "chest", 0, (16, 16, 16), 400),
        ("head-8", "head", 1, (8, 8, 8), 1000),
    }
    assert np.all(data.train[0].checked() == 0)
    assert data.train[-1].checked().shape == (8, 8, 8)
    assert data.intensity("head").window_hu == (-1000, 1000)
    data.verify()


def test_the_digest_is_of_content_and_classes(file, tmp_path):
    digest = ClassedData.open(file).digest
    (tmp_path / "head-8").rename(tmp_path / "skull")
    moved = written(tmp_path, CLASSES | {"head": ["skull"]})
    assert ClassedData.open(moved).digest == digest
    swapped = {"head": ["skull"], "chest": CLASSES["chest"]}  # which numbers classes anew
    assert ClassedData.open(written(tmp_path, swapped)).digest != digest
    renamed = {"thorax": CLASSES["chest"], "head": ["skull"]}
    assert ClassedData.open(written(tmp_path, renamed)).digest != digest


def test_a_damaged_volume_is_named_when_it_is_read(file, tmp_path):
    data = ClassedData.open(file)
    case = data.train[-1]
    path = case_path(tmp_path / "head-8", "volumes", case.case.id)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputRejected, match="damaged or changed"):
        case.checked()
    with pytest.raises(InputRejected, match="differs from the manifest"):
        data.verify()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "it has no class"),
        (["chest-8"], "it has no class"),
        ("{", "Expecting property name"),
        ("[" * 100_000, "recursion"),
        ('{"chest": ["chest-8"], "chest": ["chest-16"]}', "it has 'chest' twice"),
        ({"chest": "chest-8"}, "chest has no list of folders"),
        ({"chest": []}, "chest has no list of folders"),
        ({"chest": ["chest-8", 3]}, "chest has no list of folders"),
        ({"chest": [""]}, "chest has no list of folders"),
        ({"_comment": ["chest-8"]}, "'_comment' is no name of a class"),
        ({"chest": ["none"]}, "none is no prepared data set"),
        ({"chest": ["chest-8"], "head": ["./chest-8/"]}, "are one folder"),
        ({"chest": ["chest-8", "head-8"]}, "differ in units: chest-8 has -1000 to 400 HU, head-8"),
    ],
)
def test_what_names_no_classes_is_refused_in_one_line(file, tmp_path, content, message):
    with pytest.raises(InputRejected, match=message) as error:
        ClassedData.open(written(tmp_path, content))
    assert "\n" not in str(error.value)


def test_a_file_of_classes_that_is_not_there_is_not_taken_for_a_folder(tmp_path):
    with pytest.raises(InputRejected, match=r"classes.json.* cannot be read: No such file"):
        open_data(tmp_path / "classes.json")


def test_the_same_volume_in_two_sets_is_refused(file, tmp_path):
    prepared(tmp_path / "copy", 8, 0)
    with pytest.raises(InputRejected, match="chest-8 and copy hold the same case-0"):
        ClassedData.open(written(tmp_path, {"chest": ["chest-8"], "other": ["copy"]}))


def test_one_patient_at_two_sizes_is_on_one_side_of_the_split(tmp_path):
    prepared(tmp_path / "a", 8, 0)
    prepared(tmp_path / "b", 16, 0)
    prepared(tmp_path / "c", 16, 0, held_out=1)
    assert len(ClassedData.open(written(tmp_path, {"chest": ["a", "b"]})).train) == 6
    with pytest.raises(InputRejected, match="case-3 is to train on in c, held out in a"):
        ClassedData.open(written(tmp_path, {"chest": ["a", "c"]}))


def test_what_knows_one_grid_refuses_several_sets_by_name(file, tmp_path):
    message = "stage local takes one data set of one grid; .*give --data one of chest-8, chest-16"
    with pytest.raises(UsageError, match=message):
        train(settings(file, tmp_path / "run"))
    assert not (tmp_path / "run").exists()
    single = open_data(tmp_path / "head-8")
    assert isinstance(single, PreparedData)
    assert one_grid(single, "anything") is single


def test_a_run_does_not_lie_in_one_of_the_sets(file, tmp_path):
    with pytest.raises(UsageError, match="lies in input"):
        train(AutoencoderTraining(data=file, run=tmp_path / "chest-16" / "run"))


def test_info_tells_classes_and_grids(file):
    done = CliRunner().invoke(app, ["info", str(file), "--json"])
    content = json.loads(done.output)
    assert content["classes"] == ["chest", "head"]
    assert content["chest-16"] == "chest, 16^3 voxels of 20 mm, -1000 to 400 HU"
    assert content["training cases"] == 9

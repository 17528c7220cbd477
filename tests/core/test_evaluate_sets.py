"""Sets of volumes: one grid, two volumes at least, read one at a time, refused in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest
from chests import HELD_OUT, chest, chests, save, volume

import prdit_core
from prdit_core.data.io import write_volume
from prdit_core.data.volume_sets import VolumeSet
from prdit_core.errors import InputRejected, UsageError
from prdit_core.evaluation.sets import open_sets
from prdit_core.files import write_json

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save(chests(HELD_OUT, 3), tmp_path / "set")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("prepared") / "data"
    prdit_core.phantoms(8, size=16, seed=5, out=out, validation_fraction=0.4)
    return out


def test_a_folder_of_files_is_a_set(folder: Path) -> None:
    found = VolumeSet.open(folder)
    assert len(found) == 3
    assert found.names == ("000.nii", "001.nii", "002.nii")
    assert found.shape == (16, 16, 16) and found.spacing_mm == (20, 20, 20)
    assert found.find("002.nii") == 2
    np.testing.assert_array_equal(found.read(1).voxels_hu, np.rint(chest(HELD_OUT, 1)))
    assert len(list(found)) == 3


def test_a_prepared_data_set_is_a_set_by_parts(prepared: Path) -> None:
    data = prdit_core.PreparedData.open(prepared)
    parts = {part: VolumeSet.open(prepared, part) for part in ("all", "train", "validation")}
    assert parts["train"].names == tuple(case.id for case in data.train)
    assert parts["validation"].names == tuple(case.id for case in data.validation)
    assert set(parts["all"].names) == set(parts["train"].names + parts["validation"].names)
    read = parts["train"].read(0)
    np.testing.assert_array_equal(read.voxels_hu, data.volume(data.train[0]))
    assert read.spacing_mm == pytest.approx(data.geometry.spacing_mm)


def test_a_set_knows_the_checkpoint_that_made_it(folder: Path) -> None:
    assert VolumeSet.open(folder).checkpoint() is None
    record = {"volume": "000.nii", "sha256": "0" * 64, "checkpoint_sha256": "ab"}
    for number in range(3):
        write_json(folder / f"{number:03}.json", record)
    assert VolumeSet.open(folder).checkpoint() == "ab"
    write_json(folder / "001.json", record | {"checkpoint_sha256": "cd"})
    assert VolumeSet.open(folder).checkpoint() is None


def test_what_fakes_learnt_from_is_not_what_they_are_compared_with(prepared: Path) -> None:
    """One data set for both: trained on its training cases, judged by the held-out ones."""
    sets = open_sets(prepared, {"a": prepared}, prepared)
    assert sets.training is not None
    assert (sets.real.part, sets.training.part) == ("validation", "train")
    assert open_sets(prepared, {"a": prepared}).real.part == "all"
    assert list(sets.all) == ["real", "a", "training"]


# --- refusals -----------------------------------------------------------------------------------


def refused(path: Path) -> str:
    with pytest.raises(InputRejected) as caught:
        for _ in VolumeSet.open(path):
            pass
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_one_volume_is_no_set(tmp_path: Path) -> None:
    assert "holds 1" in refused(save(chests(HELD_OUT, 1), tmp_path / "one"))
    (tmp_path / "none").mkdir()
    assert "holds 0" in refused(tmp_path / "none")


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "there is no such file or folder" in refused(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="empty path"):
        VolumeSet.open("")


def test_unequal_sizes_are_refused_by_name(folder: Path) -> None:
    write_volume(volume(chest(HELD_OUT, 0)[:, :, 1:]), folder / "odd.nii")
    message = refused(folder)
    assert "odd.nii" in message and "(16, 16, 15)" in message and "(16, 16, 16)" in message


def test_mixed_spacings_are_refused_by_name(folder: Path) -> None:
    write_volume(volume(chest(HELD_OUT, 0), spacing_mm=10), folder / "odd.nii")
    message = refused(folder)
    assert "odd.nii has spacing 10 x 10 x 10 mm" in message and "20 x 20 x 20 mm" in message


def test_volumes_with_nan_are_refused_by_name(folder: Path) -> None:
    bad = chest(HELD_OUT, 0).copy()
    bad[3, 4, 5] = np.nan
    image = nib.Nifti1Image(bad.T, volume(bad).affine)
    nib.save(image, folder / "odd.nii")
    message = refused(folder)
    assert "odd.nii" in message and "NaN" in message
    filled = prdit_core.ReadOptions(nan_fill=-1000)
    assert VolumeSet.open(folder, options=filled).read(3).voxels_hu[3, 4, 5] == -1000


def test_sets_of_different_grids_are_refused(folder: Path, tmp_path: Path) -> None:
    save([one[::2, ::2, ::2] for one in chests(HELD_OUT, 2)], tmp_path / "small")
    with pytest.raises(InputRejected, match=r"8 x 8 x 8 voxels .* bring both to one grid"):
        open_sets(folder, {"a": tmp_path / "small"})
    with pytest.raises(InputRejected, match="bring both to one grid"):
        open_sets(folder, {"a": folder}, tmp_path / "small")


@pytest.mark.parametrize("name", ["real", "training", "", "  ", "a\x1b", "x" * 61])
def test_names_that_cannot_be_used_are_refused(name: str, folder: Path) -> None:
    with pytest.raises(UsageError):
        open_sets(folder, {name: folder})


def test_without_a_fake_there_is_nothing_to_do(folder: Path) -> None:
    with pytest.raises(UsageError, match="at least one set"):
        open_sets(folder, {})


def test_every_read_is_checked_again(folder: Path) -> None:
    """A file may change after the set was opened."""
    found = VolumeSet.open(folder)
    write_volume(volume(chest(HELD_OUT, 0)[1:]), folder / "000.nii")
    with pytest.raises(InputRejected, match=r"000\.nii has voxels"):
        found.read(0)

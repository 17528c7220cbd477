"""Label maps deformed, and pairs in nnU-Net's layout by its documented rules."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import pytest
from latents import tiny_control, tiny_latent
from typer.testing import CliRunner, Result

from prdit_core.cli.app import app
from prdit_core.data.datasets import PreparedData
from prdit_core.data.deformation import ONE_TO_ONE, Deformation, deformed
from prdit_core.data.io import read_labels, read_volume, write_labels
from prdit_core.data.label_maps import label_maps
from prdit_core.data.labelled_pairs import PairFolder
from prdit_core.data.phantoms import LABELS, make_phantom
from prdit_core.errors import InputRejected, OutputError, UsageError
from prdit_core.intensity import ARBITRARY
from prdit_core.noise import Draw, unit_noise
from prdit_core.verbs.augment import augment_steps
from prdit_core.verbs.phantoms import phantoms
from prdit_core.volume import Volume, axial_affine

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

STRONG = Deformation(reach_mm=30.0, nodes_mm=60.0, sizes=1.8)
NAMES = {number: name for name, number in LABELS.items() if number}


def chest(index: int = 0, spacing_mm: float = 10.0) -> Volume:
    phantom = make_phantom(4, index, spacing_mm=spacing_mm)
    return Volume(phantom.labels, phantom.volume.affine)


def ball(spacing: tuple[float, float, float] = (5.0, 4.0, 4.0)) -> Volume:
    """A ball of 40 mm in the middle of 40 x 48 x 48 voxels."""
    shape = (40, 48, 48)
    z, y, x = (np.arange(n) - (n - 1) / 2 for n in shape)
    away = np.sqrt(
        (z[:, None, None] * spacing[0]) ** 2
        + (y[:, None] * spacing[1]) ** 2
        + (x * spacing[2]) ** 2
    )
    return Volume((away < 40).astype(np.uint8), axial_affine(spacing, shape))


def pieces(mask: NDArray[np.bool_]) -> int:
    """Connected parts, neighbours by a corner at least."""
    left, count = np.pad(mask, 1), 0
    while left.any():
        count += 1
        grown = np.zeros_like(left)
        grown[tuple(np.argwhere(left)[0])] = True
        size = 0
        while grown.sum() > size:
            size = int(grown.sum())
            for axis in range(3):
                grown = grown | np.roll(grown, 1, axis) | np.roll(grown, -1, axis)
            grown &= left
        left &= ~grown
    return count


# --- deformation --------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_map_and_others_do_not() -> None:
    labels = chest()
    one = deformed(labels, seed=1, index=2)
    assert np.array_equal(deformed(labels, seed=1, index=2).voxels_hu, one.voxels_hu)
    assert one.voxels_hu.dtype == np.uint8 and np.array_equal(one.affine, labels.affine)
    changed = (one.voxels_hu != labels.voxels_hu).mean()
    assert 0.02 < changed < 0.5
    for seed, index in ((1, 3), (2, 2)):
        other = deformed(labels, seed=seed, index=index).voxels_hu
        assert not np.array_equal(other, one.voxels_hu)


@pytest.mark.parametrize("index", range(3))
def test_no_organ_is_lost_nor_torn(index: int) -> None:
    labels = chest(index)
    nodule = (slice(12, 13), slice(12, 13), slice(8, 9))  # of one voxel: the first to be lost
    labels.voxels_hu[nodule] = LABELS["nodule"]
    there = np.unique(labels.voxels_hu)
    found = deformed(labels, STRONG, seed=index).voxels_hu
    assert np.array_equal(np.unique(found), there)
    for name in ("lung_left", "lung_right", "heart"):
        before, after = (voxels == LABELS[name] for voxels in (labels.voxels_hu, found))
        assert pieces(after) <= pieces(before) + 2  # crumbs of coarse voxels at most
        assert 0.3 < after.sum() / before.sum() < 3.5


def test_a_ball_stays_one_piece_and_grows_and_shrinks() -> None:
    labels = ball()
    before = int((labels.voxels_hu > 0).sum())
    sizes = []
    for index in range(8):
        found = deformed(labels, Deformation(0.0, 60.0, 1.5), seed=3, index=index).voxels_hu
        assert pieces(found > 0) == 1
        sizes.append((found > 0).sum() / before)
    assert min(sizes) < 0.85 and max(sizes) > 1.2
    # At most the third power of the size, since it falls off outwards.
    assert min(sizes) > 1.5**-3 and max(sizes) < 1.5**3


def test_displacements_are_smooth_and_one_to_one() -> None:
    """Neighbours keep their order, though the drawn displacements are far too large."""
    bands = np.broadcast_to(np.arange(64, dtype=np.uint8) // 16, (16, 16, 64)).copy()
    labels = Volume(bands, axial_affine((5.0, 5.0, 5.0), bands.shape))
    made = deformed(labels, Deformation(200.0, 60.0, 1.0), seed=0)
    assert made.metadata["deformation"]["strength"] == 1
    found = made.voxels_hu.astype(int)
    assert (np.diff(found, axis=2) >= 0).all()
    moved = max(np.abs((found >= band).sum(2) - (64 - 16 * band)).max() * 5 for band in (1, 2, 3))
    assert 10 < moved <= ONE_TO_ONE * 60 + 5


def test_nothing_to_do_gives_the_map_back_and_nonsense_is_refused() -> None:
    labels = chest()
    same = deformed(labels, Deformation(0.0, 60.0, 1.0), seed=0)
    assert np.array_equal(same.voxels_hu, labels.voxels_hu)
    for wrong in ((-1.0, 60.0, 1.1), (1.0, 0.0, 1.1), (1.0, 60.0, 0.9), (1.0, 60.0, 3.0)):
        with pytest.raises(UsageError, match="sizes of 1 to 2"):
            Deformation(*wrong)


# --- pairs --------------------------------------------------------------------------------------


def paint(labels: Volume, index: int) -> Volume:
    """A stand-in for a model: each label has its HU, with noise."""
    grain = 10 * unit_noise(labels.shape, Draw.START, 0, index).numpy()
    hu = np.where(labels.voxels_hu > 0, 20.0 * labels.voxels_hu, -1000.0) + grain
    return Volume(hu.astype(np.float32), labels.affine, {"seed": 0, "index": index})


def make(pairs: PairFolder, count: int = 3, **changes: Any) -> list[bool]:
    given: dict[str, Any] = {"painter": {"name": "stand-in"}, "seed": 7} | changes
    maps = [chest(0, 20.0), chest(1, 20.0)]
    return [event.made for event in augment_steps(maps, paint, pairs, count=count, **given)]


def check_as_nnunet(folder: Path) -> None:
    """What nnU-Net's documentation and its `verify_dataset_integrity` demand of a raw data set."""
    described = json.loads((folder / "dataset.json").read_text())
    assert set(described) >= {"channel_names", "labels", "numTraining", "file_ending"}
    assert list(described["channel_names"]) == ["0"] and described["file_ending"] == ".nii.gz"
    labels = described["labels"]
    assert labels["background"] == 0
    assert sorted(labels.values()) == list(range(len(labels)))
    images = sorted(file.name for file in (folder / "imagesTr").iterdir())
    maps = sorted(file.name for file in (folder / "labelsTr").iterdir())
    assert images == [name.replace(".nii.gz", "_0000.nii.gz") for name in maps]
    assert described["numTraining"] == len(images) > 0
    for image_name, map_name in zip(images, maps, strict=True):
        image = nibabel.load(folder / "imagesTr" / image_name)
        mask = nibabel.load(folder / "labelsTr" / map_name)
        assert image.shape == mask.shape and np.isfinite(image.get_fdata()).all()
        np.testing.assert_allclose(image.affine, mask.affine)
        assert set(np.unique(mask.get_fdata())) <= set(labels.values())


def test_nnunet_finds_what_it_expects(tmp_path: Path) -> None:
    folder = tmp_path / "Dataset501_Chest"
    # Named with a gap, which nnU-Net does not allow.
    names = {number: name for number, name in NAMES.items() if name != "oesophagus"}
    labels = chest(0, 20.0)
    labels.voxels_hu[labels.voxels_hu == LABELS["oesophagus"]] = LABELS["mediastinum"]
    pairs = PairFolder(folder, names)
    events = list(augment_steps([labels], paint, pairs, count=3, painter={}, seed=1))
    assert [event.index for event in events] == [0, 1, 2] and events[-1].total == 3
    check_as_nnunet(folder)
    record = json.loads(events[1].files.record.read_text())
    assert record["notice"] == "synthetic, not for diagnosis"
    assert record["labels"]["deformation"]["index"] == 1 and record["index"] == 1
    assert record["labels"]["numbers"]["liver"] == LABELS["liver"] - 1
    assert record["units"] == "HU"
    found = read_labels(events[0].files.labels)
    heart = deformed(labels, seed=1, index=0).voxels_hu == LABELS["heart"]
    assert np.array_equal(found.voxels_hu == record["labels"]["numbers"]["heart"], heart)


def test_plain_files_lie_side_by_side_with_their_own_numbers(tmp_path: Path) -> None:
    pairs = PairFolder(tmp_path, NAMES, "nifti")
    make(pairs, 1)
    names = {"synthetic_00000.nii.gz", "synthetic_00000_labels.nii.gz", "synthetic_00000.json"}
    assert {file.name for file in tmp_path.iterdir()} == names | {"augment.json"}
    assert read_volume(tmp_path / "synthetic_00000.nii.gz").shape == (16, 16, 16)
    found = read_labels(tmp_path / "synthetic_00000_labels.nii.gz").voxels_hu
    assert np.array_equal(found, deformed(chest(0, 20.0), seed=7, index=0).voxels_hu)


@pytest.mark.slow
def test_a_rerun_goes_on_and_other_settings_are_refused(tmp_path: Path) -> None:
    pairs = PairFolder(tmp_path / "out", NAMES)
    assert make(pairs, 2) == [True, True]
    first = pairs.files("synthetic_00000").volume
    written = first.read_bytes()
    pairs.files("synthetic_00001").record.unlink()  # as if it had been stopped there
    assert make(pairs, 3) == [False, True, True]
    check_as_nnunet(pairs.folder)
    make(PairFolder(tmp_path / "again", NAMES), 1)
    assert (tmp_path / "again" / "imagesTr" / first.name).read_bytes() == written
    for changes in ({"seed": 8}, {"painter": {"name": "other"}}, {"deformation": STRONG}):
        with pytest.raises(OutputError, match=rf"other settings \({next(iter(changes))}\)"):
            make(pairs, 3, **changes)
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match="something else"):
        make(PairFolder(tmp_path / "theirs", NAMES))


def test_volumes_in_other_units_are_mr_to_nnunet(tmp_path: Path) -> None:
    def signal(labels: Volume, index: int) -> Volume:
        return replace(paint(labels, index), metadata={"units": ARBITRARY})

    pairs = PairFolder(tmp_path, NAMES)
    list(augment_steps([chest(0, 20.0)], signal, pairs, count=1, painter={}))
    described = json.loads((tmp_path / "dataset.json").read_text())
    assert described["channel_names"] == {"0": "MR"}
    assert json.loads(pairs.files("synthetic_00000").record.read_text())["units"] == ARBITRARY


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    pairs = PairFolder(tmp_path / "a", {1: "body"})
    with pytest.raises(InputRejected, match=r"synthetic_00000: label 2, 3, .* has no name"):
        make(pairs, 1)
    other = PairFolder(tmp_path / "b", NAMES)
    smaller = chest(0, 40.0)
    with pytest.raises(InputRejected, match="does not lie on the grid of its labels"):
        list(augment_steps([chest(0, 20.0)], lambda *_: smaller, other, count=1, painter={}))
    with pytest.raises(UsageError, match="at least one"):
        make(other, 0)
    for names in ({1: "a", 2: "a"}, {1: "background"}, {0: "body"}):
        with pytest.raises(UsageError, match="background"):
            PairFolder(tmp_path, names)


# --- by the command -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a control, and two label maps as files."""
    desk = tmp_path_factory.mktemp("desk")
    tiny_control(desk / "control", tiny_latent(desk / "base"), tuple(NAMES.values()))
    (desk / "maps").mkdir()
    for index in range(2):
        write_labels(chest(index, 20.0), desk / "maps" / f"{index}.nii.gz")
    (desk / "maps" / "labels.json").write_text(json.dumps(LABELS))
    return desk


def run(desk: Path, *more: object, code: int = 0) -> Result:
    words = ("--labels", desk / "maps", "--checkpoint", desk / "control", "--threads", 1)
    given = [str(word) for word in ("augment", *words, "--steps", 1, "--seed", 7, *more)]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == code, (done.output, done.exception)
    assert sum(line.startswith("prdit-core: ") for line in done.stderr.splitlines()) == bool(code)
    return done


@pytest.mark.slow
def test_the_command_writes_pairs_of_nnunet_and_goes_on(desk: Path, tmp_path: Path) -> None:
    out = tmp_path / "Dataset502_Chest"
    assert "2 pairs made, 0 were" in run(desk, "--out", out, "--count", 2).stdout
    more = run(desk, "--out", out, "--count", 3, "--json").stdout
    assert {"made": 1, "reused": 2}.items() <= json.loads(more).items()
    check_as_nnunet(out)
    record = json.loads((out / "records" / "synthetic_00002.json").read_text())
    assert record["condition"]["file"] == "0.nii.gz"  # the third is of the first map again
    assert record["labels"]["deformation"]["seed"] == record["seed"] == 7 and record["index"] == 2
    drawn = deformed(chest(0, 20.0), seed=7, index=2)
    found = read_labels(out / "labelsTr" / "synthetic_00002.nii.gz")
    assert np.array_equal(found.voxels_hu, drawn.voxels_hu)
    refused = run(desk, "--out", out, "--count", 3, "--control-scale", 0.5, code=6)
    assert "pairs of other settings (painter)" in refused.stderr
    plain = tmp_path / "plain"
    run(desk, "--out", plain, "--count", 1, "--layout", "nifti", "--reach", 0, "--sizes", 1)
    same = read_labels(plain / "synthetic_00000_labels.nii.gz")
    assert np.array_equal(same.voxels_hu, chest(0, 20.0).voxels_hu)


def test_label_maps_of_prepared_data_are_taken_by_name(tmp_path: Path) -> None:
    phantoms(3, size=8, seed=0, out=tmp_path / "data")
    names = tuple(NAMES.values())[::-1]
    maps = label_maps(tmp_path / "data", names)
    data = PreparedData.open(tmp_path / "data")
    assert len(maps) == 3
    for found, case in zip(maps, data.cases, strict=True):
        own = data.labels_of(case)
        assert np.array_equal(found.voxels_hu, np.where(own > 0, len(names) + 1 - own, 0))
        np.testing.assert_array_equal(found.affine, np.array(case.affine))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "code", "reason"),
    [
        (("--checkpoint", "base"), 2, "base has no control"),
        (("--labels", "gone"), 3, "gone: there is no such folder"),
        (("--labels", "base"), 3, "holds no .nii.gz"),
        (("--sizes", 3), 2, "sizes of 1 to 2"),
        (("--out", "maps/inside"), 2, "maps"),
        (("--control-scale", -1), 2, "control scale -1"),
        (("--out", "base"), 6, "holds something else"),
    ],
)
def test_bad_input_of_the_command_is_one_line(
    more: tuple[Any, ...], code: int, reason: str, desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(desk)
    words = {"--out": "new", "--count": 1} | dict(zip(more[::2], more[1::2], strict=True))
    done = run(desk, *(word for pair in words.items() for word in pair), code=code)
    assert reason in done.stderr and not (desk / "new").exists()

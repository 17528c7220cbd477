"""From a label map to a volume that belongs to it and lies on its grid, also by the command."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest
from latents import tiny_control, tiny_latent
from typer.testing import CliRunner, Result

import prdit_core
from prdit_core.cli.app import app
from prdit_core.config import SamplingConfig
from prdit_core.data.io import write_labels
from prdit_core.data.label_maps import read_label_map
from prdit_core.data.phantoms import LABELS, make_phantom
from prdit_core.errors import InputRejected, UsageError
from prdit_core.files import sha256_of
from prdit_core.verbs.paint import paint, painting_of
from prdit_core.volume import Volume, axial_affine

if TYPE_CHECKING:
    from pathlib import Path

    from prdit_core.models.prior import Prior

NAMES = tuple(name for name, number in LABELS.items() if number)
QUICK = SamplingConfig(steps=2)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, the same with a control, and a label map of the model's grid, moved in space."""
    desk = tmp_path_factory.mktemp("desk")
    tiny_latent(desk / "base")
    tiny_control(desk / "control", desk / "base", NAMES)
    tiny_control(desk / "with-image", desk / "base", NAMES, images=("sparse",))
    write_labels(chest(), desk / "chest.nii.gz")
    return desk


@pytest.fixture(scope="module")
def prior(desk: Path) -> Prior:
    return prdit_core.load(desk / "control").of_control()


def chest(spacing_mm: float = 20.0) -> Volume:
    phantom = make_phantom(4, 0, spacing_mm=spacing_mm)
    affine = phantom.volume.affine.copy()
    affine[:3, 3] += (11.0, -7.0, 33.0)
    return Volume(phantom.labels, affine)


# --- in Python ----------------------------------------------------------------------------------


def test_a_volume_lies_on_its_labels_and_depends_on_them_and_on_the_scale(prior: Prior) -> None:
    labels = chest()
    assert prior.label == "chest" and prior.geometry.shape == (16, 16, 16) == labels.shape
    assert prior.labels == NAMES
    made = paint(prior, labels, QUICK, seed=3)
    np.testing.assert_array_equal(made.affine, labels.affine)
    assert made.shape == labels.shape and made.metadata["condition"]["scale"] == 1
    inside_out = np.where(labels.voxels_hu > 0, len(NAMES) + 1 - labels.voxels_hu, 0)
    other = replace(labels, voxels_hu=inside_out)
    half = paint(prior, labels, QUICK, scale=0.5, seed=3)
    changed = paint(prior, other, QUICK, seed=3)
    assert made.metadata["checkpoint_sha256"] == prior.control_digest != prior.digest
    sha = "labels_sha256"
    assert changed.metadata["condition"][sha] != made.metadata["condition"][sha]
    plain = prdit_core.generate(prior, QUICK, seed=3)
    for one in (half, changed):
        assert np.abs(one.voxels_hu - made.voxels_hu).mean() > 0.1
    assert np.abs(half.voxels_hu - plain.voxels_hu).mean() > 0.1
    none = paint(prior, labels, QUICK, scale=0, seed=3)
    np.testing.assert_array_equal(none.voxels_hu, plain.voxels_hu)


def test_a_turned_and_mirrored_map_gives_the_same_volume_turned(prior: Prior) -> None:
    """Axes as x, z, y and one of them backwards: where a voxel lies decides, not its index."""
    labels = chest()
    turned = labels.voxels_hu.transpose(1, 0, 2)[:, ::-1]
    affine = labels.affine[:, [0, 2, 1, 3]].copy()
    affine[:, 3] += affine[:, 1] * (labels.shape[0] - 1)
    affine[:, 1] *= -1
    other = paint(prior, Volume(turned, affine), QUICK, seed=1)
    made = paint(prior, labels, QUICK, seed=1)
    np.testing.assert_array_equal(other.affine, affine)
    expected = made.voxels_hu.transpose(1, 0, 2)[:, ::-1]
    np.testing.assert_allclose(other.voxels_hu, expected, atol=0.5)
    sha = "labels_sha256"
    assert other.metadata["condition"][sha] == made.metadata["condition"][sha]


def test_a_finer_map_gets_its_own_grid_back_and_air_beyond_the_model(prior: Prior) -> None:
    fine = chest(10.0)
    painting = painting_of(prior, fine)
    assert painting.beyond == 0 and painting.notes == ()
    made = painting.on_labels(prdit_core.generate(painting.prior, QUICK))
    assert made.shape == (32, 32, 32) and np.array_equal(made.affine, fine.affine)
    wide = Volume(np.ones((4, 40, 4), np.uint8), axial_affine((20.0,) * 3, (4, 40, 4)))
    painting = painting_of(prior, wide)
    assert painting.beyond == pytest.approx(24 / 40)
    (note,) = painting.notes
    assert "60 % of what is labelled lies outside the 320 x 320 x 320 mm" in note
    made = painting.on_labels(prdit_core.generate(painting.prior, QUICK))
    assert (made.voxels_hu[:, :11] == -1000).all() and made.metadata["notes"] == [note]
    assert (made.voxels_hu[:, 12:28] > -1000).any()


@pytest.mark.slow
def test_what_cannot_be_a_condition_is_refused_in_one_line(desk: Path, prior: Prior) -> None:
    labels = chest()
    base = prdit_core.load(desk / "base")
    faults: list[tuple[str, Any]] = [
        ("base has no control", lambda: painting_of(base, labels)),
        ("trained on chest, not on head-t1", lambda: prior.of_control("head-t1")),
        ("trained on chest, not on head", lambda: painting_of(prior.of_class("head"), labels)),
        (
            "trained on 16 x 16 x 16 voxels, not on 32 x 32 x 32",
            lambda: painting_of(prior.at_size(32), labels),
        ),
        ("have 2 x 2 x 2 voxels", lambda: prior.under(np.ones((2, 2, 2), np.uint8))),
        ("scale -1 is not from 0 to 10", lambda: painting_of(prior, labels, -1.0)),
        ("scale nan is not from 0", lambda: painting_of(prior, labels, float("nan"))),
        (
            "also needs images",
            lambda: painting_of(prdit_core.load(desk / "with-image"), labels),
        ),
        (
            "the label map: nothing is labelled",
            lambda: painting_of(prior, replace(labels, voxels_hu=labels.voxels_hu * 0)),
        ),
        (
            "label 200 is none that the model knows",
            lambda: painting_of(prior, replace(labels, voxels_hu=labels.voxels_hu * 0 + 200)),
        ),
        (
            "class and grid first",
            lambda: painting_of(prior, labels).prior.of_class("head"),
        ),
    ]
    for words, act in faults:
        with pytest.raises((UsageError, InputRejected), match=words) as refusal:
            act()
        assert "\n" not in str(refusal.value)


def test_numbers_mean_what_the_names_beside_a_map_say(tmp_path: Path) -> None:
    labels = np.zeros((4, 4, 4), np.uint8)
    labels[1], labels[2] = 7, 9
    write_labels(Volume(labels, axial_affine((1.0,) * 3, labels.shape)), tmp_path / "a.nii.gz")
    with pytest.raises(InputRejected, match=r"a.nii.gz has label 7, 9, which .* knows 1 heart, 2"):
        read_label_map(tmp_path / "a.nii.gz", ("heart", "lung"))
    (tmp_path / "labels.json").write_text('{"lung": 7, "heart": 9}')
    found = read_label_map(tmp_path / "a.nii.gz", ("heart", "lung"))
    assert found.voxels_hu[:, 0, 0].tolist() == [0, 2, 1, 0]
    assert found.metadata["labels_from"]["sha256"] == sha256_of(tmp_path / "a.nii.gz")
    (tmp_path / "labels.json").write_text('{"lung": 7, "pancreas": 9}')
    with pytest.raises(InputRejected, match=r"has label 9 pancreas, which the model does not know"):
        read_label_map(tmp_path / "a.nii.gz", ("heart", "lung"))


# --- by the command -----------------------------------------------------------------------------


def run(*words: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, (result.output, result.exception)
    lines = [line for line in result.stderr.splitlines() if line.startswith("prdit-core: ")]
    assert len(lines) == bool(code), result.stderr
    return result


def made(desk: Path, out: Path, *more: object, code: int = 0) -> Result:
    words = ("--checkpoint", desk / "control", "--condition", desk / "chest.nii.gz")
    if "--condition" in more or "--checkpoint" in more:
        given = dict(zip(more[::2], more[1::2], strict=True))
        pairs = {words[0]: words[1], words[2]: words[3], **given}
        words, more = tuple(word for pair in pairs.items() for word in pair if pair[1]), ()
    words = (*words, "--steps", 2, "--threads", 1, "--out", out, *more)
    return run("generate", *words, code=code)


@pytest.mark.slow
def test_the_command_makes_volumes_on_the_grid_of_the_file_and_goes_on(
    desk: Path, tmp_path: Path
) -> None:
    image = nib.Nifti1Image.from_filename(desk / "chest.nii.gz")
    flipped = tmp_path / "flipped.nii.gz"
    affine = image.affine @ np.diag([-1, 1, 1, 1])
    affine[:3, 3] += image.affine[:3, 0] * 15
    nib.Nifti1Image(np.asanyarray(image.dataobj)[::-1].copy(), affine, image.header).to_filename(
        flipped
    )
    made(desk, tmp_path / "one", "--count", 2)
    again = made(desk, tmp_path / "one", "--count", 2)
    assert "2 were there already" in again.stdout
    made(desk, tmp_path / "two", "--condition", flipped)
    name = "seed-0_index-0000"
    one, two = (
        nib.Nifti1Image.from_filename(tmp_path / place / f"{name}.nii.gz")
        for place in ("one", "two")
    )
    np.testing.assert_allclose(one.affine, image.affine, atol=1e-4)
    np.testing.assert_allclose(two.affine, affine, atol=1e-4)
    voxels = np.asanyarray(two.dataobj)[::-1]
    np.testing.assert_allclose(voxels, np.asanyarray(one.dataobj), atol=1)
    pictures = [(tmp_path / n / f"{name}.png").stat().st_size for n in ("one", "two")]
    assert abs(pictures[0] - pictures[1]) < 0.05 * pictures[0]  # upright both
    record = json.loads((tmp_path / "one" / f"{name}.json").read_text())
    assert record["condition"]["file"] == "chest.nii.gz" and record["condition"]["scale"] == 1
    assert record["condition"]["sha256"] == sha256_of(desk / "chest.nii.gz")
    assert str(desk) not in json.dumps(record)
    refused = made(desk, tmp_path / "one", "--control-scale", 0.5, code=6)
    assert "tells of other settings (condition" in refused.stderr


@pytest.mark.slow
def test_scale_0_is_the_base_byte_for_byte(desk: Path, tmp_path: Path) -> None:
    made(desk, tmp_path / "none", "--control-scale", 0)
    more = ("--shape", "16,16,16", "--steps", 2, "--threads", 1)
    for name in ("base", "control"):
        done = run("generate", "--checkpoint", desk / name, "--out", tmp_path / name, *more)
        assert ("makes volumes of its base" in done.stderr) == (name == "control")
    found = [
        np.asanyarray(nib.Nifti1Image.from_filename(file).dataobj)
        for file in (tmp_path / n / "seed-0_index-0000.nii.gz" for n in ("none", "base", "control"))
    ]
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[1], found[2])


FAULTS = [
    (("--checkpoint", "base"), 2, "base has no control"),
    (("--checkpoint", "demo"), 2, "demo has no control"),
    (("--class", "head-t1"), 2, "was trained on chest, not on head-t1"),
    (("--shape", "32,32,32"), 2, "was trained on 16 x 16 x 16 voxels"),
    (("--control-scale", 11), 2, "control scale 11 is not from 0 to 10"),
    (("--condition", None, "--control-scale", 0.5), 2, "give --condition, too"),
    (("--condition", "gone.nii.gz"), 3, "gone.nii.gz: there is no such file"),
    (("--condition", "ct.nii.gz"), 3, "labels are whole numbers"),
    (("--condition", "empty.nii.gz"), 3, "empty.nii.gz: nothing is labelled"),
    (("--condition", "unknown.nii.gz"), 3, "has label 99, which the model does not know"),
    (("--condition", "nowhere.nii.gz"), 3, "orient"),
    (("--condition", "chest.png"), 3, "it is no NIfTI file"),
    (("--checkpoint", "with-image"), 2, "also needs images"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("change", "code", "reason"), FAULTS)
def test_bad_input_is_one_line(
    change: tuple[Any, ...],
    code: int,
    reason: str,
    desk: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(desk)
    labels = chest()
    write_labels(replace(labels, voxels_hu=labels.voxels_hu * 0), desk / "empty.nii.gz")
    write_labels(replace(labels, voxels_hu=labels.voxels_hu * 0 + 99), desk / "unknown.nii.gz")
    ct = make_phantom(4, 0, spacing_mm=20.0).volume
    prdit_core.write_volume(ct, desk / "ct.nii.gz")
    bare = nib.Nifti1Image(labels.voxels_hu.T, None)
    bare.to_filename(desk / "nowhere.nii.gz")
    (desk / "chest.png").write_bytes(b"png")
    words = {"--checkpoint": "control", "--condition": "chest.nii.gz"}
    words |= dict(zip(change[::2], change[1::2], strict=True))
    given = [word for name, value in words.items() if value is not None for word in (name, value)]
    done = run("generate", "--out", tmp_path / "out", "--steps", 1, *given, code=code)
    assert re.search(reason, done.stderr), done.stderr
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


def test_info_tells_labels_and_what_they_are_for(desk: Path) -> None:
    text = run("info", desk / "control").stdout
    assert "1 table, 2 fat" in text and "control for" in text and "16 x 16 x 16" in text
    content = json.loads(run("info", desk / "control", "--json").stdout)
    assert content["labels"] == {str(number): name for number, name in enumerate(NAMES, 1)}
    assert list(content["control for"]) == ["chest"]
    assert "labels" not in json.loads(run("info", desk / "base", "--json").stdout)

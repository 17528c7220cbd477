"""Scans become cubes in their true place."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from pydantic import ValidationError
from thorax import chest, positions

from prdit_core.data.io import read_volume
from prdit_core.data.presets import PRESETS, Preset
from prdit_core.data.resampling import pool_majority, pool_mean
from prdit_core.data.transforms import conform, working_edge
from prdit_core.errors import InputRejected, UsageError
from prdit_core.volume import Volume, axial_affine

CHEST = PRESETS["chest-320"]


OBLIQUE_SHAPE = (70, 80, 60)


def oblique(degrees: float):
    """An affine around (0, 0, 0) whose slices are tilted about x and turned about z."""
    a = np.radians(degrees)
    tilt = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = tilt @ turn @ np.diag([-5.5, -4.0, 5.0])
    affine[:3, 3] = -affine[:3, :3] @ (np.array(OBLIQUE_SHAPE[::-1]) - 1) / 2
    return affine


GRIDS = {
    "cubic": (axial_affine((5.0, 5.0, 5.0), (64, 64, 64)), (64, 64, 64)),
    "thick slices, off centre": (
        axial_affine((7.0, 4.3, 4.3), (50, 80, 80), (33.3, -71.7, -500.4)),
        (50, 80, 80),
    ),
    "oblique": (oblique(15), OBLIQUE_SHAPE),
    "other directions": (np.diag([4.0, 4.0, -4.0, 1.0]), (60, 70, 80)),
}


@pytest.mark.slow
@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("name", GRIDS)
def test_hu_that_grow_with_a_coordinate_still_name_that_coordinate(name, axis):
    affine, shape = GRIDS[name]
    place = positions(shape, affine)[axis]
    middle = float(place.mean())
    source = Volume((place - middle).astype(np.float32), affine)
    done = conform(source, CHEST, 32).volume
    found = done.voxels_hu + middle
    expected = positions(done.shape, done.affine)[axis]
    # Beside the edge of the scan, where air takes part in the pooling, it cannot hold.
    inner = np.abs(expected - middle) < np.ptp(place) / 4
    covered = conform(Volume(np.zeros(shape, np.int16), affine), CHEST, 32)
    inner &= covered.volume.voxels_hu == 0
    assert inner.sum() > 1000
    assert np.abs(found - expected)[inner].max() <= 0.51


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preset", "tilt", "marker"),
    [
        ("lidc-idri", 12, (-40, 33.3, 41)),
        ("chest-320", -20, (0, 0, 0)),
        ("chest-320", 0, (-60, 33.3, 61)),
        ("chest-320", 7.3, (47.1, -40, -25.5)),
    ],
)
def test_a_marker_stays_where_it_is(preset, tilt, marker):
    shape, affine = OBLIQUE_SHAPE, oblique(tilt)
    place = positions(shape, affine)
    ball = np.linalg.norm(place - np.reshape(marker, (3, 1, 1, 1)), axis=0) < 14
    source = Volume(np.where(ball, 300, -1000).astype(np.int16), affine)
    done = conform(source, PRESETS[preset], 64).volume
    weight = done.voxels_hu + 1000.0
    found = (positions(done.shape, done.affine) * weight).sum((1, 2, 3)) / weight.sum()
    assert np.abs(found - marker).max() < done.spacing_mm[0] / 2


def test_nibabel_and_simpleitk_see_the_cube_at_the_same_place(tmp_path):
    done = conform(chest(), CHEST, 16).volume
    nib.save(nib.Nifti1Image(done.voxels_hu.T, done.affine), tmp_path / "cube.nii")
    image = sitk.ReadImage(tmp_path / "cube.nii")
    for index in ((0, 0, 0), (15, 3, 7)):
        left, posterior, superior = image.TransformIndexToPhysicalPoint(index)
        x, y, z = (done.affine @ [*index, 1])[:3]
        assert (-left, -posterior, superior) == pytest.approx((x, y, z), abs=1e-3)


def test_a_scan_on_the_working_grid_is_only_pooled():
    source = chest((64, 64, 64), 5.0, noise=30)
    preset = CHEST.model_copy(update={"centre": "volume"})
    done = conform(source, preset, 32)
    blocks = np.clip(source.voxels_hu, -1000, 400).astype(float).reshape(32, 2, 32, 2, 32, 2)
    assert np.array_equal(done.volume.voxels_hu, np.rint(blocks.mean((1, 3, 5))))
    assert np.allclose(done.volume.affine, axial_affine((10.0,) * 3, (32,) * 3))
    assert done.record["padded_fraction"] == 0


def test_a_fine_scan_is_averaged_not_sampled():
    checks = np.indices((128, 128, 128)).sum(0) % 2 * 400 - 200
    source = Volume(checks.astype(np.int16), axial_affine((0.5,) * 3, checks.shape))
    preset = Preset(name="small", window_hu=(-1000, 400), field_of_view_mm=256, grid="fixed")
    inner = conform(source, preset, 256).volume.voxels_hu[110:146, 110:146, 110:146]
    assert np.abs(inner).max() <= 1


def test_the_cube_is_centred_on_the_body_and_not_on_the_table():
    source = chest((60, 100, 100), 5.0, body=(60, -45), table=True)
    record = conform(source, CHEST, 32).record
    assert record["centred_on"] == "body"
    assert record["centre_mm"] == pytest.approx([60, -45, 0], abs=7.5)


def test_the_window_does_not_move_the_crop():
    source = chest((60, 100, 100), 5.0, body=(60, -45), table=True)
    soft = CHEST.model_copy(update={"window_hu": (-160, 240)})
    done = conform(source, soft, 16).volume
    assert np.array_equal(done.affine, conform(source, CHEST, 16).volume.affine)
    assert (done.voxels_hu.min(), done.voxels_hu.max()) == (-160, 40)


def test_only_a_scan_longer_than_the_field_of_view_is_centred_on_its_lungs():
    tall = conform(chest((140, 64, 64), 5.0, lungs=120), CHEST, 32)
    assert tall.record["centred_on"] == "body and lungs"
    assert tall.record["centre_mm"][2] == pytest.approx(120, abs=7.5)
    high = conform(chest((140, 64, 64), 5.0, lungs=290), CHEST, 32)
    assert high.record["centre_mm"][2] == pytest.approx(350 - 160, abs=2.5)
    assert high.record["padded_fraction"] == 0
    short = conform(chest((60, 64, 64), 5.0, lungs=60), CHEST, 32)
    assert short.record["centre_mm"][2] == pytest.approx(0, abs=2.5)


def test_outside_the_scan_is_air_and_said():
    source = Volume(np.zeros((20, 64, 64), np.int16), axial_affine((5.0,) * 3, (20, 64, 64)))
    done = conform(source, CHEST, 32)
    assert done.record["padded_fraction"] == pytest.approx(1 - 20 / 64)
    assert np.mean(done.volume.voxels_hu == -1000) == pytest.approx(1 - 20 / 64, abs=0.04)
    assert "69% of the field of view lies outside the scan" in " ".join(done.notes)


def test_hu_outside_the_window_are_clipped_and_counted():
    source = chest()
    source.voxels_hu[0, 0, :5] = -2048
    source.voxels_hu[16, 16, :3] = 3071
    done = conform(source, CHEST, 16)
    assert (done.record["clipped_below"], done.record["clipped_above"]) == (5, 3)
    assert done.volume.voxels_hu.dtype == np.int16
    assert done.volume.voxels_hu.min() >= -1000
    assert done.volume.voxels_hu.max() <= 400


def test_a_body_wider_than_the_field_of_view_is_said():
    assert "wide" in " ".join(conform(chest((30, 80, 80), 5.0), PRESETS["lidc-idri"], 16).notes)
    assert not conform(chest((64, 80, 80), 5.0), CHEST, 16).notes


def test_air_alone_has_no_body_to_centre_on():
    source = Volume(np.full((20, 30, 30), -1000, np.int16), axial_affine((9.0,) * 3, (20, 30, 30)))
    done = conform(source, CHEST, 16)
    assert done.record["centred_on"] == "volume"
    assert np.all(done.volume.voxels_hu == -1000)


@pytest.mark.parametrize(
    ("preset", "size", "finest_mm", "edge"),
    [
        ("lidc-idri", 32, 5.0, 256),
        ("chest-320", 32, 5.0, 64),
        ("chest-320", 32, 0.7, 256),
        ("chest-320", 64, 3.0, 128),
        ("chest-320", 64, 40.0, 64),
        ("chest-320", 256, 9.0, 256),
    ],
)
def test_working_grid(preset, size, finest_mm, edge):
    assert working_edge(PRESETS[preset], size, finest_mm) == edge


def test_labels_follow_the_voxels():
    source = chest((64, 64, 64), 5.0, body=(23, -14))
    tissue = (source.voxels_hu == 40).astype(np.uint8) * 7
    done = conform(source, CHEST, 32, tissue)
    agreement = (done.labels == 7) == (done.volume.voxels_hu > -450)
    assert done.labels.dtype == np.uint8
    assert set(np.unique(done.labels)) == {0, 7}
    assert agreement.mean() > 0.98


def test_pooling():
    x = np.arange(64, dtype=np.float32).reshape(4, 4, 4)
    assert pool_mean(x, 2)[0, 0, 0] == np.mean([0, 1, 4, 5, 16, 17, 20, 21])
    labels = np.array([3, 3, 3, 9, 9, 9, 9, 3, 3, 3, 3, 3, 1, 9, 9, 9], np.uint8).reshape(4, 2, 2)
    assert pool_majority(labels, 2).tolist() == [[[3]], [[3]]]
    tie = np.array([5] * 4 + [2] * 4, np.uint8).reshape(2, 2, 2)
    assert pool_majority(tie, 2) == 2
    assert np.array_equal(pool_majority(labels, 1), labels)


@pytest.mark.parametrize("size", [0, 4, 12, 48, 100, 512])
def test_a_size_that_does_not_divide_the_working_grid_is_refused(size):
    with pytest.raises(UsageError, match="8, 16, 32"):
        conform(chest(), CHEST, size)


def test_what_cannot_be_conformed_is_refused():
    broken = chest().voxels_hu.astype(np.float32)
    broken[3, 3, 3] = np.nan
    with pytest.raises(InputRejected, match="NaN"):
        conform(Volume(broken, chest().affine), CHEST, 16)
    with pytest.raises(InputRejected, match="labels"):
        conform(chest(), CHEST, 16, np.zeros((3, 3, 3), np.uint8))


@pytest.mark.parametrize("change", [{"window_hu": (400, -1000)}, {"field_of_view_mm": 0}])
def test_a_preset_that_makes_no_sense_is_refused(change):
    with pytest.raises(ValidationError):
        Preset(**{**CHEST.model_dump(), **change})


@pytest.mark.slow
def test_a_real_chest_lies_in_the_middle_with_its_lungs(real_data):
    volume = read_volume(real_data / "ct" / "lidc-idri-0314")
    done = conform(volume, CHEST, 32)
    assert 2000 < done.record["lung_ml"] < 4000
    lung = positions(done.volume.shape, done.volume.affine)[:, done.volume.voxels_hu < -700]
    sideways = lung[0] - done.record["centre_mm"][0]
    assert np.percentile(sideways, 1) < -80
    assert np.percentile(sideways, 99) > 80

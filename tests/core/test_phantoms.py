"""Phantoms: the same patient at every spacing, with everything where it belongs."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
import pytest

from prdit_core.data.phantoms import LABELS, Phantom, make_phantom
from prdit_core.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Median HU that the voxels of a label may have, over contrast, noise and partial volume.
HU_RANGES = {
    "air": (-1024, -950), "table": (-950, 150), "fat": (-160, -40), "muscle": (0, 90),
    "lung_right": (-920, -740), "lung_left": (-920, -740), "mediastinum": (-140, 0),
    "lung_vessels": (-500, 330), "airways": (-1010, -600), "heart": (20, 290),
    "aorta": (20, 290), "great_vessels": (20, 290), "oesophagus": (-100, 60), "liver": (30, 140),
    "stomach": (-1000, 60), "spleen": (20, 150), "spine": (60, 400), "ribs": (150, 650),
    "cartilage": (-90, 180), "sternum": (100, 500), "shoulder": (100, 500), "nodule": (-450, 100),
}  # fmt: skip


@functools.cache
def phantom(index: int, spacing_mm: float = 5.0, seed: int = 3) -> Phantom:
    return make_phantom(seed, index, spacing_mm=spacing_mm)


def centre(labels: NDArray[np.uint8], name: str) -> NDArray[np.float64]:
    """Mean index (z, y, x) of a label."""
    return np.asarray(np.argwhere(labels == LABELS[name]).mean(axis=0))


def test_repeats_exactly_whatever_the_global_generator() -> None:
    np.random.seed(1)
    again = make_phantom(3, 0, spacing_mm=5.0)
    np.testing.assert_array_equal(again.volume.voxels_hu, phantom(0).volume.voxels_hu)
    np.testing.assert_array_equal(again.labels, phantom(0).labels)


@pytest.mark.parametrize(("seed", "index"), [(3, 1), (4, 0)])
def test_another_seed_or_index_is_another_patient(seed: int, index: int) -> None:
    other = phantom(index, seed=seed)
    assert np.mean(other.labels != phantom(0).labels) > 0.02


@pytest.mark.slow
@pytest.mark.parametrize(("spacing_mm", "size"), [(10.0, 32), (5.0, 64), (2.5, 128)])
def test_fills_a_cube_of_320_mm_around_zero(spacing_mm: float, size: int) -> None:
    volume = phantom(0, spacing_mm).volume
    assert volume.shape == phantom(0, spacing_mm).labels.shape == (size, size, size)
    assert volume.voxels_hu.dtype == np.int16
    assert volume.spacing_mm == (spacing_mm,) * 3
    middle = volume.affine @ [*[(size - 1) / 2] * 3, 1]
    np.testing.assert_allclose(middle[:3], 0, atol=1e-9)


@pytest.mark.parametrize("name", [name for name in LABELS if name != "nodule"])
def test_every_patient_has_every_part(name: str) -> None:
    for index in range(4):
        assert np.any(phantom(index).labels == LABELS[name])


@pytest.mark.slow
def test_some_patients_have_nodules_and_some_have_none() -> None:
    found = [np.any(phantom(index, 5.0).labels == LABELS["nodule"]) for index in range(12)]
    assert any(found) and not all(found)


@pytest.mark.parametrize("name", LABELS)
def test_every_part_has_its_density(name: str) -> None:
    low, high = HU_RANGES[name]
    voxels = [phantom(i).volume.voxels_hu[phantom(i).labels == LABELS[name]] for i in range(4)]
    for values in voxels:
        assert not len(values) or low <= np.median(values) <= high


def test_lungs_do_not_touch() -> None:
    for index in range(4):
        labels = phantom(index, 2.5).labels if index == 0 else phantom(index).labels
        right, left = (labels == LABELS[name] for name in ("lung_right", "lung_left"))
        for axis in range(3):
            assert not np.any(right & (np.roll(left, 1, axis) | np.roll(left, -1, axis)))


def test_sides_are_right() -> None:
    """Index x runs to the patient's left, y to the back, z to the head."""
    for index in range(4):
        labels = phantom(index).labels
        z, y, x = range(3)
        spine = centre(labels, "spine")
        assert centre(labels, "lung_right")[x] < spine[x] < centre(labels, "lung_left")[x]
        assert centre(labels, "liver")[x] < spine[x] < centre(labels, "spleen")[x]
        assert centre(labels, "heart")[x] > spine[x]
        assert centre(labels, "sternum")[y] < centre(labels, "heart")[y] < spine[y]
        assert centre(labels, "liver")[z] < centre(labels, "heart")[z]
        assert centre(labels, "table")[y] > spine[y]
        right, left = (np.sum(labels == LABELS[f"lung_{side}"]) for side in ("right", "left"))
        assert right > left


def test_descending_aorta_runs_left_of_the_spine() -> None:
    for index in range(4):
        low = phantom(index).labels[20:32]
        spine = centre(low, "spine")
        aorta = np.argwhere(low == LABELS["aorta"])
        descending = aorta[aorta[:, 1] > spine[1] - 9]
        assert descending[:, 2].mean() > spine[2] + 2


@pytest.mark.slow
@pytest.mark.parametrize("index", [0, 1])
def test_anatomy_does_not_depend_on_the_spacing(index: int) -> None:
    fine, coarse = phantom(index, 2.5), phantom(index, 5.0)
    pooled = fine.volume.voxels_hu.reshape(64, 2, 64, 2, 64, 2).mean(axis=(1, 3, 5))
    error = np.abs(pooled - coarse.volume.voxels_hu)
    assert error.mean() < 20
    assert np.percentile(error, 99) < 200
    assert np.mean(fine.labels[::2, ::2, ::2] == coarse.labels) > 0.85


def test_thin_ribs_show_on_a_coarse_grid() -> None:
    ribs = (phantom(0).labels == LABELS["ribs"]).reshape(32, 2, 32, 2, 32, 2).mean(axis=(1, 3, 5))
    wall = phantom(0, 10.0).volume.voxels_hu[ribs > 0.3]
    assert wall.mean() > 80  # brighter than any muscle, between lung and muscle


@pytest.mark.parametrize(
    ("seed", "index", "spacing_mm"), [(-1, 0, 5.0), (0, -1, 5.0), (0, 0, 0.0), (0, 0, np.nan)]
)
def test_refuses_what_makes_no_phantom(seed: int, index: int, spacing_mm: float) -> None:
    with pytest.raises(UsageError):
        make_phantom(seed, index, spacing_mm=spacing_mm)


def test_metadata_says_that_nobody_was_scanned() -> None:
    assert phantom(0).volume.metadata["source"] == "phantom"

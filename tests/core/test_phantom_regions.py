"""Phantoms of head and legs: everything where it belongs, in HU, and told apart by its tissues."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
import pytest

from prdit_core.data.datasets import PreparedData
from prdit_core.data.phantoms import REGIONS, Phantom, make_phantom
from prdit_core.data.presets import PRESETS
from prdit_core.errors import UsageError
from prdit_core.metrics.tissues import tissue_shares
from prdit_core.verbs.phantoms import phantoms

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Median HU of the voxels of a label at 4 or 5 mm, over contrast, noise and partial volume.
HU_RANGES = {
    "head": {
        "air": (-1024, -950), "holder": (-950, 60), "skin": (-350, 40), "scalp": (-80, 30),
        "fat": (-110, -40), "muscle": (40, 65), "skull": (500, 1100), "diploe": (400, 900),
        "mandible": (600, 1250), "teeth": (1300, 2300), "spine": (300, 900), "marrow": (150, 600),
        "csf": (5, 60), "grey_matter": (30, 40), "white_matter": (26, 33), "cerebellum": (30, 40),
        "brainstem": (28, 36), "ventricles": (4, 20), "sinuses": (-1010, -700),
        "airway": (-1010, -650), "eyes": (5, 30), "vessels": (20, 280),
    },
    "legs": {
        "air": (-1024, -950), "table": (-950, 60), "skin": (-350, 30), "fat": (-115, -50),
        "quadriceps": (40, 65), "hamstrings": (40, 65), "adductors": (30, 65), "calf": (40, 65),
        "shin": (40, 65), "femur": (350, 1250), "tibia": (400, 1250), "fibula": (400, 1250),
        "patella": (300, 850), "marrow": (-80, 300), "cartilage": (50, 120), "tendons": (20, 110),
        "vessels": (-40, 250),
    },
}  # fmt: skip
PARTS = [(region, name) for region, ranges in HU_RANGES.items() for name in ranges]
# Shares of tissues by HU in cubes of 16 voxels, over patients.
SHARES = {
    "chest": {"fat": (0.03, 0.2), "soft tissue": (0.1, 0.3), "bone": (0, 0.01)},
    "head": {"fat": (0.005, 0.03), "soft tissue": (0.1, 0.2), "bone": (0.025, 0.08)},
    "legs": {"fat": (0.005, 0.08), "soft tissue": (0.03, 0.18), "bone": (0.003, 0.02)},
}


@functools.cache
def phantom(region: str, index: int, spacing_mm: float = 5.0) -> Phantom:
    return make_phantom(3, index, spacing_mm=spacing_mm, region=region)


def where(region: str, name: str, index: int = 0) -> NDArray[np.int64]:
    """Indices (N, 3) of a label, (z, y, x)."""
    found = np.argwhere(phantom(region, index).labels == REGIONS[region].labels[name])
    return np.asarray(found)


def centre(region: str, name: str, index: int = 0) -> NDArray[np.float64]:
    return np.asarray(where(region, name, index).mean(axis=0))


@pytest.mark.slow
@pytest.mark.parametrize(("region", "name"), PARTS)
def test_every_patient_has_every_part_at_its_density(region, name):
    low, high = HU_RANGES[region][name]
    for index in range(3):
        there = phantom(region, index)
        voxels = there.volume.voxels_hu[there.labels == REGIONS[region].labels[name]]
        assert low <= np.median(voxels) <= high


@pytest.mark.slow
@pytest.mark.parametrize("region", ["head", "legs"])
def test_one_patient_repeats_and_another_differs(region):
    again = make_phantom(3, 0, spacing_mm=5.0, region=region)
    np.testing.assert_array_equal(again.volume.voxels_hu, phantom(region, 0).volume.voxels_hu)
    assert np.mean(phantom(region, 1).labels != phantom(region, 0).labels) > 0.02


@pytest.mark.slow
@pytest.mark.parametrize("region", ["head", "legs"])
def test_anatomy_does_not_depend_on_the_spacing(region):
    fine, coarse = phantom(region, 0, 2.5), phantom(region, 0, 5.0)
    size = coarse.labels.shape[0]
    pooled = fine.volume.voxels_hu[: 2 * size, : 2 * size, : 2 * size]
    if len(fine.labels) == 2 * size:
        pooled = pooled.reshape(size, 2, size, 2, size, 2).mean(axis=(1, 3, 5))
        assert np.abs(pooled - coarse.volume.voxels_hu).mean() < 25
    shares = [np.bincount(p.labels.ravel(), minlength=30) / p.labels.size for p in (fine, coarse)]
    assert np.abs(shares[0] - shares[1]).max() < 0.02


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_head_is_put_together_as_heads_are(index):
    """Index x runs to the patient's left, y to the back, z to the head."""
    at = functools.partial(centre, "head", index=index)
    z, y, x = range(3)
    assert at("mandible")[z] < at("teeth")[z] < at("eyes")[z] < at("skull")[z] + 12
    assert at("eyes")[y] < at("optic_nerve")[y] < at("brainstem")[y] < at("cerebellum")[y]
    assert at("spine")[y] > at("airway")[y] > at("mandible")[y] - 2
    assert at("cerebellum")[z] < at("ventricles")[z] < at("diploe")[z] + 10
    assert at("white_matter")[z] > at("brainstem")[z] > at("marrow")[z]
    middle = at("white_matter")[x]
    for side in (-1, 1):
        for name in ("eyes", "ventricles", "sinuses", "mandible"):
            assert np.any(side * (where("head", name, index)[:, x] - middle) > 2)


@pytest.mark.slow
def test_bone_closes_around_the_brain():
    labels = phantom("head", 0, 2.5).labels
    number = REGIONS["head"].labels
    inside = np.isin(labels, [number[n] for n in ("grey_matter", "white_matter", "csf")])
    outside = np.isin(labels, [number[n] for n in ("air", "skin", "scalp", "fat")])
    lens = np.argwhere(labels == number["lens"]).mean(axis=0)
    eyes = np.argwhere(labels == number["eyes"]).mean(axis=0)
    assert 1 < eyes[1] - lens[1] < 5  # in front of the eyes' middles
    vault = slice(len(labels) * 5 // 8, None)  # above the base, through which nerves and cord pass
    white = labels == number["white_matter"]
    for axis in (1, 2):
        for step in (-1, 1):
            beside = np.roll(inside, step, axis)
            assert not np.any(beside[vault] & outside[vault])
            assert not np.any(
                np.roll(white, step, axis)[vault] & (labels == number["skull"])[vault]
            )


@pytest.mark.parametrize("index", [0, 1, 2])
def test_legs_are_two_with_bones_in_muscle_and_the_fibula_outside(index):
    at = functools.partial(where, "legs", index=index)
    z, y, x = range(3)
    middle = 31.5 + 0.0
    for side in (-1, 1):
        own = {name: part[side * (part[:, x] - middle) > 0].mean(axis=0)
               for name in HU_RANGES["legs"] for part in [at(name)]}  # fmt: skip
        assert side * (own["fibula"][x] - own["tibia"][x]) > 2
        assert own["tibia"][z] < own["cartilage"][z] < own["femur"][z]
        assert own["patella"][y] < own["femur"][y] + 1
        assert own["shin"][y] < own["calf"][y] < own["table"][y]
        assert own["quadriceps"][y] < own["hamstrings"][y]
        assert side * (own["adductors"][x] - own["hamstrings"][x]) < 0


@pytest.mark.slow
def test_marrow_lies_within_the_hard_bone_of_a_shaft():
    there = phantom("legs", 1, 2.5)
    number = REGIONS["legs"].labels
    thigh = there.labels[-20]
    ring, core = thigh == number["femur"], thigh == number["marrow"]
    assert core.any()
    for axis in (0, 1):
        for step in (-1, 1):
            beside = thigh[np.roll(core, step, axis)]
            assert set(np.unique(beside)) <= {number["femur"], number["marrow"]}
    assert there.volume.voxels_hu[-20][ring].mean() > 500


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Six patients of every region, in cubes of 16 voxels."""
    folder = tmp_path_factory.mktemp("regions")
    for region in REGIONS:
        phantoms(6, size=16, seed=1, out=folder / region, region=region)
    return {region: PreparedData.open(folder / region) for region in REGIONS}


def test_a_region_is_prepared_by_its_preset_with_its_labels(prepared):
    for region, data in prepared.items():
        assert data.manifest.preset == PRESETS[REGIONS[region].preset]
        assert data.label_names == REGIONS[region].labels
        assert data.manifest.settings.get("region", "chest") == region
        labels = data.labels(data.train[0])
        assert labels is not None
        assert labels.max() < len(data.label_names)
    assert prepared["head"].cases[0].id.startswith("phantom-head-1-")
    assert prepared["chest"].cases[0].id.startswith("phantom-1-")  # as before there were others
    assert "region" not in prepared["chest"].manifest.settings


def test_regions_are_told_apart_by_shares_of_tissues(prepared):
    shares = {
        region: [tissue_shares(data.volume(case)) for case in data.cases]
        for region, data in prepared.items()
    }
    for region, ranges in SHARES.items():
        for name, (low, high) in ranges.items():
            assert all(low <= of[name] <= high for of in shares[region]), (region, name)
    names = list(shares["head"][0])
    points = {r: np.array([[of[n] for n in names] for of in many]) for r, many in shares.items()}
    means = np.array([points[region].mean(axis=0) for region in REGIONS])
    for number, region in enumerate(REGIONS):
        away = np.linalg.norm(points[region][:, None] - means, axis=2)
        assert (away.argmin(axis=1) == number).all()


def test_a_region_that_is_not_known_is_refused(tmp_path):
    with pytest.raises(UsageError, match="region 'foot' is not known; choose one of chest, head"):
        phantoms(2, size=8, seed=0, out=tmp_path / "out", region="foot")
    assert not (tmp_path / "out").exists()

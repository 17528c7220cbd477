"""MR of invented heads: signal as textbooks have it, in units that are not HU and are said."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scans import write_series
from typer.testing import CliRunner

from prdit_core.cli.app import app
from prdit_core.data.datasets import PreparedData
from prdit_core.data.io import ReadOptions, read_volume, write_volume
from prdit_core.data.phantoms import REGIONS, Phantom, make_phantom
from prdit_core.data.phantoms.mr import TISSUES, Tissue, echo
from prdit_core.data.presets import PRESETS, Preset
from prdit_core.data.signal import windowed
from prdit_core.data.transforms import conform
from prdit_core.errors import InputRejected, UsageError
from prdit_core.evaluation.sets import open_sets
from prdit_core.intensity import ARBITRARY, HU
from prdit_core.verbs.export import export_dicom
from prdit_core.verbs.phantoms import phantoms
from prdit_core.verbs.preprocess import preprocess
from prdit_core.volume import Volume, axial_affine

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

MR = PRESETS["head-256-mr"]
# Labels of many voxels, whose median no neighbour spoils.
MANY = ("air", "fat", "muscle", "teeth", "grey_matter", "white_matter", "ventricles")


@functools.cache
def head(modality: str, index: int = 0) -> Phantom:
    return make_phantom(5, index, spacing_mm=4.0, region="head", modality=modality)


def signal(modality: str, name: str, index: int = 0) -> NDArray[np.int16]:
    there = head(modality, index)
    return np.asarray(there.volume.voxels_hu[there.labels == REGIONS["head"].labels[name]])


def test_a_spin_echo_has_its_closed_form():
    water = Tissue(1.0, 1000.0, 100.0)
    assert echo(water, 1e6, 1e-6) == pytest.approx(1)
    assert echo(water, 1000 * np.log(2), 1e-6) == pytest.approx(0.5)
    assert echo(Tissue(0.8, 1000.0, 100.0), 1e6, 100.0) == pytest.approx(0.8 / np.e)


def test_every_label_of_the_head_has_a_signal():
    assert TISSUES.keys() == REGIONS["head"].labels.keys()


@pytest.mark.slow
@pytest.mark.parametrize("index", [0, 1, 2])
def test_t1_and_t2_order_tissues_as_radiologists_know_them(index):
    medians = {
        modality: {name: float(np.median(signal(modality, name, index))) for name in MANY}
        for modality in ("t1", "t2")
    }
    t1, t2 = medians["t1"], medians["t2"]
    assert t1["fat"] > t1["white_matter"] > t1["grey_matter"] > t1["ventricles"] > t1["air"]
    assert t2["ventricles"] > t2["grey_matter"] > t2["white_matter"] > t2["muscle"] > t2["air"]
    for of in (t1, t2):
        assert of["teeth"] < 0.5 * of["white_matter"]


@pytest.mark.slow
def test_one_patient_has_one_anatomy_in_all_modalities():
    for modality in ("t1", "t2"):
        np.testing.assert_array_equal(head(modality).labels, head("ct").labels)
        assert head(modality).volume.units == ARBITRARY
    assert head("ct").volume.units == HU
    again = make_phantom(5, 0, spacing_mm=4.0, region="head", modality="t2")
    np.testing.assert_array_equal(again.volume.voxels_hu, head("t2").volume.voxels_hu)
    assert not np.array_equal(head("t1").volume.voxels_hu, head("t2").volume.voxels_hu)


@pytest.mark.slow
def test_noise_in_air_is_that_of_a_magnitude():
    """Rayleigh: mean / standard deviation is sqrt(pi / (4 - pi)), 1.91; of Gauss it would be 0."""
    there = make_phantom(5, 0, spacing_mm=2.0, region="head", modality="t1").volume.voxels_hu
    air = there[-22:, :15].astype(float)
    assert air.min() >= 0
    assert air.mean() / air.std() == pytest.approx(np.sqrt(np.pi / (4 - np.pi)), rel=0.05)


@pytest.mark.slow
def test_the_bias_is_smooth_and_not_the_same_for_all():
    """White matter is brighter on one side of the head, by a different share in each patient."""
    slopes = []
    for index in range(4):
        where = np.argwhere(head("t1", index).labels == REGIONS["head"].labels["white_matter"])
        values = signal("t1", "white_matter", index).astype(float)
        fit = np.linalg.lstsq(np.c_[where - where.mean(axis=0), np.ones(len(where))], values)[0]
        slopes.append(fit[:3] / fit[3] * 32)
    assert np.abs(slopes).max() > 0.03
    assert np.std(slopes, axis=0).max() > 0.02
    assert np.abs(slopes).max() < 0.8


def test_the_window_is_the_percentiles_of_the_scan_and_recorded():
    volume = head("t2").volume
    scaled, record = windowed(volume)
    low, high = np.percentile(volume.voxels_hu, (0.5, 99.5))
    assert record == {"signal_window": [low, high], "signal_percentiles": [0.5, 99.5]}
    assert scaled.voxels_hu.min() == 0
    assert scaled.voxels_hu.max() == pytest.approx(1000)
    brighter = Volume(volume.voxels_hu.astype(np.float32) * 7 + 3, volume.affine, volume.metadata)
    np.testing.assert_allclose(windowed(brighter)[0].voxels_hu, scaled.voxels_hu, atol=1e-2)
    empty = Volume(np.zeros((4, 4, 4)), axial_affine((1, 1, 1), (4, 4, 4)), {"units": ARBITRARY})
    with pytest.raises(InputRejected, match="give a scan with contrast"):
        windowed(empty)


def test_a_preset_is_for_one_modality():
    with pytest.raises(InputRejected, match="in HU, but preset head-256-mr is for arbitrary units"):
        conform(head("ct").volume, MR, 16)
    with pytest.raises(InputRejected, match="in arbitrary units, but preset head-256 is for HU"):
        conform(head("t1").volume, PRESETS["head-256"], 16)
    with pytest.raises(ValueError, match="from 0 to 1000"):
        Preset.model_validate(MR.model_dump() | {"window_hu": (0, 400)})
    assert "units" not in PRESETS["head-256"].model_dump(mode="json")  # manifests stay as they were


@pytest.mark.slow
def test_a_data_set_of_mr_says_so(tmp_path):
    for modality in ("ct", "t1"):
        phantoms(3, size=16, seed=2, out=tmp_path / modality, region="head", modality=modality)
    ct, t1 = (PreparedData.open(tmp_path / modality) for modality in ("ct", "t1"))
    assert [case.id for case in ct.cases] == [case.id for case in t1.cases]  # so is the split
    assert t1.intensity.units == ARBITRARY
    assert t1.intensity.window_hu == (0, 1000)
    assert t1.manifest.settings["modality"] == "t1"
    case = t1.train[0]
    assert case.record["signal_percentiles"] == [0.5, 99.5]
    assert "lung_ml" not in case.record
    assert t1.volume(case).max() <= 1000
    np.testing.assert_array_equal(t1.labels(case), ct.labels(ct.train[0]))
    done = CliRunner().invoke(app, ["info", str(tmp_path / "t1"), "--json"])
    content = json.loads(done.output)
    assert content["units"] == "0 to 1000 arbitrary units"
    assert "hu" not in content
    done = CliRunner().invoke(app, ["info", str(tmp_path / "ct"), "--json"])
    assert json.loads(done.output)["hu"] == "-1000 to 1000"


@pytest.mark.parametrize(
    ("region", "modality", "message"),
    [
        ("chest", "t1", "phantoms of the chest have no MR signal; choose --region head"),
        ("legs", "t2", "phantoms of the legs have no MR signal"),
        ("head", "pet", "modality 'pet' is not known; choose one of ct, t1, t2"),
    ],
)
def test_what_has_no_signal_is_refused(tmp_path, region, modality, message):
    with pytest.raises(UsageError, match=message):
        phantoms(2, size=8, seed=0, out=tmp_path / "out", region=region, modality=modality)
    assert not (tmp_path / "out").exists()


def as_file(folder: Path, index: int = 0) -> Path:
    """An MR scan as a stranger's NIfTI, whose values no record explains."""
    volume = make_phantom(9, index, spacing_mm=8.0, region="head", modality="t2").volume
    brighter = Volume(volume.voxels_hu * 3, volume.affine)
    return write_volume(brighter, folder / f"mr-{index}.nii.gz")


def test_an_own_mr_scan_is_refused_without_the_option_and_prepared_with_it(tmp_path):
    scans = tmp_path / "scans"
    scans.mkdir()
    for index in range(3):
        as_file(scans, index)
    runner, arguments = CliRunner(), ["preprocess", str(scans), "--size", "16", "--out"]
    refused = runner.invoke(app, [*arguments, str(tmp_path / "ct")])
    assert refused.exit_code == 3
    assert refused.output.count("state --modality mr if it is of MR") == 3
    done = runner.invoke(app, [*arguments, str(tmp_path / "mr"), "--modality", "mr", "--json"])
    assert done.exit_code == 0, done.output
    data = PreparedData.open(tmp_path / "mr")
    assert data.manifest.preset == MR
    assert data.manifest.settings["read_options"]["modality"] == "mr"
    for case in data.cases:
        low, high = case.record["signal_window"]
        assert 0 <= low < 100 < high  # three times that of the phantom
        assert data.volume(case).max() > 700


def test_preset_and_modality_agree(tmp_path):
    scan = as_file(tmp_path)
    with pytest.raises(UsageError, match="preset chest-320 is for HU: scans of modality ct"):
        preprocess(
            [scan],
            preset=PRESETS["chest-320"],
            size=16,
            out=tmp_path / "out",
            read_options=ReadOptions(modality="mr"),
        )
    with pytest.raises(UsageError, match=r"head-256-mr is for arbitrary units: .* change"):
        preprocess([scan], preset=MR, size=16, out=tmp_path / "out")
    with pytest.raises(ValueError, match="leave it out for mr"):
        ReadOptions(modality="mr", hu_offset=-1024)
    assert "modality" not in ReadOptions().model_dump(mode="json")  # of before: can be added to


def test_a_dicom_series_of_mr_needs_the_option(tmp_path):
    def edit(dataset: Dataset, index: int) -> None:
        dataset.Modality = "MR"
        del dataset.RescaleSlope, dataset.RescaleIntercept

    write_series(tmp_path, edit=edit)
    with pytest.raises(InputRejected, match=r"not CT \(Modality MR\).*or state --modality mr"):
        read_volume(tmp_path)
    volume = read_volume(tmp_path, ReadOptions(modality="mr"))
    assert volume.units == ARBITRARY
    assert volume.voxels_hu.min() >= 0
    ct = tmp_path / "ct"
    write_series(ct)
    with pytest.raises(InputRejected, match=r"not MR \(Modality CT\); give a MR series"):
        read_volume(ct, ReadOptions(modality="mr"))


def test_a_public_mr_scan_is_read_as_one(real_data):
    scan = real_data / "ct" / "not-ct-mr.nii.gz"
    with pytest.raises(InputRejected, match="--modality mr"):
        read_volume(scan)
    volume = read_volume(scan, ReadOptions(modality="mr"))
    cube = conform(volume, MR, 32)
    assert cube.volume.units == ARBITRARY
    assert 0 <= cube.volume.voxels_hu.min() < 50 < 500 < cube.volume.voxels_hu.max() <= 1000


@pytest.mark.slow
def test_what_is_of_ct_alone_refuses_mr(tmp_path):
    with pytest.raises(UsageError, match="in arbitrary units, and only CT in HU is exported"):
        export_dicom(head("t1").volume, tmp_path / "dicom")
    for name in ("real", "made"):
        phantoms(3, size=8, seed=len(name), out=tmp_path / name, region="head", modality="t1")
    with pytest.raises(InputRejected, match="is in arbitrary units; evaluations are of CT in HU"):
        open_sets(tmp_path / "real", {"made": tmp_path / "made"})

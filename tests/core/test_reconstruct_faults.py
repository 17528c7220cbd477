"""Every fault that a measurement can have: one line, the documented exit code, nothing lost."""

from __future__ import annotations

import base64
import json
import zlib
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
import torch
from test_command import digests, run
from toys import TINY, tiny_checkpoint

from prdit_core.data.io import read_volume
from prdit_core.inverse.operators.parallel import ParallelSpec
from prdit_core.inverse.operators.projector import spread_angles
from prdit_core.inverse.operators.table import build

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

VIEWS, BINS, EDGE, MM = 24, 14, 8, 8.0
SPEC = ParallelSpec(
    shape=(EDGE, EDGE, EDGE),
    spacing_mm=(MM, MM, MM),
    angles_deg=spread_angles(VIEWS),
    bins=BINS,
    bin_mm=MM,
)
CIRCLE = {"kind": "fan", "source_axis_mm": 400.0, "source_detector_mm": 700.0}
WALK = ("--steps", 2, "--threads", 1)
FBP = ("--method", "fbp")


def body(spec: ParallelSpec = SPEC) -> np.ndarray:
    """Line integrals of a block of water in air, off the middle, (D, V, bins)."""
    x = torch.zeros(1, 1, *spec.shape)
    x[:, :, 1:7, 2:6, 3:7] = 0.02
    return build(spec)(x)[0, 0].numpy()


def native(place: Path, **changes: Any) -> Path:
    """A measurement of ours, with some arrays other, or None to leave out."""
    change = changes.pop("geometry", {})
    geometry = change if "known" in change else SPEC.model_dump(mode="json") | change
    arrays = {"line_integrals": body(), "geometry": json.dumps(geometry)} | changes
    np.savez(place / "m.npz", **{key: value for key, value in arrays.items() if value is not None})
    return place / "m.npz"


def raw(place: Path, **changes: Any) -> Path:
    """Raw projections as DXchange, with some data sets other."""
    counts = 100 + 1e4 * np.exp(-body().swapaxes(0, 1))
    datasets = {
        "data": counts,
        "data_white": np.full((2, EDGE, BINS), 10_100.0),
        "data_dark": np.full((2, EDGE, BINS), 100.0),
        "theta": np.array(SPEC.angles_deg),
    } | changes
    with h5py.File(place / "scan.h5", "w") as file:
        for key, value in datasets.items():
            file[f"exchange/{key}"] = value
    return place / "scan.h5"


def turned(angles: np.ndarray, **geometry: Any) -> dict[str, Any]:
    """What the scanner sees from other angles."""
    spec = SPEC.model_copy(update={"angles_deg": tuple(angles.tolist()), **geometry})
    return {"line_integrals": body(spec), "geometry": spec.model_dump(mode="json")}


def at(index: tuple[Any, ...], value: float) -> dict[str, np.ndarray]:
    integrals = body()
    integrals[index] = value
    return {"line_integrals": integrals}


def shifted(axis: float) -> dict[str, np.ndarray]:
    spec = SPEC.model_copy(update={"axis_bin": axis})
    return {"data": 100 + 1e4 * np.exp(-body(spec).swapaxes(0, 1))}


# The bits of a mask without a voxel, deflated.
NOTHING = base64.b64encode(zlib.compress(bytes(EDGE**3 // 8))).decode()
DEGREES = np.array(SPEC.angles_deg)
# In the order of the specification: what is written, with which options, the exit code, the line.
REFUSED: dict[str, tuple[Callable[..., Path], Mapping[str, Any], tuple[Any, ...], int, str]] = {
    "NaN": (native, at((2, 3, 4), np.nan), WALK, 3, "1 of its values are NaN or infinite"),
    "NaN counts": (raw, {"data": np.full((24, 8, 14), np.nan)}, FBP, 3, "are NaN or infinite"),
    "no counts above dark": (
        raw,
        {"data": np.full((24, 8, 14), 100.0)},
        FBP,
        3,
        "2688 pixels of its projections are no brighter than without beam",
    ),
    "flat below dark": (
        raw,
        {"data_white": np.full((1, 8, 14), 90.0)},
        FBP,
        3,
        "112 pixels of its flat field are no brighter than without beam",
    ),
    "an all-zero view": (
        native,
        at((slice(None), 5), 0.0),
        WALK,
        3,
        "1 of its 24 views are all zero, the first is 5; leave these views out",
    ),
    "views, not angles": (native, {"line_integrals": body()[:, 1:]}, WALK, 3, "23 views but 24"),
    "raw views, not angles": (raw, {"theta": DEGREES[:9]}, FBP, 3, "24 views but 9 angles"),
    "transposed": (native, {"line_integrals": body().swapaxes(1, 2)}, WALK, 3, "transposed: give"),
    "radians": (
        native,
        {"geometry": {"angles_deg": np.radians(DEGREES).tolist()}},
        WALK,
        3,
        "as if they were radians; give degrees",
    ),
    "degrees taken for radians": (
        native,
        {"geometry": {"angles_deg": np.degrees(DEGREES).tolist()}},
        WALK,
        3,
        "as if degrees had been taken for radians",
    ),
    "one view": (native, turned(np.array([30.0])), WALK, 3, "fewer than 2 views"),
    "neither counts nor integrals": (
        native,
        {"line_integrals": None, "sinogram": body()},
        WALK,
        3,
        "does not say whether it holds line integrals, raw counts, k-space or HU; name the array",
    ),
    "axis outside": (
        native,
        {"geometry": {"axis_bin": 14.0}},
        WALK,
        3,
        "bin 14 lies outside of the detector's 14 bins",
    ),
    "axis stated outside": (raw, {}, (*FBP, "--axis", 14), 2, "lies outside of the 14 bins"),
    "axis far off": (raw, shifted(4.5), FBP, 3, "2 bins off the detector's middle; state where"),
    "no pixel size": (native, {"length": "pixel"}, WALK, 2, "no pixel size"),
    "raw data for a prior": (raw, {}, WALK, 2, "no pixel size"),
    "another grid": (
        native,
        turned(DEGREES, shape=(4, 8, 8)),
        WALK,
        2,
        "of 4 x 8 x 8 voxels, the model makes 8 x 8 x 8",
    ),
    "another spacing": (
        native,
        {"geometry": {"spacing_mm": (5.0, 5.0, 5.0)}},
        WALK,
        2,
        "of voxels of 5 x 5 x 5 mm, the model makes 8 x 8 x 8 mm",
    ),
    "source in the volume": (
        native,
        {"geometry": CIRCLE | {"source_axis_mm": 40.0}},
        WALK,
        3,
        "a source 40 mm from the axis turns inside the volume",
    ),
    "detector before the axis": (
        native,
        {"geometry": CIRCLE | {"source_detector_mm": 400.0}},
        WALK,
        3,
        "must lie behind the axis",
    ),
    "nothing known": (
        native,
        {
            "line_integrals": None,
            "hu": np.zeros(1),
            "geometry": {"kind": "mask", "shape": SPEC.shape, "known": NOTHING},
        },
        WALK,
        3,
        "no voxel is known, so there is nothing to go by",
    ),
    "another version": (
        native,
        {"geometry": {"version": 7}},
        WALK,
        3,
        "of version 7, this program reads 1",
    ),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("model") / "tiny")


@pytest.mark.slow
@pytest.mark.parametrize("fault", REFUSED)
def test_a_fault_is_refused_before_anything_is_made(
    fault: str, model: Path, tmp_path: Path
) -> None:
    make, changes, options, code, line = REFUSED[fault]
    file, out = make(tmp_path, **changes), tmp_path / "out"
    before = digests(tmp_path)
    known = () if "--method" in options else ("--checkpoint", model)
    done = run("reconstruct", file, "--out", out, *options, *known, code=code)
    assert line in done.stderr
    assert digests(tmp_path) == before and not list(out.glob("*"))


def test_a_prior_of_several_channels_is_refused(tmp_path: Path) -> None:
    two = tiny_checkpoint(tmp_path / "two", model=TINY.model_copy(update={"channels": 2}))
    given = ("--checkpoint", two, *WALK, "--out", tmp_path / "out")
    assert "2 channels" in run("reconstruct", native(tmp_path), *given, code=2).stderr
    assert not list((tmp_path / "out").glob("*"))


def test_a_measurement_without_faults_is_reconstructed(model: Path, tmp_path: Path) -> None:
    """So that what is refused above is refused for its fault."""
    given = ("--checkpoint", model, *WALK, "--out", tmp_path / "prior")
    assert "note" not in run("reconstruct", native(tmp_path), *given).stderr
    for file in (native(tmp_path), raw(tmp_path)):
        run("reconstruct", file, *FBP, "--out", tmp_path / file.stem)
        assert json.loads((tmp_path / file.stem / "fbp.json").read_text())["misfit"] < 0.3
    relative = json.loads((tmp_path / "scan/fbp.json").read_text())
    assert relative["hu"].startswith("relative")


# What is unusual is said and reconstructed.
NOTED: dict[str, tuple[Callable[..., Path], Mapping[str, Any], str]] = {
    "0 and 180": (native, turned(np.arange(25) * 7.5), "180 degrees apart say the same"),
    "a whole turn": (native, turned(np.arange(24) * 15.0), "more than 180 degrees share"),
    "truncated": (native, turned(DEGREES, bins=4), "reaches beyond both ends"),
    "far below zero": (native, at((2, 3, 0), -0.3), "1 line integrals are below -0.2"),
    "the axis": (raw, {}, "axis of rotation found at bin 6.5"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", NOTED)
def test_what_is_unusual_is_said(case: str, tmp_path: Path) -> None:
    make, changes, line = NOTED[case]
    done = run("reconstruct", make(tmp_path, **changes), *FBP, "--out", tmp_path / "out")
    assert f"note: {line}" in done.stderr or line in done.stderr
    record = json.loads((tmp_path / "out/fbp.json").read_text())
    assert any(line in note for note in record["measurement"]["notes"])


def test_noise_of_air_is_normal(tmp_path: Path) -> None:
    file = native(tmp_path, **at((2, 3, 0), -0.15))
    assert "note" not in run("reconstruct", file, *FBP, "--out", tmp_path / "out").stderr


def test_views_that_are_given_twice_share_their_weight(tmp_path: Path) -> None:
    """Over a turn, or with both ends of half a turn, FBP has the scale of the plain half turn."""
    means = []
    for angles in (DEGREES, np.arange(25) * 7.5, np.arange(48) * 7.5):
        file, out = native(tmp_path, **turned(angles)), tmp_path / f"{len(angles)}-{angles[-1]}"
        run("reconstruct", file, *FBP, "--out", out)
        means.append(float(read_volume(out / "fbp.nii.gz").voxels_hu.mean()))
    assert means == pytest.approx([means[0]] * 3, abs=3.0)


# --- raw projections --------------------------------------------------------------------------


@pytest.mark.slow
def test_one_row_of_real_projections_is_reconstructed(real_data: Path, tmp_path: Path) -> None:
    """A slice is no scan that a model could learn from, but it is what many detectors see."""
    tooth = real_data / "ct-measured" / "tooth.h5"
    words = ("reconstruct", tooth, *"--rows 0 1 --binning 4 --every 9".split())
    words += (*"--method sirt --iterations 60 --threads 1 --out".split(), tmp_path / "out")
    assert "axis of rotation found at bin 295" in run(*words).stderr
    record = json.loads((tmp_path / "out/sirt.json").read_text())
    assert record["misfit"] < 0.05 and record["hu"].startswith("relative")
    low, high = record["window_hu"]
    assert low == -1000 and -700 < high < -400
    assert (tmp_path / "out/summary_sirt/picture.png").is_file()
    assert "0 made, 1 were there" in run(*words).stdout


@pytest.mark.slow
def test_pictures_with_a_stated_unit_are_for_a_prior(model: Path, tmp_path: Path) -> None:
    """TIFF and ASTRA's geometry in units of 4 mm: the grid is the model's."""
    from PIL import Image

    from prdit_core import astra_geometry

    counts = (100 + 5e4 * np.exp(-body().swapaxes(0, 1))).astype(np.uint16)
    flat, dark = np.full_like(counts[0], 50_100), np.full_like(counts[0], 100)
    for name, pictures in (("view", counts), ("flat", [flat]), ("dark", [dark])):
        for number, picture in enumerate(pictures):
            Image.fromarray(picture).save(tmp_path / f"{name}_{number}.tif")
    content = astra_geometry(SPEC.scaled(0.25))
    (tmp_path / "astra.json").write_text(json.dumps(content))
    stated = ("--flats", tmp_path / "flat_*.tif", "--darks", tmp_path / "dark_0.tif")
    stated += ("--geometry", tmp_path / "astra.json", "--unit-mm", 4)
    views = tmp_path / "view_*.tif"
    run("reconstruct", views, *stated, *FBP, "--out", tmp_path / "out")
    found = read_volume(tmp_path / "out/fbp.nii.gz")
    assert found.spacing_mm == pytest.approx((MM, MM, MM))
    assert float(found.voxels_hu[2:6, 3:5, 4:6].mean()) == pytest.approx(0, abs=80)
    given = ("--checkpoint", model, *WALK, "--out", tmp_path / "prior")
    run("reconstruct", views, *stated, *given)
    run("reconstruct", views, *stated[2:], *given, code=2)
    run("reconstruct", tmp_path / "none_*.tif", *stated, *given, code=3)
    run("reconstruct", native(tmp_path), *stated, *given, code=2)

"""Raw projections as TIFF, geometries of ASTRA in and out, and every fault of them in one line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from operators import SPECS
from PIL import Image

from prdit_core.data.tiff import read_pictures
from prdit_core.errors import InputRejected, UsageError
from prdit_core.inverse.astra import astra_geometry, spec_of
from prdit_core.inverse.fbp import fbp
from prdit_core.inverse.operators.cone import ConeSpec
from prdit_core.inverse.operators.fan import FanSpec
from prdit_core.inverse.operators.parallel import ParallelSpec
from prdit_core.inverse.operators.projector import ViewsSpec, spread_angles
from prdit_core.inverse.operators.table import build
from prdit_core.inverse.scans import RawOptions, open_measurement
from prdit_core.noise import Draw, unit_noise

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from conftest import Recordings

VIEWS, BINS, ROWS = 48, 28, 6
GRID = {"shape": (ROWS, 16, 16), "spacing_mm": (1.0, 1.0, 1.0)}
ROW = {"bins": BINS, "bin_mm": 1.2, "angles_deg": spread_angles(VIEWS, 360)}
CIRCLE = {"source_axis_mm": 60.0, "source_detector_mm": 80.0}
SCANNERS: dict[str, ViewsSpec] = {
    "parallel": ParallelSpec(**GRID, **ROW),
    "fan": FanSpec(**GRID | {"shape": (1, 16, 16)}, **ROW, **CIRCLE),
    "cone": ConeSpec(**GRID, **ROW, **CIRCLE, rows=12, row_mm=1.4),
}


def phantom(spec: ViewsSpec) -> torch.Tensor:
    """A block off the middle, attenuation 0.05."""
    x = torch.zeros(1, 1, *spec.shape)
    x[:, :, spec.shape[0] // 3 :, 4:9, 6:12] = 0.05
    return x


def pictures_of(spec: ViewsSpec) -> NDArray[np.float32]:
    """What an ideal detector would show, as line integrals, (V, rows, bins)."""
    y = build(spec)(phantom(spec))[0, 0].numpy()
    return y if isinstance(spec, ConeSpec) else y.swapaxes(0, 1)


def save_stack(file: Path, pictures: NDArray[Any]) -> Path:
    first, *others = [Image.fromarray(picture) for picture in pictures]
    first.save(file, save_all=True, append_images=others)
    return file


def counted(integrals: NDArray[np.float32]) -> NDArray[np.uint16]:
    return np.round(100 + 50_000 * np.exp(-integrals)).astype(np.uint16)


def save(folder: Path, spec: ViewsSpec, **changes: Any) -> tuple[Path, RawOptions]:
    """Projections, flats, darks and geometry of a scanner as its user would have them."""
    folder.mkdir(exist_ok=True)
    counts = counted(pictures_of(spec))
    parts: dict[str, Any] = {
        "scan": counts,
        "flats": np.full((3, *counts.shape[1:]), 50_100, np.uint16),
        "darks": np.full((2, *counts.shape[1:]), 100, np.uint16),
        "geometry": astra_geometry(spec),
    } | changes
    for name in ("scan", "flats", "darks"):
        save_stack(folder / f"{name}.tif", parts[name])
    (folder / "geometry.json").write_text(json.dumps(parts["geometry"]))
    options = RawOptions(folder / "flats.tif", folder / "darks.tif", folder / "geometry.json")
    return folder / "scan.tif", options


# --- pictures ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int32, np.float32])
def test_a_stack_keeps_its_numbers(kind: type, tmp_path: Path) -> None:
    pictures = (np.arange(3 * 4 * 5).reshape(3, 4, 5) * 4).astype(kind)
    np.testing.assert_array_equal(read_pictures(save_stack(tmp_path / "a.tif", pictures)), pictures)
    found = read_pictures(tmp_path / "a.tif", rows=(1, 3))
    np.testing.assert_array_equal(found, pictures[:, 1:3])


def test_a_folder_is_read_in_the_order_of_numbers(tmp_path: Path) -> None:
    for number in (10, 9, 1, 2):
        picture = np.full((2, 3), number, np.uint16)
        Image.fromarray(picture).save(tmp_path / f"scan_{number}.tif")
    Image.fromarray(np.zeros((2, 3), np.uint16)).save(tmp_path / "flat_1.TIFF")
    (tmp_path / "notes.txt").write_text("no picture")
    assert read_pictures(tmp_path / "scan_*.tif")[:, 0, 0].tolist() == [1, 2, 9, 10]
    assert read_pictures(tmp_path)[:, 0, 0].tolist() == [0, 1, 2, 9, 10]


def test_damaged_pictures_are_refused(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 2**16, (2, 64, 64)).astype(np.uint16)
    whole = save_stack(tmp_path / "whole.tif", noise).read_bytes()
    for content in (b"", b"text", whole[:100], whole[: len(whole) // 3], b"II*\0" + bytes(60)):
        (tmp_path / "bad.tif").write_bytes(content)
        with pytest.raises(InputRejected, match=r"^bad\.tif: [^\n]+$"):
            read_pictures(tmp_path / "bad.tif")
    with pytest.raises(InputRejected, match="cannot be read"):
        read_pictures(tmp_path / "none.tif")
    with pytest.raises(InputRejected, match="no TIFF picture of this name"):
        read_pictures(tmp_path / "scan_*.tif")


def test_pictures_are_of_one_size_and_grey(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(tmp_path / "1.tif")
    with pytest.raises(InputRejected, match="kind RGB"):
        read_pictures(tmp_path / "1.tif")
    for number, size in ((1, (4, 5)), (2, (5, 4))):
        Image.fromarray(np.zeros(size, np.uint16)).save(tmp_path / f"{number}.tif")
    with pytest.raises(InputRejected, match=r"2\.tif: it is \(5, 4\), the first picture"):
        read_pictures(tmp_path)


def test_too_many_pictures_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prdit_core.data.grid.MAX_BYTES", 1000)
    save_stack(tmp_path / "a.tif", np.zeros((9, 4, 5), np.uint16))
    with pytest.raises(InputRejected, match="take fewer rows"):
        read_pictures(tmp_path / "a.tif")


# --- measurements -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SCANNERS)
def test_pictures_with_an_astra_geometry_become_a_measurement(kind: str, tmp_path: Path) -> None:
    spec = SCANNERS[kind]
    found = open_measurement(*save(tmp_path, spec))
    assert found.length == "pixel" and isinstance(found.spec, ViewsSpec)
    assert same(found.spec, spec)
    exact = build(spec)(phantom(spec))[0, 0].numpy()
    np.testing.assert_allclose(found.values, exact, atol=1e-4)
    x = fbp(build(found.spec), found.tensor())  # type: ignore[arg-type]
    assert float(x.sum()) == pytest.approx(float(phantom(spec).sum()), rel=0.05)


def test_one_picture_is_a_sinogram_where_its_rows_are_views(tmp_path: Path) -> None:
    spec = SCANNERS["fan"]
    sinogram = counted(pictures_of(spec)).swapaxes(0, 1)
    assert sinogram.shape == (1, VIEWS, BINS)
    found = open_measurement(*save(tmp_path, spec, scan=sinogram))
    assert found.values.shape == (1, VIEWS, BINS)


def test_a_stated_unit_makes_numbers_true(tmp_path: Path) -> None:
    scan, options = save(tmp_path, SCANNERS["cone"])
    found = open_measurement(scan, RawOptions(**vars(options) | {"unit_mm": 0.5}))
    assert found.length == "mm" and isinstance(found.spec, ConeSpec)
    assert found.spec.spacing_mm == pytest.approx((0.5, 0.5, 0.5))
    assert (found.spec.source_axis_mm, found.spec.row_mm) == pytest.approx((30.0, 0.7))
    with pytest.raises(UsageError, match="a unit of 100 mm: source_axis_mm"):
        open_measurement(scan, RawOptions(**vars(options) | {"unit_mm": 100.0}))


@pytest.mark.parametrize("kind", SCANNERS)
def test_binning_and_fewer_views_keep_the_object_where_it_is(kind: str, tmp_path: Path) -> None:
    spec = SCANNERS[kind].model_copy(update={"axis_bin": 13.2})
    scan, options = save(tmp_path, spec)
    found = open_measurement(scan, RawOptions(**vars(options) | {"binning": 2, "every": 2}))
    coarse = found.spec
    assert isinstance(coarse, ViewsSpec)
    assert coarse.bins == BINS // 2 and coarse.views == VIEWS // 2
    assert coarse.centre == pytest.approx((13.2 + 0.5) / 2 - 0.5)
    factor = 2 if kind == "cone" else 1
    x = torch.nn.functional.avg_pool3d(phantom(spec), (factor, 2, 2))
    y = build(coarse)(x)[0, 0].numpy()
    assert np.abs(found.values - y).mean() < 0.04 * y.max()


def test_a_spec_of_ours_may_be_the_geometry(tmp_path: Path) -> None:
    spec = SCANNERS["cone"]
    found = open_measurement(*save(tmp_path, spec, geometry=spec.model_dump(mode="json")))
    assert found.spec.model_dump(exclude={"axis_bin"}) == spec.model_dump(exclude={"axis_bin"})
    assert found.length == "mm"


# --- ASTRA ------------------------------------------------------------------------------------


def same(one: Any, other: Any) -> bool:
    """But for rounding, whole turns, and how far apart planes are, which ASTRA does not say."""
    if one.kind != other.kind or one.centre != pytest.approx(other.centre, abs=1e-3):
        return False
    turns = np.exp(1j * np.radians(one.angles_deg)), np.exp(1j * np.radians(other.angles_deg))
    left = {"kind", "angles_deg", "axis_bin"}
    numbers = [
        np.concatenate([np.ravel(value) for value in spec.model_dump(exclude=left).values()])
        for spec in (one, other)
    ]
    if one.kind != "cone":
        numbers = [np.delete(each, 4) for each in numbers]  # after version and shape
    return np.allclose(*turns) and np.allclose(*numbers)


@pytest.mark.parametrize("axis_bin", [None, 11.7])
@pytest.mark.parametrize("name", ["sparse view", "fan", "cone", "X-ray pair", *SCANNERS])
def test_a_geometry_survives_astra(name: str, axis_bin: float | None) -> None:
    spec = (SPECS | SCANNERS)[name]
    assert isinstance(spec, ViewsSpec)
    if axis_bin is not None:
        spec = spec.model_copy(update={"axis_bin": spec.bins / 3})
    content = json.loads(json.dumps(astra_geometry(spec)))
    assert content["proj_geom"]["type"].endswith("_vec") == (axis_bin is not None)
    found = spec_of(content, rows=spec.shape[0])
    assert same(found, spec)


def test_vectors_recorded_from_astra_are_the_same_scanner(parity: Recordings) -> None:
    astra = dict(np.load(parity / "ct_astra.npz"))
    source, behind, bins, pitch = astra["fan_source_origin_origin_detector_bins_pitch"].tolist()
    vectors = {"type": "fanflat_vec", "DetectorCount": int(bins)}
    vectors |= {"Vectors": astra["fan_vectors_srcx_srcy_detx_dety_ux_uy"].tolist()}
    angles = {
        "type": "fanflat",
        "DetectorCount": int(bins),
        "DetectorWidth": pitch,
        "DistanceOriginSource": source,
        "DistanceOriginDetector": behind,
        "ProjectionAngles": np.radians(astra["fan_angles_deg"]).tolist(),
    }
    volume = {"GridRowCount": 64, "GridColCount": 64}
    found = spec_of({"proj_geom": vectors, "vol_geom": volume})
    assert same(found, spec_of({"proj_geom": angles, "vol_geom": volume}))
    assert isinstance(found, FanSpec) and found.source_detector_mm == pytest.approx(300)
    y = build(found)(phantom_of(parity))[0, 0, 0].numpy()
    exact = astra["fan_exact_bin_mean"]
    assert np.linalg.norm(y - exact) <= 0.01 * np.linalg.norm(exact)


def phantom_of(parity: Recordings) -> torch.Tensor:
    image = np.load(parity / "ct_operators.npz")["phantom"]
    return torch.from_numpy(image.astype(np.float32))[None, None, None]


def test_vectors_of_a_recorded_cone_are_read(parity: Recordings) -> None:
    cone = dict(np.load(parity / "ct_cone.npz"))
    parts = [cone[key] for key in ("source", "detector_centre", "u", "v")]
    content = {
        "proj_geom": {
            "type": "cone_vec",
            "DetectorRowCount": 48,
            "DetectorColCount": 48,
            "Vectors": np.concatenate(parts, axis=1).tolist(),
        },
        "vol_geom": {"GridRowCount": 32, "GridColCount": 32, "GridSliceCount": 32},
    }
    found = spec_of(content)
    y = build(found)(torch.from_numpy(cone["volume"]).float()[None, None])[0, 0].numpy()
    exact = cone["exact_pixel_mean"]
    assert np.linalg.norm(y - exact) <= 0.03 * np.linalg.norm(exact)


def test_a_volume_is_as_wide_as_the_detector_sees_where_none_is_given() -> None:
    content = astra_geometry(SCANNERS["cone"])["proj_geom"]
    found = spec_of(content)
    assert found.shape == (12, BINS, BINS)
    assert found.spacing_mm == pytest.approx((1.4 * 0.75, 0.9, 0.9))


def wobbling(column: int, by: float) -> dict[str, Any]:
    """Vectors of a cone whose second view is off in one number."""
    spec = SCANNERS["cone"].model_copy(update={"axis_bin": 13.0})
    content = astra_geometry(spec)["proj_geom"]
    content["Vectors"][1][column] += by
    return content


CONE = astra_geometry(SCANNERS["cone"])["proj_geom"]
GEOMETRY_FAULTS: dict[str, tuple[Any, str]] = {
    "no geometry": ({"points": 3}, "proj_geom: must be given"),
    "kind": ({"type": "helical"}, "type"),
    "field missing": (
        {k: v for k, v in CONE.items() if k != "DistanceOriginSource"},
        "cone has the fields .*DistanceOriginSource",
    ),
    "field of another": (CONE | {"DetectorWidth": 1.0}, "cone has the fields"),
    "unknown field": (CONE | {"Pitch": 1.0}, "Pitch: is not known"),
    "NaN": (CONE | {"ProjectionAngles": [0.0, float("nan")]}, "finite"),
    "vectors": ({"type": "parallel_vec", "DetectorCount": 3, "Vectors": [[1.0]]}, "6 numbers"),
    "source inside": (
        {
            "proj_geom": CONE | {"DistanceOriginSource": 5.0},
            "vol_geom": {"GridRowCount": 9, "GridColCount": 9, "GridSliceCount": 9},
        },
        "inside the volume",
    ),
    "detector at the axis": (CONE | {"DistanceOriginDetector": 0.0}, "behind the axis"),
    "off centre": (
        {
            "proj_geom": CONE,
            "vol_geom": {
                "GridRowCount": 9,
                "GridColCount": 9,
                "GridSliceCount": 9,
                "option": {"WindowMinX": 0.0, "WindowMaxX": 9.0},
            },
        },
        "from 0 to 9 along x; the axis of rotation must be in its middle",
    ),
    "source moves": (wobbling(0, 1.0), "not upright to the ray"),
    "source rises": (wobbling(2, 1.0), "along z"),
    "detector moves": (wobbling(3, 1.0), "moves to the side"),
    "wider bins": (wobbling(6, 0.1), "equally wide"),
    "rows tilted": (wobbling(10, 0.1), "rows do not run along z"),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", GEOMETRY_FAULTS)
def test_a_geometry_that_is_not_ours_is_refused_in_one_line(fault: str, tmp_path: Path) -> None:
    content, message = GEOMETRY_FAULTS[fault]
    scan, options = save(tmp_path, SCANNERS["cone"], geometry=content)
    with pytest.raises(InputRejected, match=message) as refusal:
        open_measurement(scan, options)
    assert str(refusal.value).startswith("geometry.json: ") and "\n" not in str(refusal.value)


def test_a_mirrored_detector_is_refused() -> None:
    spec = SCANNERS["fan"].model_copy(update={"axis_bin": 13.0})
    content = astra_geometry(spec)["proj_geom"]
    content["Vectors"] = [[*v[:4], -v[4], -v[5]] for v in content["Vectors"]]
    with pytest.raises(UsageError, match="the other way; mirror"):
        spec_of(content)


def test_what_is_no_projection_is_not_astra_s() -> None:
    with pytest.raises(UsageError, match="ASTRA has no geometry like 'mask'"):
        astra_geometry(SPECS["inpainting"])


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b'{"kind": "blur"}'])
def test_a_file_that_is_no_geometry_is_refused(content: bytes, tmp_path: Path) -> None:
    scan, options = save(tmp_path, SCANNERS["fan"])
    (tmp_path / "geometry.json").write_bytes(content)
    with pytest.raises(InputRejected, match=r"^geometry\.json: [^\n]+$"):
        open_measurement(scan, options)


FAULTS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "views": (
        {"scan": np.full((5, 1, BINS), 400, np.uint16)},
        InputRejected,
        "5 views but 48 angles",
    ),
    "bins": ({"scan": np.ones((VIEWS, 1, 9), np.uint16)}, InputRejected, "flats are"),
    "no brighter": (
        {"scan": np.full((VIEWS, 1, BINS), 100, np.uint16)},
        InputRejected,
        "1344 pixels of its projections are no brighter than without beam",
    ),
    "dark flats": (
        {"flats": np.full((1, 1, BINS), 90, np.uint16)},
        InputRejected,
        "28 pixels of its flat field are no brighter",
    ),
    "radians twice": (
        {
            "geometry": astra_geometry(SCANNERS["fan"])["proj_geom"]
            | {"ProjectionAngles": np.radians(np.radians(spread_angles(VIEWS, 360))).tolist()}
        },
        InputRejected,
        "as if they were radians",
    ),
    "degrees for radians": (
        {
            "geometry": astra_geometry(SCANNERS["fan"])["proj_geom"]
            | {"ProjectionAngles": list(spread_angles(VIEWS, 360))}
        },
        InputRejected,
        "as if degrees had been taken for radians",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_pictures_is_refused_in_one_line(fault: str, tmp_path: Path) -> None:
    changes, kind, message = FAULTS[fault]
    with pytest.raises(kind, match=message) as refusal:
        open_measurement(*save(tmp_path, SCANNERS["fan"], **changes))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("missing", ["flats", "darks", "geometry"])
def test_what_pictures_do_not_say_must_be_given(missing: str, tmp_path: Path) -> None:
    scan, options = save(tmp_path, SCANNERS["fan"])
    with pytest.raises(UsageError, match=f"--{missing}"):
        open_measurement(scan, RawOptions(**vars(options) | {missing: None}))


def test_rows_of_a_cone_are_binned_whole(tmp_path: Path) -> None:
    scan, options = save(tmp_path, SCANNERS["cone"])
    with pytest.raises(UsageError, match=r"12 rows of .* cannot be taken 5 at a time"):
        open_measurement(scan, RawOptions(**vars(options) | {"binning": 5}))
    with pytest.raises(InputRejected, match="4 x 28 pixels, its geometry 12 x 28"):
        open_measurement(scan, RawOptions(**vars(options) | {"rows": (0, 4)}))


def test_rows_of_planes_are_chosen(tmp_path: Path) -> None:
    scan, options = save(tmp_path, SCANNERS["parallel"])
    whole = open_measurement(scan, options)
    some = open_measurement(scan, RawOptions(**vars(options) | {"rows": (2, 4)}))
    assert some.spec.shape[0] == 2
    np.testing.assert_array_equal(some.values, whole.values[2:4])


# --- the axis of rotation ---------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("shift", [-4.0, -1.3, 0.0, 0.5, 2.7])
@pytest.mark.parametrize("arc", [180.0, 360.0])
def test_the_axis_of_shifted_phantoms_is_found(shift: float, arc: float, tmp_path: Path) -> None:
    """Within a tenth of a bin, noise of 1e4 photons included."""
    import h5py

    bins = 64
    spec = ParallelSpec(
        shape=(1, 40, 40),
        spacing_mm=(1.0, 1.0, 1.0),
        angles_deg=spread_angles(90, arc),
        bins=bins,
        bin_mm=1.0,
        axis_bin=(bins - 1) / 2 + shift,
    )
    x = torch.zeros(1, 1, 1, 40, 40)
    x[..., 10:26, 8:30], x[..., 14:18, 12:16] = 0.05, 0.15
    counts = 1e4 * np.exp(-build(spec)(x)[0, 0].numpy().swapaxes(0, 1))
    counts += np.sqrt(counts) * unit_noise(counts.shape, Draw.START, 1).numpy()
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["exchange/data"] = counts
        file["exchange/data_white"] = np.full((1, 1, bins), 1e4)
        file["exchange/data_dark"] = np.zeros((1, 1, bins))
        file["exchange/theta"] = np.array(spec.angles_deg)
    found = open_measurement(tmp_path / "scan.h5").spec
    assert isinstance(found, ParallelSpec)
    assert found.axis_bin == pytest.approx(spec.axis_bin, abs=0.1)

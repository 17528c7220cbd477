"""Measurements: the native file, DXchange, the axis of rotation, and every fault in one line."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
import torch
from operators import SPECS, measurement_of, volume_of

from prdit_core.errors import InputRejected, OutputError, UsageError
from prdit_core.inverse.fbp import fbp
from prdit_core.inverse.measurement import Measurement
from prdit_core.inverse.measurement_files import read_measurement, write_measurement
from prdit_core.inverse.operators.parallel import Parallel, ParallelSpec
from prdit_core.inverse.operators.projector import spread_angles
from prdit_core.inverse.operators.table import build
from prdit_core.inverse.scans import RawOptions, open_measurement
from prdit_core.inverse.sirt import sirt_steps
from prdit_core.inverse.tuning import usual_strength
from prdit_core.inverse.tv import tv_steps

if TYPE_CHECKING:
    from pathlib import Path

VIEWS, BINS = 24, 20
SPEC = ParallelSpec(
    shape=(1, 16, 16),
    spacing_mm=(1.0, 1.0, 1.0),
    angles_deg=spread_angles(VIEWS),
    bins=BINS,
    bin_mm=1.0,
)


def phantom() -> torch.Tensor:
    """A square off the middle, (1, 1, 1, 16, 16)."""
    x = torch.zeros(1, 1, 1, 16, 16)
    x[..., 4:9, 6:12] = 0.05
    return x


def sinogram() -> np.ndarray:
    """(V, bins)."""
    return build(SPEC)(phantom())[0, 0, 0].numpy()


GEOMETRY = SPEC.model_dump(mode="json", exclude={"angles_deg"})


def save(path: Path, **changes: Any) -> Path:
    """A file as a user would make it with numpy, with some arrays other, or None to leave out."""
    arrays = {
        "line_integrals": sinogram(),
        "angles_deg": np.array(SPEC.angles_deg),
        "geometry": json.dumps(GEOMETRY),
    } | changes
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


# --- the native file --------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in SPECS if n != "steep cone"])
def test_a_measurement_survives_its_file(name: str, tmp_path: Path) -> None:
    operator = build(SPECS[name])
    y = operator(volume_of(operator, 1, 1).abs())[0, 0].numpy()
    written = Measurement(
        y,
        SPECS[name],
        weights=np.abs(measurement_of(operator)[0, 0].numpy()),
        length="pixel",
        affine=np.diag([-2.0, -2.0, 3.0, 1.0]),
        metadata={"seed": 3, "notes": ["made up"]},
    )
    file = write_measurement(written, tmp_path / "m.npz")
    found = read_measurement(file)
    assert found.spec == written.spec and found.length == "pixel"
    np.testing.assert_array_equal(found.values, y)
    np.testing.assert_array_equal(found.weights, written.weights)
    np.testing.assert_array_equal(found.affine, written.affine)
    assert found.metadata["seed"] == 3 and found.metadata["notes"][0] == "made up"
    assert found.tensor().shape == (1, 1, *operator.range_shape)
    again = write_measurement(found, tmp_path / "again.npz")
    assert read_measurement(again).metadata == found.metadata
    assert write_measurement(found, tmp_path / "third.npz").read_bytes() == again.read_bytes()


def test_a_file_of_the_user_s_own_needs_integrals_angles_and_geometry(tmp_path: Path) -> None:
    found = read_measurement(save(tmp_path / "own.npz"))
    assert found.spec == SPEC and found.metadata == {"notes": []}
    assert found.weights is None and found.affine is None and found.length == "mm"
    np.testing.assert_array_equal(found.values[0], sinogram())


def test_counts_become_integrals_and_weights(tmp_path: Path) -> None:
    counts = np.round(1e5 * np.exp(-sinogram()))
    counts[3, 5] = 0
    found = read_measurement(
        save(tmp_path / "counts.npz", line_integrals=None, counts=counts, photons=1e5)
    )
    assert found.weights is not None
    np.testing.assert_array_equal(found.weights[0], counts.astype(np.float32))
    known = counts > 0
    np.testing.assert_allclose(found.values[0][known], sinogram()[known], atol=2e-5)


def test_writing_is_whole_or_not_at_all(tmp_path: Path) -> None:
    measurement = Measurement(sinogram()[None], SPEC)
    with pytest.raises(UsageError, match=r"is an \.npz file"):
        write_measurement(measurement, tmp_path / "m.npy")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot write"):
        write_measurement(measurement, tmp_path / "file" / "m.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_values_that_are_not_of_the_geometry_are_no_measurement() -> None:
    with pytest.raises(InputRejected, match="not one of this geometry"):
        Measurement(sinogram(), SPEC)
    with pytest.raises(InputRejected, match="weights of shape"):
        Measurement(sinogram()[None], SPEC, weights=sinogram())


def holed(value: float) -> np.ndarray:
    damaged = sinogram()
    damaged[2, 3] = value
    return damaged


def without_view(number: int) -> np.ndarray:
    damaged = sinogram()
    damaged[number] = 0
    return damaged


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "NaN": ({"line_integrals": holed(np.nan)}, "1 of its values are NaN"),
    "infinite": ({"line_integrals": holed(np.inf)}, "1 of its values are NaN or infinite"),
    "empty view": ({"line_integrals": without_view(5)}, "1 of its 24 views are all zero.* 5"),
    "views and angles": ({"line_integrals": sinogram()[1:]}, "23 views but 24 angles"),
    "transposed": ({"line_integrals": sinogram().T}, "transposed: give .views, bins."),
    "bins": ({"line_integrals": sinogram()[:, 1:]}, r"values are \(1, 24, 19\)"),
    "radians": ({"angles_deg": np.radians(SPEC.angles_deg)}, "as if they were radians"),
    "twice degrees": ({"angles_deg": np.degrees(SPEC.angles_deg)}, "taken for radians"),
    "NaN angle": ({"angles_deg": np.full(VIEWS, np.nan)}, "angles_deg.0: .*finite"),
    "angles no list": ({"geometry": json.dumps(GEOMETRY | {"angles_deg": 3})}, "they differ"),
    "too large": ({"line_integrals": 1e300 * sinogram().astype(float)}, "NaN or infinite"),
    "one view": (
        {"line_integrals": sinogram()[:1], "angles_deg": np.zeros(1)},
        "fewer than 2 views",
    ),
    "no angles": ({"angles_deg": None}, "angles_deg: Field required"),
    "two angles": (
        {"geometry": SPEC.model_dump_json(), "angles_deg": np.arange(24.0)},
        "differ",
    ),
    "unstated": ({"line_integrals": None, "data": sinogram()}, "does not say whether"),
    "both": ({"counts": sinogram(), "photons": 1e5}, "line_integrals and counts"),
    "HU": ({"line_integrals": None, "hu": sinogram()}, "a parallel operator measures is not hu"),
    "no photons": ({"line_integrals": None, "counts": sinogram()}, "how many photons"),
    "negative counts": (
        {"line_integrals": None, "counts": -sinogram(), "photons": 1e5},
        "are no counts",
    ),
    "dark": (
        {"line_integrals": None, "counts": 0 * sinogram(), "photons": 1e5},
        "not one photon",
    ),
    "no array": ({"line_integrals": None}, "does not say whether"),
    "no geometry": ({"geometry": None}, "no geometry"),
    "geometry": ({"geometry": "{"}, "no JSON object"),
    "axis": ({"geometry": json.dumps(GEOMETRY | {"axis_bin": 25})}, "outside of the detector"),
    "version": ({"geometry": json.dumps(GEOMETRY | {"version": 7})}, "of version 7"),
    "weights": ({"weights": -sinogram()}, "not all 0 or more"),
    "objects": ({"line_integrals": np.array([[None]])}, "of type O"),
    "length": ({"length": "inch"}, "'inch'"),
    "affine": ({"affine": np.eye(3)}, "no finite 4 x 4"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_refused_in_one_line(fault: str, tmp_path: Path) -> None:
    changes, message = FAULTS[fault]
    with pytest.raises(InputRejected, match=message) as refusal:
        read_measurement(save(tmp_path / "bad.npz", **changes))
    line = str(refusal.value)
    assert line.startswith("bad.npz: ") and "\n" not in line and refusal.value.exit_code == 3


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    whole = save(tmp_path / "whole.npz").read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 3] ^= 0xFF
    for content in (b"", whole[: len(whole) // 2], b"text", bytes(flipped)):
        (tmp_path / "bad.npz").write_bytes(content)
        with pytest.raises(InputRejected, match=r"bad\.npz: "):
            read_measurement(tmp_path / "bad.npz")
    with pytest.raises(InputRejected, match="cannot be read"):
        read_measurement(tmp_path / "none.npz")


def turned(angles: np.ndarray) -> np.ndarray:
    spec = SPEC.model_copy(update={"angles_deg": tuple(angles.tolist())})
    return build(spec)(phantom())[0, 0, 0].numpy()


@pytest.mark.parametrize(
    ("angles", "note"),
    [
        (np.arange(24) * 15.0, "more than 180 degrees share"),
        (np.arange(25) * 7.5, "180 degrees apart say the same"),
    ],
    ids=["turn", "0 and 180"],
)
def test_what_is_unusual_is_noted_and_reconstructed(
    angles: np.ndarray, note: str, tmp_path: Path
) -> None:
    file = save(tmp_path / "m.npz", angles_deg=angles, line_integrals=turned(angles))
    found = read_measurement(file)
    assert any(note in line for line in found.metadata["notes"])
    x = fbp(build(found.spec), found.tensor())
    assert float(x.mean()) == pytest.approx(float(phantom().mean()), rel=0.05)


def test_noise_below_zero_is_normal_and_more_is_noted(tmp_path: Path) -> None:
    quiet = read_measurement(save(tmp_path / "a.npz", line_integrals=holed(-0.15)))
    loud = read_measurement(save(tmp_path / "b.npz", line_integrals=holed(-0.3)))
    assert not quiet.metadata["notes"] and "1 line integrals are below" in loud.metadata["notes"][0]


def test_truncation_is_noted(tmp_path: Path) -> None:
    cut = SPEC.model_copy(update={"bins": 8})
    x = torch.full((1, 1, 1, 16, 16), 0.05)
    file = save(
        tmp_path / "cut.npz",
        line_integrals=build(cut)(x)[0, 0, 0].numpy(),
        geometry=json.dumps(GEOMETRY | {"bins": 8}),
    )
    assert "reaches beyond both ends" in read_measurement(file).metadata["notes"][0]


# --- DXchange ---------------------------------------------------------------------------------

AXIS = 8.7  # of 20 bins, whose middle is 9.5


def raw(path: Path, axis: float = AXIS, **changes: Any) -> Path:
    """A DXchange file of the phantom, two rows high; datasets are changed, or None to leave out."""
    spec = SPEC.model_copy(update={"axis_bin": axis})
    passed = np.exp(-build(spec)(phantom())[0, 0, 0].numpy())
    gain = np.linspace(1, 2, BINS) * 1e4
    data = np.stack([100 + gain * passed] * 2, axis=1)
    datasets = {
        "data": data,
        "data_white": np.stack([np.stack([100 + gain * f] * 2) for f in (0.9, 1.1)]),
        "data_dark": np.full((3, 2, BINS), 100.0),
        "theta": np.array(SPEC.angles_deg),
    } | changes
    with h5py.File(path, "w") as file:
        for key, value in datasets.items():
            if value is not None:
                file[f"exchange/{key}"] = value
    return path


def test_raw_projections_become_centred_line_integrals(tmp_path: Path) -> None:
    found = open_measurement(raw(tmp_path / "scan.h5"))
    assert isinstance(found.spec, ParallelSpec)
    assert found.spec.axis_bin == pytest.approx(AXIS, abs=0.05)
    assert found.length == "pixel" and found.spec.shape == (2, BINS, BINS)
    exact = build(SPEC.model_copy(update={"axis_bin": AXIS}))(phantom())[0, 0, 0].numpy()
    np.testing.assert_allclose(found.values[1], exact, atol=1e-5)
    assert "axis of rotation found at bin 8.7" in found.metadata["notes"]


def test_the_axis_rows_and_binning_can_be_stated(tmp_path: Path) -> None:
    file = raw(tmp_path / "scan.h5")
    found = open_measurement(file, RawOptions(axis_bin=8.5, rows=(1, 2), binning=2))
    assert found.spec.model_dump(exclude={"angles_deg"}) == {
        "kind": "parallel",
        "version": 1,
        "shape": (1, 10, 10),
        "spacing_mm": (1.0, 2.0, 2.0),
        "bins": 10,
        "bin_mm": 2.0,
        "axis_bin": 4.0,
    }
    assert found.values.shape == (1, VIEWS, 10)
    for wrong in (
        RawOptions(axis_bin=20.0),
        RawOptions(rows=(1, 3)),
        RawOptions(binning=11),
        RawOptions(every=13),
        RawOptions(flats=file),
    ):
        with pytest.raises(UsageError, match=r"scan\.h5"):
            open_measurement(file, wrong)


def test_radians_are_taken_where_the_file_says_so(tmp_path: Path) -> None:
    file = raw(tmp_path / "scan.h5", theta=np.radians(SPEC.angles_deg))
    with pytest.raises(InputRejected, match="as if they were radians"):
        open_measurement(file)
    with h5py.File(file, "a") as opened:
        opened["exchange/theta"].attrs["units"] = "radians"
    np.testing.assert_allclose(open_measurement(file).spec.angles_deg, SPEC.angles_deg)  # type: ignore[attr-defined]
    with h5py.File(file, "a") as opened:
        opened["exchange/theta"].attrs["units"] = "gon"
    with pytest.raises(InputRejected, match="'gon'"):
        open_measurement(file)


RAW_FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "no flats": ({"data_white": None}, "has no `exchange/data_white`"),
    "no angles": ({"theta": None}, "has no `exchange/theta`"),
    "angles": ({"theta": np.arange(5.0) * 36}, "24 views but 5 angles"),
    "NaN": ({"data": np.full((VIEWS, 2, BINS), np.nan)}, "960 pixels of its projections are NaN"),
    "dark": ({"data": np.full((VIEWS, 2, BINS), 100.0)}, "960 pixels of its projections are no"),
    "flat": ({"data_white": np.full((1, 2, BINS), 90.0)}, "40 pixels of its flat field are no"),
    "other detector": ({"data_dark": np.zeros((1, 2, 19))}, "of the same detector"),
    "2D": ({"data": np.ones((VIEWS, BINS))}, "is 2D"),
    "text": ({"data": np.array([b"no"])}, "holds no numbers"),
    "short arc": ({"theta": np.arange(VIEWS) * 1.0}, "less than 90 degrees"),
    "axis far off": ({"axis": 6.0}, "4 bins off .*; state where the axis is"),
    "link": ({"data": h5py.ExternalLink("other.h5", "/x")}, "is a link"),
}


@pytest.mark.parametrize("fault", RAW_FAULTS)
def test_a_fault_of_raw_projections_is_refused(fault: str, tmp_path: Path) -> None:
    changes, message = RAW_FAULTS[fault]
    with pytest.raises(InputRejected, match=message) as refusal:
        open_measurement(raw(tmp_path / "bad.h5", **changes))
    assert str(refusal.value).startswith("bad.h5: ") and "\n" not in str(refusal.value)


def test_what_is_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "bad.h5", "w") as file:
        for key in ("data", "data_white", "data_dark"):
            file.create_dataset(f"exchange/{key}", (2000, 2000, 2000), "f4")
        file["exchange/theta"] = np.arange(2000.0)
    with pytest.raises(InputRejected, match="take fewer rows"):
        open_measurement(tmp_path / "bad.h5")


def test_damaged_hdf5_is_refused(tmp_path: Path) -> None:
    whole = raw(tmp_path / "whole.h5").read_bytes()
    for content in (b"", whole[:700], b"text"):
        (tmp_path / "bad.h5").write_bytes(content)
        with pytest.raises(InputRejected, match="no whole HDF5 file"):
            open_measurement(tmp_path / "bad.h5")
    with pytest.raises(InputRejected, match="No such file"):
        open_measurement(tmp_path / "none.h5")


def test_without_h5py_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UsageError, match="pip install h5py"):
        open_measurement(tmp_path / "scan.h5")


@pytest.mark.parametrize(
    ("file", "message"),
    [("a.xtekct", "Nikon"), ("a.dcm", "DICOM-CT-PD"), ("a.nii", "no known kind")],
)
def test_other_formats_are_recognised(file: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputRejected, match=message):
        open_measurement(tmp_path / file)


def test_a_native_file_has_its_geometry(tmp_path: Path) -> None:
    assert open_measurement(save(tmp_path / "m.npz")).spec == SPEC
    with pytest.raises(UsageError, match="has a geometry"):
        open_measurement(tmp_path / "m.npz", RawOptions(axis_bin=3))


# --- a real tooth -------------------------------------------------------------------------------


def test_a_real_scan_is_read_and_centred(real_data: Path) -> None:
    found = open_measurement(real_data / "ct-measured" / "tooth.h5")
    recorded = np.load(real_data / "ct-measured" / "tooth_row0.npz")
    np.testing.assert_allclose(found.values[0], recorded["sinogram"], atol=1e-5)
    assert isinstance(found.spec, ParallelSpec)
    assert found.spec.axis_bin == pytest.approx(float(recorded["centre_px"]), abs=0.5)
    np.testing.assert_allclose(found.spec.angles_deg, recorded["theta_deg"])


@pytest.mark.slow
def test_tv_beats_fbp_from_few_views_of_a_real_scan(real_data: Path) -> None:
    """Against the FBP of all views, which is itself a reconstruction."""
    scan = open_measurement(
        real_data / "ct-measured" / "tooth.h5", RawOptions(binning=4, rows=(0, 1))
    )
    assert isinstance(scan.spec, ParallelSpec)
    full = fbp(build(scan.spec), scan.tensor())
    few = scan.spec.model_copy(update={"angles_deg": scan.spec.angles_deg[::9][:21]})
    operator, y = build(few), scan.tensor()[..., ::9, :][..., :21, :]

    def decibels(x: torch.Tensor) -> float:
        return float(-10 * torch.log10((x / full.max() - full / full.max()).square().mean()))

    nothing = torch.zeros_like(full)
    assert isinstance(operator, Parallel)
    strength = usual_strength(operator, y)
    *_, tv = tv_steps(operator, y, nothing, strength=strength, iterations=30)
    *_, sirt = sirt_steps(operator, y, nothing, iterations=60)
    found = [decibels(x) for x in (fbp(operator, y), sirt.x, tv.x)]
    assert found == sorted(found)
    assert found[2] >= found[0] + 10

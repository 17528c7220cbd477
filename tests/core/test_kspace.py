"""k-space: convention and patterns, exact data consistency, units, and files of scanners."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
import torch
from chests import chest, volume
from typer.testing import CliRunner

import prdit_core
from prdit_core.cli.app import app
from prdit_core.data.io import read_volume, write_volume
from prdit_core.data.records import write_record
from prdit_core.errors import InputRejected, UsageError
from prdit_core.intensity import ARBITRARY
from prdit_core.inverse.consistency import LeastSquares
from prdit_core.inverse.measurement_files import read_measurement, write_measurement
from prdit_core.inverse.operators.kspace import kspace_of, sampled_at, slices_of
from prdit_core.inverse.operators.packed import packed_bits
from prdit_core.inverse.operators.super_resolution import SuperResolutionSpec
from prdit_core.inverse.operators.table import build, read_spec
from prdit_core.inverse.problem import in_measured_unit
from prdit_core.inverse.sampling_patterns import FastScan
from prdit_core.inverse.scanners import parallel_scan
from prdit_core.inverse.scans import RawOptions, open_measurement
from prdit_core.inverse.tv import contrast
from prdit_core.models.contracts import Prediction
from prdit_core.noise import Draw, unit_noise
from prdit_core.verbs.classical import solved_classically
from prdit_core.verbs.reconstruct import WALK, reconstruct
from prdit_core.verbs.simulate import simulate
from prdit_core.verbs.tv_strength import strength_for

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

    from prdit_core.config import PatternName, PhaseName
    from prdit_core.inverse.problem import Problem
    from prdit_core.verbs.classical import ClassicalMethod
    from prdit_core.volume import Volume

PATTERNS: tuple[PatternName, ...] = ("gaussian", "poisson")
PHASES: tuple[PhaseName, ...] = ("none", "smooth")


def signal(index: int = 0, edge: int = 32) -> Volume:
    """A phantom as the signal of MRI: 0 in air, 1000 in water."""
    shown = volume(chest(2, index, edge) + 1000, 320 / edge)
    return replace(shown, metadata={"units": ARBITRARY})


def random_volume(shape: tuple[int, ...], key: int) -> torch.Tensor:
    return unit_noise((1, 1, *shape), Draw.START, key).double()


# --- convention ---------------------------------------------------------------------------------


def test_a_point_in_the_middle_has_a_flat_spectrum_and_noise_keeps_its_size() -> None:
    spec = sampled_at(np.ones((6, 8)), (1, 6, 8))
    operator = build(spec, dtype=torch.float64)
    point = torch.zeros(1, 1, 1, 6, 8, dtype=torch.float64)
    point[..., 3, 4] = 1
    expected = torch.tensor([48**-0.5, 0.0], dtype=torch.float64).expand(48, 2)
    torch.testing.assert_close(operator(point)[0, 0, 0], expected)
    x = random_volume(spec.shape, 1)
    assert float(operator(x).norm()) == pytest.approx(float(x.norm()))


@pytest.mark.parametrize("phase", PHASES)
def test_samples_stand_in_c_order_of_the_centred_transform(phase: PhaseName) -> None:
    """As fastMRI keeps them: shifted, transformed, shifted, orthonormal."""
    spec = FastScan("poisson", 2, 0.1, phase).spec((3, 7, 8))
    x = random_volume(spec.shape, 2)
    phasors = spec.phasors()
    image = x[0, 0].numpy() * (1 if phasors is None else phasors)
    whole = np.fft.fftshift(
        np.fft.fft2(np.fft.ifftshift(image, (1, 2)), norm="ortho", axes=(1, 2)), (1, 2)
    )
    measured = build(spec, dtype=torch.float64)(x)[0, 0].numpy()
    np.testing.assert_allclose(measured[..., 0] + 1j * measured[..., 1], whole[:, spec.mask()])
    np.testing.assert_allclose(slices_of(kspace_of(image)), image, atol=1e-12)


# --- patterns -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("acceleration", [4, 8])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_has_its_acceleration_and_a_whole_dense_middle(
    pattern: PatternName, acceleration: float
) -> None:
    mask = FastScan(pattern, acceleration, 0.04, seed=3).spec((1, 64, 64)).mask()
    assert mask.size / np.count_nonzero(mask) == pytest.approx(acceleration, rel=0.01)
    whole = slice(27, 38) if pattern == "poisson" else slice(31, 34)
    assert mask[whole, whole].all()
    middle = mask[16:48, 16:48].mean()
    assert middle > 1.5 * mask.mean()
    again = FastScan(pattern, acceleration, 0.04, seed=3).spec((1, 64, 64))
    assert np.array_equal(again.mask(), mask)
    other = FastScan(pattern, acceleration, 0.04, seed=4).spec((1, 64, 64))
    assert not np.array_equal(other.mask(), mask)
    if pattern == "gaussian":
        assert (mask == mask[:1]).all()


def test_poisson_samples_keep_a_distance_that_grows_outwards() -> None:
    mask = FastScan("poisson", 8, 0.01).spec((1, 96, 96)).mask()
    places = np.argwhere(mask)
    away = np.hypot(*(places - 48).T)
    apart = np.hypot(*np.moveaxis(places[:, None] - places[None], 2, 0))
    np.fill_diagonal(apart, np.inf)
    nearest = apart.min(1)
    assert nearest[away > 8].min() > 1.0
    assert nearest[away > 40].mean() > 1.5 * nearest[(away > 8) & (away < 20)].mean()


def test_a_middle_that_does_not_fit_is_refused() -> None:
    with pytest.raises(UsageError, match="8 of 64 columns are sampled, fewer than the 13"):
        FastScan("gaussian", 8, 0.2).spec((1, 64, 64))


# --- data consistency ---------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_exact_data_consistency_leaves_sampled_k_space_untouched(
    pattern: PatternName, phase: PhaseName
) -> None:
    """Whatever a prior predicts: what was measured stays, and only that moves."""
    spec = FastScan(pattern, 4, 0.1, phase).spec((2, 16, 16))
    # With a phase, places and their mirrors are not quite the same: slow to tell apart.
    dtype, iterations = (torch.float32, 5) if phase == "none" else (torch.float64, 300)
    operator = build(spec, dtype=dtype)
    truth, predicted = (random_volume(spec.shape, key).to(dtype) for key in (1, 2))
    y = operator(truth)
    edit = LeastSquares(operator, y, iterations)
    found = predicted
    for _ in range(3):
        found = edit(Prediction(found, found), found, 0.5).x0
    assert float((operator(found) - y).norm() / y.norm()) < 1e-5
    # What the data cannot see is the prediction's: the change lies in the range of the transpose.
    unseen = truth - edit(Prediction(truth * 0, truth), truth, 0.5).x0
    moved = (found - predicted).flatten()
    share = torch.dot(moved, unseen.flatten()) / (moved.norm() * unseen.norm())
    assert abs(float(share)) < 1e-4


def test_without_a_phase_two_steps_of_cg_are_exact() -> None:
    """A*A has three eigenvalues then: 0, 1/2 where a place is sampled without its mirror, and 1."""
    spec = FastScan("gaussian", 4, 0.1).spec((2, 16, 16))
    operator = build(spec, dtype=torch.float64)
    y = operator(random_volume(spec.shape, 1))
    found = LeastSquares(operator, y, 2)(Prediction(*2 * (random_volume(spec.shape, 2),)), y, 0.5)
    assert float((operator(found.x0) - y).norm() / y.norm()) < 1e-12


# --- simulation and reconstruction --------------------------------------------------------------


def test_noise_is_as_large_as_in_the_volume_and_weighs_the_data() -> None:
    spec = FastScan("gaussian", 2).spec((32, 32, 32))
    quiet, noisy = simulate(signal(), spec), simulate(signal(), spec, noise=20.0, seed=1)
    assert (noisy.values - quiet.values).std() == pytest.approx(20.0, rel=0.05)
    assert quiet.weights is None and noisy.weights is not None
    np.testing.assert_allclose(noisy.weights, 1 / 400)
    assert np.array_equal(simulate(signal(), spec, noise=20.0, seed=1).values, noisy.values)
    assert in_measured_unit(noisy, "cpu").sigma == 1.0


def test_a_record_says_units_and_that_the_volume_is_a_magnitude(tmp_path: Path) -> None:
    for phase, words in (("none", "of phase 0"), ("smooth", "along a given smooth phase")):
        spec = FastScan("poisson", 4, phase=phase).spec((32, 32, 32))  # type: ignore[arg-type]
        file = write_measurement(simulate(signal(), spec), tmp_path / f"{phase}.npz")
        problem = in_measured_unit(read_measurement(file), "cpu")
        found = solved_classically(problem, "zero-filling")
        assert found.units == found.metadata["units"] == ARBITRARY and "hu" not in found.metadata
        about = found.metadata["measurement"]
        assert about["image"] == f"magnitude, {words}" and about["acceleration"] == 4.0
        assert about["units"] == ARBITRARY and about["inverse_crime"]


@pytest.mark.slow
@pytest.mark.parametrize("phase", PHASES)
def test_tv_beats_cg_and_zero_filling(phase: PhaseName) -> None:
    problem = measured(phase)
    strength = 1e-3 * contrast(problem.operator, problem.y)
    tv, cg, zero = (error(problem, method, strength) for method in ("tv", "cg", "zero-filling"))
    assert tv < 0.85 * min(cg, zero)


@pytest.mark.slow
def test_a_strength_tuned_on_another_phantom_is_near_the_best() -> None:
    problem = measured("none")
    tuned = strength_for(problem)
    assert tuned.source == "tuned on a phantom"
    others = [error(problem, "tv", tuned.value * times) for times in (1 / 8, 1 / 2, 2, 8)]
    assert error(problem, "tv", tuned.value) < 1.05 * min(others)


def measured(phase: PhaseName) -> Problem:
    spec = FastScan("poisson", 4, 0.08, phase, seed=1).spec((16, 16, 16))
    return in_measured_unit(simulate(signal(1, 16), spec, noise=10.0), "cpu")


def error(problem: Problem, method: ClassicalMethod, strength: float) -> float:
    """Root mean square."""
    found = solved_classically(problem, method, strength=strength)
    return float(np.sqrt(np.mean((found.voxels_hu - signal(1, 16).voxels_hu) ** 2)))


@pytest.mark.slow
def test_a_prior_of_the_same_units_fits_the_data_and_one_of_hu_is_refused() -> None:
    prior = prdit_core.load("demo").at_size(32)
    spec = FastScan("gaussian", 4, 0.1).spec((32, 32, 32))
    truth = signal()
    measurement = simulate(truth, spec)
    with pytest.raises(UsageError, match=r"a volume in arbitrary units, the model makes .* in HU"):
        reconstruct(prior, measurement, WALK)
    window = {"units": ARBITRARY, "window_hu": (0.0, 1400.0)}
    like_mr = replace(prior, intensity=prior.intensity.model_copy(update=window))
    found = reconstruct(like_mr, measurement, WALK.model_copy(update={"steps": 8}))
    assert found.units == ARBITRARY and found.metadata["misfit"] < 1e-4
    zero = solved_classically(in_measured_unit(measurement, "cpu"), "zero-filling")
    errors = [np.abs(v.voxels_hu - truth.voxels_hu).mean() for v in (found, zero)]
    assert errors[0] < errors[1]


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(UsageError, match="a CT in HU, not of volumes in arbitrary units"):
        simulate(signal(), parallel_scan((32, 32, 32), (10.0, 10.0, 10.0), 8))
    blocks = SuperResolutionSpec(shape=(32, 32, 32), factor=4)
    with pytest.raises(UsageError, match="noise is that of k-space, not of 'super-resolution'"):
        simulate(signal(), blocks, noise=1.0)
    assert simulate(signal(), blocks).units == ARBITRARY
    with pytest.raises(UsageError, match="zero filling is for k-space, not for super-resolution"):
        solved_classically(in_measured_unit(simulate(signal(), blocks), "cpu"), "zero-filling")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sampled": "AAAA"}, "the mask is damaged"),
        ({"shape": [3, 5, 9]}, "not one of this shape|no place of k-space"),
        ({"phase": {"rows": 9, "columns": 1, "values": ""}}, "more rows or columns"),
        ({"phase": {"rows": 1, "columns": 1, "values": "AAAA"}}, "the phase is damaged"),
    ],
)
def test_wrong_specs_are_refused(change: dict[str, Any], message: str) -> None:
    content = FastScan("gaussian", 2, 0.2).spec((3, 5, 8)).model_dump(mode="json")
    with pytest.raises(UsageError, match=message) as refusal:
        read_spec(content | change)
    assert "\n" not in str(refusal.value)
    with pytest.raises(UsageError, match="no place of k-space is sampled"):
        read_spec(content | {"sampled": packed_bits(np.zeros((5, 8)))})


# --- files of scanners --------------------------------------------------------------------------

HEADER = """<?xml version="1.0"?><ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><encoding>
<encodedSpace><matrixSize><x>64</x><y>32</y><z>1</z></matrixSize>
<fieldOfView_mm><x>320</x><y>160</y><z>3</z></fieldOfView_mm></encodedSpace>
<reconSpace><matrixSize><x>32</x><y>32</y><z>1</z></matrixSize>
<fieldOfView_mm><x>160</x><y>160</y><z>3</z></fieldOfView_mm></reconSpace>
</encoding></ismrmrdHeader>"""


def scanned() -> np.ndarray:
    """k-space (3, 64, 32) of three slices with a smooth phase, the readout twice oversampled."""
    slices = np.zeros((3, 64, 32), np.complex128)
    slices[:, 16:48] = signal().voxels_hu[14:17]
    y, x = np.indices((64, 32)) / 32
    return kspace_of(slices * 1e-6 * np.exp(1j * (0.5 + y - 0.8 * x))).astype(np.complex64)


def scanner_file(path: Path, **changes: Any) -> Path:
    """A file of fastMRI's layout with some parts other, or None to leave out."""
    parts = {"kspace": scanned(), "ismrmrd_header": HEADER.encode()} | changes
    with h5py.File(path, "w") as file:
        file.attrs["patient_id"] = "secret"
        for key, value in parts.items():
            if value is not None:
                file[key] = value
    return path


def columns(every: int) -> np.ndarray:
    """Each so-many-th, and the middle."""
    mask = np.arange(32) % every == 0
    mask[10:21] = True
    return mask


def test_k_space_of_a_scanner_becomes_a_magnitude_along_its_own_phase(tmp_path: Path) -> None:
    found = open_measurement(scanner_file(tmp_path / "scan.h5"))
    assert found.spec.shape == (3, 32, 32) and found.units == ARBITRARY
    volume_of_cg = solved_classically(in_measured_unit(found, "cpu"), "cg")
    truth = signal().voxels_hu[14:17]
    scale = found.metadata["scale"] * 1e-6
    assert np.percentile(np.abs(volume_of_cg.voxels_hu), 99.9) == pytest.approx(1000, rel=0.02)
    error = np.abs(volume_of_cg.voxels_hu / scale - truth).mean()
    assert error < 0.02 * truth.max()
    np.testing.assert_allclose(volume_of_cg.spacing_mm, (3, 5, 5))
    about = json.dumps(found.about())
    assert "estimated from the middle 31 x 31" in about and "secret" not in about
    assert "64 rows of an oversampled readout were cropped to 32" in found.metadata["notes"]


def test_columns_that_were_not_measured_stand_in_a_mask_or_are_0(tmp_path: Path) -> None:
    mask = columns(4)
    kspace = scanned() * mask
    stated = open_measurement(scanner_file(tmp_path / "a.h5", kspace=kspace, mask=mask))
    found = open_measurement(scanner_file(tmp_path / "b.h5", kspace=kspace))
    assert stated.digest == found.digest
    assert np.array_equal(found.spec.mask(), np.broadcast_to(mask, (32, 32)))  # type: ignore[attr-defined]
    assert found.about()["acceleration"] == pytest.approx(32 / mask.sum(), abs=1e-3)
    cropped = open_measurement(scanner_file(tmp_path / "c.h5", kspace=kspace, ismrmrd_header=None))
    assert cropped.spec.shape == (3, 64, 32)
    assert any("1 mm is assumed" in note for note in cropped.metadata["notes"])


def spoilt(place: tuple[Any, ...], value: complex) -> np.ndarray:
    kspace = scanned()
    kspace[place] = value
    return kspace


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "several coils": ({"kspace": np.ones((2, 15, 8, 8), np.complex64)}, "is of 15 coils"),
    "2D": ({"kspace": np.ones((8, 8), np.complex64)}, "is 2D, not"),
    "real": ({"kspace": np.ones((2, 8, 8), np.float32)}, "holds no complex numbers"),
    "NaN": ({"kspace": spoilt((0, 1, 2), np.nan)}, "1 of its values are NaN"),
    "empty slice": ({"kspace": spoilt((1,), 0)}, "1 of its 3 slices are all zero, the first is 1"),
    "no middle": ({"kspace": scanned() * ~columns(1)[::-1]}, "all zero"),
    "middle": ({"kspace": spoilt((slice(None), slice(None), 16), 0)}, "the middle of its k-space"),
    "other places": ({"kspace": spoilt((0, slice(None), slice(9)), 0)}, "not measured at the same"),
    "mask": ({"mask": np.ones(31)}, "its mask is of 31 columns, its k-space of 32"),
    "mask of less": ({"mask": columns(4)}, "values where its mask says"),
    "header": ({"ismrmrd_header": b"<a/>"}, "no header of ISMRMRD"),
    "entities": ({"ismrmrd_header": b"<!DOCTYPE a><a/>"}, "no header of ISMRMRD"),
    "no XML": ({"ismrmrd_header": b"\xff"}, "no header of ISMRMRD"),
    "numbers": ({"ismrmrd_header": np.ones(3)}, "`ismrmrd_header` holds no text"),
    "link": ({"kspace": h5py.ExternalLink("other.h5", "/x")}, "is a link"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_a_scanner_s_file_is_refused_in_one_line(fault: str, tmp_path: Path) -> None:
    changes, message = FAULTS[fault]
    with pytest.raises(InputRejected, match=message) as refusal:
        open_measurement(scanner_file(tmp_path / "bad.h5", **changes))
    assert str(refusal.value).startswith("bad.h5: ") and "\n" not in str(refusal.value)


def test_damaged_files_and_options_of_projections_are_refused(tmp_path: Path) -> None:
    whole = scanner_file(tmp_path / "scan.h5")
    with pytest.raises(UsageError, match="holds k-space: leave out"):
        open_measurement(whole, RawOptions(binning=2))
    (tmp_path / "bad.h5").write_bytes(whole.read_bytes()[:5000])
    with pytest.raises(InputRejected, match="no whole HDF5 file"):
        open_measurement(tmp_path / "bad.h5")


# --- the commands -------------------------------------------------------------------------------


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.mark.slow
def test_commands_say_arbitrary_units(tmp_path: Path) -> None:
    truth = signal(0, 16)
    write_record(truth, write_volume(truth, tmp_path / "mr.nii.gz"))
    again = read_volume(tmp_path / "mr.nii.gz")
    assert again.units == ARBITRARY and np.array_equal(again.voxels_hu, np.rint(truth.voxels_hu))
    given = ("--operator", "kspace", "--pattern", "poisson", "--acceleration", 4, "--noise", 10)
    done = run("simulate", tmp_path / "mr.nii.gz", *given, "--out", tmp_path / "m.npz")
    assert done.exit_code == 0, done.output
    out = ("--out", tmp_path / "out", "--truth", tmp_path / "mr.nii.gz")
    for method in (("cg",), ("zero-filling",), ("tv", "--tv-strength", 10)):
        done = run("reconstruct", tmp_path / "m.npz", "--method", *method, *out)
        assert done.exit_code == 0, done.output
        assert "arbitrary units, not clipped" in done.output and "HU" not in done.output
    record = json.loads((tmp_path / "out" / "zero-filling.json").read_text())
    assert record["units"] == ARBITRARY
    report = json.loads((tmp_path / "out" / "summary_tv" / "report.json").read_text())
    assert report["units"] == ARBITRARY and report["volume"]["mae"] > 0
    assert read_volume(tmp_path / "out" / "tv.nii.gz").units == ARBITRARY
    done = run("simulate", tmp_path / "mr.nii.gz", "--out", tmp_path / "p.npz")
    assert done.exit_code == 2 and "a CT in HU" in done.output
    refused = run("simulate", tmp_path / "mr.nii.gz", "--noise", 3, "--out", tmp_path / "p.npz")
    assert refused.exit_code == 2 and "--noise" in refused.output

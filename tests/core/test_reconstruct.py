"""Reconstructions: units, fit to the data, what the prior adds, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from toys import tiny_checkpoint

import prdit_core
from prdit_core.config import SamplingConfig
from prdit_core.data.phantoms import make_phantom
from prdit_core.errors import UsageError
from prdit_core.inverse import scanners
from prdit_core.inverse.operators.mask import mask_of
from prdit_core.inverse.operators.super_resolution import SuperResolutionSpec
from prdit_core.inverse.problem import in_measured_unit
from prdit_core.metrics.fidelity import fidelity
from prdit_core.verbs.classical import reconstruct_classically
from prdit_core.verbs.reconstruct import WALK, determined_hu, problem_of, reconstruct
from prdit_core.verbs.simulate import coarser, simulate
from prdit_core.volume import Volume

if TYPE_CHECKING:
    from pathlib import Path

    from prdit_core import Prior
    from prdit_core.inverse.measurement import Measurement

QUICK = WALK.model_copy(update={"steps": 8})


@pytest.fixture(scope="module")
def prior() -> Prior:
    return prdit_core.load("demo").at_size(32)


@pytest.fixture(scope="module")
def fine() -> Volume:
    return make_phantom(5, 19, spacing_mm=5.0).volume


@pytest.fixture(scope="module")
def truth(fine: Volume) -> Volume:
    return coarser(fine)


@pytest.fixture(scope="module")
def few_views(fine: Volume, truth: Volume) -> Measurement:
    spec = scanners.parallel_scan(truth.shape, truth.spacing_mm, 8, 180.0)
    return simulate(fine, spec, photons=1e5, seed=1)


def error_hu(volume: Volume, truth: Volume) -> float:
    """Root mean square within a window of -1000 to 400 HU."""
    found, expected = (np.clip(v.voxels_hu, -1000, 400) for v in (volume, truth))
    return fidelity(expected, found).rmse_hu


def test_data_of_pure_air_are_minus_one_in_model_units(prior: Prior, truth: Volume) -> None:
    """The offset of attenuation is the commonest thing to forget."""
    air = Volume(np.full(truth.shape, -1000.0, np.float32), truth.affine)
    spec = scanners.parallel_scan(truth.shape, truth.spacing_mm, 20, 180.0)
    problem = problem_of(prior, simulate(air, spec), None)
    x = torch.full((1, 1, *truth.shape), -1.0)
    torch.testing.assert_close(problem.operator(x), problem.y, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(problem.hu(x), torch.full_like(x, -1000.0))


@pytest.mark.slow
def test_the_prior_makes_up_for_views_that_are_missing(
    prior: Prior, few_views: Measurement, truth: Volume
) -> None:
    found = reconstruct(prior, few_views, QUICK)
    plain = {name: reconstruct_classically(few_views, name) for name in ("fbp", "cg")}
    free = prdit_core.generate(prior, QUICK)
    errors = {name: error_hu(volume, truth) for name, volume in plain.items()}
    assert error_hu(found, truth) < 0.85 * min(errors.values())
    assert error_hu(found, truth) < 0.5 * error_hu(free, truth)
    np.testing.assert_array_equal(found.affine, truth.affine)


@pytest.mark.slow
def test_the_record_says_what_was_done_and_how_well_it_fits(
    prior: Prior, few_views: Measurement
) -> None:
    found = reconstruct(prior, few_views, QUICK, iterations=3, seed=4)
    record = found.metadata
    assert (record["method"], record["iterations"], record["seed"]) == ("prior", 3, 4)
    assert "partly imagined" in record["notice"] and record["checkpoint_sha256"] == prior.digest
    assert record["measurement"]["photons"] == 1e5 and not record["measurement"]["inverse_crime"]
    problem = problem_of(prior, few_views, None)
    hu = torch.from_numpy(found.voxels_hu)[None, None]
    assert record["misfit"] == pytest.approx(problem.misfit(problem.measured(hu)), rel=1e-3)
    more = reconstruct(prior, few_views, QUICK, iterations=12, seed=4).metadata["misfit"]
    assert more < record["misfit"] < 0.1


@pytest.mark.slow
def test_equal_seeds_give_equal_bytes_and_others_do_not(
    prior: Prior, few_views: Measurement
) -> None:
    one, again, other = (
        reconstruct(prior, few_views, QUICK, seed=seed).voxels_hu for seed in (1, 1, 2)
    )
    assert one.tobytes() == again.tobytes() and one.tobytes() != other.tobytes()


@pytest.mark.slow
def test_what_the_data_determine_looks_the_same_to_the_scanner(
    prior: Prior, few_views: Measurement
) -> None:
    found = reconstruct(prior, few_views, QUICK)
    seen = determined_hu(in_measured_unit(few_views, "cpu"), found)
    problem = problem_of(prior, few_views, None)
    both = [torch.from_numpy(v.voxels_hu)[None, None] for v in (found, seen)]
    whole, part = (problem.operator(problem.measured(hu)) for hu in both)
    assert float((whole - part).norm() / whole.norm()) < 0.01
    assert float((both[0] - both[1]).std()) > 20  # and the rest is imagined


@pytest.mark.slow
def test_the_last_step_takes_grain_away_and_is_told(
    prior: Prior, truth: Volume, few_views: Measurement
) -> None:
    found, plain = (reconstruct(prior, few_views, QUICK, last_step=step) for step in ("tv", "none"))
    assert [one.metadata["last_step"] for one in (found, plain)] == ["tv", "none"]
    errors = [fidelity(truth.voxels_hu, one.voxels_hu).rmse_hu for one in (found, plain)]
    assert errors[0] < errors[1]
    assert grain(found) < grain(plain)


def grain(volume: Volume) -> float:
    """How much neighbours differ."""
    return sum(float(np.abs(np.diff(volume.voxels_hu, axis=axis)).mean()) for axis in range(3))


@pytest.mark.slow
def test_a_ray_of_no_weight_counts_for_nothing(truth: Volume, few_views: Measurement) -> None:
    weights = np.ones_like(few_views.values)
    weights[:, 3, 20:24] = 0
    spoilt = few_views.values.copy()
    spoilt[weights == 0] = 50.0
    for method in ("cg", "tv"):
        strength = 1e-5 if method == "tv" else None
        errors = [
            fidelity(
                truth.voxels_hu,
                reconstruct_classically(one, method, strength=strength).voxels_hu,
            ).rmse_hu
            for one in (
                replace(few_views, values=spoilt, weights=weights),
                replace(few_views, values=spoilt, weights=None),
            )
        ]
        assert errors[0] < 0.7 * errors[1]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fbp", "cg", "sirt", "tv"])
def test_many_views_leave_little_open(fine: Volume, truth: Volume, method: str) -> None:
    spec = scanners.parallel_scan(truth.shape, truth.spacing_mm, 90, 180.0)
    measurement = simulate(fine, spec)
    strength = 1e-5 if method == "tv" else None
    found = reconstruct_classically(measurement, method, strength=strength)  # type: ignore[arg-type]
    assert error_hu(found, truth) < 75
    assert found.metadata["method"] == method and "not for diagnosis" in found.metadata["notice"]


@pytest.mark.slow
def test_known_voxels_stay_and_the_rest_is_imagined_anew(prior: Prior, truth: Volume) -> None:
    """The mask operator: A* A is a projection, so one step of CG fits it exactly."""
    known = np.ones(truth.shape, bool)
    known[8:20, 8:24, 8:24] = False
    spec = mask_of(known)
    window = Volume(np.clip(truth.voxels_hu, -1000, 400), truth.affine)
    found = reconstruct(prior, simulate(window, spec), QUICK, seed=2).voxels_hu
    np.testing.assert_allclose(found[known], window.voxels_hu[known], atol=0.5)
    assert np.abs(found[~known] - window.voxels_hu[~known]).mean() > 20
    other = reconstruct(prior, simulate(window, spec), QUICK, seed=3).voxels_hu
    assert np.abs(found[~known] - other[~known]).mean() > 20


def test_a_coarse_volume_is_refined_so_that_its_means_stay(prior: Prior, truth: Volume) -> None:
    spec = SuperResolutionSpec(shape=truth.shape, factor=4)
    window = Volume(np.clip(truth.voxels_hu, -1000, 400), truth.affine)
    measurement = simulate(window, spec)
    found = reconstruct(prior, measurement, QUICK)
    assert found.metadata["misfit"] < 1e-3
    problem = problem_of(prior, measurement, None)
    means = problem.operator(torch.from_numpy(found.voxels_hu)[None, None])[0, 0]
    np.testing.assert_allclose(means, measurement.values, atol=1)


def test_what_cannot_be_reconstructed_is_refused(
    prior: Prior, few_views: Measurement, fine: Volume, truth: Volume, tmp_path: Path
) -> None:
    small = prdit_core.load(tiny_checkpoint(tmp_path / "tiny"))
    with pytest.raises(UsageError, match="32 x 32 x 32 voxels, the model makes 8 x 8 x 8"):
        reconstruct(small, few_views)
    other = scanners.parallel_scan(truth.shape, (5.0, 5.0, 5.0), 8, 180.0)
    with pytest.raises(UsageError, match="voxels of 5 x 5 x 5 mm, the model makes 10 x 10 x 10"):
        reconstruct(prior, replace(few_views, spec=other))
    with pytest.raises(UsageError, match="no pixel size"):
        reconstruct(prior, replace(few_views, length="pixel"))
    with pytest.raises(UsageError, match="strength"):
        reconstruct_classically(few_views, "tv")
    coarse = simulate(truth, SuperResolutionSpec(shape=truth.shape, factor=2))
    for method in ("fbp", "sirt"):
        with pytest.raises(UsageError, match="for projections, not for super-resolution"):
            reconstruct_classically(coarse, method)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="seed"):
        reconstruct(prior, few_views, SamplingConfig(steps=1), seed=-1)

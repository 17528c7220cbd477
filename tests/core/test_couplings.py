"""Couplings by name: what each does to a walk and its record, what it needs, what is refused."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_command import run
from toy_family import Gaussian, GaussianConfig, GaussianNetwork

import prdit_core
from prdit_core.config import CouplingName
from prdit_core.data.io import write_volume
from prdit_core.data.phantoms import make_phantom
from prdit_core.errors import MemoryLimit, UsageError
from prdit_core.geometry import cubic
from prdit_core.intensity import Intensity
from prdit_core.inverse import scanners
from prdit_core.inverse.calibration import Calibration, ErrorTable, write_calibration
from prdit_core.inverse.couplings import COUPLINGS, Coupling
from prdit_core.inverse.operators.super_resolution import SuperResolutionSpec
from prdit_core.metrics.fidelity import fidelity
from prdit_core.models.prior import Prior
from prdit_core.schedule import CosineSchedule
from prdit_core.verbs.reconstruct import WALK, problem_of, reconstruct, reconstruct_steps
from prdit_core.verbs.simulate import coarser, simulate
from prdit_core.volume import Volume

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from prdit_core.inverse.measurement import Measurement


@pytest.fixture(scope="module")
def prior() -> Prior:
    return prdit_core.load("demo").at_size(32)


@pytest.fixture(scope="module")
def fine() -> Volume:
    return make_phantom(5, 19, spacing_mm=5.0).volume


@pytest.fixture(scope="module")
def few_views(fine: Volume) -> Measurement:
    truth = coarser(fine)
    spec = scanners.parallel_scan(truth.shape, truth.spacing_mm, 8, 180.0)
    return simulate(fine, spec, photons=1e5, seed=1)


def calibration(prior: Prior, size: int = 32) -> Calibration:
    """About what the bundled prior's error is."""
    table = ErrorTable(
        size=size,
        times=(5, 500, 999),
        errors=(0.06, 0.08, 0.25),
        volumes=1,
        data_sha256="",
        seed=0,
    )
    return Calibration(checkpoint_sha256=prior.digest, tables=(table,))


def error_hu(volume: Volume, truth: Volume) -> float:
    found, expected = (np.clip(v.voxels_hu, -1000, 400) for v in (volume, truth))
    return fidelity(expected, found).rmse_hu


def test_the_names_of_the_settings_are_those_of_the_table() -> None:
    assert get_args(CouplingName) == tuple(COUPLINGS)


@pytest.mark.slow
@pytest.mark.parametrize("name", COUPLINGS)
def test_every_coupling_brings_a_walk_to_the_data(
    name: CouplingName, prior: Prior, few_views: Measurement, fine: Volume
) -> None:
    """Far from what the same walk makes without data, in the volume and in the misfit."""
    coupling = Coupling(name, calibration=calibration(prior))
    config = coupling.walk(steps=7)
    found = reconstruct(prior, few_views, config, coupling=name, calibration=coupling.calibration)
    free = prdit_core.generate(prior, config)
    problem, truth = problem_of(prior, few_views, None), coarser(fine)
    without = problem.misfit(problem.measured(torch.from_numpy(free.voxels_hu)[None, None]))
    assert error_hu(found, truth) < 0.6 * error_hu(free, truth)
    assert found.metadata["misfit"] < 0.5 * without
    assert found.metadata["coupling"] == name
    assert found.metadata.get("iterations", 0) == COUPLINGS[name].iterations
    used = "calibration_sha256" in found.metadata
    assert used == (name in ("prox", "pigdm")) == COUPLINGS[name].needs_error


def test_a_coupling_brings_its_own_walk_unless_another_is_wished() -> None:
    assert Coupling().walk() == WALK and Coupling("cg").walk(k=3.0).k == 3.0
    dds = Coupling("dds").walk(steps=50)
    assert (dds.sampler, dds.eta, dds.k, dds.steps) == ("ddim", 0.85, 1.0, 50)
    assert Coupling("dds").walk(eta=0.5).eta == 0.5
    assert Coupling("cg").walk(sampler="ddim").k == 1.0  # which has none
    other = Coupling("dds").walk(sampler="increment")
    assert (other.eta, other.k) == (None, WALK.k)


@pytest.mark.slow
def test_the_command_records_the_coupling_and_its_walk(
    prior: Prior, fine: Volume, tmp_path: Path
) -> None:
    write_volume(fine, tmp_path / "scan.nii.gz")
    run("simulate", tmp_path / "scan.nii.gz", "--views", 8, "--out", tmp_path / "m.npz")
    write_calibration(calibration(prior), tmp_path / "errors.json")
    words = ("reconstruct", tmp_path / "m.npz", "--steps", 2, "--threads", 1)
    known = ("--calibration", tmp_path / "errors.json")
    out = tmp_path / "out"
    run(*words, "--out", out, "--coupling", "pigdm", *known, "--iterations", 4)
    record = json.loads((out / "seed-0_index-0000.json").read_text())
    expected = {"coupling": "pigdm", "iterations": 4, "k": 1.0, "sampler": "increment"}
    assert expected.items() <= record.items()
    assert record["calibration_sha256"] == calibration(prior).digest
    before = {file: file.read_bytes() for file in out.rglob("*.*")}
    run(*words, "--out", out, "--coupling", "cg", code=6)
    assert {file: file.read_bytes() for file in out.rglob("*.*")} == before
    other = tmp_path / "other"
    for given, code in (
        (("--coupling", "prox", "--calibration", tmp_path / "none.json"), 5),
        (("--coupling", "prox", "--calibration", tmp_path / "m.npz"), 5),
        (("--calibration", tmp_path / "errors.json"), 2),
        (("--coupling", "guidance", "--iterations", 4), 2),
        (("--coupling", "guidance", "--k", 1), 2),
        (("--coupling", "cg", "--eta", 0.5), 2),
        (("--coupling", "guidance", "--sampler", "heun"), 2),
        (("--coupling", "none-such"), 2),
        (("--coupling", "prox", "--method", "tv"), 2),
    ):
        run(*words, "--out", other, *given, code=code)
    assert not list(other.glob("*"))


def test_what_a_coupling_needs_is_said(
    prior: Prior, few_views: Measurement, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="calibrate"):
        next(iter(reconstruct_steps(prior, few_views, coupling="prox")))
    coarse = calibration(prior, size=64)
    with pytest.raises(UsageError, match="known at size 64, not at 32"):
        next(iter(reconstruct_steps(prior, few_views, coupling="prox", calibration=coarse)))
    with pytest.raises(UsageError, match="none of cg, dds"):
        next(iter(reconstruct_steps(prior, few_views, coupling="x")))  # type: ignore[arg-type]
    needed = prior.network.differentiable_memory((32, 32, 32))
    assert needed > 2 * prior.network.memory((32, 32, 32))
    monkeypatch.setattr("prdit_core.machine.memory_of", lambda _device: needed // 2)
    next(iter(reconstruct_steps(prior, few_views)))
    with pytest.raises(MemoryLimit, match="derivatives"):
        next(iter(reconstruct_steps(prior, few_views, coupling="posterior")))


def test_noise_is_what_photons_make_it_and_assumed_where_nobody_counted(
    prior: Prior, fine: Volume
) -> None:
    truth = coarser(fine)
    truth = replace(truth, voxels_hu=np.clip(truth.voxels_hu, -1000, 400))
    spec = scanners.parallel_scan(truth.shape, truth.spacing_mm, 30, 180.0)
    x = torch.from_numpy(truth.voxels_hu)[None, None]
    for photons in (1e3, 1e5):
        problem = problem_of(prior, simulate(truth, spec, photons=photons), None)
        assert problem.weights is not None
        off = problem.weights.sqrt() * (problem.operator(problem.measured(x)) - problem.y)
        assert float(off.std()) == pytest.approx(problem.sigma, rel=0.05)
    free = problem_of(prior, simulate(truth, spec), None)
    size = free.measurement.values.std() / free.unit.slope
    assert 0.002 * size < free.sigma < 0.02 * size


# ---------------------------------------------------------------------------------------------
# Priors of latents.


@dataclass(frozen=True)
class Halved:
    """Latents are means of 2^3 voxels, turned over; what is finer is lost."""

    to = of = lambda self, _: self  # type: ignore[assignment]
    padded = channels = lambda self, same: same  # type: ignore[assignment]

    def grid(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        depth, height, width = shape
        return depth // 2, height // 2, width // 2

    def encode(self, x: Tensor) -> Tensor:
        return -F.avg_pool3d(x, 2)

    def decode(self, z: Tensor) -> Tensor:
        return F.interpolate(-z, scale_factor=2, mode="nearest")

    preview = decode


@pytest.fixture
def latent() -> Prior:
    network = GaussianNetwork(Gaussian(GaussianConfig(std=0.3)))
    geometry = cubic(16, 160.0)
    return Prior(network, CosineSchedule(), Intensity(), geometry, "toy", "0", codec=Halved())


def test_latents_are_decoded_for_the_data_and_encoded_again(latent: Prior) -> None:
    """Means of 4^3 voxels, which such latents can have: one iteration fits them."""
    hu = np.random.default_rng(0).uniform(-900, 300, (16, 16, 16)).astype(np.float32)
    scan = Volume(hu, np.diag([10.0, 10.0, 10.0, 1.0]))
    means = simulate(scan, SuperResolutionSpec(shape=(16, 16, 16), factor=4))
    for name in ("cg", "dds"):
        found = reconstruct(latent, means, iterations=2, coupling=name)
        blocks = found.voxels_hu.reshape(4, 4, 4, 4, 4, 4).mean(axis=(1, 3, 5))
        np.testing.assert_allclose(blocks, means.values, atol=1)
        # And nothing finer than a latent.
        np.testing.assert_array_equal(found.voxels_hu[::2], found.voxels_hu[1::2])
        assert found.voxels_hu.std() > 20
    for name, reason in (("posterior", "for models of voxels"), ("pigdm", "derivatives of models")):
        errors = calibration(latent, 16)
        with pytest.raises(UsageError, match=reason):
            next(iter(reconstruct_steps(latent, means, coupling=name, calibration=errors)))  # type: ignore[arg-type]

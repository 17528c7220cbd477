"""Reconstruct a volume from a measurement, with a prior or without."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from prdit_core.errors import UsageError
from prdit_core.intensity import HU
from prdit_core.inverse.cg import Iterate, cg, cg_steps, weighted_norm
from prdit_core.inverse.couplings import Coupling
from prdit_core.inverse.fbp import fbp
from prdit_core.inverse.operators.projector import ViewsSpec
from prdit_core.inverse.problem import (
    Problem,
    in_measured_unit,
    in_units_of,
    projector_of,
    zero_filled,
)
from prdit_core.inverse.sirt import sirt_steps
from prdit_core.inverse.tv import tv_steps
from prdit_core.machine import choose_device, package_version
from prdit_core.provenance import UNITS, torch_version
from prdit_core.sampling.sampler import SAMPLERS
from prdit_core.verbs.generate import generate_steps, step_volume
from prdit_core.volume import Volume, axial_affine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from prdit_core.config import CouplingName, LastStepName, SamplingConfig
    from prdit_core.inverse.calibration import Calibration
    from prdit_core.inverse.measurement import Measurement
    from prdit_core.models.prior import Prior
    from prdit_core.sampling.sampler import SampleStep

ClassicalMethod = Literal["fbp", "zero-filling", "cg", "sirt", "tv"]
WALK = Coupling().walk()
ITERATIONS: dict[ClassicalMethod, int] = {"cg": 20, "sirt": 200, "tv": 50}
# Conjugate gradients that tell what the data determine from what they leave open.
SPLIT_ITERATIONS = 50
RECONSTRUCTED = "reconstructed with a generative model, partly imagined, not for diagnosis"
COMPUTED = "reconstructed from a measurement, not for diagnosis"


def reconstruct_steps(
    prior: Prior,
    measurement: Measurement,
    config: SamplingConfig = WALK,
    *,
    iterations: int | None = None,
    coupling: CouplingName = "cg",
    calibration: Calibration | None = None,
    seed: int = 0,
    index: int = 0,
    device: str | None = None,
) -> Iterator[SampleStep]:
    """Walk from noise to a volume that fits a measurement, one event per step.

    At every step the predicted volume takes a few steps of conjugate gradients towards the data, or
    what another coupling does. Other seeds give other volumes that fit as well: what they share is
    certain, what they do not is imagined.

    Parameters
    ----------
    measurement : of the prior's grid and spacing
    config : of the walk
    iterations : of conjugate gradients at every step; 10 to 15 where views are many. None: 5, or
        as many as the coupling has
    coupling : a name of `COUPLINGS`, which says what each does and whether it is exact
    calibration : error of the network, for "prox" and "pigdm"; see `read_calibration`
    seed, index, device : as of `generate_steps`

    Yields
    ------
    SampleStep

    Raises
    ------
    UsageError
        If the measurement is not one of the prior's grid, or a setting is out of range.
    MemoryLimit
        If the operator or the walk does not fit.
    """
    chosen = Coupling(coupling, iterations, calibration)
    problem = problem_of(prior, measurement, device)
    yield from prior_steps(prior, problem, config, chosen, seed=seed, index=index, device=device)


def reconstruct(
    prior: Prior,
    measurement: Measurement,
    config: SamplingConfig = WALK,
    *,
    iterations: int | None = None,
    coupling: CouplingName = "cg",
    calibration: Calibration | None = None,
    last_step: LastStepName = "tv",
    seed: int = 0,
    index: int = 0,
    device: str | None = None,
) -> Volume:
    """One reconstruction in HU; see `reconstruct_steps`.

    Parameters
    ----------
    last_step : of projections, after the walk: "tv" takes away grain that neither data nor edges
        need, see `inverse.last_step`; "none" leaves the sample as it is
    """
    chosen = Coupling(coupling, iterations, calibration, last_step)
    problem = problem_of(prior, measurement, device)
    walk = prior_steps(prior, problem, config, chosen, seed=seed, index=index, device=device)
    (last,) = deque(walk, maxlen=1)
    return prior_volume(prior, problem, config, chosen, last, seed=seed, index=index)


def prior_steps(
    prior: Prior,
    problem: Problem,
    config: SamplingConfig,
    coupling: Coupling,
    *,
    seed: int,
    index: int,
    device: str | None = None,
) -> Iterator[SampleStep]:
    """As `reconstruct_steps`, of a problem in the prior's units: any number of walks share one."""
    place = prior if device is None else prior.to(choose_device(device))
    edit = coupling.edit(place, problem, config)
    yield from generate_steps(place, config, seed=seed, index=index, edit=edit)


def prior_volume(
    prior: Prior,
    problem: Problem,
    config: SamplingConfig,
    coupling: Coupling,
    step: SampleStep,
    *,
    seed: int,
    index: int,
) -> Volume:
    """HU volume of a step of a walk, on the measurement's grid.

    That of a step on the way is an estimate, without the last step of the coupling. It is not
    clipped to the prior's window, which ends below bone: the data may say more.
    """
    measurement = problem.measurement
    if not step.finished:
        coupling = replace(coupling, last_step="none")
    x = coupling.finish(problem, prior.codec.decode(SAMPLERS[config.sampler].result(step)))
    made = step_volume(prior, config, step, seed=seed, index=index)
    low, high = prior.intensity.window_hu
    hu = problem.hu(x)[0, 0].float().cpu().numpy()
    outside = float(np.mean((hu < low - 1) | (hu > high + 1)))
    metadata = {
        **made.metadata,
        **prior_settings(measurement, coupling),
        "misfit": problem.misfit(x),
        "outside_window": outside,
        "measurement": measurement.about(),
    }
    affine = made.affine if measurement.affine is None else measurement.affine
    return Volume(hu, affine, metadata)


def prior_settings(measurement: Measurement, coupling: Coupling) -> dict[str, Any]:
    """What a record has besides that of a generated volume, but for what came out."""
    return {
        "notice": RECONSTRUCTED,
        "method": "prior",
        **coupling.settings,
        "measurement_sha256": measurement.digest,
        **({} if measurement.units == HU else {UNITS: measurement.units}),
    }


def classical_steps(
    problem: Problem,
    method: ClassicalMethod,
    *,
    iterations: int | None = None,
    strength: float | None = None,
) -> Iterator[Iterate]:
    """Reconstruct without a prior, one event per iteration; see `reconstruct_classically`."""
    yield from _solving(problem, method, iterations or ITERATIONS.get(method, 0), strength)


def reconstruct_classically(
    measurement: Measurement,
    method: ClassicalMethod,
    *,
    iterations: int | None = None,
    strength: float | None = None,
    device: str = "cpu",
) -> Volume:
    """A reconstruction without a prior, in HU, or in the measurement's units.

    Parameters
    ----------
    method
        "fbp" (FDK for a cone), "zero-filling" (of k-space), "cg" (conjugate gradients from
        nothing), "sirt", or "tv".
    iterations : of all but the first two; None: 20 of "cg", 200 of "sirt", 50 of "tv"
    strength : of total variation, in 1/mm of attenuation (in HU, or the measurement's units, where
        no rays are integrated)

    Raises
    ------
    UsageError
        If the method is not one for this measurement, or "tv" has no strength.
    """
    problem = in_measured_unit(measurement, device)
    return solved_classically(problem, method, iterations=iterations, strength=strength)


def solved_classically(
    problem: Problem,
    method: ClassicalMethod,
    *,
    iterations: int | None = None,
    strength: float | None = None,
) -> Volume:
    """As `reconstruct_classically`, of a problem in the measured unit."""
    steps = classical_steps(problem, method, iterations=iterations, strength=strength)
    (last,) = deque(steps, maxlen=1)
    return classical_volume(problem, method, last, iterations=iterations, strength=strength)


def classical_volume(
    problem: Problem,
    method: ClassicalMethod,
    last: Iterate,
    *,
    iterations: int | None = None,
    strength: float | None = None,
) -> Volume:
    """HU volume of the last of `classical_steps`, on the measurement's grid.

    Where lengths are in pixels, so is attenuation, and the numbers are no true HU; what is no CT
    has the measurement's units.
    """
    measurement = problem.measurement
    hu = problem.hu(last.x)[0, 0].float().cpu().numpy()
    true_hu = measurement.length == "mm" and measurement.units == HU
    metadata = {
        **classical_settings(measurement, method, iterations=iterations, strength=strength),
        "misfit": problem.misfit(last.x),
        "measurement": measurement.about(),
        **({} if true_hu else {"window_hu": _relative_window(hu, measurement.units)}),
    }
    return Volume(hu, place_of(measurement), metadata)


def classical_settings(
    measurement: Measurement,
    method: ClassicalMethod,
    *,
    iterations: int | None = None,
    strength: float | None = None,
) -> dict[str, Any]:
    """All that a reconstruction without a prior depends on, as its record has it."""
    count = iterations or ITERATIONS.get(method)
    return {
        "notice": COMPUTED,
        "method": method,
        **({} if count is None else {"iterations": count}),
        **({"strength": strength} if method == "tv" else {}),
        **_meaning(measurement),
        "measurement_sha256": measurement.digest,
        "version": package_version(),
        "torch": torch_version(),
    }


def _meaning(measurement: Measurement) -> dict[str, str]:
    """What the numbers of a reconstruction are."""
    if measurement.units != HU:
        return {UNITS: measurement.units}
    return {"hu": "exact" if measurement.length == "mm" else "relative, lengths are in pixels"}


def fitting(prior: Prior, measurement: Measurement, size: int | None) -> Prior:
    """The prior at a resolution of its chain; None: that of the measurement, if it is one."""
    edge = measurement.spec.shape[0]
    return prior.at_size(edge if size is None and edge in prior.sizes else size)


def problem_of(prior: Prior, measurement: Measurement, device: str | None) -> Problem:
    """The measurement in the prior's units; errors as of `reconstruct_steps`."""
    prior.check_volume()
    where = str(prior.device) if device is None else device
    return in_units_of(prior.intensity, prior.geometry, measurement, where)


def place_of(measurement: Measurement) -> NDArray[np.float64]:
    """Affine of what is reconstructed; without a place in a patient axial, in the middle."""
    if measurement.affine is not None:
        return measurement.affine
    spec = measurement.spec
    spacing = spec.spacing_mm if isinstance(spec, ViewsSpec) else (1.0, 1.0, 1.0)
    return axial_affine(spacing, spec.shape)


def determined_hu(problem: Problem, volume: Volume) -> Volume:
    """What of a reconstruction the data determine; the rest of it the prior imagined.

    The part in the range of A*, by conjugate gradients from nothing: A cannot see the difference
    to the volume.
    """
    hu = torch.from_numpy(volume.voxels_hu.astype(np.float32))[None, None]
    x = problem.measured(hu)
    seen = cg(
        problem.operator, problem.operator(x), torch.zeros_like(x), iterations=SPLIT_ITERATIONS
    )
    return Volume(problem.hu(seen)[0, 0].numpy(), volume.affine, volume.metadata)


def _solving(
    problem: Problem, method: ClassicalMethod, iterations: int, strength: float | None
) -> Iterator[Iterate]:
    # Rays count or do not: the thousandfold range of counted photons takes many more iterations. At
    # 1e5 photons and 120 degrees TV came to 23.5 dB in 300 with weights and to 25.5 in 50 without.
    operator, y, counted = problem.operator, problem.y, problem.counted
    start = torch.zeros((1, 1, *operator.domain_shape), device=y.device)
    match method:
        case "fbp":
            x = fbp(projector_of(problem), y)
            yield Iterate(0, 1, x, weighted_norm(y - operator(x), None))
        case "zero-filling":
            x = zero_filled(problem)
            yield Iterate(0, 1, x, weighted_norm(y - operator(x), None))
        case "cg":
            # The start, for a measurement that it explains: then there is nothing to do.
            yield Iterate(-1, iterations, start, weighted_norm(y, counted))
            yield from cg_steps(operator, y, start, iterations=iterations, weights=counted)
        case "sirt":
            projector_of(problem)  # its row sums are of rays
            yield from sirt_steps(operator, y, start, iterations=iterations)
        case "tv":
            if strength is None:
                raise UsageError("method tv needs a strength; tune one on other volumes")
            yield from tv_steps(
                operator,
                y,
                start,
                strength=strength,
                weights=counted,
                lower=problem.lower,
                iterations=iterations,
            )


def _relative_window(hu: NDArray[np.float32], units: str) -> tuple[float, float]:
    """What to show of numbers that are no true HU: from air, or 0, to nearly the largest."""
    lowest = -1000.0 if units == HU else 0.0
    return lowest, max(lowest + 1, float(np.percentile(hu, 99.9)))

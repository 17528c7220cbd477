"""Reconstruct a volume from a measurement with a prior; `classical` does without."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from prdit_core.intensity import HU
from prdit_core.inverse.cg import cg
from prdit_core.inverse.couplings import Coupling
from prdit_core.inverse.problem import (
    Problem,
    in_units_of,
)
from prdit_core.machine import choose_device
from prdit_core.provenance import UNITS
from prdit_core.sampling.sampler import SAMPLERS
from prdit_core.verbs.generate import generate_steps
from prdit_core.verbs.step_volume import step_stamp
from prdit_core.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prdit_core.config import CouplingName, LastStepName, SamplingConfig
    from prdit_core.inverse.calibration import Calibration
    from prdit_core.inverse.measurement import Measurement
    from prdit_core.models.prior import Prior
    from prdit_core.sampling.sampler import SampleStep

WALK = Coupling().walk()
# Conjugate gradients that tell what the data determine from what they leave open.
SPLIT_ITERATIONS = 50
RECONSTRUCTED = "reconstructed with a generative model, partly imagined, not for diagnosis"


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
    low, high = prior.intensity.window_hu
    hu = problem.hu(x)[0, 0].float().cpu().numpy()
    outside = float(np.mean((hu < low - 1) | (hu > high + 1)))
    metadata = {
        **step_stamp(prior, config, step, seed=seed, index=index),
        **prior_settings(measurement, coupling),
        "misfit": problem.misfit(x),
        "outside_window": outside,
        "measurement": measurement.about(),
    }
    affine = prior.affine if measurement.affine is None else measurement.affine
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


def fitting(prior: Prior, measurement: Measurement, size: int | None) -> Prior:
    """The prior at a resolution of its chain; None: that of the measurement, if it is one."""
    edge = measurement.spec.shape[0]
    return prior.at_size(edge if size is None and edge in prior.sizes else size)


def problem_of(prior: Prior, measurement: Measurement, device: str | None) -> Problem:
    """The measurement in the prior's units; errors as of `reconstruct_steps`."""
    prior.check_volume()
    where = str(prior.device) if device is None else device
    return in_units_of(prior.intensity, prior.geometry, measurement, where)


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

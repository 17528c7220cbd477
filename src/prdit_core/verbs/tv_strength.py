"""How strong total variation should be for a measurement whose truth nobody knows."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from prdit_core.data.phantoms import make_phantom
from prdit_core.errors import UsageError
from prdit_core.inverse.operators.parallel import ParallelSpec
from prdit_core.inverse.operators.projector import Projector, ViewsSpec
from prdit_core.inverse.tuning import USUAL, USUAL_WIDTH, tuned_strength, usual_strength
from prdit_core.inverse.tv import INNER, ITERATIONS
from prdit_core.verbs.simulate import coarser, simulate
from prdit_core.volume import Volume, axial_affine

if TYPE_CHECKING:
    from prdit_core.inverse.operators.contract import LinearOperator, Spec
    from prdit_core.inverse.problem import Problem

# The phantom that is tuned on, of no benchmark's held-out ones.
SEED, INDEX = 5, 27
FIELD_MM = 320.0
LONGEST_S = 60.0
TRIALS = 13
# Degrees that views may leave out of half a turn, and be taken for all of it.
ALMOST = 5.0


@dataclass(frozen=True)
class Strength:
    """Of total variation, and where it is from."""

    value: float
    source: str


def strength_for(problem: Problem) -> Strength:
    """The usual strength for parallel views whose number is known, else one tuned on a phantom.

    The phantom is measured with the same geometry and as many photons. It fills the grid, whatever
    lies there in truth, so the strength is a start and no optimum.

    Parameters
    ----------
    problem : in the measured unit

    Raises
    ------
    UsageError
        If tuning would take minutes.
    """
    operator = problem.operator
    if isinstance(operator, Projector) and _is_usual(operator.geometry):
        value = usual_strength(operator, problem.y)
        return Strength(value, f"usual for {operator.geometry.views} views")
    seconds = TRIALS * ITERATIONS * INNER * _seconds(operator)
    if seconds > LONGEST_S:
        start = ""
        if isinstance(operator, Projector):
            start = f", such as {usual_strength(operator, problem.y):.2g} to begin with"
        raise UsageError(
            f"the strength of total variation is not known for this geometry, and tuning it on a "
            f"phantom would take about {seconds / 60:.0f} minutes; give --tv-strength{start}"
        )
    return Strength(_tuned(problem), "tuned on a phantom")


def _is_usual(spec: ViewsSpec) -> bool:
    """Parallel views over half a turn, no fewer and no more than those that were tuned.

    And as many pixels a row: at 32 the strength for 64 was 3 dB worse than one tuned there.
    """
    if not (isinstance(spec, ParallelSpec) and spec.shape[2] == USUAL_WIDTH):
        return False
    if not min(USUAL) <= spec.views <= max(USUAL):
        return False
    arc = (max(spec.angles_deg) - min(spec.angles_deg)) * spec.views / (spec.views - 1)
    return arc >= 180.0 - ALMOST


def _seconds(operator: LinearOperator) -> float:
    """What A* A takes here, of the processor."""
    x = torch.ones((1, 1, *operator.domain_shape), device=operator.device)
    operator.normal(x)
    before = time.process_time()
    operator.normal(x)
    return time.process_time() - before


def _tuned(problem: Problem) -> float:
    spec, place = problem.measurement.spec, problem.operator.device
    fine = _phantom(spec)
    photons = problem.measurement.metadata.get("photons")
    simulated = simulate(fine, spec, photons=photons)
    truth = coarser(fine) if isinstance(spec, ViewsSpec) else fine
    hu = torch.from_numpy(truth.voxels_hu).float()[None, None].to(place)
    weights = simulated.weight_tensor()
    return tuned_strength(
        problem.operator,
        [(problem.measured(hu).clamp(min=problem.lower), simulated.tensor().to(place))],
        None if weights is None else [weights.to(place)],
        problem.lower,
    )


def _phantom(spec: Spec) -> Volume:
    """A phantom stretched to the grid of a spec; to a twice finer one for projections."""
    finer = spec.halved() if isinstance(spec, ViewsSpec) else spec
    spacing = finer.spacing_mm if isinstance(finer, ViewsSpec) else (1.0, 1.0, 1.0)
    mm = min(max(FIELD_MM / max(finer.shape), 1.0), 40.0)
    hu = torch.from_numpy(make_phantom(SEED, INDEX, spacing_mm=mm).volume.voxels_hu).float()
    size = list(finer.shape)
    stretched = torch.nn.functional.interpolate(hu[None, None], size, mode="trilinear")[0, 0]
    return Volume(stretched.numpy(), axial_affine(spacing, finer.shape))

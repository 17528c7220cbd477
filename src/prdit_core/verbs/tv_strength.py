"""How strong total variation should be for a measurement whose truth nobody knows."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from prdit_core.data.phantoms import make_phantom
from prdit_core.errors import UsageError
from prdit_core.intensity import HU
from prdit_core.inverse.operators.parallel import ParallelSpec
from prdit_core.inverse.operators.projector import Projector, ViewsSpec
from prdit_core.inverse.tuning import (
    TRIALS,
    USUAL,
    USUAL_WIDTH,
    Known,
    Trial,
    tuning_steps,
    usual_strength,
)
from prdit_core.inverse.tv import INNER, ITERATIONS, contrast
from prdit_core.provenance import UNITS
from prdit_core.verbs.simulate import coarser, simulate
from prdit_core.volume import Volume, axial_affine

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prdit_core.inverse.operators.contract import LinearOperator, Spec
    from prdit_core.inverse.problem import Problem

# The phantoms that are tuned on, of no benchmark's held-out ones: this one, and those before it.
SEED, LAST = 5, 27
CHESTS, HEADS = ("chest", "ct", 320.0), ("head", "t1", 256.0)
LONGEST_S = 60.0
# Degrees that views may leave out of an arc, and be taken for all of it.
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
    if isinstance(operator, Projector) and (arc := _usual_arc(operator.geometry)):
        value = usual_strength(operator, problem.y, arc)
        return Strength(value, f"usual for {operator.geometry.views} views over {arc} degrees")
    seconds = TRIALS * ITERATIONS * INNER * _seconds(operator)
    if seconds > LONGEST_S:
        start = ""
        if isinstance(operator, Projector):
            start = f", such as {usual_strength(operator, problem.y):.2g} to begin with"
        raise UsageError(
            f"the strength of total variation is not known for this geometry, and tuning it on a "
            f"phantom would take about {seconds / 60:.0f} minutes; run prdit-core tune-tv, or give "
            f"--tv-strength{start}"
        )
    (last,) = deque(strength_steps(problem, phantom_numbers(1)), maxlen=1)
    return Strength(last.best * contrast(operator, problem.y), "tuned on a phantom")


def strength_steps(problem: Problem, volumes: Sequence[Volume | int]) -> Iterator[Trial]:
    """Tune total variation for a measurement on other volumes, one event per strength tried.

    They are measured with the same geometry and as many photons. A strength is the `contrast` of
    the measurement times the share of the last event's `best`.

    Parameters
    ----------
    problem : in the measured unit
    volumes : in HU, stretched to the grid of the measurement; or `phantom_numbers`
    """
    known = [_known(problem, one, number) for number, one in enumerate(volumes)]
    yield from tuning_steps(problem.operator, known, problem.lower)


def phantom_numbers(count: int) -> list[int]:
    """Which phantoms are tuned on, of a series of their own."""
    return list(range(LAST, LAST - count, -1))


def _usual_arc(spec: ViewsSpec) -> int | None:
    """The arc of parallel views that were tuned: no fewer of them and no more.

    And as many pixels a row: at 32 the strength for 64 was 3 dB worse than one tuned there.
    """
    if not (isinstance(spec, ParallelSpec) and spec.shape[2] == USUAL_WIDTH and spec.views > 1):
        return None
    arc = (max(spec.angles_deg) - min(spec.angles_deg)) * spec.views / (spec.views - 1)
    near = (known for known in USUAL if abs(arc - known) <= ALMOST)
    nearest = next(near, None)
    if nearest is None or not min(USUAL[nearest]) <= spec.views <= max(USUAL[nearest]):
        return None
    return nearest


def _seconds(operator: LinearOperator) -> float:
    """What A* A takes here, of the processor."""
    x = torch.ones((1, 1, *operator.domain_shape), device=operator.device)
    operator.normal(x)
    before = time.process_time()
    operator.normal(x)
    return time.process_time() - before


def _known(problem: Problem, volume: Volume | int, number: int) -> Known:
    """A volume on the grid of the problem, and what its operator measures of it."""
    spec, place = problem.measurement.spec, problem.operator.device
    fine = _stretched(volume, spec, problem.measurement.units)
    if problem.measurement.units != HU:
        fine = _as_bright(fine, problem)
    photons = problem.measurement.metadata.get("photons")
    noise = problem.measurement.metadata.get("noise")
    simulated = simulate(fine, spec, photons=photons, noise=noise, index=number)
    truth = coarser(fine) if isinstance(spec, ViewsSpec) else fine
    hu = torch.from_numpy(truth.voxels_hu).float()[None, None].to(place)
    x = problem.measured(hu).clamp(min=problem.lower)
    return Known(x, simulated.tensor().to(place))


def _as_bright(volume: Volume, problem: Problem) -> Volume:
    """A volume as bright as what was measured, since strength and noise go by that."""
    bright = volume.voxels_hu
    x = torch.from_numpy(bright)[None, None].to(problem.operator.device)
    size = float(problem.y.norm() / problem.operator(problem.measured(x)).norm())
    return Volume(bright * size, volume.affine, {UNITS: problem.measurement.units})


def _stretched(volume: Volume | int, spec: Spec, units: str) -> Volume:
    """A volume on the grid of a spec; on a twice finer one for projections.

    Phantoms are chests in HU, or heads of MR.
    """
    finer = spec.halved() if isinstance(spec, ViewsSpec) else spec
    spacing = finer.spacing_mm if isinstance(finer, ViewsSpec) else (1.0, 1.0, 1.0)
    if isinstance(volume, int):
        region, modality, field_mm = CHESTS if units == HU else HEADS
        mm = min(max(field_mm / max(finer.shape), 1.0), 40.0)
        phantom = make_phantom(SEED, volume, spacing_mm=mm, region=region, modality=modality)
        volume = phantom.volume
    hu = torch.from_numpy(volume.voxels_hu).float()
    size = list(finer.shape)
    stretched = torch.nn.functional.interpolate(hu[None, None], size, mode="trilinear")[0, 0]
    return Volume(stretched.numpy(), axial_affine(spacing, finer.shape))

"""The table of couplings: how a prior's walk is brought to fit a measurement."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from prdit_core.config import SamplingConfig
from prdit_core.errors import UsageError
from prdit_core.inverse.consistency import (
    Agreeing,
    Decoded,
    LeastSquares,
    Posterior,
    Proximal,
)
from prdit_core.inverse.derivatives import MomentMatching, PseudoinverseGuidance, clean_volumes
from prdit_core.inverse.guidance import Guidance, hot_growth
from prdit_core.inverse.last_step import smoothed
from prdit_core.machine import check_memory
from prdit_core.models.codec import Identity
from prdit_core.sampling.grid import time_grid
from prdit_core.sampling.sampler import SAMPLERS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from prdit_core.config import CouplingName, LastStepName
    from prdit_core.inverse.calibration import Calibration
    from prdit_core.inverse.derivatives import Clean
    from prdit_core.inverse.problem import Problem
    from prdit_core.models.prior import Prior
    from prdit_core.sampling.sampler import Edit

# Hot and of first order: on phantoms 0.6 dB better than the cold second-order walk of `generate`.
DEFAULTS = SamplingConfig(steps=20, sampler="increment", k=2.0)
# A posterior is sampled by a walk without noise of its own; of first order, since x0 jumps.
COLD = {"k": 1.0}
# Root mean square of a voxel's push, in model units, where sigma is 1 and the gradient is longest.
PUSH = 0.1
FIRST_ORDER = ("increment", "euler", "resynthesis")


@dataclass(frozen=True, eq=False)
class CouplingTask:
    """What a coupling is made for."""

    prior: Prior
    problem: Problem
    config: SamplingConfig
    iterations: int
    calibration: Calibration | None

    def error(self) -> Callable[[float], float]:
        """The network's error, t -> r."""
        if self.calibration is None:
            raise UsageError(
                f"this coupling needs the error of {self.prior.name}; run prdit-core calibrate on "
                "volumes it has not seen, or take the coupling cg"
            )
        return self.calibration.error(self.prior.geometry.shape[0])

    def clean(self) -> Clean:
        """The network with derivatives, if they fit into memory."""
        shape = self.prior.geometry.shape
        needed = self.prior.network.differentiable_memory(shape)
        what = f"derivatives of a volume of {' x '.join(map(str, shape))}"
        check_memory(needed, str(self.prior.device), what)
        return clean_volumes(self.prior)


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes
    ----------
    description : what it does, and whether it is exact
    iterations : of conjugate gradients at every step unless asked otherwise; 0: it has none
    edit : what the walk does to every prediction
    walk : settings of the walk that differ from `DEFAULTS` unless asked otherwise
    needs_error : of the network, as `calibrate` measures it
    """

    name: CouplingName
    description: str
    iterations: int
    edit: Callable[[CouplingTask], Edit]
    walk: Mapping[str, Any] = field(default_factory=dict)
    needs_error: bool = False


def _least_squares(task: CouplingTask) -> Edit:
    # Without the weights of counted photons, which make few iterations go another way: at 8 views
    # 22.4 dB, 20.5 with them.
    problem = task.problem
    edit = LeastSquares(problem.operator, problem.y, task.iterations, problem.counted)
    return Decoded(task.prior.codec, edit)


def _dds(task: CouplingTask) -> Edit:
    return Agreeing(task.prior.schedule, _least_squares(task))


def _plain_proximal(task: CouplingTask) -> Proximal:
    problem = task.problem
    return Proximal(
        problem.operator,
        problem.y,
        problem.sigma,
        task.error(),
        task.iterations,
        problem.weights,
    )


def _proximal(task: CouplingTask) -> Edit:
    return Decoded(task.prior.codec, _plain_proximal(task))


def _pigdm(task: CouplingTask) -> Edit:
    schedule, decode = task.prior.schedule, task.prior.codec.decode
    mean = PseudoinverseGuidance(_plain_proximal(task), task.clean(), decode, schedule)
    return Posterior(schedule, mean)


def _posterior(task: CouplingTask) -> Edit:
    problem, schedule = task.problem, task.prior.schedule
    if not isinstance(task.prior.codec, Identity):
        raise UsageError("the coupling posterior is for models of voxels; take pigdm for latents")
    mean = MomentMatching(
        problem.operator,
        problem.y,
        problem.sigma,
        task.clean(),
        schedule,
        task.iterations,
        problem.weights,
    )
    return Posterior(schedule, mean)


def _guidance(task: CouplingTask) -> Edit:
    prior, config, problem = task.prior, task.config, task.problem
    schedule, sampler = prior.schedule, SAMPLERS[config.sampler]
    if config.sampler not in FIRST_ORDER or config.k == 1:
        raise UsageError(
            "the coupling guidance pushes states before noise is added again: it needs --k above 1 "
            f"and a sampler out of {', '.join(FIRST_ORDER)}"
        )
    grid = time_grid(config.grid, config.steps, schedule, sampler.first_time)
    longest = PUSH * math.sqrt(math.prod(prior.shape)) / problem.operator.norm()
    return Guidance(
        problem.operator,
        problem.y,
        strength=lambda t: longest * schedule.sigma(t) ** 2,
        growth=hot_growth(sampler, grid, config.k, schedule),
        decode=prior.codec.decode,
    )


COUPLINGS: dict[CouplingName, Row] = {
    row.name: row
    for row in (
        Row("cg", "conjugate gradients from the prediction; not exact", 5, _least_squares),
        Row(
            "dds",
            "the same on a DDIM walk, x0 and eps of one head, as DDS does; not exact",
            5,
            _dds,
            {"sampler": "ddim", "k": 1.0, "eta": 0.85},
        ),
        Row(
            "prox",
            "prediction and data weighed by their errors; not exact",
            10,
            _proximal,
            needs_error=True,
        ),
        Row(
            "pigdm",
            "PiGDM, through the network's derivative; exact for independent, equal voxels",
            10,
            _pigdm,
            COLD,
            needs_error=True,
        ),
        Row(
            "posterior",
            "moment matching by the network's derivative; exact for normal priors",
            3,
            _posterior,
            COLD,
        ),
        Row("guidance", "pushes down the misfit, as TF-PRDiT does; not exact", 0, _guidance),
    )
}


@dataclass(frozen=True, eq=False)
class Coupling:
    """A row of the table with its settings.

    Attributes
    ----------
    iterations : of conjugate gradients at every step; None: the row's
    calibration : of the network, for rows that need its error
    last_step : what is done to the volume of a finished walk: "tv" (see `last_step.smoothed`) or
        "none", for samples

    Raises
    ------
    UsageError
        If there is no such row, or it has no iterations.
    """

    name: CouplingName = "cg"
    iterations: int | None = None
    calibration: Calibration | None = None
    last_step: LastStepName = "tv"

    def __post_init__(self) -> None:
        if self.name not in COUPLINGS:
            raise UsageError(f"coupling {self.name!r} is none of {', '.join(COUPLINGS)}")
        if self.iterations is not None and not self.row.iterations:
            raise UsageError(f"the coupling {self.name} has no iterations")

    @property
    def row(self) -> Row:
        """Of the table."""
        return COUPLINGS[self.name]

    @property
    def settings(self) -> dict[str, Any]:
        """What a record says of it."""
        content: dict[str, Any] = {"coupling": self.name, "last_step": self.last_step}
        if self.row.iterations:
            content["iterations"] = self._iterations
        if self.row.needs_error and self.calibration is not None:
            content["calibration_sha256"] = self.calibration.digest
        return content

    def walk(self, **wishes: Any) -> SamplingConfig:
        """The walk that goes with it, but for what is wished otherwise.

        With another sampler than its own, its other settings do not go.
        """
        own = self.row.walk
        if wishes.get("sampler", own.get("sampler")) != own.get("sampler"):
            own = {}
        return DEFAULTS.model_copy(update=own).but(wishes)

    def edit(self, prior: Prior, problem: Problem, config: SamplingConfig) -> Edit:
        """What a walk does to every prediction.

        Parameters
        ----------
        problem : in the prior's units
        config : of the walk

        Raises
        ------
        UsageError
            If it needs an error that is not known, or does not go with the walk or the prior.
        MemoryLimit
            If derivatives do not fit.
        """
        return self.row.edit(
            CouplingTask(prior, problem, config, self._iterations, self.calibration)
        )

    def finish(self, problem: Problem, x0: Tensor) -> Tensor:
        """The volume of a finished walk after its last step, in the unit of the problem."""
        return smoothed(problem, x0) if self.last_step == "tv" else x0

    @property
    def _iterations(self) -> int:
        return self.row.iterations if self.iterations is None else self.iterations

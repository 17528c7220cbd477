"""Ways to reconstruct a measurement, walks with a prior or classical iterations, as one thing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from prdit_core.errors import UsageError
from prdit_core.inverse.calibration import calibration_beside, read_calibration
from prdit_core.inverse.couplings import COUPLINGS
from prdit_core.inverse.problem import in_measured_unit
from prdit_core.verbs.classical import classical_settings, classical_steps, classical_volume
from prdit_core.verbs.reconstruct import prior_settings, prior_steps, prior_volume
from prdit_core.verbs.tv_strength import Strength, strength_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from prdit_core.config import CouplingName, SamplingConfig
    from prdit_core.inverse.calibration import Calibration
    from prdit_core.inverse.couplings import Coupling
    from prdit_core.inverse.measurement import Measurement
    from prdit_core.inverse.problem import Problem
    from prdit_core.models.prior import Prior
    from prdit_core.verbs.classical import ClassicalMethod
    from prdit_core.volume import Volume


class Way(Protocol):
    """What a command or a window needs of a method."""

    @property
    def settings(self) -> dict[str, Any]:
        """All that volumes depend on besides seed and index, as their records have it."""

    def steps(self, index: int) -> Iterator[Any]:
        """Events of volume `index`, each with its own `index` and a `total`."""

    def volume(self, last: Any, index: int) -> Volume:
        """Volume `index` from the last of its events."""


@dataclass(frozen=True, eq=False)
class WithPrior:
    """Walks of a prior with data consistency.

    Attributes
    ----------
    problem : in the prior's units
    generation : what a generated volume with the same prior and walk depends on
    """

    problem: Problem
    prior: Prior
    config: SamplingConfig
    coupling: Coupling
    seed: int
    generation: Mapping[str, Any]

    @property
    def settings(self) -> dict[str, Any]:
        """As `Way` has it."""
        return {**self.generation, **prior_settings(self.problem.measurement, self.coupling)}

    def steps(self, index: int) -> Iterator[Any]:
        """As `Way` has it."""
        return prior_steps(
            self.prior,
            self.problem,
            self.config,
            self.coupling,
            seed=self.seed,
            index=index,
        )

    def volume(self, last: Any, index: int) -> Volume:
        """As `Way` has it."""
        return prior_volume(
            self.prior,
            self.problem,
            self.config,
            self.coupling,
            last,
            seed=self.seed,
            index=index,
        )


@dataclass(frozen=True, eq=False)
class Classical:
    """Iterations without a prior, or one filtered backprojection.

    Attributes
    ----------
    problem : in the measured unit
    """

    problem: Problem
    method: ClassicalMethod
    iterations: int | None
    strength: Strength | None
    threads: int

    @property
    def settings(self) -> dict[str, Any]:
        """As `Way` has it."""
        source = {} if self.strength is None else {"strength_source": self.strength.source}
        return {
            **classical_settings(
                self.problem.measurement,
                self.method,
                iterations=self.iterations,
                strength=self._value,
            ),
            **source,
            "device": str(self.problem.operator.device),
            "threads": self.threads,
        }

    @property
    def _value(self) -> float | None:
        return None if self.strength is None else self.strength.value

    def steps(self, index: int) -> Iterator[Any]:
        """As `Way` has it."""
        return classical_steps(
            self.problem, self.method, iterations=self.iterations, strength=self._value
        )

    def volume(self, last: Any, index: int) -> Volume:
        """As `Way` has it."""
        volume = classical_volume(
            self.problem, self.method, last, iterations=self.iterations, strength=self._value
        )
        return replace(volume, metadata={**volume.metadata, **self.settings})


def classical(
    measurement: Measurement,
    method: ClassicalMethod,
    *,
    iterations: int | None,
    strength: float | None,
    device: str,
    threads: int,
) -> Classical:
    """A classical way; `strength` None: see `strength_for`.

    Raises
    ------
    UsageError
        If total variation needs a strength that cannot be found in seconds.
    """
    problem, chosen = in_measured_unit(measurement, device), None
    if method == "tv":
        chosen = strength_for(problem) if strength is None else Strength(strength, "given")
    return Classical(problem, method, iterations, chosen, threads)


def calibration_for(
    coupling: CouplingName, file: Path | None, checkpoint: str, prior: Prior
) -> Calibration | None:
    """Error of the network for a coupling that needs it, out of a file or beside the weights.

    Raises
    ------
    UsageError
        If a file is given to a coupling that needs none, or is of another model.
    """
    if not COUPLINGS[coupling].needs_error:
        if file is None:
            return None
        needy = ", ".join(row.name for row in COUPLINGS.values() if row.needs_error)
        raise UsageError(f"--calibration is for the couplings {needy}, not for {coupling}")
    return calibration_beside(checkpoint, prior) if file is None else read_calibration(file, prior)

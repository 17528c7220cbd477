"""Ways to reconstruct a measurement, walks with a prior or classical iterations, as one thing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from prdit_core.verbs.reconstruct import (
    classical_settings,
    classical_steps,
    classical_volume,
    prior_settings,
    problem_of,
    reconstruct_steps,
    reconstructed_volume,
)
from prdit_core.verbs.tv_strength import Strength, strength_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from prdit_core.config import SamplingConfig
    from prdit_core.inverse.measurement import Measurement
    from prdit_core.models.prior import Prior
    from prdit_core.verbs.reconstruct import ClassicalMethod
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
    generation : what a generated volume with the same prior and walk depends on
    """

    measurement: Measurement
    prior: Prior
    config: SamplingConfig
    iterations: int
    seed: int
    generation: Mapping[str, Any]

    def __post_init__(self) -> None:
        problem_of(self.prior, self.measurement, None)  # refuses what does not fit, at once

    @property
    def settings(self) -> dict[str, Any]:
        """As `Way` has it."""
        return {**self.generation, **prior_settings(self.measurement, self.iterations)}

    def steps(self, index: int) -> Iterator[Any]:
        """As `Way` has it."""
        return reconstruct_steps(
            self.prior,
            self.measurement,
            self.config,
            iterations=self.iterations,
            seed=self.seed,
            index=index,
        )

    def volume(self, last: Any, index: int) -> Volume:
        """As `Way` has it."""
        return reconstructed_volume(
            self.prior,
            self.measurement,
            self.config,
            last,
            iterations=self.iterations,
            seed=self.seed,
            index=index,
        )


@dataclass(frozen=True, eq=False)
class Classical:
    """Iterations without a prior, or one filtered backprojection."""

    measurement: Measurement
    method: ClassicalMethod
    iterations: int | None
    strength: Strength | None
    device: str
    threads: int

    @property
    def settings(self) -> dict[str, Any]:
        """As `Way` has it."""
        source = {} if self.strength is None else {"strength_source": self.strength.source}
        return {
            **classical_settings(
                self.measurement, self.method, iterations=self.iterations, strength=self._value
            ),
            **source,
            "device": self.device,
            "threads": self.threads,
        }

    @property
    def _value(self) -> float | None:
        return None if self.strength is None else self.strength.value

    def steps(self, index: int) -> Iterator[Any]:
        """As `Way` has it."""
        return classical_steps(
            self.measurement,
            self.method,
            iterations=self.iterations,
            strength=self._value,
            device=self.device,
        )

    def volume(self, last: Any, index: int) -> Volume:
        """As `Way` has it."""
        volume = classical_volume(
            self.measurement,
            self.method,
            last,
            iterations=self.iterations,
            strength=self._value,
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
    chosen = None
    if method == "tv":
        chosen = strength_for(measurement) if strength is None else Strength(strength, "given")
    return Classical(measurement, method, iterations, chosen, device, threads)

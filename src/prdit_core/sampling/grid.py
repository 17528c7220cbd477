"""At which times a sampler visits the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from prdit_core.errors import UsageError
from prdit_core.schedule import T

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prdit_core.config import GridName
    from prdit_core.schedule import Schedule

# Times nearer to 0 than this are 0; steps are never so small.
ROUNDING = 1e-9 * T

# A grid of equal log-SNR steps needs finite ends.
LOG_SNR_ENDS = (T - 1, 1.0)


@dataclass(frozen=True)
class TimeGrid:
    """Times from noise to data; step i goes from times[i] to times[i + 1].

    Attributes
    ----------
    hot_at_zero : whether a predictor that lands exactly on t = 0 is still corrected; the release
        takes a plain cold step there
    first : step that a walk begins with; above 0 for one that branches off another
    """

    times: tuple[float, ...]
    hot_at_zero: bool = True
    first: int = 0

    @property
    def total(self) -> int:
        """Number of steps, which is the number of network evaluations of a one-stage sampler."""
        return len(self.times) - 1

    def steps(self) -> Iterator[tuple[int, float, float]]:
        """(index, t, t_next) of every step from `first` on."""
        for index in range(self.first, self.total):
            yield index, self.times[index], self.times[index + 1]

    def reach(self, t: float, t_next: float, k: float) -> float:
        """Where a k-step predictor lands (Alg. 1).

        It goes k times as far as `t_next` while that is not beyond the data, else to `t_next`
        itself (a cold step).
        """
        reached = t - k * (t - t_next)
        if abs(reached) < ROUNDING:
            reached = 0.0
        beyond = reached < 0 or (reached == 0 and not self.hot_at_zero)
        return t_next if beyond else reached


def time_grid(name: GridName, steps: int, schedule: Schedule, first: float = T) -> TimeGrid:
    """Grid of a given name.

    Parameters
    ----------
    name
        ``exact``: `steps` equal steps from `first` to 0. ``log-snr``: `steps` steps of equal
        log(alpha / sigma) of the schedule from 999 to 1, the last one going on to 0.
        ``release``: every (1000 // steps)-th integer below 1000 down to 0, and a last step from 0
        to 0, as the official sampler walks.
    """
    if name == "exact":
        return TimeGrid(tuple(first * (steps - i) / steps for i in range(steps + 1)))
    if name == "log-snr":
        begin, end = (schedule.log_snr(t) for t in LOG_SNR_ENDS)
        levels = (begin + (end - begin) * i / steps for i in range(steps))
        return TimeGrid((*(schedule.time_at(level) for level in levels), 0.0))
    skip = int(T) // steps
    if skip == 0:
        raise UsageError(
            f"the release's grid has at most 1000 steps, not {steps}; use the exact grid"
        )
    visits = range(0, int(T), skip)
    return TimeGrid((*(float(t) for t in reversed(visits)), 0.0), hot_at_zero=False)

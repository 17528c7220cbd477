"""The noising process: how much signal and noise a state x_t holds at time t.

x_t = alpha(t) x0 + sigma(t) eps with eps ~ N(0, noise_std^2) and t real in [0, T]: data at 0,
noise at T. Two processes are continuous; two are tables of 1000 entries, defined between them too.
All factors are Python floats (float64): they are computed once per step, not per voxel.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from prdit_core.angles import Angles

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = 1000.0


class Schedule(BaseModel, ABC):
    """What every process knows. `noise_std` and `last_t` travel in the checkpoint.

    Attributes
    ----------
    noise_std : standard deviation of eps (1 in the paper, 0.5 in the PRDiT release)
    last_t : largest time the network was trained on; later times are asked as this one
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    noise_std: float = Field(default=1.0, gt=0, le=100, allow_inf_nan=False)
    last_t: float = Field(default=T, gt=0, le=T, allow_inf_nan=False)

    @abstractmethod
    def alpha(self, t: float) -> float:
        """Share of the clean volume at time t."""

    @abstractmethod
    def sigma(self, t: float) -> float:
        """Share of the noise at time t."""

    @abstractmethod
    def drift(self, t: float) -> tuple[float, float]:
        """Time derivatives of (alpha, sigma)."""

    @abstractmethod
    def slopes(self, t: float, t_to: float) -> tuple[float, float]:
        """Integrals of (s - t) d alpha(s) and (s - t) d sigma(s) from t to `t_to`.

        They weigh a linear change of x0 and eps over a step (second-order increments).
        """

    def log_snr(self, t: float) -> float:
        """log(alpha / sigma) at t, which is above 0 and below T."""
        return math.log(self.alpha(t) / self.sigma(t))

    @abstractmethod
    def time_at(self, log_snr: float) -> float:
        """Time at which log(alpha / sigma) has this value; the inverse of `log_snr`."""

    def network_time(self, t: float) -> float:
        """Number that the network's time embedding receives for time t."""
        return min(t, self.last_t)

    def increments(self, t: float, t_to: float) -> tuple[float, float]:
        """Changes of (alpha, sigma) from t to `t_to`."""
        return self.alpha(t_to) - self.alpha(t), self.sigma(t_to) - self.sigma(t)


class CosineSchedule(Schedule):
    """Quarter circle: alpha = cos(theta), sigma = sin(theta), theta = (pi / 2) t / T (Eq. 1)."""

    kind: Literal["cosine"] = "cosine"

    def alpha(self, t: float) -> float:
        """cos(theta); exactly 0 at T."""
        return math.sin(self._theta(T - t))

    def sigma(self, t: float) -> float:
        """sin(theta); exactly 0 at 0."""
        return math.sin(self._theta(t))

    def drift(self, t: float) -> tuple[float, float]:
        """(-sin(theta), cos(theta)) d theta / d t, the direction of Alg. 1."""
        rate = self._theta(1.0)
        return -self.sigma(t) * rate, self.alpha(t) * rate

    def slopes(self, t: float, t_to: float) -> tuple[float, float]:
        """Closed form for the quarter circle, in units of t."""
        step = self._theta(t_to) - self._theta(t)
        grown_alpha, grown_sigma = self.increments(t, t_to)
        along_alpha = step * self.alpha(t_to) - grown_sigma
        along_sigma = step * self.sigma(t_to) + grown_alpha
        return along_alpha / self._theta(1.0), along_sigma / self._theta(1.0)

    def log_snr(self, t: float) -> float:
        """-log(tan(theta))."""
        return -math.log(math.tan(self._theta(t)))

    def time_at(self, log_snr: float) -> float:
        """Theta is the angle whose tangent is sigma / alpha."""
        return math.atan(math.exp(-log_snr)) * 2 * T / math.pi

    @staticmethod
    def _theta(t: float) -> float:
        return 0.5 * math.pi * t / T


class LinearSchedule(Schedule):
    """Straight line of flow matching: alpha = 1 - t / T, sigma = t / T.

    The networks of PRDiT-FM count time the other way (1000 is data); it is turned here only.
    """

    kind: Literal["linear"] = "linear"

    def alpha(self, t: float) -> float:
        """1 - t / T."""
        return 1.0 - t / T

    def sigma(self, t: float) -> float:
        """t / T."""
        return t / T

    def drift(self, t: float) -> tuple[float, float]:
        """Constant along the line."""
        return -1.0 / T, 1.0 / T

    def slopes(self, t: float, t_to: float) -> tuple[float, float]:
        """Half the squared step, with the sign of each share."""
        half_square = 0.5 * (t_to - t) ** 2 / T
        return -half_square, half_square

    def time_at(self, log_snr: float) -> float:
        """T / (1 + alpha / sigma)."""
        return T / (1 + math.exp(log_snr))

    def network_time(self, t: float) -> float:
        """T - t: PRDiT-FM networks receive 1000 at the data."""
        return T - min(t, self.last_t)


# ---------------------------------------------------------------------------------------------
# Variance-preserving processes given as tables. Entry i (from 0) is the state at time
# (i + 1) T / entries, so that time 0 is the data; networks receive i. In between theta, with
# alpha = cos(theta) and sigma = sin(theta), is a monotone cubic: its rate is finite and
# continuous everywhere, where that of sigma = sqrt(1 - abar) would not be at the data.


class TableSchedule(Schedule):
    """A process of `entries` betas: alpha^2 is the product of 1 - beta, sigma^2 = 1 - alpha^2.

    Attributes
    ----------
    entries : length of the table
    """

    entries: int = Field(default=1000, ge=2, le=100_000)

    @property
    @abstractmethod
    def betas(self) -> NDArray[np.float64]:
        """Share of the variance that each entry replaces by noise, (entries,)."""

    @cached_property
    def _theta(self) -> Angles:
        signal = np.cumprod(1 - self.betas)
        return Angles(np.arctan2(np.sqrt(1 - signal), np.sqrt(signal)))

    @property
    def _entry(self) -> float:
        """Entries in a unit of time."""
        return self.entries / T

    def alpha(self, t: float) -> float:
        """sqrt(abar)."""
        return math.cos(self._theta.at(t * self._entry))

    def sigma(self, t: float) -> float:
        """sqrt(1 - abar)."""
        return math.sin(self._theta.at(t * self._entry))

    def drift(self, t: float) -> tuple[float, float]:
        """(-sin(theta), cos(theta)) d theta / d t."""
        rate = self._theta.rate(t * self._entry) * self._entry
        return -self.sigma(t) * rate, self.alpha(t) * rate

    def slopes(self, t: float, t_to: float) -> tuple[float, float]:
        """By parts: the step times each share at its end, less the share's integral."""
        step = t_to - t
        areas, areas_to = (self._theta.areas(time * self._entry) for time in (t, t_to))
        along_alpha = step * self.alpha(t_to) - (areas_to[0] - areas[0]) / self._entry
        along_sigma = step * self.sigma(t_to) - (areas_to[1] - areas[1]) / self._entry
        return along_alpha, along_sigma

    def time_at(self, log_snr: float) -> float:
        """Theta is the angle whose tangent is sigma / alpha; never above T."""
        return self._theta.place(math.atan(math.exp(-log_snr))) / self._entry

    def network_time(self, t: float) -> float:
        """Number of the entry, from 0."""
        return max(min(t, self.last_t) * self._entry - 1, 0.0)


class VPLinearSchedule(TableSchedule):
    """Betas that rise evenly (DDPM; 3D patch prior, appendix)."""

    kind: Literal["vp-linear"] = "vp-linear"
    beta_first: float = Field(default=1e-4, gt=0, lt=1)
    beta_last: float = Field(default=0.02, gt=0, lt=1)

    @property
    def betas(self) -> NDArray[np.float64]:
        """From `beta_first` to `beta_last`."""
        return np.linspace(self.beta_first, self.beta_last, self.entries)


class VPCosineSchedule(TableSchedule):
    """Betas of abar = cos^2 with an offset of 0.008, none above 0.9999 (3D MedDiffusion)."""

    kind: Literal["vp-cosine"] = "vp-cosine"

    @property
    def betas(self) -> NDArray[np.float64]:
        """1 - abar(i + 1) / abar(i); only the last one is clipped."""
        parts = np.arange(self.entries + 1) / self.entries
        signal = np.cos((parts + 0.008) / 1.008 * math.pi / 2) ** 2
        betas: NDArray[np.float64] = np.minimum(1 - signal[1:] / signal[:-1], 0.9999)
        return betas


AnySchedule = Annotated[
    CosineSchedule | LinearSchedule | VPLinearSchedule | VPCosineSchedule,
    Field(discriminator="kind"),
]

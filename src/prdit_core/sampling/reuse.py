"""Evaluate the local part at every step and the global residual only when it is needed.

The local part is cheap and follows the state; the residual changes slowly, fast at first and
hardly at all in the end. Between its evaluations the last one is held.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from prdit_core.config import SamplingConfig
    from prdit_core.models.prior import PartName, Prediction, Prior


class Reusing:
    """A denoiser (x_t, t) -> Prediction for one walk of a prior.

    Parameters
    ----------
    prior : its refiners, if any, are evaluated at every step
    config : its rules of refreshing say when the residual is evaluated
    """

    def __init__(self, prior: Prior, config: SamplingConfig) -> None:
        self.prior = prior
        self.config = config
        self._always: tuple[PartName, ...] = (
            ("local", "refiner") if len(prior.sizes) > 1 else ("local",)
        )
        self._residual: Tensor | None = None
        self._local: Tensor | None = None
        self._steps = 0  # since the last refresh
        self._change = 0.0

    def __call__(self, x_t: Tensor, t: float) -> Prediction:
        """What the network says, its residual perhaps of an earlier step."""
        local = self.prior.local_part(x_t, t)
        evaluated = self._always
        if self._due(local):
            self._residual = self.prior.residual_part(x_t, t)
            self._steps, self._change = 0, 0.0
            if self._residual is not None:
                evaluated = (*evaluated, "global_residual")
        self._local = local
        self._steps += 1
        base = local if self._residual is None else local + self._residual
        said = self.prior.completed(base, x_t, t)
        return replace(said, evaluated=evaluated)

    def _due(self, local: Tensor) -> bool:
        """Whether the residual held is too old for the local prediction at hand."""
        every, change = self.config.refresh_every, self.config.refresh_change
        if self._local is None or (every is None and change is None):
            return True
        if every is not None and self._steps >= every:
            return True
        if change is None:
            return False
        # The image head alone: the noise head follows every corrector's noise.
        image, earlier = (x[:, -self.prior.model.config.channels :] for x in (local, self._local))
        self._change += float((image - earlier).norm() / image.norm())
        return self._change > change

"""Evaluate the local part at every step and the global residual only when it is needed.

The local part is cheap and follows the state; the residual changes slowly, fast at first and
hardly at all in the end. Between its evaluations the last one is held.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from prdit_core.config import SamplingConfig
    from prdit_core.models.contracts import Prediction
    from prdit_core.models.prdit.evaluation import PRDiTDenoiser


class Reusing:
    """A denoiser for one walk, with one rule of refreshing or both.

    Parameters
    ----------
    evaluation : its refiners, if any, are evaluated at every step
    config : its rules say when the residual is evaluated

    Attributes
    ----------
    refreshes : times the residual was evaluated
    """

    def __init__(self, evaluation: PRDiTDenoiser, config: SamplingConfig) -> None:
        self.evaluation = evaluation
        self.config = config
        self.refreshes = 0
        self._residual: Tensor | None = None
        self._local: Tensor | None = None
        self._steps = 0  # since the last refresh
        self._change = 0.0

    def __call__(self, x_t: Tensor, t: float) -> Prediction:
        """What the network predicts, its residual perhaps of an earlier step."""
        local = self.evaluation.local(x_t, t)
        if self._due(local):
            self._residual = self.evaluation.residual(x_t, t)
            self._steps, self._change = 0, 0.0
            self.refreshes += 1
        self._local = local
        self._steps += 1
        base = local if self._residual is None else local + self._residual
        return self.evaluation.completed(base, x_t, t)

    def _due(self, local: Tensor) -> bool:
        """Whether the residual held is too old for the local prediction at hand."""
        every, change = self.config.refresh_every, self.config.refresh_change
        if self._local is None:
            return True
        if every is not None and self._steps >= every:
            return True
        if change is None:
            return False
        # The image head alone: the noise head follows every corrector's noise.
        channels = self.evaluation.module.config.channels
        image, earlier = (x[:, -channels:] for x in (local, self._local))
        self._change += float((image - earlier).norm() / image.norm())
        return self._change > change

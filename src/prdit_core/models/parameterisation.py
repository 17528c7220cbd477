"""From a network's raw output to what it predicts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prdit_core.models.contracts import Prediction

if TYPE_CHECKING:
    from torch import Tensor

    from prdit_core.config import Output
    from prdit_core.schedule import Schedule


def prediction_of(
    output: Tensor, x_t: Tensor, t: float, schedule: Schedule, kind: Output
) -> Prediction:
    """Clean volume and noise of a raw output, float32.

    Parameters
    ----------
    output : (B, Cout, D, H, W) as the network gave it
    x_t : (B, C, D, H, W) state at time t
    kind
        "image-and-noise" (2C channels): the noise comes first. "velocity" (C channels): x0 - eps
        along the straight line.
    """
    output = output.float()
    match kind:
        case "velocity":
            alpha, sigma = schedule.alpha(t), schedule.sigma(t)
            return Prediction(x0=x_t + sigma * output, eps=x_t - alpha * output)
        case "image-and-noise":
            eps, x0 = output.chunk(2, dim=1)
            return Prediction(x0=x0, eps=eps)

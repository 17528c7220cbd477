"""From a network's raw output to what it predicts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prdit_core.models.contracts import Prediction

if TYPE_CHECKING:
    from torch import Tensor

    from prdit_core.config import RawOutput
    from prdit_core.schedule import Schedule

# Model units that the clean volume of a predicted noise is clamped to.
CLEAN = (-1.0, 1.0)


def prediction_of(
    output: Tensor, x_t: Tensor, t: float, schedule: Schedule, kind: RawOutput
) -> Prediction:
    """Clean volume and noise of a raw output, float32.

    Parameters
    ----------
    output : (B, Cout, D, H, W) as the network gave it
    x_t : (B, C, D, H, W) state at time t
    kind
        "image-and-noise" (2C channels): the noise comes first. "velocity" (C channels): x0 - eps
        along the straight line. "noise" (C channels): as it is, with the clean volume that it
        leaves, clamped to `CLEAN`, for it is divided by alpha (DDPM).
    """
    output = output.float()
    match kind:
        case "velocity":
            alpha, sigma = schedule.alpha(t), schedule.sigma(t)
            return Prediction(x0=x_t + sigma * output, eps=x_t - alpha * output)
        case "noise":
            x0 = (x_t - schedule.sigma(t) * output) / schedule.alpha(t)
            return Prediction(x0=x0.clamp(*CLEAN), eps=output)
        case "image-and-noise":
            eps, x0 = output.chunk(2, dim=1)
            return Prediction(x0=x0, eps=eps)

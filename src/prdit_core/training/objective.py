"""What training minimises: the joint error of image and noise, or of the velocity (Eq. 1, 3, 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from prdit_core.prdit_config import Output
    from prdit_core.schedule import Schedule


# Losses of a network that predicts image and noise, or what both follow from.
KINDS = ("x0", "eps", "total")


def shares(schedule: Schedule, t: Tensor) -> tuple[Tensor, Tensor]:
    """alpha and sigma of each time in `t` (B,), shaped (B, 1, 1, 1, 1) float32."""
    pairs = [(schedule.alpha(float(v)), schedule.sigma(float(v))) for v in t]
    both = torch.tensor(pairs, dtype=torch.float32, device=t.device)
    alpha, sigma = both[:, :, None, None, None, None].unbind(1)
    return alpha, sigma


def add_noise(schedule: Schedule, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    """x_t = alpha x0 + sigma eps (Eq. 1), with eps already of the schedule's noise_std.

    Parameters
    ----------
    x0, eps : (B, C, D, H, W)
    t : (B,) times in [0, T]
    """
    alpha, sigma = shares(schedule, t)
    return alpha * x0 + sigma * eps


def losses(
    output: Tensor, x0: Tensor, eps: Tensor, t: Tensor, schedule: Schedule, kind: Output
) -> dict[str, Tensor]:
    """Mean squared errors of a network's raw output (B, Cout, D, H, W): `KINDS`, each (B,).

    The total of an image-and-noise network weighs both 1:1 (Eq. 3 and 4). A velocity network is
    trained on x0 - eps; its x0 and eps errors follow as sigma^2 and alpha^2 times the total.
    """
    if kind == "velocity":
        total = mean_square(output - (x0 - eps))
        alpha, sigma = (share.flatten() for share in shares(schedule, t))
        return {"x0": sigma**2 * total, "eps": alpha**2 * total, "total": total}
    eps_hat, x0_hat = output.chunk(2, dim=1)
    on_x0, on_eps = mean_square(x0_hat - x0), mean_square(eps_hat - eps)
    return {"x0": on_x0, "eps": on_eps, "total": on_x0 + on_eps}


def mean_square(error: Tensor) -> Tensor:
    """Of each item of a batch, (B,), in float32."""
    return error.float().square().flatten(1).mean(1)

"""Times as sinusoids, as networks of all families see them."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sinusoids(t: Tensor, width: int) -> Tensor:
    """Times (B,) to (B, width): sines, then cosines, of frequencies 1 to 1/10000."""
    half = width // 2
    angles = time_angles(t, half, half - 1)
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def time_angles(t: Tensor, count: int, steps: int) -> Tensor:
    """Times (B,) to (B, count), at frequencies that fall by 10000 in so many steps."""
    numbers = torch.arange(count, dtype=torch.float32, device=t.device)
    return t.float()[:, None] * torch.exp(-math.log(10_000) / steps * numbers)

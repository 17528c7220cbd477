"""Layers shared by the local and the global part: norms, modulation, SwiGLU, time and position."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from prdit_core.models.linears import Linear
from prdit_core.models.sinusoids import time_angles

if TYPE_CHECKING:
    from prdit_core.patches import TokenGrid
    from prdit_core.prdit_config import Norm

TIME_FEATURES = 256
RMS_EPS = 1e-5


class PlainNorm(nn.Module):
    """Norm over the last axis without parameters: LayerNorm (eps 1e-6) or RMSNorm (eps 1e-5)."""

    def __init__(self, width: int, norm: Norm) -> None:
        super().__init__()
        self.width = width
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (..., width)."""
        if self.norm == "layer":
            return functional.layer_norm(x, (self.width,), eps=1e-6)
        return functional.rms_norm(x, (self.width,), eps=RMS_EPS)


class Modulation(nn.Module):
    """AdaLN: a condition vector to `parts` modulation vectors (section 4 and 5 of the spec).

    The "rms" variant normalises the concatenated vector once more.
    """

    def __init__(self, condition_width: int, width: int, parts: int, norm: Norm = "layer") -> None:
        super().__init__()
        self.linear = nn.Linear(condition_width, parts * width)
        self.parts = parts
        self.norm = norm

    def forward(self, c: Tensor) -> tuple[Tensor, ...]:
        """(B, condition_width) to `parts` tensors (B, 1, width)."""
        vectors: Tensor = self.linear(functional.silu(c))
        if self.norm == "rms":
            vectors = functional.rms_norm(vectors, vectors.shape[-1:], eps=RMS_EPS)
        return vectors.unsqueeze(1).chunk(self.parts, dim=-1)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """x (1 + scale) + shift."""
    return torch.addcmul(x + shift, x, scale)


class SwiGLU(nn.Module):
    """Gated two-layer perceptron with an inner LayerNorm, hidden width = token width (Table 9)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate = Linear(width, width)
        self.value = Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.out = Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, width) to (B, N, width)."""
        hidden = self.gate(x, "silu") * self.value(x)
        return cast("Tensor", self.out(self.norm(hidden)))


def time_features(t: Tensor) -> Tensor:
    """256 sinusoids of the step number, cosines first.

    Parameters
    ----------
    t : (B,) in 0..1000
    """
    half = TIME_FEATURES // 2
    angles = time_angles(t, half, half)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class TimeEmbedding(nn.Module):
    """Shared embedding of t with one head for each part: c_local (d) and c_global (h).

    Without a global part (depth 0) there is no global head.
    """

    def __init__(self, width: int, token_width: int, depth: int) -> None:
        super().__init__()
        self.shared = nn.Linear(TIME_FEATURES, width)
        self.local_head = nn.Linear(width, token_width)
        self.global_head = nn.Linear(width, width) if depth else None

    def base(self, t: Tensor) -> Tensor:
        """(B,) to (B, width)."""
        return functional.silu(self.shared(time_features(t)))


@lru_cache(maxsize=8)
def position_table(grid: TokenGrid, width: int) -> Tensor:
    """Fixed sinusoidal positions, (1, N, width) float32; x (the last axis) first.

    Coordinates are (i + 0.5) / G, frequencies rise geometrically from 2 pi to 0.95 pi G.
    """
    bands = width // 6
    tables = []
    for axis in (2, 1, 0):
        count = grid[axis]
        powers = torch.arange(bands, dtype=torch.float32) / max(bands - 1, 1)
        frequencies = 2 * math.pi * (0.95 * count / 2) ** powers
        angles = ((torch.arange(count, dtype=torch.float32) + 0.5) / count)[:, None] * frequencies
        table = torch.cat([angles.sin(), angles.cos()], dim=-1)  # G 2*bands
        shape = [1, 1, 1, -1]
        shape[axis] = count
        tables.append(table.reshape(shape).expand(*grid, -1))
    return torch.cat(tables, dim=-1).reshape(1, -1, width)


@lru_cache(maxsize=8)
def positions_on(device: torch.device, grid: TokenGrid, width: int) -> Tensor:
    """The table where it is needed; sent to a GPU once, for a copy ends what a graph records."""
    return position_table(grid, width).to(device)

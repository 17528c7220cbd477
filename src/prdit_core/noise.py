"""Random numbers as a pure function of a key: no hidden state, no dependence on order or batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from torch import Tensor


def generator(*key: int) -> torch.Generator:
    """A CPU generator that depends on nothing but `key` (non-negative integers)."""
    words = np.random.SeedSequence(list(key)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(words[0]) & (2**63 - 1))


def unit_noise(shape: tuple[int, ...], *key: int) -> Tensor:
    """Standard normal numbers of `shape`, float32 on the CPU, the same for the same `key`."""
    return torch.randn(shape, generator=generator(*key))

"""Low dose: photons are counted, and few of them are noisy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from prdit_core.noise import Draw, generator

if TYPE_CHECKING:
    from torch import Tensor


def photon_counts(integrals: Tensor, photons: float, *, seed: int, index: int = 0) -> Tensor:
    """Photons that arrive through line integrals, of `photons` sent along each ray.

    Poisson(photons exp(-integral)), drawn on the CPU: the same for the same seed and index.
    """
    expected = photons * torch.exp(-integrals.detach().cpu().double())
    drawn = torch.poisson(expected, generator=generator(Draw.PHOTONS, seed, index))
    return drawn.to(integrals)


def integrals_of(counts: Tensor, photons: float) -> tuple[Tensor, Tensor]:
    """Line integrals of photon counts, and the weights they deserve.

    The variance of log(counts) is about 1 / counts, so W = counts makes W^(1/2) (A x - y) noise of
    standard deviation 1. Where nothing arrived, one photon is assumed and the weight is 0.
    """
    return torch.log(photons / counts.clamp(min=1)), counts

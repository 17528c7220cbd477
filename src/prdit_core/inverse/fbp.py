"""Filtered backprojection: FBP of parallel and fan beams, FDK of a cone.

A. C. Kak and M. Slaney, Principles of Computerized Tomographic Imaging (1988), chapter 3;
L. A. Feldkamp, L. C. Davis and J. W. Kress, J. Opt. Soc. Am. A 1, 612 (1984).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from prdit_core.inverse.operators.projector import Projector

Window = Literal["ramp", "hann"]


@torch.no_grad()
def fbp(projector: Projector, y: Tensor, window: Window = "ramp") -> Tensor:
    """Reconstruct from line integrals at once: weigh, filter, backproject.

    Over less than half a turn, and of fans the angle of the fan besides (`whole_arc_deg`), some
    lines are not measured, and the result is shaded. Pixels that not all views see are set to 0.

    Parameters
    ----------
    y : (B, C, *range_shape)
    window : of the ramp filter; "hann" trades sharpness for less noise

    Returns
    -------
    (B, C, D, H, W), in 1/mm for line integrals without unit
    """
    sharp = filtered(y * projector.ray_weights(), projector.pitch_mm, window)
    return projector.backproject(sharp) * torch.from_numpy(projector.geometry.seen_by_all()).to(y)


def filtered(y: Tensor, pitch_mm: float, window: Window) -> Tensor:
    """Convolve the last axis with the ramp kernel, sampled in space so that the mean is right."""
    bins = y.shape[-1]
    size = max(64, 2 ** math.ceil(math.log2(2 * bins)))
    response = _response(size, pitch_mm, window).to(y)
    sharp: Tensor = torch.fft.irfft(torch.fft.rfft(y, size) * response, size)
    return sharp[..., :bins]


def _response(size: int, pitch_mm: float, window: Window) -> Tensor:
    """Frequency response of the filter, (size / 2 + 1,) float64 (Kak and Slaney, Eq. 61)."""
    place = torch.fft.fftfreq(size, 1 / size, dtype=torch.float64)
    kernel = torch.where(place % 2 == 1, -1 / (math.pi * place) ** 2, 0.0)
    kernel[0] = 0.25
    response: Tensor = torch.fft.rfft(kernel).real / pitch_mm
    if window == "hann":
        response *= 0.5 + 0.5 * torch.cos(torch.linspace(0, math.pi, len(response)).to(response))
    return response

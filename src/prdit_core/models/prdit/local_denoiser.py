"""Local Denoiser, stage 1: each noisy patch is denoised on its own (Eq. 2, Fig. 2, Table 9)."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from torch import Tensor, nn

from prdit_core.models.linears import Linear
from prdit_core.models.prdit.layers import Modulation, PlainNorm, SwiGLU, modulate

if TYPE_CHECKING:
    from prdit_core.prdit_config import Norm


class LocalDenoiser(nn.Module):
    """Two modulated SwiGLU blocks, a skip from the noisy patch, and a linear map to the tile.

    Parameters
    ----------
    width, tile_width : of a token (d) and of a tile (o)
    """

    def __init__(self, width: int, tile_width: int, norm: Norm) -> None:
        super().__init__()
        self.modulation = Modulation(width, width, 6, norm)
        self.norm = PlainNorm(width, norm)
        self.first = SwiGLU(width)
        self.second = SwiGLU(width)
        self.out = Linear(width, tile_width)

    def forward(self, v: Tensor, c_local: Tensor) -> Tensor:
        """Denoise tokens.

        Parameters
        ----------
        v : (B, N, d) noisy patches
        c_local : (B, d) time condition

        Returns
        -------
        (B, N, o) tiles
        """
        shift1, scale1, shift2, scale2, shift3, scale3 = self.modulation(c_local)
        z = self.first(modulate(self.norm(v), shift1, scale1))
        z = self.second(modulate(self.norm(z), shift2, scale2))
        return cast("Tensor", self.out(modulate(z + v, shift3, scale3)))

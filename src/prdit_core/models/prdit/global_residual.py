"""Global Residual DiT, stage 2: a transformer over all noisy patches (3.2, Table 10)."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from prdit_core.models.linears import Linear
from prdit_core.models.prdit.layers import Modulation, PlainNorm, modulate, positions_on

if TYPE_CHECKING:
    from prdit_core.patches import TokenGrid
    from prdit_core.prdit_config import Activations, ModelConfig, Norm


class Perceptron(nn.Module):
    """Linear, GELU (tanh form), Linear."""

    def __init__(self, width: int, hidden: int, out: int) -> None:
        super().__init__()
        self.fc1 = Linear(width, hidden)
        self.fc2 = Linear(hidden, out)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) to (..., out)."""
        return cast("Tensor", self.fc2(self.fc1(x, "gelu")))


class PatchEmbedding(nn.Module):
    """Noisy patch (d) to transformer width (h)."""

    def __init__(self, token_width: int, width: int) -> None:
        super().__init__()
        self.mlp = Perceptron(token_width, 4 * width, width)
        self.skip = Linear(token_width, width, bias=False)
        self.norm = nn.LayerNorm(width)

    def forward(self, v: Tensor) -> Tensor:
        """(B, N, d) to (B, N, h)."""
        return cast("Tensor", self.norm(self.mlp(v) + self.skip(v)))


class Attention(nn.Module):
    """Multi-head self-attention over all tokens of a volume."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = Linear(width, 3 * width)
        self.out = Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, h) to (B, N, h)."""
        split = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # 3 B E N h/E
        query, key, value = split.unbind(0)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return cast("Tensor", self.out(mixed.transpose(1, 2).flatten(2)))


class Block(nn.Module):
    """AdaLN-Zero transformer block."""

    def __init__(self, width: int, heads: int, norm: Norm) -> None:
        super().__init__()
        self.modulation = Modulation(width, width, 6, norm)
        self.norm = PlainNorm(width, norm)
        self.attention = Attention(width, heads)
        self.mlp = Perceptron(width, 4 * width, width)

    def forward(self, x: Tensor, c_global: Tensor) -> Tensor:
        """(B, N, h) and (B, h) to (B, N, h)."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(c_global)
        x = x + gate1 * self.attention(modulate(self.norm(x), shift1, scale1))
        x = x + gate2 * self.mlp(modulate(self.norm(x), shift2, scale2))
        return x


class GlobalResidualDiT(nn.Module):
    """What the Local Denoiser cannot know: corrections of all tiles by the whole volume (Eq. 4).

    Attributes
    ----------
    activations : "recompute" lets training compute each block twice instead of keeping what is in
        it; the gradients are the same
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.width
        self.width = width
        self.activations: Activations = "keep"
        self.embedding = PatchEmbedding(config.token_width, width)
        self.blocks = nn.ModuleList(
            Block(width, config.heads, config.norm) for _ in range(config.depth)
        )
        self.modulation = Modulation(width, width, 2)
        self.norm = PlainNorm(width, "layer")  # stays LayerNorm in the "rms" variant
        self.out = Linear(width, config.tile_width)

    def embed(self, v: Tensor, grid: TokenGrid) -> Tensor:
        """Noisy patches (B, N, d) to positioned tokens (B, N, h)."""
        return cast("Tensor", self.embedding(v)) + positions_on(v.device, grid, self.width)

    def forward(self, v: Tensor, c_global: Tensor, grid: TokenGrid) -> Tensor:
        """Residual tiles.

        Parameters
        ----------
        v : (B, N, d) the same noisy patches the Local Denoiser gets
        c_global : (B, h) time condition
        grid : tokens along (D, H, W), N = product

        Returns
        -------
        (B, N, o)
        """
        x = self.embed(v, grid)
        for block in self.blocks:
            if self.activations == "recompute" and torch.is_grad_enabled():
                x = cast("Tensor", checkpoint(block, x, c_global, use_reentrant=False))
            else:
                x = block(x, c_global)
        shift, scale = self.modulation(c_global)
        return cast("Tensor", self.out(modulate(self.norm(x), shift, scale)))

"""PRDiT: Local Denoiser plus Global Residual DiT on the same noisy patches (Fig. 1)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from prdit_core.errors import NumericalError
from prdit_core.models.global_residual import GlobalResidualDiT
from prdit_core.models.layers import Modulation, TimeEmbedding
from prdit_core.models.local_denoiser import LocalDenoiser
from prdit_core.patches import assemble_tiles, extract_patches, grid_of

if TYPE_CHECKING:
    from prdit_core.config import Activations, ModelConfig


class PRDiT(nn.Module):
    """The network of the paper; the two parts are summed in token space.

    Attributes
    ----------
    local : `LocalDenoiser`
    global_residual : `GlobalResidualDiT`, or None at depth 0
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.time = TimeEmbedding(config.width, config.token_width, config.depth)
        self.local = LocalDenoiser(config)
        self.global_residual = GlobalResidualDiT(config) if config.depth else None

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Local prediction plus global residual.

        Parameters
        ----------
        x : (B, C, D, H, W) noisy volume, every edge a multiple of the stride
        t : (B,) network time, 0..1000

        Returns
        -------
        (B, Cout, D, H, W): noise then image (Cout = 2C), or a velocity (Cout = C).
        """
        local, residual = self.parts(x, t)
        return local if residual is None else local + residual

    def parts(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor | None]:
        """Local prediction and global residual apart, both as `forward` shapes them."""
        config = self.config
        grid = grid_of(tuple(x.shape), config.stride, config.padding)
        v = extract_patches(x, config.patch, config.stride, config.padding)
        c = self.time.base(t)
        local = assemble_tiles(self.local(v, self.time.local_head(c)), grid, config.stride)
        if self.global_residual is None or self.time.global_head is None:
            return local, None
        tiles = self.global_residual(v, self.time.global_head(c), grid)
        return local, assemble_tiles(tiles, grid, config.stride)

    def local_state(self) -> dict[str, Tensor]:
        """Weights stage 1 trains and stage 2 freezes: local part, shared time, local head."""
        return {
            name: weight
            for name, weight in self.state_dict().items()
            if name.startswith(("local.", "time.shared.", "time.local_head."))
        }


def initialise(model: PRDiT, seed: int) -> None:
    """Fill all weights as the paper does: the output is exactly zero at the start.

    Linear layers are Xavier-uniform with zero bias (gain 0.1 for those of the global part and its
    patch skip), the time embedding is normal with std 0.02, modulations and outputs are zero.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            if name.startswith("time."):
                nn.init.normal_(module.weight, std=0.02, generator=generator)
            else:
                gain = 0.1 if name.startswith("global_residual.") else 1.0
                nn.init.xavier_uniform_(module.weight, gain, generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            module.reset_parameters()
    for part in (model.local, model.global_residual):
        if part is not None:
            nn.init.zeros_(part.out.weight)
    for module in model.modules():
        if isinstance(module, Modulation):
            nn.init.zeros_(module.linear.weight)


def parameter_count(config: ModelConfig) -> int:
    """Number of parameters, without allocating any."""
    with torch.device("meta"):
        model = PRDiT(config)
    return sum(weight.numel() for weight in model.parameters())


def memory_needed(config: ModelConfig, shape: tuple[int, int, int]) -> int:
    """Bytes that one evaluation takes, about: weights and the largest activations in float32.

    Measured on PRDiT-B/12/4 at 128^3 with torch's own share it came to within a tenth.
    """
    depth, height, width = grid_of(shape, config.stride, config.padding)
    per_token = 6 * config.token_width + (14 * config.width if config.depth else 0)
    return 4 * (parameter_count(config) + depth * height * width * per_token)


def training_memory(
    config: ModelConfig,
    shape: tuple[int, int, int],
    *,
    trains: tuple[str, ...],
    volumes: int,
    activations: Activations,
) -> int:
    """Bytes that training takes on one device, about, in float32.

    Weights and their average; gradients and two moments of the weights that train (names starting
    with one of `trains`); what the backward pass keeps of `volumes` volumes at once, counted on
    the networks: 17 d a token for the local part, d + 12 h and 20 h a block for the global one.
    Measured float32 peaks lie 20 % below to 30 % above it.
    """
    with torch.device("meta"):
        named = list(PRDiT(config).named_parameters())
    weights = sum(weight.numel() for _, weight in named)
    trained = sum(weight.numel() for name, weight in named if name.startswith(trains))
    width, depth = config.width, config.depth
    kept = 17 * config.token_width if "local.".startswith(trains) else 0
    if depth:
        blocks = 20 * depth if activations == "keep" else 20 + depth
        kept += config.token_width + (12 + blocks) * width
    tokens = math.prod(grid_of(shape, config.stride, config.padding))
    transient = memory_needed(config, shape) - 4 * weights
    counted = 4 * (2 * weights + 3 * trained) + volumes * (4 * tokens * kept + transient)
    return round(1.2 * counted)


def check_finite(state: dict[str, Tensor], source: str) -> None:
    """Raise `NumericalError` naming the first tensor that holds NaN or infinity."""
    for name, weight in state.items():
        if not torch.isfinite(weight).all():
            raise NumericalError(f"{source}: weight {name} holds NaN or infinite values")

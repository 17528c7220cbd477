"""PRDiT: Local Denoiser plus Global Residual DiT on the same noisy patches (Fig. 1, Fig. 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from prdit_core.models.prdit.global_residual import GlobalResidualDiT
from prdit_core.models.prdit.highres_refiner import (
    HighResRefiner,
    agreeing,
    shown,
    upsample,
)
from prdit_core.models.prdit.layers import Modulation, TimeEmbedding
from prdit_core.models.prdit.local_denoiser import LocalDenoiser
from prdit_core.noise import Draw, generator
from prdit_core.patches import assemble_tiles, extract_patches, grid_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prdit_core.patches import Box, TokenGrid
    from prdit_core.prdit_config import ModelConfig, Shows


class OutputParts(NamedTuple):
    """A prediction's parts, each (B, Cout, D, H, W); None is a part that the model has not."""

    local: Tensor
    global_residual: Tensor | None
    refiner: Tensor | None


class PRDiT(nn.Module):
    """The network of the paper: two parts that are summed, and a chain of refiners above them.

    Attributes
    ----------
    local : `LocalDenoiser`
    global_residual : `GlobalResidualDiT`, or None at depth 0
    refiners : `HighResRefiner` of each doubling of the resolution, lowest first; often none
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.time = TimeEmbedding(config.width, config.token_width, config.depth)
        self.local = LocalDenoiser(config.token_width, config.tile_width, config.norm)
        self.global_residual = GlobalResidualDiT(config) if config.depth else None
        self.refiners = nn.ModuleList(
            HighResRefiner(refiner, config.channels, config.norm) for refiner in config.refiners
        )

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Local prediction plus global residual, refined as often as there are refiners.

        Parameters
        ----------
        x : (B, C, D, H, W) noisy volume, every edge a multiple of `ModelConfig.edge_multiple`
        t : (B,) network time, 0..1000

        Returns
        -------
        (B, Cout, D, H, W): noise then image (Cout = 2C), or a velocity (Cout = C).
        """
        return self.pyramid(x, t)[-1]

    def pyramid(self, x: Tensor, t: Tensor, box: Box | None = None) -> list[Tensor]:
        """Predictions at every resolution of the chain, each as `forward` shapes it, lowest first.

        Each resolution sees of the noisy state above it what the refiner there shows (3.4).

        Parameters
        ----------
        box : part of the volume to which the last prediction of a chain is restricted
        """
        base = self.local_part(x, t)
        residual = self.residual_part(x, t)
        return self.refined(base if residual is None else base + residual, x, t, box)

    def local_part(self, x: Tensor, t: Tensor) -> Tensor:
        """What the Local Denoiser predicts, (B, Cout, d, h, w) at the resolution of the base."""
        state, t = self._states(x, t)[0]
        v, grid = self._patches(state)
        tiles = self.local(v, self.time.local_head(self.time.base(t)))
        part = assemble_tiles(tiles, grid, self.config.stride)
        return part if self.config.base_heads == "apart" else agreeing(part, part, state, t)

    def residual_part(self, x: Tensor, t: Tensor) -> Tensor | None:
        """What the Global Residual DiT adds to it, of the same shape; None at depth 0."""
        if self.global_residual is None or self.time.global_head is None:
            return None
        state, t = self._states(x, t)[0]
        v, grid = self._patches(state)
        tiles = self.global_residual(v, self.time.global_head(self.time.base(t)), grid)
        part = assemble_tiles(tiles, grid, self.config.stride)
        if self.config.base_heads == "apart":
            return part
        return agreeing(part, part, torch.zeros_like(state), t)  # the local part has the state

    def refined(self, base: Tensor, x: Tensor, t: Tensor, box: Box | None = None) -> list[Tensor]:
        """The rest of `pyramid`, from the prediction of the base on."""
        outputs = [base]
        for refiner, shows, state, time in self._above(x, t):
            within = box if state is x else None
            rough = upsample(outputs[-1], shows)
            details = refiner(state, rough, time, within)
            rough = rough if within is None else rough[(..., *within)]
            outputs.append(rough.add_(details))
        return outputs

    def parts(self, x: Tensor, t: Tensor) -> OutputParts:
        """What `forward` sums up: since upsampling is linear, each part can be followed up.

        A refiner's part is all that it adds, also where it sees the prediction below it.
        """
        local, residual = self.local_part(x, t), self.residual_part(x, t)
        refined: Tensor | None = None
        for refiner, shows, state, time in self._above(x, t):
            local = upsample(local, shows)
            residual = None if residual is None else upsample(residual, shows)
            refined = None if refined is None else upsample(refined, shows)
            rough = local
            for part in (residual, refined):
                rough = rough if part is None else rough + part
            details = refiner(state, rough, time)
            refined = details if refined is None else refined.add_(details)
        return OutputParts(local, residual, refined)

    def _states(self, x: Tensor, t: Tensor) -> list[tuple[Tensor, Tensor]]:
        """The noisy volume and its time as each resolution sees them, lowest first."""
        states = [(x, t)]
        for refiner in reversed(self.config.refiners):
            states.insert(0, shown(*states[0], refiner.shows))
        return states

    def _above(self, x: Tensor, t: Tensor) -> Iterator[tuple[nn.Module, Shows, Tensor, Tensor]]:
        """Each refiner, what it shows below it, its own state and time; lowest first."""
        states = self._states(x, t)[1:]
        for refiner, own, (state, time) in zip(
            self.refiners, self.config.refiners, states, strict=True
        ):
            yield refiner, own.shows, state, time

    def _patches(self, state: Tensor) -> tuple[Tensor, TokenGrid]:
        """Noisy patches of what the base sees, and their grid."""
        config = self.config
        grid = grid_of(tuple(state.shape), config.stride, config.padding)
        return extract_patches(state, config.patch, config.stride, config.padding), grid

    def stopped_at(self, refiners: int) -> PRDiT:
        """The lower part of the chain, with its first `refiners` refiners and the same weights."""
        config = self.config.refined_by(*self.config.refiners[:refiners])
        with torch.device("meta"):
            lower = PRDiT(config)
        own = self.state_dict()
        lower.load_state_dict({name: own[name] for name in lower.state_dict()}, assign=True)
        return lower.train(self.training).requires_grad_(False)

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
    stream = generator(Draw.WEIGHTS, seed)
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            if ".time." in f".{name}":
                nn.init.normal_(module.weight, std=0.02, generator=stream)
            else:
                gain = 0.1 if name.startswith("global_residual.") else 1.0
                nn.init.xavier_uniform_(module.weight, gain, stream)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            module.reset_parameters()
    for module in model.modules():
        if isinstance(module, LocalDenoiser | GlobalResidualDiT):
            nn.init.zeros_(module.out.weight)
        elif isinstance(module, Modulation):
            nn.init.zeros_(module.linear.weight)

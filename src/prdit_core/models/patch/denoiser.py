"""The patch prior as a denoiser: tiles over random offsets, and K looks (Alg. 1, eq. 15)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from prdit_core.errors import UsageError
from prdit_core.models.contracts import Network, Prediction
from prdit_core.models.families import parameter_count
from prdit_core.models.patch.seen import View, border_shape
from prdit_core.models.patch.tiles import inside, stitch, tile_starts
from prdit_core.noise import Draw, generator

if TYPE_CHECKING:
    from torch import Tensor

    from prdit_core.config import GenerationPrecision, SamplingConfig
    from prdit_core.models.contracts import Denoiser, Key, Shape
    from prdit_core.models.patch.config import PatchConfig
    from prdit_core.models.patch.unet import UNet3d
    from prdit_core.schedule import Schedule

# Tiles that are evaluated at once: a matter of memory only.
TILES_AT_ONCE = 16
# Samplers that build a state from clean volume and noise alone can be given those of several
# offsets, whose noises are summed.
ANEW = ("ddim", "ddim-even", "resynthesis")
_TIMES = 2**20  # of a unit of t, so that a time is a word of a key


@dataclass(frozen=True)
class PatchDenoiser:
    """One walk of a patch prior. What is random in it depends on the key, on t and on w alone.

    Attributes
    ----------
    renoise : K, how often a state is looked at, each time over another offset and with new noise
    at_once : tiles that are evaluated at once
    """

    module: UNet3d
    schedule: Schedule
    key: Key
    renoise: int = 1
    precision: GenerationPrecision = "32-true"
    at_once: int = TILES_AT_ONCE

    @torch.no_grad()
    def __call__(self, x_t: Tensor, t: float) -> Prediction:
        """Clean volume, the mean over K looks, and noise, their sum by sqrt(K) (eq. 15).

        Parameters
        ----------
        x_t : (B, C, D, H, W), of the grid the prior was trained on

        Raises
        ------
        UsageError
            If it is of another grid: the prior knows where in the volume a tile lies.
        """
        config = self.module.config
        if tuple(x_t.shape[-3:]) != config.shape:
            raise UsageError(f"this prior knows volumes of {config.shape}, not {x_t.shape[-3:]}")
        both = [self._of_one(x, t) for x in x_t]
        x0, eps = (torch.stack(parts) for parts in zip(*both, strict=True))
        return Prediction(x0=x0, eps=eps)

    def _of_one(self, x_t: Tensor, t: float) -> tuple[Tensor, Tensor]:
        """Of a volume (C, D, H, W)."""
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        std = sigma * self.schedule.noise_std
        clean, noises = torch.zeros_like(x_t), torch.zeros_like(x_t)
        for look in range(self.renoise):
            x0, eps = self._look(x_t, t, look)
            clean += x0
            noises += eps
            if look + 1 < self.renoise:
                fresh = self._draw(Draw.RENOISE, x_t, tuple(x_t.shape), t, look)
                x_t = alpha * x0 + std * fresh
        return clean / self.renoise, noises / self.renoise**0.5

    def _look(self, x_t: Tensor, t: float, look: int) -> tuple[Tensor, Tensor]:
        """Clean volume and noise by the tiles over one offset."""
        config, schedule = self.module.config, self.schedule
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        border = self._draw(Draw.BORDER, x_t, border_shape(config), t, look)
        border = alpha * config.air + (sigma * schedule.noise_std) * border
        starts = [
            start
            for start in tile_starts(config.shape, config.tile, self._offset(t, look))
            if inside(start, config.shape, config.tile)
        ]
        view = View(config, x_t, border)
        tiles: list[Tensor] = []
        for first in range(0, len(starts), self.at_once):
            seen = view.tiles(starts[first : first + self.at_once])
            tiles += self._output(seen, t)
        output = stitch(tiles, starts, config.shape, config.tile)
        return separated(output, x_t, alpha, sigma, config)

    def _output(self, seen: Tensor, t: float) -> Tensor:
        times = torch.full((len(seen),), self.schedule.network_time(t), device=seen.device)
        wanted = self.precision == "bf16-mixed"
        with torch.autocast(seen.device.type, torch.bfloat16, enabled=wanted):
            output: Tensor = self.module(seen, times)
        return output.float()

    def _offset(self, t: float, look: int) -> Shape:
        stream = generator(Draw.OFFSET, self.key.seed, self.key.index, _word(t), look)
        depth, height, width = (
            int(torch.randint(edge, (1,), generator=stream)) for edge in self.module.config.tile
        )
        return depth, height, width

    def _draw(
        self, draw: Draw, like: Tensor, shape: tuple[int, ...], t: float, look: int
    ) -> Tensor:
        stream = generator(draw, self.key.seed, self.key.index, _word(t), look)
        return torch.randn(shape, generator=stream).to(like.device)


def separated(
    output: Tensor, x_t: Tensor, alpha: float, sigma: float, config: PatchConfig
) -> tuple[Tensor, Tensor]:
    """Clean volume, within what volumes can be, and noise, from what the network predicts."""
    if config.target == "v":
        x0, eps = alpha * x_t - sigma * output, sigma * x_t + alpha * output
    else:
        x0, eps = (x_t - sigma * output) / alpha, output
    return x0.clamp(config.air, config.largest), eps


def _word(t: float) -> int:
    return round(t * _TIMES)


@dataclass(frozen=True)
class PatchNetwork(Network):
    """A patch prior as the house sees it."""

    module: UNet3d

    @property
    def config(self) -> PatchConfig:
        """Of the network."""
        return self.module.config

    def denoiser(self, schedule: Schedule, config: SamplingConfig, key: Key) -> Denoiser:
        """One walk's own.

        Raises
        ------
        UsageError
            If a state is to be looked at several times by a sampler that keeps it, or a part that
            this family has not is to be reused.
        """
        if config.refresh_every is not None or config.refresh_change is not None:
            raise UsageError("a patch prior has no residual to reuse; leave --refresh-* out")
        if config.renoise > 1 and config.sampler not in ANEW:
            raise UsageError(
                f"--renoise {config.renoise} needs a sampler that builds the state anew from clean "
                f"volume and noise ({', '.join(ANEW)}), not {config.sampler}"
            )
        return PatchDenoiser(self.module, schedule, key, config.renoise, config.precision)

    def memory(self, shape: Shape) -> int:
        """Weights, the tiles evaluated at once, and the volumes that a walk holds."""
        return patch_memory(self.config, TILES_AT_ONCE)


def patch_memory(config: PatchConfig, tiles: int) -> int:
    """Bytes of evaluating so many tiles at once, about, with what a walk holds of the volume."""
    voxels = config.tile[0] * config.tile[1] * config.tile[2]
    surrounded = 1
    for whole, edge in zip(config.shape, config.tile, strict=True):
        surrounded *= whole + 2 * edge
    held = (3 + 8 * config.channels) * surrounded
    return 4 * (parameter_count(config) + held + tiles * voxels * activations(config))


def activations(config: PatchConfig) -> int:
    """Numbers for each voxel of a tile that the way down keeps for the way up, and one level's."""
    kept = sum((config.blocks + 1) * width / 8**level for level, width in enumerate(config.widths))
    return int(kept) + 6 * config.widths[0]

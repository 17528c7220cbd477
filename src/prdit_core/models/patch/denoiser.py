"""The patch prior as a denoiser: tiles over random offsets, and K looks (Alg. 1, eq. 15)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch.utils.checkpoint import checkpoint

from prdit_core.errors import UsageError
from prdit_core.models.contracts import Decomposition, Prediction
from prdit_core.models.patch.seen import View, border_shape
from prdit_core.models.patch.tiles import inside, stitch, tile_starts
from prdit_core.noise import Draw, generator

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from prdit_core.config import GenerationPrecision
    from prdit_core.models.contracts import Key, Shape
    from prdit_core.models.patch.config import PatchConfig, PatchInputs
    from prdit_core.models.patch.unet import UNet3d
    from prdit_core.schedule import Schedule

# Tiles that are evaluated at once: a matter of memory only.
TILES_AT_ONCE = 16
# What is left out, one thing at a time, and offsets that are averaged to look into a network.
BLINDED: tuple[PatchInputs, ...] = ("no-context", "no-coordinates")
LOOKS = 2
_TIMES = 2**20  # of a unit of t, so that a time is a word of a key


@dataclass(frozen=True)
class PatchDenoiser:
    """One walk of a patch prior. What is random in it depends on the key, on t and on w alone.

    Attributes
    ----------
    renoise : K, how often a state is looked at, each time over another offset and with new noise
    at_once : tiles that are evaluated at once
    shown : what the network sees beside the tile, of all that it takes
    """

    module: UNet3d
    schedule: Schedule
    key: Key
    renoise: int = 1
    precision: GenerationPrecision = "32-true"
    at_once: int = TILES_AT_ONCE
    shown: PatchInputs = "all"

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
        return self._each(self._of_one, x_t, t)

    @torch.enable_grad()
    def differentiable(self, x_t: Tensor, t: float) -> Prediction:
        """One look, with derivatives by x_t; the way back computes tiles anew, a few at once."""
        return self._each(partial(self._look, look=0), x_t, t)

    @torch.no_grad()
    def averaged(self, x_t: Tensor, t: float, looks: int) -> Prediction:
        """The mean over the tiles of several offsets of one state, in which seams fade."""

        def mean(x: Tensor, t: float) -> tuple[Tensor, Tensor]:
            x0, eps = zip(*(self._look(x, t, look) for look in range(looks)), strict=True)
            return torch.stack(x0).mean(0), torch.stack(eps).mean(0)

        return self._each(mean, x_t, t)

    def _each(
        self, of_one: Callable[[Tensor, float], tuple[Tensor, Tensor]], x_t: Tensor, t: float
    ) -> Prediction:
        """Of every volume of a batch, if it is of the grid that is known."""
        config = self.module.config
        if tuple(x_t.shape[-3:]) != config.shape:
            raise UsageError(f"this prior knows volumes of {config.shape}, not {x_t.shape[-3:]}")
        both = [of_one(x, t) for x in x_t]
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
        view = View(config, x_t, border, self.shown)
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
            # What a pass back needs of so many tiles does not fit: it is computed again.
            output: Tensor = (
                checkpoint(self.module, seen, times, use_reentrant=False)
                if seen.requires_grad
                else self.module(seen, times)
            )
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


@dataclass(frozen=True)
class PatchParts:
    """What context and coordinates are good for: the same network without one or both of them.

    The local part is the tile alone, the global residual all that is added by what surrounds it.
    """

    denoiser: PatchDenoiser

    def decompose(self, x_t: Tensor, t: float) -> Decomposition:
        """As a denoiser, the mean over `LOOKS` offsets, with what the tile alone says apart."""
        total, tile, *others = (
            replace(self.denoiser, shown=shown).averaged(x_t, t, LOOKS)
            for shown in ("all", "tile", *BLINDED)
        )
        return Decomposition(
            local=tile,
            global_residual=Prediction(total.x0 - tile.x0, total.eps - tile.eps),
            refiner=None,
            total=total,
            blinded=dict(zip(BLINDED, others, strict=True)),
        )

    def residual(self, x_t: Tensor, t: float) -> None:
        """None: nothing is evaluated apart."""
        del x_t, t


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

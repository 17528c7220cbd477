"""A patch prior as the house sees it: one denoiser for each walk, and what it takes in memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prdit_core.errors import UsageError
from prdit_core.models.contracts import Key, Network
from prdit_core.models.families import parameter_count
from prdit_core.models.patch.denoiser import TILES_AT_ONCE, PatchDenoiser, PatchParts

if TYPE_CHECKING:
    from prdit_core.config import SamplingConfig
    from prdit_core.models.contracts import Denoiser, Shape
    from prdit_core.models.patch.config import PatchConfig
    from prdit_core.models.patch.unet import UNet3d
    from prdit_core.schedule import Schedule

# Samplers that build a state from clean volume and noise alone can be given those of several
# offsets, whose noises are summed.
ANEW = ("ddim", "ddim-even", "resynthesis")


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
        if config.refreshes:
            raise UsageError("a patch prior has no residual to reuse; leave --refresh-* out")
        if config.renoise > 1 and config.sampler not in ANEW:
            raise UsageError(
                f"--renoise {config.renoise} needs a sampler that builds the state anew from clean "
                f"volume and noise ({', '.join(ANEW)}), not {config.sampler}"
            )
        return PatchDenoiser(self.module, schedule, key, config.renoise, config.precision)

    def differentiable(self, schedule: Schedule) -> Denoiser:
        """One look over an offset that depends on t alone, with derivatives by the state."""
        return PatchDenoiser(self.module, schedule, Key(0, 0)).differentiable

    def differentiable_memory(self, shape: Shape) -> int:
        """As `memory`, and what the way back keeps of the tiles at once."""
        del shape
        return self.memory(self.config.shape) + kept_memory(self.config, TILES_AT_ONCE)

    def parts(self, schedule: Schedule) -> PatchParts | None:
        """With and without context and coordinates; None for a network that lacks one of them."""
        if self.config.inputs != "all":
            return None
        return PatchParts(PatchDenoiser(self.module, schedule, Key(0, 0)))

    def memory(self, shape: Shape) -> int:
        """Weights, the tiles evaluated at once, and the volumes that a walk holds."""
        return patch_memory(self.config, TILES_AT_ONCE)


def patch_memory(config: PatchConfig, tiles: int) -> int:
    """Bytes of evaluating so many tiles at once, about, with what a walk holds of the volume."""
    voxels = math.prod(config.tile)
    surrounded = 1
    for whole, edge in zip(config.shape, config.tile, strict=True):
        surrounded *= whole + 2 * edge
    held = (3 + 8 * config.channels) * surrounded
    return 4 * (parameter_count(config) + held + tiles * voxels * activations(config))


def kept_memory(config: PatchConfig, tiles: int) -> int:
    """Bytes that a pass back through so many tiles keeps, about."""
    return 4 * tiles * math.prod(config.tile) * 12 * activations(config)


def activations(config: PatchConfig) -> int:
    """Numbers for each voxel of a tile that the way down keeps for the way up, and one level's."""
    kept = sum((config.blocks + 1) * width / 8**level for level, width in enumerate(config.widths))
    return int(kept) + 6 * config.widths[0]

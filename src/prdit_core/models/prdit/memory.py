"""Bytes that a PRDiT takes, counted before any is allocated."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from prdit_core.models.families import parameter_count
from prdit_core.models.prdit.highres_refiner import TILE_BYTES, bytes_per_token
from prdit_core.models.prdit.network import PRDiT
from prdit_core.patches import grid_of

if TYPE_CHECKING:
    from prdit_core.prdit_config import Activations, ModelConfig


def memory_needed(config: ModelConfig, shape: tuple[int, int, int]) -> int:
    """Bytes that one evaluation takes, about: weights and the largest activations in float32.

    Measured on PRDiT-B/12/4 at 128^3 with torch's own share it came to within a tenth. A chain
    evaluates its refiners tile by tile; what counts there are the volumes that a walk holds at
    once: states, the predictions of this step and the last, and what becomes of them.
    """
    return 4 * parameter_count(config) + _activations(config, shape, held=6)


def training_memory(
    config: ModelConfig,
    shape: tuple[int, int, int],
    *,
    trains: tuple[str, ...],
    volumes: int,
    activations: Activations,
    crop: int | None = None,
) -> int:
    """Bytes that training takes on one device, about, in float32.

    Weights and their average; gradients and two moments of the weights that train (names starting
    with one of `trains`); what the backward pass keeps of `volumes` volumes at once, counted on
    the networks: 17 d a token for a local part, d + 12 h and 20 h a block for the global one.
    Measured float32 peaks lie 20 % below to 30 % above it.

    Parameters
    ----------
    crop : edge of the box that the last refiner is trained on; None: the whole volume
    """
    with torch.device("meta"):
        named = list(PRDiT(config).named_parameters())
    weights = sum(weight.numel() for _, weight in named)
    trained = sum(weight.numel() for name, weight in named if name.startswith(trains))
    kept, transient = _kept(config, shape, trains, activations, crop)
    counted = 4 * (2 * weights + 3 * trained) + volumes * (4 * kept + transient)
    return round(1.2 * counted)


def memory_with_derivatives(config: ModelConfig, shape: tuple[int, int, int]) -> int:
    """Bytes that one evaluation and the derivative by its input take, about, in float32."""
    kept, transient = _kept(
        config, shape, ("local.", "global_residual.", "refiners."), "keep", None
    )
    return round(1.2 * (4 * parameter_count(config) + 4 * kept + transient))


def _kept(
    config: ModelConfig,
    shape: tuple[int, int, int],
    parts: tuple[str, ...],
    activations: Activations,
    crop: int | None,
) -> tuple[int, int]:
    """Numbers that a pass back keeps of one volume, and bytes that come and go.

    Parameters
    ----------
    parts : what is passed back through, names that start with one of these
    """
    width, depth = config.width, config.depth
    per_token = 17 * config.token_width if "local.".startswith(parts) else 0
    if depth and "global_residual.".startswith(parts):
        blocks = 20 * depth if activations == "keep" else 20 + depth
        per_token += config.token_width + (12 + blocks) * width
    kept = math.prod(_base_grid(config, shape)) * per_token
    transient = _activations(config, shape, held=4)
    for number, refiner in enumerate(config.refiners):
        if f"refiners.{number}.".startswith(parts):
            last, token = number == len(config.refiners) - 1, refiner.token_width(config.channels)
            below = 2 ** (len(config.refiners) - 1 - number)
            voxels = crop**3 if crop and last else math.prod(shape) // below**3
            tokens = voxels // refiner.stride**3
            kept += 17 * token * tokens
            transient = max(transient, bytes_per_token(token) * tokens)
    return kept, transient


def _activations(config: ModelConfig, shape: tuple[int, int, int], *, held: int) -> int:
    """Bytes of the largest activations of a base, or of what a chain has beside a tile.

    Parameters
    ----------
    held : joint predictions at full resolution that there is room for, states counted as halves
    """
    per_token = 6 * config.token_width + (14 * config.width if config.depth else 0)
    base = 4 * math.prod(_base_grid(config, shape)) * per_token
    above = 4 * held * config.output_channels * math.prod(shape) + TILE_BYTES
    return max(base, above) if config.refiners else base


def _base_grid(config: ModelConfig, shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """Tokens of the base along each axis of a volume at full resolution."""
    below = tuple(edge // config.scale for edge in shape)
    return grid_of(below, config.stride, config.padding)

"""What fixes a 3D patch prior: its tiles, what its network sees, and how deep it is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from prdit_core.config import NetworkConfig, TrainingConfig
from prdit_core.errors import UsageError, first_fault
from prdit_core.geometry import by

if TYPE_CHECKING:
    from prdit_core.models.contracts import Shape

PatchTarget = Literal["noise", "v"]
PatchInputs = Literal["all", "no-context", "no-coordinates", "tile"]
PatchModel = Literal["paper", "small", "demo"]
Edge = Annotated[int, Field(ge=1, le=1024)]
Times = Annotated[int, Field(ge=1, le=64)]
Units = Annotated[float, Field(ge=-1000, le=1000, allow_inf_nan=False)]


class PatchConfig(NetworkConfig):
    """Everything that fixes the names and shapes of a patch prior's network.

    Attributes
    ----------
    tile : edges of a tile in voxels; those of the volume are `factor` times as long
    factor : of the block means that are the context
    width, multipliers, blocks : channels of the first level, those of each level by it, residual
        blocks of a level
    attention : levels that have attention, 0 being that of full resolution
    groups : of every GroupNorm
    target : what is predicted of a tile: "noise" (the paper), or "v" = alpha eps - sigma x0 (ours)
    inputs : what is seen beside the tile; "no-context" is the paper's ablation (Table 3)
    air : model units of what lies around the volume
    largest : model units that a predicted volume does not go beyond; `air` is the least
    """

    family: Literal["patch"] = "patch"
    channels: int = Field(default=1, ge=1, le=64)
    tile: tuple[Edge, Edge, Edge]
    factor: int = Field(ge=1, le=64)
    width: int = Field(ge=4, le=1024)
    multipliers: tuple[Times, ...] = Field(min_length=1, max_length=6)
    blocks: int = Field(ge=1, le=8)
    attention: tuple[int, ...] = Field(default=(), max_length=6)
    groups: int = Field(ge=1, le=64)
    target: PatchTarget = "noise"
    inputs: PatchInputs = "all"
    air: Units = -1.0
    largest: Units = 1.0

    @model_validator(mode="after")
    def _fits(self) -> Self:
        halvings = 2 ** (len(self.multipliers) - 1)
        if any(edge < 1 or edge % halvings for edge in self.tile):
            raise ValueError(f"edges of a tile must be multiples of {halvings}, not {self.tile}")
        if any(width % self.groups for width in self.widths):
            raise ValueError(f"widths {self.widths} must be multiples of {self.groups} groups")
        if any(not 0 <= level < len(self.multipliers) for level in self.attention):
            raise ValueError(f"attention {self.attention} names a level that is not there")
        if self.air >= self.largest:
            raise ValueError(f"air {self.air:g} must be below the largest value {self.largest:g}")
        return self

    def check_grid(self, shape: Shape) -> None:
        """Raise `ValueError` unless they are the only volumes that it knows."""
        if shape != self.shape:
            raise ValueError(
                f"tiles of {self.tile}, {self.factor} an edge, make no grid of {shape}"
            )

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level."""
        return tuple(self.width * times for times in self.multipliers)

    @property
    def depths(self) -> tuple[int, ...]:
        """Edge D of a tile at each level."""
        return tuple(self.tile[0] >> level for level in range(len(self.multipliers)))

    @property
    def input_channels(self) -> int:
        """Tile, context and three coordinates."""
        context = self.channels if self.inputs in ("all", "no-coordinates") else 0
        return self.channels + context + (3 if self.inputs in ("all", "no-context") else 0)

    @property
    def shape(self) -> Shape:
        """Grid (D, H, W) of the only volumes it knows: it sees where in them a tile lies."""
        depth, height, width = (edge * self.factor for edge in self.tile)
        return depth, height, width

    @property
    def edge_multiple(self) -> int:
        """Of every edge of the volume."""
        return math.gcd(*self.shape)

    @property
    def least_parameters(self) -> int:
        """Those of the convolutions of the lowest level."""
        return 27 * 4 * self.blocks * self.widths[-1] ** 2

    @property
    def summary(self) -> str:
        """What the network is made of, in words."""
        seen = {
            "all": "with global context and coordinates",
            "no-context": "with coordinates",
            "no-coordinates": "with global context",
            "tile": "alone",
        }[self.inputs]
        return f"patch prior, tiles of {by(self.tile)} voxels {seen}"


class PatchTraining(TrainingConfig):
    """Settings of one training run of a patch prior; defaults are the paper's."""

    stage: Literal["patch"] = "patch"
    """patch: tiles of volumes of one grid, with the whole volume as context."""
    iterations: int | None = Field(default=None, ge=1, le=100_000_000)
    """Optimiser steps. [400000]"""
    lr: float | None = Field(default=None, gt=0, le=1, allow_inf_nan=False)
    """Learning rate. [2e-5; 1e-3 with a falling rate suits small networks]"""
    batch_size: int = Field(default=64, ge=1, le=65_536)
    """Volumes per step, of all processes; never more than there are training cases."""
    ema_decay: float = Field(default=0.999, ge=0, lt=1)
    """Final decay of the averaged weights; it warms up as (1 + i) / (10 + i)."""
    model: PatchModel | None = None
    """paper (68.6 million weights), small (0.7) or demo (1.6). [small below 128^3, else paper]"""
    tiles: int = Field(default=1, ge=1, le=512)
    """Tiles of each volume per step."""
    factor: int | None = Field(default=None, ge=1, le=64)
    """Edge of the volume by that of a tile. [8 of paper, 4 of the others]"""
    target: PatchTarget | None = None
    """What is predicted: noise (the paper) or v. [noise of paper, v of the others]"""
    inputs: PatchInputs | None = None
    """What is seen beside the tile; all but "all" are the paper's ablations. [all]"""


# The paper's network, and small ones for a CPU; what fits 256^3 and 64^3 volumes.
_SIZES: dict[PatchModel, dict[str, object]] = {
    "paper": {
        "factor": 8,
        "width": 64,
        "multipliers": (1, 2, 4, 4),
        "blocks": 2,
        "attention": (2,),
        "groups": 32,
        "target": "noise",
    },
    "small": {
        "factor": 4,
        "width": 16,
        "multipliers": (1, 2, 2),
        "blocks": 1,
        "attention": (2,),
        "groups": 8,
        "target": "v",
    },
    "demo": {
        "factor": 4,
        "width": 24,
        "multipliers": (1, 2, 2),
        "blocks": 1,
        "attention": (2,),
        "groups": 8,
        "target": "v",
    },
}


def patch_config(
    model: PatchModel,
    shape: Shape,
    *,
    factor: int | None = None,
    target: PatchTarget | None = None,
    inputs: PatchInputs = "all",
    units: tuple[float, float] = (-1.0, 1.0),
) -> PatchConfig:
    """A named network for volumes (D, H, W); what is None is the name's own.

    Parameters
    ----------
    units : model units of air and of the brightest voxel

    Raises
    ------
    UsageError
        If the volumes cannot be cut into such tiles.
    """
    size = dict(_SIZES[model])
    if model == "paper":  # whose attention is where the longest edge of a tile is 8
        level = round(math.log2(max(shape) / int(str(factor or size["factor"])) / 8))
        size["attention"] = (min(max(level, 0), 3),)
    if factor is not None:
        size["factor"] = factor
    if target is not None:
        size["target"] = target
    times = int(str(size["factor"]))
    tile = tuple(edge // times for edge in shape)
    if any(edge % times for edge in shape):
        raise UsageError(f"edges of {shape} are no multiples of the factor {times}")
    more = {"tile": tile, "inputs": inputs, "air": units[0], "largest": units[1]}
    try:
        return PatchConfig.model_validate({**size, **more})
    except ValidationError as error:
        raise UsageError(f"volumes of {shape} do not fit {model}: {first_fault(error)}") from error

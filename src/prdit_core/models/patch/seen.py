"""What the network sees of a noisy volume: tiles, context and coordinates, as one batch."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import torch

from prdit_core.models.patch.tiles import context, coordinates, cut, surround

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from prdit_core.models.contracts import Shape
    from prdit_core.models.patch.config import PatchConfig, PatchInputs

# Inputs that have the volume as a whole, and the place of every voxel, among them.
CONTEXT: tuple[PatchInputs, ...] = ("all", "no-coordinates")
COORDINATES: tuple[PatchInputs, ...] = ("all", "no-context")


class View:
    """One noisy volume, ready to be cut.

    Parameters
    ----------
    x_t : (C, D, H, W)
    border : (C, D + 2P, H + 2P, W + 2P) noisy air; it is overwritten
    shown : of what the network takes; in place of the rest it gets what says nothing: a context
        that is its mean everywhere, the centre of the volume as the place of every voxel
    """

    def __init__(
        self, config: PatchConfig, x_t: Tensor, border: Tensor, shown: PatchInputs = "all"
    ) -> None:
        self.config = config
        self.x = surround(x_t[None], config.tile, border[None])[0]
        beside = []
        if config.inputs in CONTEXT:
            whole = context(x_t[None], config.factor)[0]
            mean = whole.mean((1, 2, 3), keepdim=True).expand_as(whole)
            beside.append(whole if shown in CONTEXT else mean)
        self._beside = beside
        self._places = None
        if config.inputs in COORDINATES:
            places = _places(config.shape, config.tile).to(x_t.device)
            self._places = places if shown in COORDINATES else torch.zeros_like(places)

    def tiles(self, starts: Sequence[Shape]) -> Tensor:
        """(tiles, Cin, *P) of what the network sees at these starts."""
        return torch.stack([self._tile(start) for start in starts])

    def _tile(self, start: Shape) -> Tensor:
        tile = self.config.tile
        places = [] if self._places is None else [cut(self._places, start, tile)]
        return torch.cat([cut(self.x, start, tile), *self._beside, *places])


@lru_cache(maxsize=2)
def _places(shape: Shape, tile: Shape) -> Tensor:
    return coordinates(shape, tile)


def border_shape(config: PatchConfig) -> tuple[int, int, int, int]:
    """Of a surrounded volume."""
    edges = (whole + 2 * edge for whole, edge in zip(config.shape, config.tile, strict=True))
    return (config.channels, *edges)  # type: ignore[return-value]  # three axes

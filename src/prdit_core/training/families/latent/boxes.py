"""What of the volumes the autoencoder is trained on: boxes, turned and mirrored, by key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from prdit_core.noise import Draw, generator
from prdit_core.patches import random_box

if TYPE_CHECKING:
    from torch import Tensor

    from prdit_core.training.batches import Batch

# Boxes of one value, mostly air, teach nothing; so often another one is drawn.
TRIES = 16


@dataclass(frozen=True)
class TrainingBoxes:
    """A box of every volume of a batch, as a pure function of (seed, iteration, place).

    Attributes
    ----------
    edge : of the boxes in voxels; where a volume is shorter, all of it. None: whole volumes
    multiple : what limits of boxes are multiples of
    """

    seed: int
    edge: int | None
    multiple: int = 1

    def of(self, batch: Batch) -> Tensor:
        """(B, C, d, h, w), mirrored in both axes of the axial plane and turned in it, or not."""
        return torch.stack(
            [
                self._of_one(x, batch.iteration, place)
                for x, place in zip(batch.x0, batch.places, strict=True)
            ]
        )

    def _of_one(self, x: Tensor, iteration: int, place: int) -> Tensor:
        stream = generator(Draw.CODEC_PATCH, self.seed, 0, iteration, place)
        for _ in range(TRIES):
            part = self._box(x, stream)
            if part.min() < part.max():
                break
        return turned(part, stream)

    def _box(self, x: Tensor, stream: torch.Generator) -> Tensor:
        if self.edge is None:
            return x
        edges = tuple(min(self.edge, whole) for whole in x.shape[1:])
        return x[:, *random_box(tuple(x.shape[1:]), edges, self.multiple, stream)]


def turned(x: Tensor, stream: torch.Generator) -> Tensor:
    """A volume (C, D, H, W) mirrored and turned in its axial plane; turned only if H is W."""
    back, left, quarter = (torch.rand(3, generator=stream) < 0.5).tolist()
    x = x.flip(2) if back else x
    x = x.flip(3) if left else x
    return x.rot90(1, (2, 3)) if quarter and x.shape[2] == x.shape[3] else x

"""How the critics of the W-score are built and trained: rows of one table."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from prdit_core.errors import InputRejected
from prdit_core.intensity import Intensity

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from prdit_core.volume import Volume


class CriticProtocol(BaseModel):
    """One way to compute W-scores, recorded with every score.

    Attributes
    ----------
    edge : voxels along each edge as critics see them; None: as they are
    batch : real volumes of an iteration, and as many fakes
    lr : learning rate of Adam (0.5, 0.999)
    penalty : lambda of the gradient penalty
    width : channels of a critic's first level
    iterations : of each critic
    seeds : critics of each kind, from whose spread the scores take theirs
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["paper", "recommended"]
    edge: int | None = Field(ge=8)
    batch: int = Field(ge=2)
    lr: float = Field(gt=0)
    penalty: float = Field(gt=0)
    width: int = Field(ge=1)
    iterations: int = Field(ge=1)
    seeds: int = Field(ge=1)

    @property
    def least(self) -> int:
        """Volumes that a set needs: half of them fill a batch."""
        return 2 * self.batch

    def prepare(self, volume: Volume) -> NDArray[np.float32]:
        """A volume as critics see it: (D, H, W) float32 in [-1, 1], area-averaged to `edge`.

        Raises
        ------
        InputRejected
            If the volume holds NaN, or is no cube of whole multiples of `edge`.
        """
        from prdit_core.data.resampling import pool_mean

        if not np.all(np.isfinite(volume.voxels_hu)):
            raise InputRejected("a volume to be evaluated holds NaN or infinity; leave it out")
        x = Intensity().to_model(volume.voxels_hu)
        if self.edge is None:
            return x
        if len(set(x.shape)) > 1 or x.shape[0] % self.edge:
            raise InputRejected(
                f"critics of protocol {self.name} see cubes of {self.edge}^3 voxels or whole "
                f"multiples; these volumes have {' x '.join(map(str, x.shape))}"
            )
        return pool_mean(x, x.shape[0] // self.edge)


# The paper states batch, learning rate, penalty and seeds (A.9.3). It does not state channels,
# iterations or how much is held out (half, in both rows): those are ours.
CRITIC_PROTOCOLS: Mapping[str, CriticProtocol] = MappingProxyType(
    {
        row.name: row
        for row in (
            CriticProtocol(
                name="paper",
                edge=None,
                batch=40,
                lr=1e-5,
                penalty=10.0,
                width=64,
                iterations=10_000,
                seeds=3,
            ),
            CriticProtocol(
                name="recommended",
                edge=32,
                batch=8,
                lr=1e-4,
                penalty=10.0,
                width=16,
                iterations=300,
                seeds=3,
            ),
        )
    }
)

"""The cases of a prepared data set as the loop reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from prdit_core.data.datasets import Case, PreparedData
    from prdit_core.intensity import Intensity


@dataclass(frozen=True)
class Volumes:
    """Some cases in the units of `intensity`, each checked against its hash whenever it is read."""

    data: PreparedData
    cases: tuple[Case, ...]
    intensity: Intensity

    @property
    def names(self) -> tuple[str, ...]:
        """Ids of the cases."""
        return tuple(case.id for case in self.cases)

    def read(self, number: int) -> NDArray[np.float32]:
        """Volume (D, H, W) in model units.

        Raises
        ------
        InputRejected
            If its file is missing, damaged or was changed.
        """
        return self.intensity.to_model(self.data.checked(self.cases[number]))

"""Who contributes what: energies of local part and global residual by size of detail.

The two parts overlap. Where they are added, their energies are not: the energy of the sum is that
of the local part, plus that of the residual, plus twice their inner product, which is positive
where both say the same and negative where the residual takes back what the local part said. So
`residual_share` compares the parts alone, and `agreement` says what became of them in the sum.
Neither says whether the residual helps: that is the error of the sum beside the error of the local
part alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from prdit_core.metrics.spectrum import octaves
from prdit_core.verbs.decompose import check_level, prepare, split

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from prdit_core.metrics.spectrum import Bands
    from prdit_core.models.prior import Prior
    from prdit_core.verbs.decompose import DecomposedState
    from prdit_core.volume import Volume

    Energies = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PartEnergies:
    """Energies of a prediction and its parts in HU², (n,) each, coarsest details first.

    Attributes
    ----------
    local, global_residual, total : squared deviation from the mean over the volume. The means are
        left out, since where HU are zero is a convention.
    error_local, error_total : squared difference to the truth, means included, of the local part
        alone and of the sum; None where the truth is not known
    """

    local: Energies
    global_residual: Energies
    total: Energies
    error_local: Energies | None
    error_total: Energies | None

    @property
    def residual_share(self) -> Energies:
        """Energy of the global residual among that of both parts, 0 to 1."""
        return _ratio(self.global_residual, self.local + self.global_residual)

    @property
    def agreement(self) -> Energies:
        """Energy of the sum by the energies of its parts, 0 to 2.

        1 where the parts are unrelated, above where they say the same, below where the residual
        takes back what the local part said.
        """
        return _ratio(self.total, self.local + self.global_residual)

    def summed(self) -> PartEnergies:
        """The same over all sizes of detail, (1,)."""
        return PartEnergies(
            _sum(self.local),
            _sum(self.global_residual),
            _sum(self.total),
            None if self.error_local is None else _sum(self.error_local),
            None if self.error_total is None else _sum(self.error_total),
        )


@dataclass(frozen=True, eq=False)
class EnergyShares:
    """Energies at one noise level.

    Attributes
    ----------
    t : noise level
    limits_mm : (n + 1,) limits of the sizes of detail; see `Bands`
    x0, eps : of the predicted clean volume and of the predicted noise
    """

    t: float
    limits_mm: tuple[float, ...]
    x0: PartEnergies
    eps: PartEnergies


def energy_shares(found: DecomposedState) -> EnergyShares:
    """Energies of the parts of a split prediction."""
    example = found.parts["x0-total"]
    bands = octaves(example.shape, example.spacing_mm)
    x0, eps = (_energies(found, bands, quantity) for quantity in ("x0", "eps"))
    return EnergyShares(found.t, bands.limits_mm, x0, eps)


def decompose_levels(
    prior: Prior, volume: Volume, ts: Sequence[float], *, seed: int = 0
) -> Iterator[EnergyShares]:
    """Split the predictions for a scan at several noise levels, one event each.

    The noise is the same at all levels; only how much of it covers the scan changes.

    Parameters
    ----------
    volume : a CT scan of any grid; it is prepared as the scans that the prior was trained on
    ts : noise levels in (0, 1000]
    seed : of the noise

    Raises
    ------
    UsageError
        If a level is out of range, the prior has more than one channel, or no scan fits its grid.
    """
    for t in ts:
        check_level(t)
    subject = prepare(prior, volume, seed)
    for t in ts:
        yield energy_shares(split(prior, subject, t))


def _energies(found: DecomposedState, bands: Bands, quantity: str) -> PartEnergies:
    local, residual, total = (
        found.parts[f"{quantity}-{part}"].voxels_hu
        for part in ("local", "global-residual", "total")
    )
    error = found.parts.get(f"{quantity}-error")
    return PartEnergies(
        local=bands.energies(local - local.mean()),
        global_residual=bands.energies(residual - residual.mean()),
        total=bands.energies(total - total.mean()),
        error_local=None if error is None else bands.energies(error.voxels_hu - residual),
        error_total=None if error is None else bands.energies(error.voxels_hu),
    )


def _sum(energies: Energies) -> Energies:
    return np.array([energies.sum()])


def _ratio(part: Energies, whole: Energies) -> Energies:
    """`part` by `whole`, and 0 where there is nothing."""
    ratio: Energies = np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
    return ratio

"""Who contributes what: energies of local part, global residual and refiner by size of detail.

The parts overlap. Where they are added, their energies are not: the energy of the sum is that
of the local part, plus that of the residual, plus twice their inner product, which is positive
where both say the same and negative where the residual takes back what the local part said; the
refiner of a chain likewise. So `residual_share` and `refiner_share` compare the parts alone, and
`agreement` says what became of them in the sum. None says whether a part helps: that is the error
with it beside the error without it.
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
    refiner : as `local`; None for a model that is no chain
    error_base : as `error_local`, of local part and global residual; None also where there is no
        refiner, since it is `error_total` there
    """

    local: Energies
    global_residual: Energies
    total: Energies
    error_local: Energies | None
    error_total: Energies | None
    refiner: Energies | None = None
    error_base: Energies | None = None

    @property
    def residual_share(self) -> Energies:
        """Energy of the global residual among that of all parts, 0 to 1."""
        return _ratio(self.global_residual, self._parts)

    @property
    def refiner_share(self) -> Energies:
        """Energy of the refiner among that of all parts, 0 to 1; 0 where there is none."""
        refiner = np.zeros_like(self.local) if self.refiner is None else self.refiner
        return _ratio(refiner, self._parts)

    @property
    def agreement(self) -> Energies:
        """Energy of the sum by the energies of its parts, 0 to their number.

        1 where the parts are unrelated, above where they say the same, below where one takes back
        what another said.
        """
        return _ratio(self.total, self._parts)

    def summed(self) -> PartEnergies:
        """The same over all sizes of detail, (1,)."""
        unsure = (self.error_local, self.error_total, self.refiner, self.error_base)
        return PartEnergies(
            _sum(self.local),
            _sum(self.global_residual),
            _sum(self.total),
            *(None if energies is None else _sum(energies) for energies in unsure),
        )

    @property
    def _parts(self) -> Energies:
        """Energies of all parts, before they are added."""
        both = self.local + self.global_residual
        return both if self.refiner is None else both + self.refiner


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


def energy_shares(decomposed: DecomposedState) -> EnergyShares:
    """Energies of the parts of a split prediction."""
    example = decomposed.parts["x0-total"]
    bands = octaves(example.shape, example.spacing_mm)
    x0, eps = (_energies(decomposed, bands, quantity) for quantity in ("x0", "eps"))
    return EnergyShares(decomposed.t, bands.limits_mm, x0, eps)


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


def _energies(decomposed: DecomposedState, bands: Bands, quantity: str) -> PartEnergies:
    parts = {
        name.removeprefix(f"{quantity}-"): volume.voxels_hu
        for name, volume in decomposed.parts.items()
        if name.startswith(f"{quantity}-")
    }
    error = parts.pop("error", None)
    energies = {name: bands.energies(part - part.mean()) for name, part in parts.items()}
    refined = "refiner" in parts
    base = error - parts["refiner"] if error is not None and refined else error
    return PartEnergies(
        local=energies["local"],
        global_residual=energies["global-residual"],
        total=energies["total"],
        error_local=None if base is None else bands.energies(base - parts["global-residual"]),
        error_total=None if error is None else bands.energies(error),
        refiner=energies.get("refiner"),
        error_base=bands.energies(base) if base is not None and refined else None,
    )


def _sum(energies: Energies) -> Energies:
    return np.array([energies.sum()])


def _ratio(part: Energies, whole: Energies) -> Energies:
    """`part` by `whole`, and 0 where there is nothing."""
    ratio: Energies = np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
    return ratio

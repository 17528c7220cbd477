"""Splitting a prediction beside the window: of what, the events that come back, and their words."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from napari_prdit.layers import OURS, SINOGRAM, layer_volume
from prdit_core.errors import InputRejected
from prdit_core.intensity import HU
from prdit_core.provenance import UNITS

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence

    from napari.layers import Image
    from numpy.typing import NDArray

    from napari_prdit.jobs import Control
    from prdit_core import Prior, Volume
    from prdit_core.verbs.shares import EnergyShares, PartEnergies

PART = "part"  # under metadata["prdit"] of our results: which part a layer shows
LEVELS = tuple(float(t) for t in range(100, 1000, 100))
# Above this there is no air; a scan without any is rare, values that are no HU are not.
_AIR_HU = -500.0
_NO_HU = "no value below -500, so no air: are these Hounsfield units?"
# Voxels along each axis that tell whether a layer may be CT, before anybody chooses it.
_LOOKED_AT = 64
# Kinds of our layers that are no HU of a scan.
_NO_SCAN = ("residual", "spread", "imagined", SINOGRAM)
_WORDS_OF_NOISE = (
    (100, "little noise: only the finest texture is hidden"),
    (350, "some noise: small vessels drown, organs are clear"),
    (650, "much noise: organs shine through, their texture is gone"),
    (900, "mostly noise: only the rough shape of the body is left"),
    (1000, "nearly pure noise: the model draws on what it learnt, hardly on the scan"),
)


class SplitSource(Protocol):
    """Whose prediction is split; it holds everything the result depends on but the model."""

    def check(self) -> None:
        """Raise `InputRejected` if it cannot be split, before a model is loaded."""

    def split(self, prior: Prior) -> SplitResult:
        """Split it; errors are those of `prdit_core.decompose`."""


@dataclass(frozen=True)
class SplitResult:
    """A split prediction.

    Attributes
    ----------
    volumes : parts as `prdit_core.decompose` names them, and ``scan`` where the truth is known
    shares : their energies
    """

    volumes: Mapping[str, Volume]
    shares: EnergyShares


@dataclass(frozen=True, eq=False)
class LayerSource:
    """The volume of an image layer, covered with noise.

    Attributes
    ----------
    data, attributes : as the layer had them when it was asked
    t : noise level
    seed : of the noise
    """

    data: Any
    attributes: Mapping[str, Any]
    t: float
    seed: int

    def check(self) -> None:
        """Refuse a layer that lies askew, holds NaN, or is no CT in HU."""
        _ = self.volume

    def split(self, prior: Prior) -> SplitResult:
        """Noise the scan and split the prediction; the truth is known."""
        from prdit_core import decompose, energy_shares

        decomposed = decompose(prior, self.volume, self.t, seed=self.seed)
        return SplitResult({"scan": decomposed.scan, **decomposed.parts}, energy_shares(decomposed))

    def levels(self, prior: Prior, ts: Sequence[float]) -> Iterator[EnergyShares]:
        """Energies at several noise levels."""
        from prdit_core import decompose_levels

        return decompose_levels(prior, self.volume, ts, seed=self.seed)

    @cached_property
    def volume(self) -> Volume:
        """The scan where it lies; see `scan_of`."""
        return scan_of(self.data, self.attributes)


@dataclass(frozen=True, eq=False)
class StateSource:
    """A state of a generated volume on its way, which is noisy already.

    Attributes
    ----------
    x_t : (D, H, W) in model units; its size is the one it was generated at
    t : its noise level
    """

    x_t: NDArray[np.float32]
    t: float

    def check(self) -> None:
        """A state of a walk is what it is."""

    def split(self, prior: Prior) -> SplitResult:
        """Split the prediction of that step; nobody knows the truth."""
        from prdit_core import decompose_state, energy_shares

        decomposed = decompose_state(prior, self.x_t, self.t)
        return SplitResult(decomposed.parts, energy_shares(decomposed))


@dataclass(frozen=True)
class Model:
    """A checkpoint, the device it shall work on, and one of a chain's sizes, or None."""

    checkpoint: str
    device: str
    size: int | None = None

    def loaded(self) -> Prior:
        """Load and verify it."""
        from prdit_core import load
        from prdit_core.machine import choose_device, use_threads

        use_threads()
        return load(self.checkpoint, choose_device(self.device)).at_size(self.size)


def split_work(model: Model, source: SplitSource, control: Control) -> Generator[SplitResult]:
    """Load the model and split one prediction."""
    source.check()
    prior = model.loaded()
    if control.may_go_on():
        yield source.split(prior)


def levels_work(model: Model, source: LayerSource, control: Control) -> Generator[EnergyShares]:
    """Load the model and split at all `LEVELS`; what was told before a stop stays."""
    source.check()
    levels = source.levels(model.loaded(), LEVELS)
    while control.may_go_on() and (shares := next(levels, None)) is not None:
        yield shares


def scan_of(data: Any, attributes: Mapping[str, Any]) -> Volume:
    """The scan of an image layer where it lies, with a note if its values look like no HU.

    Raises
    ------
    InputRejected
        If the layer lies askew, holds NaN, or is no CT in HU.
    """
    volume = layer_volume(data, attributes)
    name = str(attributes.get("name", "layer"))
    if volume.units != HU:
        raise InputRejected(f"layer {name!r} is in {volume.units}; choose a CT scan in HU")
    if volume.voxels_hu.dtype.kind == "f" and not np.all(np.isfinite(volume.voxels_hu)):
        raise InputRejected(f"layer {name!r} holds NaN or infinity; mend it first")
    if OURS not in attributes.get("metadata", {}):
        reason = _no_hu(volume.voxels_hu)
        if reason:
            raise InputRejected(f"layer {name!r}: {reason}; choose a CT scan in HU")
    if volume.voxels_hu.size and float(volume.voxels_hu.min()) < _AIR_HU:
        return volume
    notes = [*volume.metadata.get("notes", ()), _NO_HU]
    return replace(volume, metadata={**volume.metadata, "notes": notes})


def refusal(layer: Image) -> str:
    """Why an image layer is no scan to inspect; empty if it may be one."""
    if layer.rgb:
        return "a colour picture"
    if layer.multiscale:
        return "a pyramid of resolutions"
    if layer.ndim != 3:
        return f"{layer.ndim}D, not 3D"
    if OURS in layer.metadata:  # reading has judged it, or its record says what it is
        ours = layer.metadata[OURS]
        if (units := ours.get(UNITS, HU)) != HU:
            return f"in {units}, not HU"
        return "differences, not a scan" if ours.get("kind") in _NO_SCAN else ""
    steps = (slice(None, None, max(1, edge // _LOOKED_AT)) for edge in layer.data.shape)
    return _no_hu(np.asarray(layer.data[tuple(steps)]))


def _no_hu(voxels: NDArray[Any]) -> str:
    """Why voxels, perhaps a sample of them, are no CT in HU; empty if they may be."""
    from prdit_core.data.io import check_units

    if voxels.dtype.kind == "f":
        voxels = voxels[np.isfinite(voxels)][None]
    if not voxels.size:
        return "it holds no numbers"
    try:
        check_units(voxels, "")
    except InputRejected:
        low, high = float(voxels.min()), float(voxels.max())
        return f"not CT in HU: values from {low:.4g} to {high:.4g}"
    return ""


def is_part(layer: Any) -> bool:
    """Whether a layer shows a part that an inspector found."""
    return PART in layer.metadata.get(OURS, {})


def noise_in_words(t: float) -> str:
    """What a noise level leaves of a scan."""
    return next(words for limit, words in _WORDS_OF_NOISE if t <= limit)


def sizes_in_words(limits_mm: Sequence[float]) -> list[str]:
    """Sizes of detail of each band in mm, coarsest first."""
    return [_size(low, high) for high, low in pairwise(limits_mm)]


def summary(shares: EnergyShares, quantity: str) -> str:
    """What the other parts add to the local one, in some sentences; `quantity` is x0 or eps."""
    whole = getattr(shares, quantity).summed()
    what = {"x0": "clean scan", "eps": "noise"}[quantity]
    refined = "" if whole.refiner is None else f", {whole.refiner_share[0]:.1%} from the refiner"
    share = (
        f"Noise level {shares.t:.0f}, predicted {what}: {whole.residual_share[0]:.1%} of the "
        f"energy comes from the global part{refined}."
    )
    return f"{share} {_gain(whole)}"


def _gain(whole: PartEnergies) -> str:
    """How much closer to the truth each part brings the prediction."""
    if whole.error_local is None or whole.error_total is None:
        return "Nobody knows the truth of a generated volume, so there is no error."
    alone, total = math.sqrt(whole.error_local[0]), math.sqrt(whole.error_total[0])
    if whole.error_base is None:
        return (
            f"Without it the prediction is {alone:.0f} HU off, with it {total:.0f} HU: "
            f"{_change(alone, total)}."
        )
    base = math.sqrt(whole.error_base[0])
    return (
        f"The local part alone is {alone:.0f} HU off, with the global part {base:.0f} HU "
        f"({_change(alone, base)}), with the refiner {total:.0f} HU ({_change(base, total)})."
    )


def _change(before: float, after: float) -> str:
    """Such as "12% less"."""
    change = (after - before) / before if before else 0.0
    return f"{abs(change):.0%} {'less' if change <= 0 else 'more'}"


def _size(low: float, high: float) -> str:
    if math.isinf(high):
        return f"> {low:.3g}"
    return f"{low:.3g}–{high:.3g}" if low else f"< {high:.3g}"

"""Split a prediction into the parts of its model: for a scan under noise, or a walk's state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from prdit_core.checkpoints.expected_data import expected_data
from prdit_core.data.transforms import conform
from prdit_core.errors import UsageError
from prdit_core.machine import check_memory, package_version
from prdit_core.noise import Draw, unit_noise
from prdit_core.pictures import Panel
from prdit_core.provenance import DERIVED, SYNTHETIC, torch_version
from prdit_core.schedule import T
from prdit_core.volume import Volume, axial_affine

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from torch import Tensor

    from prdit_core.models.contracts import Decomposition
    from prdit_core.models.prior import Prior

# Rows of the picture of a patch prior.
SHOWN = {
    "x0-local": "x0 of every tile alone",
    "x0-no-context": "x0 without global context, with coordinates",
    "x0-no-coordinates": "x0 without coordinates, with global context",
    "x0-total": "x0 with both",
}
# Percentile of the residual that gets the full colour.
SHOWN_SHARE = 99.0


@dataclass(frozen=True)
class DecomposedState:
    """A noisy state and the parts of what a prior predicts for it, all in HU.

    Attributes
    ----------
    parts : ``noisy``, ``x0-local``, ``x0-global-residual``, ``x0-total``, and ``eps-local``,
        ``eps-global-residual``, ``eps-total`` (noise as HU differences); for a chain
        ``x0-refiner`` and ``eps-refiner`` too. Local part, residual and refiner sum up to the
        total. For a patch prior also ``x0-no-context``, ``x0-no-coordinates`` and the same of eps:
        what it predicts without one of them; its local part has neither
    t : noise level
    """

    parts: Mapping[str, Volume]
    t: float


@dataclass(frozen=True)
class Decomposed(DecomposedState):
    """As `DecomposedState`, of a scan on the prior's grid: the truth is known.

    Attributes
    ----------
    parts : also ``x0-error`` and ``eps-error`` (total minus truth)
    scan : the clean volume
    """

    scan: Volume

    def panels(self) -> list[Panel]:
        """Rows of a picture: scan, noisy scan, local x0, what is added to it, their sum."""
        given = [
            self._image("scan", self.scan),
            self._image(f"scan with noise, t = {self.t:g}", self.parts["noisy"]),
        ]
        if "x0-no-context" in self.parts:
            return given + [self._image(words, self.parts[key]) for key, words in SHOWN.items()]
        x0 = {"global residual": "x0-global-residual", "refiner": "x0-refiner"}
        added = {name: self.parts[key] for name, key in x0.items() if key in self.parts}
        return [
            *given,
            self._image("x0, local part", self.parts["x0-local"]),
            *(_signed(f"x0, {name}", part) for name, part in added.items()),
            self._image(f"x0, {' + '.join(['local', *added])}", self.parts["x0-total"]),
        ]

    def _image(self, caption: str, volume: Volume) -> Panel:
        """Grey, in the window of the prior."""
        low, high = self.scan.metadata["window_hu"]
        return Panel(volume.voxels_hu, volume.spacing_mm, (low, high), caption)


@dataclass(frozen=True)
class Subject:
    """A scan as a prior sees it, and the noise that is to cover it.

    Attributes
    ----------
    scan : on the prior's grid, in HU; its metadata are those of all parts but for the noise level
    x0, eps : (1, 1, D, H, W) in model units
    """

    scan: Volume
    x0: Tensor
    eps: Tensor


def decompose(prior: Prior, volume: Volume, t: float, *, seed: int = 0) -> Decomposed:
    """Noise a scan to time `t` and split the prior's prediction.

    Parameters
    ----------
    volume : a CT scan of any grid; it is prepared as the scans that the prior was trained on
    t : noise level in (0, 1000]
    seed : of the noise

    Raises
    ------
    UsageError
        If `t` is out of range, the prior has more than one channel, or no scan fits its grid.
    """
    check_level(t)
    return split(prior, prepare(prior, volume, seed), t)


def decompose_state(prior: Prior, x_t: NDArray[np.float32], t: float) -> DecomposedState:
    """Split what the prior predicts from a state of a walk; its truth nobody knows.

    Parameters
    ----------
    x_t : (D, H, W) state in model units, such as `SampleStep.x_t[0, 0]`; of a chain it may be of
        any resolution
    t : its noise level in (0, 1000]

    Raises
    ------
    UsageError
        If `t` is out of range, or the prior has another grid or more than one channel.
    """
    check_level(t)
    prior.checked_parts()
    prior.check_hu()
    prior = prior.at_size(x_t.shape[0]) if x_t.shape[0] in prior.sizes else prior
    if x_t.shape != prior.geometry.shape:
        raise UsageError(
            f"a state of shape {x_t.shape} is none of {prior.name}, which has "
            f"{prior.geometry.shape}; choose the model it was generated with"
        )
    _check_memory(prior)
    state = torch.from_numpy(x_t.astype(np.float32))[None, None].to(prior.device)
    affine = axial_affine(prior.geometry.spacing_mm, prior.geometry.shape)
    units = _Units(prior, affine, _metadata(prior, SYNTHETIC) | _level(prior, SYNTHETIC, t))
    return DecomposedState(parts=_parts(units, state, prior.decompose(state, t)), t=t)


def prepare(prior: Prior, volume: Volume, seed: int) -> Subject:
    """Bring a scan to the prior's grid and draw noise for it; errors as of `decompose`."""
    prior.checked_parts()
    prior.check_hu()
    expected = expected_data(prior.intensity, prior.geometry, prior.record)
    _check_memory(prior)
    conformed = conform(volume, expected.preset, expected.size)
    x0 = prior.encode(conformed.volume.voxels_hu)
    noise = unit_noise(prior.shape, Draw.DECOMPOSE, seed).to(prior.device)
    notes = {"notes": list(conformed.notes)} if conformed.notes else {}
    metadata = {**_metadata(prior, DERIVED), "seed": seed, **notes}
    voxels = conformed.volume.voxels_hu.astype(np.float32)
    return Subject(
        scan=Volume(voxels, conformed.volume.affine, metadata),
        x0=x0,
        eps=noise * prior.schedule.noise_std,
    )


def split(prior: Prior, subject: Subject, t: float) -> Decomposed:
    """Cover a prepared scan with its noise to level `t` and split the prediction."""
    metadata = {**subject.scan.metadata, **_level(prior, DERIVED, t)}
    units = _Units(prior, subject.scan.affine, metadata)
    x_t = prior.schedule.alpha(t) * subject.x0 + prior.schedule.sigma(t) * subject.eps
    decomposition = prior.decompose(x_t, t)
    parts = _parts(units, x_t, decomposition)
    parts["x0-error"] = units.difference(decomposition.total.x0 - subject.x0)
    parts["eps-error"] = units.difference(decomposition.total.eps - subject.eps)
    scan = Volume(subject.scan.voxels_hu, subject.scan.affine, metadata)
    return Decomposed(parts=parts, t=t, scan=scan)


def check_level(t: float) -> None:
    """Raise `UsageError` unless `t` is a noise level."""
    if not 0 < t <= T:
        raise UsageError(f"t = {t:g} is outside (0, {T:g}]")


@dataclass(frozen=True)
class _Units:
    """From a prior's tensors (1, 1, D, H, W) to volumes in HU."""

    prior: Prior
    affine: NDArray[np.float64]
    metadata: Mapping[str, Any]

    def absolute(self, x: Tensor) -> Volume:
        """An image, not clipped to the window."""
        intensity = self.prior.intensity
        units = x - intensity.model_range[0]
        return self._volume(units * intensity.hu_per_unit + intensity.window_hu[0])

    def difference(self, x: Tensor) -> Volume:
        """A change of an image."""
        return self._volume(x * self.prior.intensity.hu_per_unit)

    def _volume(self, hu: Tensor) -> Volume:
        return Volume(hu[0, 0].float().cpu().numpy(), self.affine, self.metadata)


def _parts(units: _Units, x_t: Tensor, decomposition: Decomposition) -> dict[str, Volume]:
    parts = {
        "noisy": units.absolute(x_t),
        "x0-local": units.absolute(decomposition.local.x0),
        "x0-global-residual": units.difference(decomposition.global_residual.x0),
        "x0-total": units.absolute(decomposition.total.x0),
        "eps-local": units.difference(decomposition.local.eps),
        "eps-global-residual": units.difference(decomposition.global_residual.eps),
        "eps-total": units.difference(decomposition.total.eps),
    }
    if decomposition.refiner is not None:
        parts["x0-refiner"] = units.difference(decomposition.refiner.x0)
        parts["eps-refiner"] = units.difference(decomposition.refiner.eps)
    for name, blinded in decomposition.blinded.items():
        parts[f"x0-{name}"] = units.absolute(blinded.x0)
        parts[f"eps-{name}"] = units.difference(blinded.eps)
    return parts


def _signed(caption: str, volume: Volume) -> Panel:
    """Differences, in colours symmetric about zero."""
    half = max(float(np.percentile(np.abs(volume.voxels_hu), SHOWN_SHARE)), 1.0)
    caption = f"{caption} (blue -{half:.0f} HU, red +{half:.0f} HU)"
    return Panel(volume.voxels_hu, volume.spacing_mm, (-half, half), caption, "signed")


def _check_memory(prior: Prior) -> None:
    check_memory(prior.memory, str(prior.device), "the model")


def _metadata(prior: Prior, notice: str) -> dict[str, Any]:
    return {
        "notice": notice,
        "checkpoint": prior.name,
        "checkpoint_sha256": prior.digest,
        "device": str(prior.device),
        "threads": torch.get_num_threads(),
        "version": package_version(),
        "torch": torch_version(),
        "size": prior.geometry.shape[0],
        "window_hu": list(prior.intensity.window_hu),
    }


def _level(prior: Prior, notice: str, t: float) -> dict[str, Any]:
    return {"t": t, "description": f"{notice}; PRDiT {prior.digest[:8]} at t {t:g}"}

"""Split the prediction for a scan, noised to a chosen level, into its local and global part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from prdit_core.data.transforms import conform
from prdit_core.errors import UsageError
from prdit_core.machine import check_memory, package_version
from prdit_core.models.prdit import memory_needed
from prdit_core.noise import unit_noise
from prdit_core.pictures import Panel
from prdit_core.provenance import DERIVED, torch_version
from prdit_core.schedule import T
from prdit_core.verbs.expected_data import expected_data
from prdit_core.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from torch import Tensor

    from prdit_core.models.prior import Prior

_NOISE = 2
# Percentile of the residual that gets the full colour.
SHOWN_SHARE = 99.0


@dataclass(frozen=True)
class Decomposed:
    """A scan on the prior's grid and what the prior makes of it, all in HU.

    Attributes
    ----------
    scan : the clean volume
    parts : ``noisy``, ``x0-local``, ``x0-global-residual``, ``x0-total``, ``x0-error`` (total minus
        scan), and ``eps-local``, ``eps-global-residual``, ``eps-total`` (noise as HU differences)
    t : noise level
    """

    scan: Volume
    parts: Mapping[str, Volume]
    t: float

    def panels(self) -> list[Panel]:
        """Rows of a picture: scan, noisy scan, local x0, global residual, their sum."""
        low, high = self.scan.metadata["window_hu"]
        residual = np.abs(self.parts["x0-global-residual"].voxels_hu)
        half = max(float(np.percentile(residual, SHOWN_SHARE)), 1.0)
        rows = [("scan", self.scan, (low, high), "grey")]
        rows += [
            (name, self.parts[key], window, palette)
            for name, key, window, palette in (
                (f"scan with noise, t = {self.t:g}", "noisy", (low, high), "grey"),
                ("x0, local part", "x0-local", (low, high), "grey"),
                (
                    f"x0, global residual (blue -{half:.0f} HU, red +{half:.0f} HU)",
                    "x0-global-residual",
                    (-half, half),
                    "signed",
                ),
                ("x0, local + global residual", "x0-total", (low, high), "grey"),
            )
        ]
        return [
            Panel(volume.voxels_hu, volume.spacing_mm, window, caption, palette)
            for caption, volume, window, palette in rows
        ]


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
    if not 0 < t <= T:
        raise UsageError(f"t = {t:g} is outside (0, {T:g}]")
    prior.check_hu()
    expected = expected_data(prior.intensity, prior.geometry, prior.record)
    check_memory(
        memory_needed(prior.model.config, prior.geometry.shape), str(prior.device), "the model"
    )
    conformed = conform(volume, expected.preset, expected.size)
    x0 = torch.from_numpy(prior.intensity.to_model(conformed.volume.voxels_hu))[None, None]
    x0 = x0.to(prior.device)
    noise = unit_noise(prior.shape, seed, 0, _NOISE).to(prior.device)
    eps = noise * prior.schedule.noise_std
    x_t = prior.schedule.alpha(t) * x0 + prior.schedule.sigma(t) * eps
    found = prior.decompose(x_t, t)
    metadata = {
        "notice": DERIVED,
        "description": f"{DERIVED}; PRDiT {prior.digest[:8]} at t {t:g}",
        "t": t,
        "seed": seed,
        "checkpoint": prior.name,
        "checkpoint_sha256": prior.digest,
        "device": str(prior.device),
        "threads": torch.get_num_threads(),
        "version": package_version(),
        "torch": torch_version(),
        "window_hu": list(prior.intensity.window_hu),
    }
    scan = Volume(_float(conformed.volume.voxels_hu), conformed.volume.affine, metadata)

    def absolute(x: Tensor) -> Volume:
        low, unit = prior.intensity.window_hu[0], prior.intensity.hu_per_unit
        voxels = (x - prior.intensity.model_range[0]) * unit + low
        return Volume(_float(voxels[0, 0].cpu().numpy()), scan.affine, metadata)

    def difference(x: Tensor) -> Volume:
        voxels = x[0, 0].cpu().numpy() * prior.intensity.hu_per_unit
        return Volume(_float(voxels), scan.affine, metadata)

    return Decomposed(
        scan=scan,
        parts={
            "noisy": absolute(x_t),
            "x0-local": absolute(found.local.x0),
            "x0-global-residual": difference(found.global_residual.x0),
            "x0-total": absolute(found.total.x0),
            "x0-error": difference(found.total.x0 - x0),
            "eps-local": difference(found.local.eps),
            "eps-global-residual": difference(found.global_residual.eps),
            "eps-total": difference(found.total.eps),
        },
        t=t,
    )


def _float(voxels: NDArray[Any]) -> NDArray[np.float32]:
    return voxels.astype(np.float32)

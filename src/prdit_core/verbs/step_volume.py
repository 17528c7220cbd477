"""A step of a walk as a volume, finished or an estimate, stamped with how it was made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from prdit_core.intensity import HU
from prdit_core.models.linears import backend_on
from prdit_core.provenance import estimate_stamp, stamp
from prdit_core.sampling.sampler import SAMPLERS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from prdit_core.config import Branch, SamplingConfig
    from prdit_core.models.prior import Prior
    from prdit_core.sampling.sampler import SampleStep
    from prdit_core.volume import Volume


def step_volume(
    prior: Prior,
    config: SamplingConfig,
    step: SampleStep,
    *,
    seed: int,
    index: int,
    branches: Sequence[Branch] = (),
) -> Volume:
    """Volume of a step of a walk, stamped with how it was made.

    That of the last step is the finished one; that of any other is an estimate, and says so.
    """
    metadata = step_stamp(prior, config, step, seed=seed, index=index, branches=branches)
    return prior.to_volume(SAMPLERS[config.sampler].result(step), metadata)


def step_preview(
    prior: Prior,
    config: SamplingConfig,
    step: SampleStep,
    *,
    seed: int,
    index: int,
    branches: Sequence[Branch] = (),
) -> Volume:
    """As `step_volume`, cheaply: latents are not decoded, but shown by a linear picture of them."""
    metadata = step_stamp(prior, config, step, seed=seed, index=index, branches=branches)
    return prior.to_preview(SAMPLERS[config.sampler].result(step), metadata)


def previewer(prior: Prior) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """What shows recorded states (1, C, D, H, W) as voxels, cheaply; it keeps no network."""
    codec, intensity, device = prior.codec, prior.intensity, prior.device

    def seen(state: NDArray[np.float32]) -> NDArray[np.float32]:
        x = codec.preview(torch.from_numpy(state).to(device))
        return intensity.to_hu(x[0, 0].cpu().numpy())

    return seen


def step_stamp(
    prior: Prior,
    config: SamplingConfig,
    step: SampleStep,
    *,
    seed: int,
    index: int,
    branches: Sequence[Branch] = (),
) -> dict[str, Any]:
    """How the volume of a step of a walk was made."""
    metadata = stamp(
        seed=seed,
        index=index,
        config=config,
        checkpoint=prior.name,
        checkpoint_sha256=prior.digest,
        device=str(prior.device),
        threads=torch.get_num_threads(),
        linear=backend_on(prior.device.type),
        branches=branches,
        label=prior.label,
        units=prior.intensity.units,
    )
    metadata["size"] = prior.geometry.shape[0]  # of the resolutions of a chain
    metadata["window_hu"] = list(prior.intensity.window_hu)
    padded = prior.codec.padded(prior.geometry.shape)
    if padded != prior.geometry.shape:  # and cropped after decoding
        metadata["padded_to"] = list(padded)
    if prior.condition is not None:
        metadata["condition"] = dict(prior.condition)
    known = "exact" if prior.intensity.exact else "approximate"
    metadata["hu" if prior.intensity.units == HU else "intensity"] = known
    return metadata if step.finished else estimate_stamp(metadata, step.index)

"""Generate CT volumes from a prior."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from prdit_core.errors import MemoryLimit, UsageError
from prdit_core.machine import check_memory, choose_device
from prdit_core.models.prdit import memory_needed
from prdit_core.noise import unit_noise
from prdit_core.provenance import stamp
from prdit_core.sampling.grid import time_grid
from prdit_core.sampling.sampler import check_k, find_sampler, sample_steps

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from prdit_core.models.prior import Prior
    from prdit_core.sampling.grid import GridName, TimeGrid
    from prdit_core.sampling.sampler import Edit, SampleStep
    from prdit_core.volume import Volume

STEPS, SAMPLER, K = 50, "increment", 2.0
LARGEST_SEED = 2**63 - 1
# Third words of the noise keys: the start, and the corrector's draws.
_START, _CORRECTOR = 0, 1
_BRANCH = 5  # 2, 3 and 4 are the noises of decompose, preview and validation


def generate_steps(
    prior: Prior,
    *,
    seed: int = 0,
    index: int = 0,
    steps: int = STEPS,
    sampler: str = SAMPLER,
    k: float = K,
    grid: GridName = "exact",
    edit: Edit | None = None,
    device: str | None = None,
) -> Iterator[SampleStep]:
    """Walk from noise to a volume, one event per step.

    Parameters
    ----------
    seed, index
        Volume `index` of a series depends on these two only: all noise is a function of
        (seed, index, step).
    steps : network evaluations (twice as many for ``heun``), at least 1
    sampler : a name of `SAMPLERS`
    k : predictor multiplier >= 1; 1 is cold, above it hot (best near 2, Table 4)
    grid : ``exact`` or ``release``
    edit : (Prediction, x_t, t) -> Prediction, applied to every prediction
    device : where to compute; None leaves the prior where it is

    Yields
    ------
    SampleStep
        State and prediction in model units, (1, C, D, H, W).

    Raises
    ------
    UsageError
        If a setting is out of range.
    MemoryLimit
        If the device runs out of memory.
    """
    _check(seed, index, k)
    place = prior if device is None else prior.to(choose_device(device))
    start = unit_noise(prior.shape, seed, index, _START) * prior.schedule.noise_std
    times = _times(grid, steps, sampler)
    yield from _walk(place, start, times, seed, index, sampler, k, edit)


def branch_steps(
    prior: Prior,
    x0: Tensor | NDArray[np.float32],
    step: int,
    *,
    seed: int,
    index: int = 0,
    steps: int = STEPS,
    sampler: str = SAMPLER,
    k: float = K,
    grid: GridName = "exact",
) -> Iterator[SampleStep]:
    """Go on from step `step` of an earlier walk with other noise.

    The clean volume predicted there is noised anew to the time of that step, so that one sees
    what was decided by then: early steps leave the anatomy open, late ones only texture.

    Parameters
    ----------
    x0 : (1, C, D, H, W) prediction at that step, in model units
    step : one of that walk, from 0
    seed, index : of the new noise
    steps, sampler, k, grid : as of the walk it branches off

    Yields
    ------
    SampleStep
        From step `step` on.

    Raises
    ------
    UsageError
        If a setting is out of range.
    """
    _check(seed, index, k)
    times = replace(_times(grid, steps, sampler), first=step)
    if not 0 <= step < times.total:
        raise UsageError(f"step {step} is outside 0..{times.total - 1}")
    t, schedule = times.times[step], prior.schedule
    noise = unit_noise(prior.shape, seed, index, _BRANCH, step) * schedule.noise_std
    x_t = schedule.alpha(t) * torch.as_tensor(x0).cpu() + schedule.sigma(t) * noise
    yield from _walk(prior, x_t, times, seed, index, sampler, k, None)


def _times(grid: GridName, steps: int, sampler: str) -> TimeGrid:
    if not 1 <= steps <= 100_000:
        raise UsageError(f"{steps} steps: choose 1 to 100000")
    return time_grid(grid, steps, find_sampler(sampler).first_time)


def _walk(
    prior: Prior,
    start: Tensor,
    times: TimeGrid,
    seed: int,
    index: int,
    sampler: str,
    k: float,
    edit: Edit | None,
) -> Iterator[SampleStep]:
    """Steps from the state `start` on."""
    place, shape = prior.device, prior.shape
    edges = " x ".join(str(edge) for edge in prior.geometry.shape)
    needed = memory_needed(prior.model.config, prior.geometry.shape)
    check_memory(needed, str(place), f"a volume of {edges}")

    def draw(step: int) -> Tensor:
        return unit_noise(shape, seed, index, _CORRECTOR, step).to(place)

    try:
        yield from sample_steps(
            prior.denoise,
            prior.schedule,
            start.to(place),
            sampler=find_sampler(sampler),
            grid=times,
            k=k,
            noise=draw,
            edit=edit,
            data_range=prior.intensity.model_range,
        )
    except torch.OutOfMemoryError as error:
        raise MemoryLimit(
            f"{place} ran out of memory on a volume of {edges}; use --device cpu or a smaller "
            "model or size"
        ) from error


def generate(
    prior: Prior,
    *,
    seed: int = 0,
    index: int = 0,
    steps: int = STEPS,
    sampler: str = SAMPLER,
    k: float = K,
    grid: GridName = "exact",
    edit: Edit | None = None,
    device: str | None = None,
) -> Volume:
    """One generated volume in HU, with all settings in its metadata; see `generate_steps`."""
    walk = generate_steps(
        prior,
        seed=seed,
        index=index,
        steps=steps,
        sampler=sampler,
        k=k,
        grid=grid,
        edit=edit,
        device=device,
    )
    (last,) = deque(walk, maxlen=1)
    return finished_volume(
        prior, last, seed=seed, index=index, steps=steps, sampler=sampler, k=k, grid=grid
    )


def finished_volume(
    prior: Prior,
    last: SampleStep,
    *,
    seed: int,
    index: int,
    steps: int,
    sampler: str,
    k: float,
    grid: GridName,
) -> Volume:
    """HU volume of the last step of a walk, stamped with how it was made."""
    metadata = stamp(
        seed=seed,
        index=index,
        sampler=sampler,
        grid=grid,
        steps=steps,
        k=k,
        checkpoint=prior.name,
        checkpoint_sha256=prior.digest,
        device=str(prior.device),
        threads=torch.get_num_threads(),
    )
    metadata["size"] = prior.geometry.shape[0]  # of the resolutions of a chain
    metadata["window_hu"] = list(prior.intensity.window_hu)
    metadata["hu"] = "exact" if prior.intensity.exact else "approximate"
    return prior.to_volume(find_sampler(sampler).result(last), metadata)


def _check(seed: int, index: int, k: float) -> None:
    check_k(k)
    if not 0 <= seed <= LARGEST_SEED:
        raise UsageError(f"seed {seed} is outside 0..{LARGEST_SEED}")
    if not 0 <= index < 2**31:
        raise UsageError(f"index {index} is outside 0..{2**31 - 1}")

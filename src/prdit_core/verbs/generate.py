"""Generate CT volumes from a prior."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from prdit_core.config import Branch, SamplingConfig
from prdit_core.errors import MemoryLimit, UsageError
from prdit_core.geometry import by
from prdit_core.machine import check_memory, choose_device
from prdit_core.models.contracts import Key
from prdit_core.noise import Draw, unit_noise
from prdit_core.sampling.grid import time_grid
from prdit_core.sampling.sampler import SAMPLERS, sample_steps
from prdit_core.verbs.step_volume import step_volume

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from prdit_core.models.prior import Prior
    from prdit_core.sampling.grid import TimeGrid
    from prdit_core.sampling.sampler import Edit, SampleStep
    from prdit_core.schedule import Schedule
    from prdit_core.volume import Volume

LARGEST_SEED = 2**63 - 1


def generate_steps(
    prior: Prior,
    config: SamplingConfig | None = None,
    *,
    seed: int = 0,
    index: int = 0,
    branches: Sequence[Branch] = (),
    edit: Edit | None = None,
    device: str | None = None,
) -> Iterator[SampleStep]:
    """Walk from noise to a volume, one event per step.

    Parameters
    ----------
    config : steps, sampler, k and all else about the way, see also `sampling_preset`; None: what
        suits the network, as its `walk` says
    seed, index
        Volume `index` of a series depends on these two only: all noise is a function of
        (seed, index, step).
    branches : go on with other noise from these steps, one after the other; see `branch_steps`.
        The step that a branch leaves from is done twice, before and after.
    edit : (Prediction, x_t, t) -> Prediction, applied to every prediction
    device : where to compute; None leaves the prior where it is

    Yields
    ------
    SampleStep
        State and prediction in model units, (1, C, D, H, W).

    Raises
    ------
    UsageError
        If the seed, the index, a branch or the device is out of range, or the grid has not so many
        steps.
    MemoryLimit
        If the device runs out of memory.
    """
    _check(seed, index)
    config = config or prior.network.config.walk
    _check_branches(branches, config)
    place = prior if device is None else prior.to(choose_device(device))
    start = unit_noise(prior.shape, Draw.START, seed, index) * prior.schedule.noise_std
    walk = _walk(place, config, start, _times(config, prior.schedule), seed, index, edit)
    for branch in branches:
        for step in walk:
            yield step
            if step.index == branch.step:
                break
        walk = _branched(place, step.x0, branch, config, index, edit)
    yield from walk


def branch_steps(
    prior: Prior,
    x0: Tensor | NDArray[np.float32],
    step: int,
    config: SamplingConfig | None = None,
    *,
    seed: int,
    index: int = 0,
) -> Iterator[SampleStep]:
    """Go on from step `step` of an earlier walk with other noise.

    The clean volume predicted there is noised anew to the time of that step, so that one sees
    what was decided by then: early steps leave the anatomy open, late ones only texture. It is
    taken as half floats: a recording of the walk needs no more to give the same bytes.

    Parameters
    ----------
    x0 : (1, C, D, H, W) prediction at that step, in model units
    step : one of that walk, from 0
    config : of the walk it branches off
    seed, index : of the new noise; `index` is that of the walk

    Yields
    ------
    SampleStep
        From step `step` on.

    Raises
    ------
    UsageError
        If a setting is out of range.
    """
    _check(seed, index)
    branch = Branch(step, seed)
    config = config or prior.network.config.walk
    _check_branches((branch,), config)
    yield from _branched(prior, torch.as_tensor(x0), branch, config, index, None)


def _branched(
    prior: Prior,
    x0: Tensor,
    branch: Branch,
    config: SamplingConfig,
    index: int,
    edit: Edit | None,
) -> Iterator[SampleStep]:
    times = replace(_times(config, prior.schedule), first=branch.step)
    t, schedule = times.times[branch.step], prior.schedule
    noise = unit_noise(prior.shape, Draw.BRANCH, branch.seed, index, branch.step)
    noise = noise * schedule.noise_std
    x_t = schedule.alpha(t) * x0.cpu().half().float() + schedule.sigma(t) * noise
    return _walk(prior, config, x_t, times, branch.seed, index, edit)


def _times(config: SamplingConfig, schedule: Schedule) -> TimeGrid:
    return time_grid(config.grid, config.steps, schedule, SAMPLERS[config.sampler].first_time)


def _walk(
    prior: Prior,
    config: SamplingConfig,
    start: Tensor,
    times: TimeGrid,
    seed: int,
    index: int,
    edit: Edit | None,
) -> Iterator[SampleStep]:
    """Steps from the state `start` on."""
    place, shape = prior.device, prior.shape
    edges = by(prior.geometry.shape)
    check_memory(prior.memory, str(place), f"a volume of {edges}")

    def draw(step: int) -> Tensor:
        return unit_noise(shape, Draw.CORRECTOR, seed, index, step).to(place)

    try:
        yield from sample_steps(
            prior.denoiser(config, Key(seed, index)),
            prior.schedule,
            start.to(place),
            sampler=SAMPLERS[config.sampler],
            grid=times,
            k=config.k,
            eta=config.eta,
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
    config: SamplingConfig | None = None,
    *,
    seed: int = 0,
    index: int = 0,
    branches: Sequence[Branch] = (),
    edit: Edit | None = None,
    device: str | None = None,
) -> Volume:
    """One generated volume in HU, with all settings in its metadata; see `generate_steps`."""
    config = config or prior.network.config.walk
    walk = generate_steps(
        prior, config, seed=seed, index=index, branches=branches, edit=edit, device=device
    )
    (last,) = deque(walk, maxlen=1)
    return step_volume(prior, config, last, seed=seed, index=index, branches=branches)


def _check(seed: int, index: int) -> None:
    if not 0 <= seed <= LARGEST_SEED:
        raise UsageError(f"seed {seed} is outside 0..{LARGEST_SEED}")
    if not 0 <= index < 2**31:
        raise UsageError(f"index {index} is outside 0..{2**31 - 1}")


def _check_branches(branches: Sequence[Branch], config: SamplingConfig) -> None:
    earliest = 0
    for branch in branches:
        _check(branch.seed, 0)
        if not 0 <= branch.step < config.steps:
            raise UsageError(
                f"branch {branch} leaves from step {branch.step + 1}, which is outside "
                f"1..{config.steps}"
            )
        if branch.step < earliest:
            raise UsageError(
                f"branch {branch} leaves before step {earliest + 1}, where the branch before it "
                "begins; give branches in the order of their steps"
            )
        earliest = branch.step

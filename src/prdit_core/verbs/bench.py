"""How fast this machine is: one evaluation, its share of the possible, seconds per volume."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import FlopCounterMode

from prdit_core.models.families import family_of
from prdit_core.models.linears import Linear
from prdit_core.presets import SAMPLING_PRESETS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prdit_core.config import NetworkConfig
    from prdit_core.models.prior import Prior
    from prdit_core.presets import PresetName

T_MEASURED = 500.0
LEAST_SECONDS = 1.0  # that each part is measured for
# Of a quick look: what takes this long is not measured, since nobody would choose it.
LONGEST_QUICK = 15.0
PER_DOUBLING = 8.0  # voxels, and so about seconds
CEILING_EDGE = 1024


@dataclass(frozen=True)
class SizeSpeed:
    """What volumes of one size cost on this machine.

    Attributes
    ----------
    size : edge in voxels
    evaluation : seconds of one evaluation of the whole network
    residual : seconds of its global residual, which reuse can save; None where there is none
    gflop : of one evaluation, in 10^9
    ceiling : share of the machine's matrix products that it reaches
    volume : seconds that a volume takes by each preset, about
    """

    size: int
    evaluation: float
    residual: float | None
    gflop: float
    ceiling: float
    volume: dict[PresetName, float]


@torch.no_grad()
def ceiling() -> float:
    """Largest matrix products per second of this machine's CPU, in 10^9 float32 operations."""
    layer = Linear(CEILING_EDGE, CEILING_EDGE, bias=False)
    x = torch.randn(CEILING_EDGE, CEILING_EDGE)
    return 2e-9 * CEILING_EDGE**3 / _seconds(lambda: layer(x))


def bench_steps(prior: Prior, possible: float) -> Iterator[SizeSpeed]:
    """Measure each resolution of a chain, lowest first.

    Parameters
    ----------
    possible : matrix products per second, see `ceiling`

    Yields
    ------
    SizeSpeed
    """
    for size in prior.sizes:
        yield _measured(prior.at_size(size), possible)


def quick_bench_steps(prior: Prior) -> Iterator[tuple[int, float]]:
    """A first idea of what an evaluation costs, within seconds and on any device.

    Yields
    ------
    (int, float)
        Each resolution of a chain, lowest first, and seconds of one evaluation there. Those of
        more than `LONGEST_QUICK` follow from the resolution below, eight times as many each.
    """
    seconds = 0.0
    for size in prior.sizes:
        expected = PER_DOUBLING * seconds
        seconds = expected if expected > LONGEST_QUICK else _first_idea(prior.at_size(size))
        yield size, seconds


def _first_idea(prior: Prior) -> float:
    """The quickest of two evaluations; of one where that is slow."""
    x = torch.randn(prior.shape, device=prior.device) * prior.schedule.noise_std
    seconds: list[float] = []
    while len(seconds) < 2 and sum(seconds) < LEAST_SECONDS:
        begun = time.perf_counter()
        float(prior.denoise(x, T_MEASURED).x0.sum())  # a device has then done all its work
        seconds.append(time.perf_counter() - begun)
    return min(seconds)


def _measured(prior: Prior, possible: float) -> SizeSpeed:
    x = torch.randn(prior.shape, device=prior.device) * prior.schedule.noise_std
    evaluation = _seconds(lambda: prior.denoise(x, T_MEASURED))
    parts = prior.parts
    residual = None
    if parts is not None and parts.residual(x, T_MEASURED) is not None:
        residual = _seconds(lambda: parts.residual(x, T_MEASURED))
    depth, height, width = prior.shape[2:]
    work = gflop(prior.network.config, (depth, height, width))
    return SizeSpeed(
        size=prior.geometry.shape[0],
        evaluation=evaluation,
        residual=residual,
        gflop=work,
        ceiling=work / evaluation / possible,
        volume={
            name: preset.config.steps * evaluation for name, preset in SAMPLING_PRESETS.items()
        },
    )


def gflop(config: NetworkConfig, shape: tuple[int, int, int]) -> float:
    """Matrix products of one evaluation, in 10^9 operations; nothing is computed."""
    with torch.device("meta"):
        model = family_of(config).build(config)
        x, t = torch.empty(1, config.channels, *shape), torch.empty(1)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(x, t)
    return float(counter.get_total_flops()) / 1e9


def _seconds(work: Callable[[], object]) -> float:
    """Median of repeated calls, after one that is not counted."""
    timer = Timer("work()", globals={"work": work}, num_threads=torch.get_num_threads())
    timer.timeit(1)
    return float(timer.blocked_autorange(min_run_time=LEAST_SECONDS).median)

"""Measure the peak memory of `generate`, and whether it grows with the number of steps.

The bundled model with 20 and 200 steps, and a volume of 256^3 through a chain 32 -> 64 -> 128 ->
256 of random weights with 8 and 24. Each run is a process of its own, measured by the operating
system; what it takes to import everything is in it.

    python benchmarks/memory.py
"""

from __future__ import annotations

import resource
import subprocess
import sys
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prdit_core.models.prior import Prior

SAMPLERS = ("increment", "increment-2")
EDGE, DOUBLINGS = 256, 3


@dataclass(frozen=True)
class Case:
    """A model, and two numbers of steps that are to take the same memory."""

    model: str
    sampler: str
    few: int
    many: int


CASES = (
    Case("demo", "increment-2", 20, 200),
    *(Case("chain", sampler, 8, 24) for sampler in SAMPLERS),
)


def make_chain() -> Prior:
    """The network `small` with refiners above it, weights at random."""
    import torch

    from prdit_core.geometry import cubic
    from prdit_core.intensity import Intensity
    from prdit_core.models.prdit.evaluation import PRDiTNetwork
    from prdit_core.models.prdit.network import PRDiT, initialise
    from prdit_core.models.prdit.zoo import SMALL
    from prdit_core.models.prior import Prior
    from prdit_core.prdit_config import RefinerConfig
    from prdit_core.schedule import CosineSchedule

    cut = RefinerConfig(patch=6, stride=4, padding=1, width=192)
    model = PRDiT(SMALL.refined_by(*[cut] * DOUBLINGS)).eval().requires_grad_(False)
    initialise(model, 0)
    for part in (model, *model.refiners):
        torch.nn.init.normal_(part.local.out.weight, std=0.01)
    geometry = cubic(EDGE, 320.0)
    schedule = CosineSchedule(noise_std=0.5)
    return Prior(PRDiTNetwork(model), schedule, Intensity(), geometry, "chain", "")


def sample(model: str, sampler: str, steps: int) -> None:
    """Walk to the end as the commands do, one step at a time; print the peak in MiB."""
    import prdit_core

    config = prdit_core.SamplingConfig(steps=steps, sampler=sampler)
    prior = make_chain() if model == "chain" else prdit_core.load(model)
    deque(prdit_core.generate_steps(prior, config), maxlen=1)
    print_peak()


def print_peak() -> None:
    """Of this process so far, in MiB."""
    unit = 1024 if sys.platform != "darwin" else 1024 * 1024
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)


def peak_mib(*words: str) -> float:
    """What a script prints, run in a process of its own."""
    found = subprocess.run([sys.executable, *words], check=True, capture_output=True, text=True)
    return float(found.stdout)


def peak_of(case: Case, steps: int) -> float:
    return peak_mib(__file__, case.model, case.sampler, str(steps))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sample(sys.argv[1], sys.argv[2], int(sys.argv[3]))
        sys.exit()
    print("| model | sampler | steps | peak memory, MiB | growth |")
    print("|---|---|---|---|---|")
    for case in CASES:
        before = peak_of(case, case.few)
        print(f"| {case.model} | {case.sampler} | {case.few} | {before:.0f} | |", flush=True)
        after = peak_of(case, case.many)
        growth = f"{100 * (after / before - 1):.1f} %"
        print(f"| {case.model} | {case.sampler} | {case.many} | {after:.0f} | {growth} |")

"""Iterations per second and peak memory of training, in several ways, side by side in one run.

Each variant of a case is a process of its own. They take iterations in turn, A B C A B C ..., and
the first round is not counted. Seconds are medians, ratios are to the first variant. Peak memory
is what the operating system saw beyond the process with all its libraries loaded and used once.

    python benchmarks/training.py [--quick]
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch

sys.path.insert(0, str(Path(__file__).parent))
from reference.plain import attention as explicit_attention

from prdit_core.machine import use_threads
from prdit_core.models.prdit.memory import training_memory
from prdit_core.models.prdit.zoo import model_config
from prdit_core.prdit_config import Activations, ModelConfig, StageName
from prdit_core.schedule import CosineSchedule
from prdit_core.training.batches import Batch
from prdit_core.training.engine import launch
from prdit_core.training.families.prdit.network import prepare
from prdit_core.training.families.prdit.recipe import task_of
from prdit_core.training.families.prdit.stages import PRDIT_STAGES
from prdit_core.training.loop import Trainer
from prdit_core.training.rate import Rate

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from prdit_core.config import Precision
    from prdit_core.models.prdit.network import PRDiT

# Processes fork from one that has only imported, which saves each of them seconds.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["prdit_core.training.loop", "prdit_core.training.families.prdit.recipe"]
)
TINY = ModelConfig(patch=4, stride=2, padding=1, width=24, depth=1, heads=2)
MIB = 2**20


@dataclass(frozen=True)
class Variant:
    """A way to train. `micro_batch` None holds the whole batch at once; `rounds` is a limit."""

    name: str
    attention: Literal["sdpa", "explicit"] = "sdpa"
    activations: Activations = "keep"
    micro_batch: int | None = None
    precision: Precision = "32-true"
    rounds: int = 1000


@dataclass(frozen=True)
class Case:
    """What is trained, for how many counted rounds, in which ways; the first is the reference."""

    model: str
    stage: StageName
    edge: int
    batch: int
    rounds: int
    variants: tuple[Variant, ...]

    @property
    def network(self) -> ModelConfig:
        return PRDIT_STAGES[self.stage].model_config(model_config(self.model))


REFERENCE = Variant("float32, SDPA")
EXPLICIT = Variant("float32, explicit softmax", attention="explicit")
RECOMPUTE = Variant("recompute", activations="recompute")
MICRO = Variant("micro-batch 1", micro_batch=1)
# A CPU without bf16 instructions takes many times as long, so one round must do.
BF16 = Variant("bf16-mixed", precision="bf16-mixed", rounds=1)

ALL = (REFERENCE, EXPLICIT, RECOMPUTE, MICRO, BF16)
CASES = (
    Case("small", "global", 32, batch=4, rounds=7, variants=ALL),
    Case("small", "local", 32, batch=4, rounds=40, variants=(REFERENCE, MICRO, BF16)),
    Case("PRDiT-S/12/4", "global", 64, batch=2, rounds=5, variants=ALL),
    Case("PRDiT-XS/12/4", "global", 128, 1, rounds=3, variants=(REFERENCE, EXPLICIT, RECOMPUTE)),
)
QUICK = (Case("small", "global", 16, batch=2, rounds=2, variants=ALL),)


def make_trainer(network: ModelConfig, stage: StageName, batch: int, variant: Variant) -> Trainer:
    row = PRDIT_STAGES[stage]
    model = prepare(network, row, 0, None)
    set_up(model, variant)
    return Trainer(
        task_of(model, CosineSchedule(noise_std=0.5)),
        launch("cpu", variant.precision, "ddp"),
        rate=Rate("constant", row.learning_rate(network.depth), 1),
        clip=row.clip,
        decay=0.9999,
        micro_batch=variant.micro_batch or batch,
    )


def set_up(model: PRDiT, variant: Variant) -> None:
    part = model.global_residual
    if part is None:
        return
    part.activations = variant.activations
    if variant.attention == "explicit":
        for block in part.blocks:
            block.attention.forward = partial(explicit_attention, block)


def make_batch(edge: int, volumes: int) -> Batch:
    stream = torch.Generator().manual_seed(0)
    shape = (volumes, 1, edge, edge, edge)
    x0 = 2 * torch.rand(shape, generator=stream) - 1
    noise = torch.randn(shape, generator=stream)
    t = 1000 * (1 - torch.rand(volumes, generator=stream))
    return Batch(
        x0, noise, t, tuple(f"volume {n}" for n in range(volumes)), 0, tuple(range(volumes))
    )


def peak_memory() -> int:
    """Bytes of this process at its largest."""
    found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found if sys.platform == "darwin" else 1024 * found


def measure(pipe: Connection, case: Case, variant: Variant) -> None:
    """Answer the number of an iteration with its seconds, and None with the peak memory."""
    use_threads()
    make_trainer(TINY, "global", 2, variant).advance(make_batch(8, 2))
    before = peak_memory()
    trainer = make_trainer(case.network, case.stage, case.batch, variant)
    batch = make_batch(case.edge, case.batch)
    for iteration in iter(pipe.recv, None):
        begun = time.perf_counter()
        trainer.advance(batch._replace(iteration=iteration))
        pipe.send(time.perf_counter() - begun)
    pipe.send(peak_memory() - before)


class Contender:
    """The process of one variant, as seen from outside."""

    def __init__(self, case: Case, variant: Variant) -> None:
        self.variant = variant
        self.seconds: list[float] = []
        self.pipe, theirs = FORKS.Pipe()
        FORKS.Process(target=measure, args=(theirs, case, variant), daemon=True).start()
        theirs.close()  # so that its death is heard here

    def advance(self, iteration: int) -> None:
        self.pipe.send(iteration)
        self.seconds.append(self.pipe.recv())

    def result(self) -> tuple[float, float]:
        """Median seconds without the first round, and peak memory in MiB; ends the process."""
        self.pipe.send(None)
        return statistics.median(self.seconds[1:]), self.pipe.recv() / MIB


def estimate(case: Case, variant: Variant) -> str:
    """What `training_memory` expects, in MiB; it knows no explicit softmax."""
    if variant.attention == "explicit":
        return "-"
    needed = training_memory(
        case.network,
        (case.edge,) * 3,
        trains=PRDIT_STAGES[case.stage].trains,
        volumes=variant.micro_batch or case.batch,
        activations=variant.activations,
    )
    return f"{needed / MIB:.0f}"


def compare(case: Case) -> None:
    contenders = [Contender(case, variant) for variant in case.variants]
    for iteration in range(case.rounds + 1):
        for contender in contenders:
            if iteration <= contender.variant.rounds:
                contender.advance(iteration)
    results = [contender.result() for contender in contenders]
    base_seconds, base_mib = results[0]
    what = f"{case.model} {case.stage}, {case.edge}^3 x {case.batch}"
    for variant, (seconds, mib) in zip(case.variants, results, strict=True):
        print(
            f"| {what} | {variant.name} | {1 / seconds:.3g} | {seconds / base_seconds:.2f} "
            f"| {mib:.0f} | {mib / base_mib:.2f} | {estimate(case, variant)} |",
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="a tiny case, in seconds")
    options = parser.parse_args()
    print(f"{use_threads()} threads, torch {torch.__version__}")
    print(
        "| case | variant | iterations / s | time / reference "
        "| peak, MiB | peak / reference | estimate, MiB |"
    )
    print("|---|---|---|---|---|---|---|")
    for case in QUICK if options.quick else CASES:
        compare(case)

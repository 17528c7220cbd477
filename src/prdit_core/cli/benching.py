"""`prdit-core bench`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from prdit_core.cli.console import Json, door, result, say
from prdit_core.cli.options import Checkpoint, Device, Threads
from prdit_core.errors import UsageError


@door
def bench(
    checkpoint: Checkpoint = "demo",
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Only seconds per evaluation, after one or two of them."),
    ] = False,
    device: Device = "cpu",
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Measure this machine's CPU: seconds per evaluation, and what a volume will take.

    The ceiling is the fastest matrix product in float32 that was measured here; an evaluation
    reaches a share of it. Close other programs for numbers that last. Other devices than the CPU
    can be measured quickly only.
    """
    if quick:
        _quick(checkpoint, device, threads, json=json)
        return
    if device != "cpu":
        raise UsageError(f"the whole measurement is of the CPU; add --quick to measure {device}")
    from prdit_core.checkpoints.catalog import load
    from prdit_core.machine import use_threads
    from prdit_core.models.linears import backend_on
    from prdit_core.presets import SAMPLING_PRESETS
    from prdit_core.verbs.bench import bench_steps, ceiling

    prior = load(checkpoint)
    count = use_threads(threads)
    possible = ceiling()
    lines = [
        f"{prior.name} {prior.digest[:12]}, {count} threads, linear layers by "
        f"{backend_on('cpu')}, {possible:.0f} GFLOP/s possible",
        f"{'size':>6}{'evaluation':>13}{'residual':>11}{'GFLOP':>9}{'ceiling':>9}"
        + "".join(f"{name:>11}" for name in SAMPLING_PRESETS),
    ]
    sizes = []
    for speed in bench_steps(prior, possible):
        say(f"measured {speed.size}^3")
        sizes.append(asdict(speed))
        residual = "none" if speed.residual is None else f"{speed.residual:.3f} s"
        volumes = "".join(f"{_duration(seconds):>11}" for seconds in speed.volume.values())
        lines.append(
            f"{speed.size:>4}^3{speed.evaluation:>11.3f} s{residual:>11}"
            f"{speed.gflop:>9.1f}{speed.ceiling:>9.0%}{volumes}"
        )
    content = {
        "checkpoint": prior.name,
        "checkpoint_sha256": prior.digest,
        "threads": count,
        "linear": backend_on("cpu"),
        "gflop_per_second": possible,
        "sizes": sizes,
    }
    result(content, lines, json)


def _quick(checkpoint: str, device: str, threads: int | None, *, json: bool) -> None:
    from prdit_core.checkpoints.catalog import load
    from prdit_core.machine import choose_device, use_threads
    from prdit_core.verbs.bench import quick_bench_steps

    prior = load(checkpoint, choose_device(device))
    count = use_threads(threads)
    seconds = dict(quick_bench_steps(prior))
    content = {
        "checkpoint": prior.name,
        "checkpoint_sha256": prior.digest,
        "device": str(prior.device),
        "threads": count,
        "seconds": seconds,
    }
    result(content, [f"{size:>4}^3{one:>11.3f} s" for size, one in seconds.items()], json)


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.0f} min"

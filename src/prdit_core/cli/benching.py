"""`prdit-core bench`."""

from __future__ import annotations

from dataclasses import asdict

from prdit_core.cli.console import door, result, say
from prdit_core.cli.generating import Checkpoint, Json, Threads


@door
def bench(checkpoint: Checkpoint = "demo", threads: Threads = None, json: Json = False) -> None:
    """Measure this machine's CPU: seconds per evaluation, and what a volume will take.

    The ceiling is the fastest matrix product in float32 that was measured here; an evaluation
    reaches a share of it. Close other programs for numbers that last.
    """
    from prdit_core.checkpoints.catalog import load
    from prdit_core.machine import use_threads
    from prdit_core.models.linears import backend_on
    from prdit_core.presets import PRESETS
    from prdit_core.verbs.bench import bench_steps, ceiling

    prior = load(checkpoint)
    count = use_threads(threads)
    possible = ceiling()
    lines = [
        f"{prior.name} {prior.digest[:12]}, {count} threads, linear layers by "
        f"{backend_on('cpu')}, {possible:.0f} GFLOP/s possible",
        f"{'size':>6}{'evaluation':>13}{'residual':>11}{'GFLOP':>9}{'ceiling':>9}"
        + "".join(f"{name:>11}" for name in PRESETS),
    ]
    sizes = []
    for found in bench_steps(prior, possible):
        say(f"measured {found.size}^3")
        sizes.append(asdict(found))
        residual = "none" if found.residual is None else f"{found.residual:.3f} s"
        volumes = "".join(f"{_duration(seconds):>11}" for seconds in found.volume.values())
        lines.append(
            f"{found.size:>4}^3{found.evaluation:>11.3f} s{residual:>11}"
            f"{found.gflop:>9.1f}{found.ceiling:>9.0%}{volumes}"
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


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.0f} min"

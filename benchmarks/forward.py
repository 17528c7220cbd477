"""Time one evaluation of PRDiT-B/12/4 against a plain transcription of its formulas.

All run in turn in this process, same weights and input; ratios are of medians. The plain form has
an explicit softmax and torch's own linear layers; "torch" is our network with these, "ours" with
the fastest backend of this CPU. Ceiling: matrix products of an evaluation per second, as a share of
those of one large float32 product through the fastest backend, measured in turn with them.

    python benchmarks/forward.py [--repeats N] [--sizes 64 128] [--threads N]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch

sys.path.insert(0, str(Path(__file__).parent))
from reference.plain import forward as plain

from prdit_core.machine import use_threads
from prdit_core.models import linears
from prdit_core.models.prdit.network import PRDiT
from prdit_core.models.prdit.zoo import model_config
from prdit_core.verbs.bench import gflop

if TYPE_CHECKING:
    from collections.abc import Callable

EDGE = 1024
T = TypeVar("T")


def with_backend(name: linears.Backend, run: Callable[[], T]) -> T:
    """Run with linear layers computed by one backend."""
    chosen = linears.backend
    linears.backend = lambda: name  # type: ignore[assignment]
    try:
        return run()
    finally:
        linears.backend = chosen


@torch.no_grad()
def compare(size: int, repeats: int) -> None:
    torch.manual_seed(0)
    config = model_config("PRDiT-B/12/4")
    model = PRDiT(config).eval().requires_grad_(False)
    x, t = torch.randn(1, 1, size, size, size), torch.tensor([500.0])
    layer, large = linears.Linear(EDGE, EDGE, bias=False), torch.randn(EDGE, EDGE)
    fastest = linears.backend()
    ways: dict[str, Callable[[], torch.Tensor]] = {
        "plain": lambda: with_backend("torch", lambda: plain(model, x, t)),
        "torch": lambda: with_backend("torch", lambda: model(x, t)),
        "ours": lambda: with_backend(fastest, lambda: model(x, t)),
        "product": lambda: with_backend(fastest, lambda: layer(large)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    outputs = {}
    for _ in range(repeats + 1):
        for name, run in ways.items():
            begun = time.perf_counter()
            outputs[name] = run()
            seconds[name].append(time.perf_counter() - begun)
    median = {name: statistics.median(found[1:]) for name, found in seconds.items()}
    error = (outputs["ours"] - outputs["plain"]).abs().max().item()
    possible = 2e-9 * EDGE**3 / median["product"]
    reached = gflop(config, (size, size, size)) / median["ours"] / possible
    print(
        f"| {size}^3 | {median['plain']:.2f} | {median['torch']:.2f} | {median['ours']:.2f} | "
        f"{median['plain'] / median['ours']:.2f} | {reached:.0%} | {error:.0e} |",
        flush=True,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    print(f"{use_threads(options.threads)} threads, torch {torch.__version__}, {linears.backend()}")
    print(
        "| volume | plain, s | torch, s | ours, s | plain / ours | ceiling | largest difference |"
    )
    print("|---" * 7 + "|")
    for size in options.sizes:
        compare(size, options.repeats)

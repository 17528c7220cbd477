"""Time one evaluation of PRDiT-B/12/4 against a plain transcription of its formulas.

Both run in turn in this process, same weights and input; the ratio is of medians.

    python benchmarks/forward.py [--repeats N] [--sizes 64 128]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
from reference.plain import forward as plain

from prdit_core.machine import use_threads
from prdit_core.models.prdit import PRDiT
from prdit_core.models.zoo import model_config


@torch.inference_mode()
def compare(size: int, repeats: int) -> None:
    torch.manual_seed(0)
    model = PRDiT(model_config("PRDiT-B/12/4")).eval()
    x, t = torch.randn(1, 1, size, size, size), torch.tensor([500.0])
    seconds: dict[str, list[float]] = {"ours": [], "plain": []}
    outputs = {}
    for _ in range(repeats + 1):
        for name, run in (("ours", model), ("plain", lambda x, t: plain(model, x, t))):
            begun = time.perf_counter()
            outputs[name] = run(x, t)
            seconds[name].append(time.perf_counter() - begun)
    ours, theirs = (statistics.median(seconds[name][1:]) for name in ("ours", "plain"))
    error = (outputs["ours"] - outputs["plain"]).abs().max().item()
    print(f"| {size}^3 | {ours:.2f} | {theirs:.2f} | {ours / theirs:.2f} | {error:.0e} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128])
    options = parser.parse_args()
    print(f"{use_threads()} threads, torch {torch.__version__}")
    print("| volume | ours, s | plain, s | ours / plain | largest difference |")
    print("|---|---|---|---|---|")
    for size in options.sizes:
        compare(size, options.repeats)

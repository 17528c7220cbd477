"""How OpenMP's threads wait, on a quiet machine and beside one busy process.

Every setting evaluates the bundled model in processes of its own, three times each, all settings in
turn, first quiet, then while another process keeps one core busy. Ratios are of medians to "as
torch comes" on the quiet machine.

    python benchmarks/busy.py [--repeats N] [--size 64]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from prdit_core.openmp import SHORT_WAIT, USERS_CHOICE

if TYPE_CHECKING:
    from collections.abc import Iterator

AS_IT_COMES = "as torch comes"
# GOMP_SPINCOUNT=undefined is no number, so the runtime keeps its default; ours stays away from it.
SETTINGS = {
    AS_IT_COMES: {"GOMP_SPINCOUNT": "undefined"},
    "ours": SHORT_WAIT,
    "GOMP_SPINCOUNT=10000": {"GOMP_SPINCOUNT": "10000"},
    "GOMP_SPINCOUNT=1000": {"GOMP_SPINCOUNT": "1000"},
    "OMP_WAIT_POLICY=passive": {"OMP_WAIT_POLICY": "passive"},
    "one thread": {"GOMP_SPINCOUNT": "undefined", "PRDIT_THREADS": "1"},
}
EVALUATE = """
import sys, time
import prdit_core
from prdit_core.machine import use_threads
from prdit_core.noise import Draw, unit_noise

use_threads()
prior = prdit_core.load("demo").at_size(int(sys.argv[1]))
x = unit_noise(prior.shape, Draw.START, 0)
prior.denoise(x, 500.0)
print("ready", flush=True)
for _ in sys.stdin:
    begun = time.perf_counter()
    prior.denoise(x, 500.0)
    print(time.perf_counter() - begun, flush=True)
"""


@contextmanager
def evaluator(setting: dict[str, str], size: int) -> Iterator[subprocess.Popen[str]]:
    """A process that evaluates once for each line it reads."""
    kept = {name: value for name, value in os.environ.items() if name not in USERS_CHOICE}
    process = subprocess.Popen(
        [sys.executable, "-c", EVALUATE, str(size)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**kept, **setting},
    )
    with process:
        assert answer(process) == "ready"
        try:
            yield process
        finally:
            process.kill()


def answer(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def evaluation(process: subprocess.Popen[str]) -> float:
    """Seconds of one evaluation."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return float(answer(process))


def measured(size: int, repeats: int) -> dict[str, list[float]]:
    """Seconds of every setting, all in turn."""
    seconds: dict[str, list[float]] = {}
    for _ in range(repeats):
        for name, setting in SETTINGS.items():
            with evaluator(setting, size) as process:
                seconds.setdefault(name, []).extend(evaluation(process) for _ in range(3))
    return seconds


@contextmanager
def one_busy_process() -> Iterator[None]:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        try:
            yield
        finally:
            process.kill()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--size", type=int, default=64)
    options = parser.parse_args()
    quiet = measured(options.size, options.repeats)
    with one_busy_process():
        busy = measured(options.size, options.repeats)
    whole = statistics.median(quiet[AS_IT_COMES])
    print(f"| one evaluation at {options.size}^3 | quiet, s | ratio | busy, s | ratio |")
    print("|---" * 5 + "|")
    for name in SETTINGS:
        q, b = (statistics.median(found[name]) for found in (quiet, busy))
        print(f"| {name} | {q:.3f} | {q / whole:.2f} | {b:.3f} | {b / whole:.2f} |")

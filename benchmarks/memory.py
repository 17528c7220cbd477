"""Measure whether the peak memory of `generate` grows from 20 to 200 steps.

Each run is a process of its own, measured by the operating system.

    python benchmarks/memory.py
"""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import resource, sys, prdit_core
prdit_core.generate(prdit_core.load("demo"), steps=int(sys.argv[1]), sampler="increment-2")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak_mib(steps: int) -> float:
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(steps)], check=True, capture_output=True, text=True
    )
    unit = 1024 if sys.platform != "darwin" else 1024 * 1024
    return int(found.stdout) / unit


if __name__ == "__main__":
    print("| steps | peak memory, MiB |")
    print("|---|---|")
    peaks = {steps: peak_mib(steps) for steps in (20, 200)}
    for steps, peak in peaks.items():
        print(f"| {steps} | {peak:.1f} |")
    print(f"growth: {100 * (peaks[200] / peaks[20] - 1):.1f} %")

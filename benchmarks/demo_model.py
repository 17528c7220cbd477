"""How near the base of the bundled model (32^3) is to held-out phantoms, and whether it copies.

Held-out phantoms have a seed of their own. The distance of two disjoint held-out sets is the floor:
no model can do better with so many volumes. Features are fixed: mean intensity and mean gradient
size in 4^3 blocks, reduced to 24 principal components of the training volumes.

    python benchmarks/demo_model.py [--volumes N] [--steps N] [--data DIR]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from distances import Features, frechet, high_frequencies, nearest, phantoms

import prdit_core
from prdit_core.machine import use_threads

HELD_OUT_SEED = 2
TISSUES = {"air": (-1001, -900), "lung": (-900, -500), "fat": (-150, -30), "soft": (-30, 130)}


def shares(hu: np.ndarray) -> dict[str, float]:
    found = {name: ((hu >= low) & (hu < high)).mean() for name, (low, high) in TISSUES.items()}
    return found | {"bone": (hu >= 130).mean()}


def row(name: str, hu: np.ndarray, features: Features, real: np.ndarray, near: np.ndarray) -> str:
    tissue = shares(hu)
    distance = frechet(features(hu), features(real))
    return (
        f"| {name} | {distance:.1f} | "
        + " | ".join(f"{100 * share:.1f}" for share in tissue.values())
        + f" | {100 * high_frequencies(hu):.2f} | {hu.std(0).mean():.0f} | {np.median(near):.0f} "
        f"({near.min():.0f}) |"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--volumes", type=int, default=128)
    parser.add_argument("--steps", type=int, nargs="+", default=[50])
    parser.add_argument("--training", type=int, default=1500)
    parser.add_argument("--data", type=Path, help="where to keep phantoms between runs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = options.data or Path(scratch)
        training = phantoms(work / "training", options.training, 1, 32)
        real = phantoms(work / "held-out", 2 * options.volumes, HELD_OUT_SEED, 32)
    half, other = real[: options.volumes], real[options.volumes :]
    features = Features(training)
    prior = prdit_core.load("demo").at_size(32)
    threads = use_threads()
    print(f"{options.volumes} volumes each, {threads} threads, demo {prior.digest[:12]}")
    columns = [*TISSUES, "bone"]
    print(
        "| | distance | "
        + " | ".join(f"{c}, %" for c in columns)
        + " | high frequencies, % | spread, HU | nearest training, HU (least) |"
    )
    print("|---" * (len(columns) + 5) + "|")
    print(row("held-out phantoms (floor)", other, features, half, nearest(other, training)))
    for steps in options.steps:
        begun = time.perf_counter()
        made = np.stack(
            [
                prdit_core.generate(
                    prior, prdit_core.SamplingConfig(steps=steps), seed=11, index=index
                ).voxels_hu
                for index in range(options.volumes)
            ]
        )
        seconds = (time.perf_counter() - begun) / options.volumes
        name = f"demo, {steps} steps, {seconds:.1f} s each"
        print(row(name, made, features, half, nearest(made, training)), flush=True)


if __name__ == "__main__":
    main()

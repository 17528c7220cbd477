"""How near the bundled model is to held-out phantoms, and whether it copies training volumes.

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

import prdit_core
from prdit_core.machine import use_threads

COMPONENTS = 24
HELD_OUT_SEED = 2
TISSUES = {"air": (-1001, -900), "lung": (-900, -500), "fat": (-150, -30), "soft": (-30, 130)}


def volumes_of(data: prdit_core.PreparedData) -> np.ndarray:
    return np.stack([data.volume(case).astype(np.float32) for case in data.cases])


def phantoms(folder: Path, count: int, seed: int) -> np.ndarray:
    prdit_core.phantoms(count, size=32, seed=seed, out=folder, workers=2)
    return volumes_of(prdit_core.PreparedData.open(folder))


def gradient(hu: np.ndarray) -> np.ndarray:
    return np.sqrt(sum(g**2 for g in np.gradient(hu, axis=(1, 2, 3))))


def pooled(hu: np.ndarray) -> np.ndarray:
    count, edge = hu.shape[0], hu.shape[1] // 8
    return hu.reshape(count, 8, edge, 8, edge, 8, edge).mean((2, 4, 6)).reshape(count, -1)


def raw_features(hu: np.ndarray) -> np.ndarray:
    return np.concatenate([pooled(hu), pooled(gradient(hu))], axis=1) / 1400


class Features:
    """Principal components of the training volumes' pooled intensity and gradient."""

    def __init__(self, training: np.ndarray) -> None:
        raw = raw_features(training)
        self.mean = raw.mean(0)
        _, scales, axes = np.linalg.svd(raw - self.mean, full_matrices=False)
        scales = scales[:COMPONENTS] / np.sqrt(len(raw))
        self.axes = axes[:COMPONENTS].T / scales

    def __call__(self, hu: np.ndarray) -> np.ndarray:
        return (raw_features(hu) - self.mean) @ self.axes


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Frechet distance of two sets of features taken as normal distributions, float64."""
    means, covariances = [s.mean(0) for s in (a, b)], [np.cov(s, rowvar=False) for s in (a, b)]
    values, vectors = np.linalg.eigh(covariances[0])
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    cross = np.linalg.eigvalsh(root @ covariances[1] @ root)
    spread = np.trace(covariances[0] + covariances[1]) - 2 * np.sqrt(np.clip(cross, 0, None)).sum()
    return float(np.sum((means[0] - means[1]) ** 2) + spread)


def shares(hu: np.ndarray) -> dict[str, float]:
    found = {name: ((hu >= low) & (hu < high)).mean() for name, (low, high) in TISSUES.items()}
    return found | {"bone": (hu >= 130).mean()}


def high_frequencies(hu: np.ndarray) -> float:
    """Share of spectral energy above half the Nyquist frequency."""
    power = np.abs(np.fft.fftn(hu - hu.mean((1, 2, 3), keepdims=True), axes=(1, 2, 3))) ** 2
    radius = np.sqrt(sum(f**2 for f in np.meshgrid(*[np.fft.fftfreq(hu.shape[1])] * 3)))
    return float(power[:, radius > 0.25].sum() / power.sum())


def nearest(hu: np.ndarray, training: np.ndarray) -> np.ndarray:
    """RMSE in HU of each volume to its nearest training volume."""
    flat, known = hu.reshape(len(hu), -1), training.reshape(len(training), -1)
    squares = (flat**2).sum(1)[:, None] + (known**2).sum(1) - 2 * flat @ known.T
    return np.sqrt(np.clip(squares, 0, None).min(1) / flat.shape[1])


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
        training = phantoms(work / "training", options.training, 1)
        real = phantoms(work / "held-out", 2 * options.volumes, HELD_OUT_SEED)
    half, other = real[: options.volumes], real[options.volumes :]
    features = Features(training)
    prior = prdit_core.load("demo")
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
                prdit_core.generate(prior, seed=11, index=index, steps=steps).voxels_hu
                for index in range(options.volumes)
            ]
        )
        seconds = (time.perf_counter() - begun) / options.volumes
        name = f"demo, {steps} steps, {seconds:.1f} s each"
        print(row(name, made, features, half, nearest(made, training)), flush=True)


if __name__ == "__main__":
    main()

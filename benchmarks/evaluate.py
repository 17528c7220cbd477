"""Volumes per second and peak memory of an evaluation, part by part, against the plain formulas.

200 volumes of 32^3 against as many. Ours reads one volume at a time; the plain form holds all of
them, and builds what the formula says: N x N x F differences for MMD, the F x F covariances for
FID, windows of 7^3 weights for MS-SSIM, and every training volume in every position for copies.
FID and MMD take 2048 features, as of ResNet-50; ours is timed without its 100 half samples, which
the plain forms have not. Every run is a process of its own. Peak memory is what the operating
system saw beyond a process that has encoded four volumes. What 1000 volumes would take is
projected by the power of their number with which each form grows.

    python benchmarks/evaluate.py [--quick]
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from collections import deque
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from prdit_core.data.io import write_volume
from prdit_core.data.phantoms import make_phantom
from prdit_core.data.volume_sets import VolumeSet
from prdit_core.machine import use_threads
from prdit_core.metrics.encoders import load_encoder
from prdit_core.metrics.frechet import frechet_distance
from prdit_core.metrics.mmd import kernel_width, mmd_squared, weights_on
from prdit_core.metrics.nearest import nearest, thumbnail
from prdit_core.metrics.similarity import EXPONENTS, K1, K2, KERNEL, SIGMA, ms_ssim, scales_of
from prdit_core.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

    from numpy.typing import NDArray
    from torch import Tensor

    Values = NDArray[np.float64]
    Measure = Callable[[Path, int], Values]

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["torch", "prdit_core.metrics.encoders", "prdit_core.data.phantoms"])
EDGE, FEATURES, DIFFERENT = 32, 2048, 20
WARM, COUNT, QUICK, PROJECTED = 4, 200, 12, 1000
PEAK_HU, LOWEST_HU = 1400.0, -1000.0
MIB = 2**20


@dataclass(frozen=True)
class Growth:
    """Powers of the number of volumes with which seconds and memory grow."""

    seconds: int
    memory: int


@dataclass(frozen=True)
class Part:
    """A part of an evaluation in both forms.

    Attributes
    ----------
    share : of the volumes that the plain form is timed on, where all would take too long
    """

    name: str
    ours: Measure
    plain: Measure
    ours_grows: Growth
    plain_grows: Growth
    share: float = 1.0


@dataclass(frozen=True)
class Run:
    """What a process took for all volumes, and the numbers it found."""

    seconds: float
    mib: float
    values: Values

    def projected(self, growth: Growth, times: float) -> Run:
        grown = self.seconds * times**growth.seconds, self.mib * times**growth.memory
        return Run(*grown, self.values)


def make_volumes(folder: Path, count: int) -> None:
    """Phantoms that were moved and noised, so that a few make many."""
    phantoms = [make_phantom(5, i, spacing_mm=320 / EDGE).volume for i in range(DIFFERENT)]
    rng = np.random.default_rng(0)
    for name in ("generated", "training"):
        for number in range(count):
            one = phantoms[number % DIFFERENT]
            moved = np.roll(one.voxels_hu, rng.integers(-4, 5, 3), (0, 1, 2))
            voxels = np.clip(moved + rng.normal(0, 20, moved.shape), LOWEST_HU, 400)
            made = Volume(voxels.astype(np.float32), one.affine)
            write_volume(made, folder / name / f"{number:04}.nii")


def volumes(folder: Path, name: str, count: int) -> Iterator[Volume]:
    found = VolumeSet.open(folder / name)
    return (found.read(number) for number in range(count))


def all_voxels(folder: Path, name: str, count: int) -> NDArray[np.float32]:
    return np.stack([v.voxels_hu.astype(np.float32) for v in volumes(folder, name, count)])


def clouds(count: int) -> tuple[Values, Values]:
    rng = np.random.default_rng(1)
    return rng.normal(0, 1, (count, FEATURES)), rng.normal(0.1, 1, (count, FEATURES))


# --- features -----------------------------------------------------------------------------------


def our_features(folder: Path, count: int) -> Values:
    return np.stack(list(load_encoder().features(volumes(folder, "generated", count))))


def plain_features(folder: Path, count: int) -> Values:
    encoder = load_encoder()
    x = np.stack([encoder.prepare(v) for v in list(volumes(folder, "generated", count))])
    with torch.inference_mode():
        found = [encoder.network(one[None, None]) for one in torch.from_numpy(x)]
    return torch.cat(found).double().numpy()


# --- distances ----------------------------------------------------------------------------------


def our_fid(_: Path, count: int) -> Values:
    return np.array([frechet_distance(*clouds(count))])


def plain_fid(_: Path, count: int) -> Values:
    """The root of S1 S2 by eigenvalues, through the root of S1."""
    real, fake = clouds(count)
    first, second = np.cov(real, rowvar=False), np.cov(fake, rowvar=False)
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ second @ root), 0)).sum()
    mean = np.square(real.mean(0) - fake.mean(0)).sum()
    return np.array([mean + np.trace(first) + np.trace(second) - 2 * shared])


def our_mmd(_: Path, count: int) -> Values:
    real, fake = clouds(count)
    whole = weights_on(count, [np.arange(count)])
    return mmd_squared(real, fake, kernel_width(real), whole, whole)[0]


def plain_mmd(_: Path, count: int) -> Values:
    real, fake = clouds(count)

    def squares(x: Values, y: Values) -> Values:
        return ((x[:, None] - y[None]) ** 2).sum(-1)

    within = squares(real, real)
    gamma = 1 / (2 * np.sort(within.ravel())[(within.size - 1) // 2])
    within, across, other = (
        np.exp(-gamma * s).mean() for s in (within, squares(real, fake), squares(fake, fake))
    )
    return np.array([within + other - 2 * across])


# --- pairs of volumes ---------------------------------------------------------------------------


def our_similarity(folder: Path, count: int) -> Values:
    before: deque[NDArray[np.float32]] = deque(maxlen=2)
    found = []
    for volume in volumes(folder, "generated", count):
        voxels = volume.voxels_hu - np.float32(LOWEST_HU)
        found += [ms_ssim(seen, voxels, PEAK_HU) for seen in before]
        before.append(voxels)
    return np.array(found)


def plain_similarity(folder: Path, count: int) -> Values:
    x = torch.from_numpy(all_voxels(folder, "generated", count) - np.float32(LOWEST_HU))
    pairs = ((j, i) for i in range(count) for j in range(max(0, i - 2), i))
    return np.array([windowed_similarity(x[i], x[j]) for i, j in pairs])


def windowed_similarity(a: Tensor, b: Tensor) -> float:
    line = torch.exp(-0.5 * ((torch.arange(KERNEL) - KERNEL // 2) / SIGMA) ** 2)
    window = line[:, None, None] * line[:, None] * line
    window = (window / window.sum())[None, None]
    c1, c2 = (K1 * PEAK_HU) ** 2, (K2 * PEAK_HU) ** 2
    scales, value = scales_of(a.shape), 1.0
    exponents = np.array(EXPONENTS[:scales]) / sum(EXPONENTS[:scales])
    for scale, exponent in enumerate(exponents):
        seen = (a, b, a * a, b * b, a * b)
        mu, nu, aa, bb, ab = (functional.conv3d(s[None, None], window) for s in seen)
        factor = (2 * (ab - mu * nu) + c2) / (aa - mu**2 + bb - nu**2 + c2)
        if scale == scales - 1:
            factor = factor * (2 * mu * nu + c1) / (mu**2 + nu**2 + c1)
        value *= max(0.0, factor.mean().item()) ** exponent
        a, b = (functional.avg_pool3d(s[None], 2)[0] for s in (a, b))
    return value


def our_copies(folder: Path, count: int) -> Values:
    training = VolumeSet.open(folder / "training")
    thumbnails = np.stack([thumbnail(training.read(i).voxels_hu) for i in range(count)])

    def read(number: int) -> NDArray[np.float32]:
        return training.read(number).voxels_hu.astype(np.float32)

    seen = (v.voxels_hu.astype(np.float32) for v in volumes(folder, "generated", count))
    return np.array([nearest(voxels, thumbnails, read).distance_hu for voxels in seen])


def plain_copies(folder: Path, count: int) -> Values:
    training = all_voxels(folder, "training", count)
    few = max(1, round(COPIES.share * count))
    return np.array([exhaustive(x, training) for x in all_voxels(folder, "generated", few)])


def exhaustive(x: NDArray[np.float32], training: NDArray[np.float32]) -> float:
    """Root mean square difference to the nearest of all volumes in all positions."""
    inner, length = x[1:-1, 1:-1, 1:-1], EDGE - 2
    moves = [tuple(slice(i, i + length) for i in move) for move in product(range(3), repeat=3)]
    return float(
        np.sqrt(min(np.square(inner - other[m]).mean() for other in training for m in moves))
    )


COPIES = Part("copies", our_copies, plain_copies, Growth(1, 0), Growth(2, 1), share=0.05)
PARTS = (
    Part("features", our_features, plain_features, Growth(1, 0), Growth(1, 1)),
    Part("FID", our_fid, plain_fid, Growth(2, 1), Growth(0, 0)),
    Part("MMD", our_mmd, plain_mmd, Growth(2, 1), Growth(2, 2)),
    Part("MS-SSIM", our_similarity, plain_similarity, Growth(1, 0), Growth(1, 1)),
    COPIES,
)


# --- processes ----------------------------------------------------------------------------------


def peak_memory() -> int:
    """Bytes of this process at its largest."""
    found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found if sys.platform == "darwin" else 1024 * found


def measure(pipe: Connection, form: Measure, folder: Path, count: int) -> None:
    """Seconds, bytes and values, once everything is loaded."""
    use_threads()
    our_features(folder, WARM)
    before, begun = peak_memory(), time.perf_counter()
    values = form(folder, count)
    pipe.send((time.perf_counter() - begun, peak_memory() - before, values))


def run(form: Measure, folder: Path, count: int, share: float) -> Run:
    pipe, theirs = FORKS.Pipe()
    FORKS.Process(target=measure, args=(theirs, form, folder, count), daemon=True).start()
    theirs.close()  # so that its death is heard here
    seconds, peak, values = pipe.recv()
    return Run(seconds / share, peak / MIB, values)


def whole(runs: list[Run]) -> Run:
    """All parts after each other; what they found is kept apart."""
    return Run(sum(r.seconds for r in runs), max(r.mib for r in runs), np.zeros(0))


def row(name: str, count: int, ours: Run, plain: Run) -> None:
    speeds = f"{count / ours.seconds:.3g} | {count / plain.seconds:.3g}"
    ratio = f"{ours.seconds / plain.seconds:.3g}"
    print(f"| {name} | {speeds} | {ratio} | {ours.mib:.0f} | {plain.mib:.0f} |", flush=True)


def difference(ours: Run, plain: Run) -> float:
    """The largest between both forms, relative to the largest value."""
    few = plain.values
    return float(np.abs(ours.values[: len(few)] - few).max() / np.abs(few).max())


def compare(count: int) -> None:
    head = "ours, volumes / s | plain, volumes / s | time, ours / plain"
    print(f"| part, {count} volumes | {head} | ours, MiB | plain, MiB |\n|---|---|---|---|---|---|")
    pairs: list[tuple[Run, Run]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_volumes(folder, count)
        for part in PARTS:
            ours = run(part.ours, folder, count, 1.0)
            plain = run(part.plain, folder, count, part.share)
            pairs.append((ours, plain))
            row(part.name, count, ours, plain)
    row("all", count, whole([o for o, _ in pairs]), whole([p for _, p in pairs]))
    times = PROJECTED / count
    grown = [
        (ours.projected(part.ours_grows, times), plain.projected(part.plain_grows, times))
        for part, (ours, plain) in zip(PARTS, pairs, strict=True)
    ]
    print(f"\n| part, {PROJECTED} volumes (projected) | {head} | ours, MiB | plain, MiB |")
    print("|---|---|---|---|---|---|")
    for part, (ours, plain) in zip(PARTS, grown, strict=True):
        row(part.name, PROJECTED, ours, plain)
    row("all", PROJECTED, whole([o for o, _ in grown]), whole([p for _, p in grown]))
    apart = (f"{p.name} {difference(*pair):.0e}" for p, pair in zip(PARTS, pairs, strict=True))
    print(f"\nlargest relative difference between both forms: {', '.join(apart)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="a few volumes, in seconds")
    options = parser.parse_args()
    print(f"{use_threads()} threads, torch {torch.__version__}")
    compare(QUICK if options.quick else COUNT)

"""What a walk costs and how good its volumes are: solvers, grids, hot and cold, residual reuse.

Base of the bundled model at 32^3, one thread. Every setting makes the same volumes (one seed, the
same start noises); settings take turns, volume by volume, and what is made is kept, so that the run
can be stopped and called again. Several workers may share it.

* RMSE: to the volumes of 1000 cold steps of order 2 from the same noise, in HU, median; same end:
  share of volumes whose nearest among those is their own.
* distance: Frechet on fixed features (`distances.py`) to held-out phantoms, with the standard error
  of halves drawn at random; floor: held-out against held-out. It depends on the number of volumes:
  compare within a column.
* MS-SSIM of pairs: the lower, the more diverse; spread: mean standard deviation of a voxel over
  volumes; fine: share of energy above half the Nyquist frequency, by that of phantoms.
* cost: CPU seconds over those of the release, 1000 evaluations of the same network with torch's own
  linear layers, measured in this run.

    python benchmarks/sampling_quality.py [--work DIR] [--worker 0/2] [--make-only]
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import time
from collections import deque
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from distances import Features, frechet, high_frequencies, phantoms
from forward import with_backend

import prdit_core
from prdit_core import SamplingConfig
from prdit_core.machine import use_threads
from prdit_core.metrics.similarity import ms_ssim
from prdit_core.models import linears

if TYPE_CHECKING:
    from collections.abc import Iterator

SEED = 11  # thresholds and rules were chosen on seed 77
SCANNED, REFERENCES, FRONT_VOLUMES, HELD_OUT = 32, 96, 300, 600
PAIRS, HALVES = 300, 40
OUTLYING = 1.6  # times the floor: what is so far away is named in the plot


def named(name: str, **settings: Any) -> tuple[str, SamplingConfig]:
    """Settings, where nothing is said of it on the exact grid and without reuse."""
    plain: dict[str, Any] = {"sampler": "increment", "grid": "exact", "refresh_change": None}
    return name, SamplingConfig(**{**plain, **settings})


REFERENCE = dict(
    [
        named("cold", steps=1000, sampler="increment-2", k=1),
        named("hot", steps=1000, sampler="euler", k=2, grid="release"),
    ]
)


def scanned() -> Iterator[tuple[str, SamplingConfig]]:
    """Everything that is looked at with few volumes."""
    colds_and_hots = (1.0, 2.0)
    for sampler, steps, k in itertools.product(
        ("increment", "increment-2"), (10, 20, 50), colds_and_hots
    ):
        name = f"{sampler} {steps} k{k:g} log-snr"
        yield named(name, steps=steps, sampler=sampler, k=k, grid="log-snr")
    for steps, change, k in itertools.product((20, 50), (0.1, 0.2), colds_and_hots):
        name = f"increment {steps} k{k:g} log-snr change {change:g}"
        yield named(name, steps=steps, k=k, grid="log-snr", refresh_change=change)
    for steps in (20, 30):
        name = f"increment-2 {steps} k1 log-snr change 0.1"
        yield named(
            name, steps=steps, sampler="increment-2", k=1, grid="log-snr", refresh_change=0.1
        )
    yield named("increment 100 k2 log-snr", steps=100, k=2, grid="log-snr")
    yield named(
        "increment 100 k2 log-snr change 0.2", steps=100, k=2, grid="log-snr", refresh_change=0.2
    )
    yield named("increment 50 k3 log-snr", steps=50, k=3, grid="log-snr")
    for steps, k in itertools.product((20, 50), colds_and_hots):
        name = f"dpm-2m {steps} k{k:g} log-snr"
        yield named(name, steps=steps, sampler="dpm-2m", k=k, grid="log-snr")
    for sampler, steps, k in itertools.product(
        ("increment", "increment-2"), (20, 50), colds_and_hots
    ):
        yield named(f"{sampler} {steps} k{k:g}", steps=steps, sampler=sampler, k=k)
    for k in colds_and_hots:
        yield named(f"increment 100 k{k:g}", steps=100, k=k)
        yield named(f"increment 100 k{k:g} change 0.2", steps=100, k=k, refresh_change=0.2)
    for change, k in itertools.product((0.1, 0.2), colds_and_hots):
        yield named(f"increment 50 k{k:g} change {change:g}", steps=50, k=k, refresh_change=change)
    for every, k in itertools.product((2, 4), colds_and_hots):
        yield named(f"increment 50 k{k:g} every {every}", steps=50, k=k, refresh_every=every)
    for steps, k in itertools.product((20, 50), colds_and_hots):
        name = f"euler {steps} k{k:g} release"
        yield named(name, steps=steps, sampler="euler", k=k, grid="release")
    yield named("increment 50 k3", steps=50, k=3)
    yield named("increment 250 k2 change 0.2", steps=250, k=2, refresh_change=0.2)


SETTINGS = REFERENCE | dict(scanned())
FRONT = (  # the cheapest that are as good as the references, and hot ones with and without reuse
    "increment 10 k1 log-snr",
    "increment 20 k1 log-snr change 0.1",
    "increment-2 20 k1 log-snr",
    "increment 50 k1 log-snr change 0.1",
    "increment-2 20 k1 log-snr change 0.1",
    "increment 50 k2 log-snr",
    "increment 50 k2 log-snr change 0.2",
    "increment 50 k2",
)


@contextmanager
def evaluations(prior: prdit_core.Prior) -> Iterator[list[int]]:
    """How often the local and the global part of a base are evaluated meanwhile."""
    counts = [0, 0]

    def count(number: int) -> None:
        counts[number] += 1

    module = prior.network.module
    hooks = [
        part.register_forward_hook(lambda *_, number=number: count(number))
        for number, part in enumerate((module.local, module.global_residual))
        if part is not None
    ]
    try:
        yield counts
    finally:
        for hook in hooks:
            hook.remove()


class Made:
    """Volumes of one setting in a folder, each with what it cost."""

    def __init__(self, folder: Path, config: SamplingConfig) -> None:
        self.folder = folder
        self.config = config

    def file(self, index: int) -> Path:
        return self.folder / f"{index:04d}.npz"

    def make(self, prior: prdit_core.Prior, index: int) -> None:
        """Volume `index`, unless it is there."""
        if self.file(index).exists():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        begun = time.thread_time()
        with evaluations(prior) as counts:
            walk = prdit_core.generate_steps(prior, self.config, seed=SEED, index=index)
            (step,) = deque(walk, maxlen=1)
        seconds = time.thread_time() - begun
        hu = prior.intensity.to_hu(step.x0[0, 0].numpy()).astype(np.int16)
        partial = self.file(index).with_suffix(".partial.npz")
        np.savez_compressed(partial, hu=hu, seconds=seconds, evaluated=counts)
        os.replace(partial, self.file(index))

    def count(self) -> int:
        """Volumes there are, without a gap."""
        return next(number for number in itertools.count() if not self.file(number).exists())

    def volumes(self, count: int) -> np.ndarray:
        return np.stack([np.load(self.file(i))["hu"] for i in range(count)]).astype(np.float32)

    def costs(self, count: int) -> tuple[float, float, float]:
        """Median CPU seconds, mean evaluations of the local and of the global part."""
        found = [np.load(self.file(index)) for index in range(count)]
        local, residual = np.mean([entry["evaluated"] for entry in found], axis=0)
        return statistics.median(float(entry["seconds"]) for entry in found), local, residual


def make(prior: prdit_core.Prior, sets: dict[str, Made], options: argparse.Namespace) -> None:
    """All volumes that are still missing, settings in turn."""
    worker, workers = (int(word) for word in options.worker.split("/"))
    wanted = dict.fromkeys(SETTINGS, SCANNED)
    wanted |= {name: FRONT_VOLUMES for name in FRONT if options.front}
    wanted |= dict.fromkeys(REFERENCE, options.references)
    for index in range(worker, max(wanted.values()), workers):
        for name, count in wanted.items():
            if index < count:
                sets[name].make(prior, index)
        print(f"volume {index} of all settings that want it", flush=True)


def release_seconds(prior: prdit_core.Prior) -> tuple[float, float]:
    """CPU seconds of 1000 evaluations with torch's linear layers, and with the fastest."""
    x = torch.randn(prior.shape) * prior.schedule.noise_std
    seconds: dict[linears.Backend, list[float]] = {"torch": [], linears.backend(): []}
    for _ in range(12):
        for name, found in seconds.items():
            begun = time.thread_time()
            with_backend(name, lambda: prior.denoise(x, 500.0))
            found.append(time.thread_time() - begun)
    return 1000 * statistics.median(seconds["torch"]), 1000 * statistics.median(
        seconds[linears.backend()]
    )


class Judge:
    """Distances to held-out phantoms."""

    def __init__(self, work: Path) -> None:
        self.features = Features(phantoms(work / "training", 1500, 1, 32))
        self.held_out = phantoms(work / "held-out", HELD_OUT, 2, 32)

    def distance(self, hu: np.ndarray) -> tuple[float, float]:
        """To as many held-out phantoms, and its standard error."""
        count = len(hu)
        found, real = self.features(hu), self.features(self.held_out[:count])
        return frechet(found, real), self._error(found, real)

    def floor(self, count: int) -> float:
        parts = self.held_out[:count], self.held_out[-count:]
        return frechet(*(self.features(part) for part in parts))

    def _error(self, found: np.ndarray, real: np.ndarray) -> float:
        """Of the distance of all, from distances of random halves: sqrt(1/2) of their spread."""
        random, count = np.random.default_rng(0), len(found)
        halves = [random.permutation(count)[: count // 2] for _ in range(HALVES)]
        values = [frechet(found[half], real[half]) for half in halves]
        return float(np.std(values, ddof=1) * np.sqrt(0.5))

    def fine(self, hu: np.ndarray) -> float:
        """Share of energy in high frequencies, by that of as many held-out phantoms."""
        return high_frequencies(hu) / high_frequencies(self.held_out[: len(hu)])

    def similarity(self, hu: np.ndarray) -> float:
        """Mean MS-SSIM of random pairs."""
        random = np.random.default_rng(1)
        pairs = [random.choice(len(hu), 2, replace=False) for _ in range(PAIRS)]
        return float(np.mean([ms_ssim(hu[a] + 1000, hu[b] + 1000, 1400.0) for a, b in pairs]))


def endpoints(hu: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """Median RMSE to the own reference, share whose nearest reference is the own."""
    away = np.stack([[np.sqrt(np.mean((a - b) ** 2)) for b in reference] for a in hu])
    return float(np.median(np.diag(away))), float(np.mean(away.argmin(1) == np.arange(len(hu))))


def alike(sets: dict[str, Made]) -> int:
    """Volumes that both references have, so that distances compare."""
    return min(sets[name].count() for name in REFERENCE)


def scan_table(sets: dict[str, Made], judge: Judge, release: float) -> list[dict[str, Any]]:
    reference = sets["cold"].volumes(SCANNED)
    print(f"\n{SCANNED} volumes each; floor {judge.floor(SCANNED):.1f}\n")
    print("| setting | local | global | CPU s | cost | RMSE, HU | same end | distance | fine |")
    print("|---" * 9 + "|")
    rows = []
    for name, made in sets.items():
        if made.count() < SCANNED:
            continue
        hu = made.volumes(SCANNED)
        seconds, local, residual = made.costs(SCANNED)
        rmse, same = endpoints(hu, reference)
        distance, error = judge.distance(hu)
        print(
            f"| {name} | {local:.0f} | {residual:.1f} | {seconds:.2f} | 1/{release / seconds:.0f} "
            f"| {rmse:.0f} | {same:.0%} | {distance:.1f} +- {error:.1f} | {judge.fine(hu):.2f} |",
            flush=True,
        )
        rows.append({"name": name, "cost": seconds / release, "distance": distance, "error": error})
    return rows


def front_table(sets: dict[str, Made], judge: Judge, release: float) -> list[dict[str, Any]]:
    same = alike(sets)
    print(
        f"\nfloor: {judge.floor(same):.1f} with {same} volumes, "
        f"{judge.floor(FRONT_VOLUMES):.1f} with {FRONT_VOLUMES}; held-out phantoms: MS-SSIM "
        f"{judge.similarity(judge.held_out[:FRONT_VOLUMES]):.3f}, spread "
        f"{judge.held_out[:FRONT_VOLUMES].std(0).mean():.0f} HU\n"
    )
    print(
        f"| setting | local | global | CPU s | cost | distance, {same} | distance, all | "
        "MS-SSIM | spread, HU | fine | volumes |"
    )
    print("|---" * 11 + "|")
    rows = []
    for name in (*REFERENCE, *FRONT):
        made = sets[name]
        count = min(made.count(), FRONT_VOLUMES)
        hu = made.volumes(count)
        seconds, local, residual = made.costs(count)
        (near, error), (all_, all_error) = judge.distance(hu[:same]), judge.distance(hu)
        print(
            f"| {name} | {local:.0f} | {residual:.1f} | {seconds:.2f} | 1/{release / seconds:.0f} "
            f"| {near:.1f} +- {error:.1f} | {all_:.1f} +- {all_error:.1f} | "
            f"{judge.similarity(hu):.3f} | {hu.std(0).mean():.0f} | {judge.fine(hu):.2f} | "
            f"{count} |",
            flush=True,
        )
        rows.append({"name": name, "cost": seconds / release, "distance": near, "error": error})
    return rows


def plot(
    scan: list[dict[str, Any]], front: list[dict[str, Any]], floors: list[float], file: Path
) -> None:
    """Cost against distance: what was scanned, and what was measured with many volumes."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, panes = pyplot.subplots(1, 2, figsize=(13, 5.5), constrained_layout=True)
    for pane, rows, floor in zip(panes, (scan, front), floors, strict=True):
        for row in rows:
            hot = " k1" not in row["name"] and row["name"] != "cold"
            reused = "change" in row["name"] or "every" in row["name"]
            place = (1 / row["cost"], row["distance"])
            pane.errorbar(
                *place,
                row["error"] if rows is front else None,
                fmt="o" if reused else "s",
                color="tab:red" if hot else "tab:blue",
                fillstyle="full" if reused else "none",
            )
            if rows is front or row["distance"] > OUTLYING * floor or row["name"] in REFERENCE:
                pane.annotate(
                    row["name"], place, xytext=(6, 4), textcoords="offset points", fontsize=8
                )
        pane.axvline(50, color="grey", linestyle=":")
        pane.axhline(floor, color="grey", linestyle="--")
        pane.set(xscale="log", xlim=(1, 2000 if rows is front else 600))
        pane.set_xlabel("times faster than 1000 plain evaluations (CPU time)")
        pane.set_ylabel("Frechet distance to held-out phantoms")
    panes[0].set(yscale="log", title=f"everything tried, {SCANNED} volumes each")
    panes[1].set(title="the front with standard errors, as many volumes as the references")
    figure.suptitle("red hot, blue cold; filled: residual reused; dashed: held-out phantoms")
    figure.savefig(file, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, default=Path("work/speed"))
    parser.add_argument("--worker", default="0/1", help="number of this one / how many there are")
    parser.add_argument("--references", type=int, default=REFERENCES)
    parser.add_argument("--front", action="store_true", help=f"{FRONT_VOLUMES} of the best, too")
    parser.add_argument("--make-only", action="store_true")
    options = parser.parse_args()
    use_threads(1)
    prior = prdit_core.load("demo").at_size(32)
    sets = {
        name: Made(options.work / "volumes" / prior.digest[:8] / name, config)
        for name, config in SETTINGS.items()
    }
    make(prior, sets, options)
    if options.make_only:
        return
    judge = Judge(options.work)
    plain, fast = release_seconds(prior)
    print(f"1000 evaluations: {plain:.1f} CPU s with torch's linear layers, {fast:.1f} with ours")
    scan = scan_table(sets, judge, plain)
    front = front_table(sets, judge, plain)
    floors = [judge.floor(SCANNED), judge.floor(alike(sets))]
    plot(scan, front, floors, options.work / "sampling-quality.png")


if __name__ == "__main__":
    main()

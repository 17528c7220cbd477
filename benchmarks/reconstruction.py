"""Reconstruct held-out phantoms with priors and without: a paired table, wins and losses alike.

64^3; data from twice finer voxels with two rays a bin. Held-out phantoms are of seed 6; nothing
was trained or tuned on them (training: seed 1, TV and last step: seed 5, errors of networks: 40).
Every reconstruction is kept, so that the run can be stopped and called again; with other options
it goes on with what they add.

* PSNR, SSIM: grey 0 to 1, both clipped to -1000..400 HU; misfit: |A x - y| / |y|.
* difference to TV: of PSNR on the same phantoms, mean and 95 % interval (Student's t).
* nodules, edges, noise, coverage: see `looks.py`.
* CPU seconds of this run, on whatever else ran beside: compare within it only.

    python benchmarks/reconstruction.py [--phantoms N] [--cases NAME ...] [--priors NAME|FOLDER ...]
"""

from __future__ import annotations

import argparse
import os
import time
from collections import deque
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from fbp_unet import repaired, trained
from looks import coverage, nodules, noise, sharpness
from scipy import stats

import prdit_core
from prdit_core.data.phantoms import make_phantom
from prdit_core.inverse import scanners
from prdit_core.inverse.couplings import Coupling
from prdit_core.inverse.problem import in_measured_unit
from prdit_core.machine import use_threads
from prdit_core.metrics.fidelity import grey_fidelity
from prdit_core.pictures import Panel, save_picture
from prdit_core.verbs.reconstruct import prior_steps, prior_volume, problem_of, solved_classically
from prdit_core.verbs.simulate import coarser, simulate
from prdit_core.verbs.tv_strength import strength_for
from prdit_core.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prdit_core.inverse.measurement import Measurement

HELD_OUT, TRAINING = 6, 1
WINDOW = (-1000.0, 400.0)


@dataclass(frozen=True)
class Case:
    """What is measured, and of which phantoms."""

    views: int
    arc: float = 180.0
    photons: float | None = 1e5
    family: str = "plain"


CASES = {
    "8 views": Case(8),
    "120 degrees": Case(40, 120.0),
    "20 views": Case(20),
    "60 views": Case(60),
    "8 views, no noise": Case(8, photons=None),
    "8 views, 1e4": Case(8, photons=1e4),
    "120 degrees, no noise": Case(40, 120.0, None),
    "120 degrees, 1e4": Case(40, 120.0, 1e4),
    "20 views, metal": Case(20, family="metal"),
    "8 views, metal": Case(8, family="metal"),
}


@dataclass(frozen=True)
class Scale:
    """How large all is; tests take it small."""

    size: int = 64
    steps: int = 20
    samples: int = 4
    training: int = 24
    iterations: int = 1000


@dataclass(frozen=True, eq=False)
class Scan:
    """A phantom, what is known of it, and a measurement."""

    truth: np.ndarray
    labels: np.ndarray
    measurement: Measurement


@cache
def phantom(seed: int, index: int, size: int, family: str) -> tuple[Volume, np.ndarray]:
    made = make_phantom(seed, index, spacing_mm=160.0 / size)
    hu = made.volume.voxels_hu.astype(np.float32)
    if family == "metal":  # two rods beside the spine, which no prior has seen
        z, y, x = (np.arange(edge) / edge for edge in hu.shape)
        rods = np.hypot(y[:, None] - 0.62, np.abs(x[None] - 0.5) - 0.08) < 0.012
        hu = np.where(rods[None] & (np.abs(z - 0.5) < 0.3)[:, None, None], 8000.0, hu)
    return Volume(hu, made.volume.affine, made.volume.metadata), made.labels


def scan(case: Case, seed: int, index: int, scale: Scale) -> Scan:
    fine, labels = phantom(seed, index, scale.size, case.family)
    truth = coarser(fine)
    spec = scanners.parallel_scan(truth.shape, truth.spacing_mm, case.views, case.arc)
    measurement = simulate(fine, spec, photons=case.photons, seed=seed, index=index)
    return Scan(truth.voxels_hu.astype(np.float64), labels, measurement)


def classical(method: str, **settings: Any) -> Callable[[Scan], tuple[np.ndarray, float]]:
    def run(one: Scan) -> tuple[np.ndarray, float]:
        problem = in_measured_unit(one.measurement, "cpu")
        more = {"strength": strength_for(problem).value} if method == "tv" else {}
        begun = time.thread_time()
        found = solved_classically(problem, method, **settings, **more)  # type: ignore[arg-type]
        return found.voxels_hu, time.thread_time() - begun

    return run


def unet(case: Case, scale: Scale, work: Path) -> Callable[[Scan], tuple[np.ndarray, float]]:
    """Trained on phantoms that are measured as in this case, all of the plain family."""

    def fbp(one: Scan) -> torch.Tensor:
        problem = in_measured_unit(one.measurement, "cpu")
        return torch.from_numpy(solved_classically(problem, "fbp").voxels_hu)

    def pairs() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for index in range(scale.training):
            one = scan(Case(case.views, case.arc, case.photons), TRAINING, index, scale)
            yield fbp(one), torch.from_numpy(one.truth).float()

    file = work / f"unet_{case.views}_{case.arc:g}_{case.photons}.pt"
    network = trained(file, [] if file.exists() else list(pairs()), scale.iterations)

    def run(one: Scan) -> tuple[np.ndarray, float]:
        begun = time.thread_time()
        found = repaired(network, fbp(one)).numpy()
        return found, time.thread_time() - begun

    return run


def walk(
    prior: prdit_core.Prior, coupling: Coupling, steps: int, index: int
) -> Callable[[Scan], tuple[np.ndarray, float]]:
    """A sample as the command makes it, with or without the last step."""
    config = coupling.walk(steps=steps)

    def run(one: Scan) -> tuple[np.ndarray, float]:
        problem = problem_of(prior, one.measurement, None)
        begun = time.thread_time()
        (last,) = deque(
            prior_steps(prior, problem, config, coupling, seed=0, index=index), maxlen=1
        )
        found = prior_volume(prior, problem, config, coupling, last, seed=0, index=index)
        return found.voxels_hu, time.thread_time() - begun

    return run


def finished(prior: prdit_core.Prior, file: Path) -> Callable[[Scan], tuple[np.ndarray, float]]:
    """The last step of `reconstruct` on a walk that is there."""

    def run(one: Scan) -> tuple[np.ndarray, float]:
        problem, before = problem_of(prior, one.measurement, None), np.load(file)
        begun = time.thread_time()
        x = Coupling().finish(problem, problem.measured(torch.from_numpy(before["hu"])[None, None]))
        seconds = float(before["seconds"]) + time.thread_time() - begun
        return problem.hu(x)[0, 0].numpy(), seconds

    return run


def kept(file: Path, run: Callable[[Scan], tuple[np.ndarray, float]], one: Scan) -> None:
    """What a way makes of a scan, unless it is there."""
    if file.exists():
        return
    hu, seconds = run(one)
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial.npz")
    np.savez(partial, hu=np.asarray(hu, np.float32), seconds=seconds)
    os.replace(partial, file)


class Reconstructions:
    """All reconstructions of one case."""

    def __init__(self, name: str, work: Path, scale: Scale) -> None:
        self.name, self.case, self.scale = name, CASES[name], scale
        self.folder = work / name.replace(" ", "-").replace(",", "")
        self.work = work

    def file(self, way: str, index: int) -> Path:
        return self.folder / way.replace(" ", "-") / f"{index:02d}.npz"

    def make(self, indices: list[int], priors: dict[str, prdit_core.Prior]) -> None:
        many = 200 if self.case.views >= 60 else 400  # as tuned for SIRT, specification
        self.folder.mkdir(parents=True, exist_ok=True)
        ways: dict[str, Callable[[Scan], tuple[np.ndarray, float]]] = {
            "FBP": classical("fbp"),
            "CG20": classical("cg"),
            "SIRT": classical("sirt", iterations=many),
            "TV": classical("tv"),
            "FBP-UNet": unet(self.case, self.scale, self.work),
        }
        for index in indices:
            one = scan(self.case, HELD_OUT, index, self.scale)
            for way, run in ways.items():
                kept(self.file(way, index), run, one)
            for name, prior in priors.items():
                self._walk(name, prior, index, one)
            print(f"{self.name}: phantom {index}", flush=True)

    def _walk(self, name: str, prior: prdit_core.Prior, index: int, one: Scan) -> None:
        steps = self.scale.steps
        dds, plain = (Coupling(row, last_step="none") for row in ("dds", "cg"))
        kept(self.file(f"{name} dds", index), walk(prior, dds, steps, 0), one)
        for number in range(self.scale.samples):
            file = self.file(f"{name} walk {number}", index)
            kept(file, walk(prior, plain, steps, number), one)
            kept(self.file(f"{name} default {number}", index), finished(prior, file), one)

    def rows(self, indices: list[int], priors: list[str]) -> dict[str, list[dict[str, float]]]:
        """Numbers of every way and phantom."""
        scans = {index: scan(self.case, HELD_OUT, index, self.scale) for index in indices}
        rows: dict[str, list[dict[str, float]]] = {}

        def add(row: str, index: int, ways: list[str]) -> None:
            found = [np.load(self.file(way, index)) for way in ways]
            samples = np.stack([one["hu"] for one in found]).astype(np.float64)
            spent = sum(float(one["seconds"]) for one in found)
            rows.setdefault(row, []).append(numbers(scans[index], samples, spent))

        for index in indices:
            for way in ("FBP", "CG20", "SIRT", "TV", "FBP-UNet"):
                add(way, index, [way])
            for prior in priors:
                add(f"{prior} dds", index, [f"{prior} dds"])
                for kind in ("walk", "default"):
                    ways = [f"{prior} {kind} {number}" for number in range(self.scale.samples)]
                    add(f"{prior} {kind}", index, ways[:1])
                    if len(ways) > 1:
                        add(f"{prior} {kind} mean of {len(ways)}", index, ways)
        return rows


def numbers(one: Scan, samples: np.ndarray, seconds: float) -> dict[str, float]:
    found = samples.mean(0)
    grey = grey_fidelity(one.truth, found, WINDOW)
    problem = in_measured_unit(one.measurement, "cpu")
    count, lost, invented = nodules(one.truth, found, one.labels)
    return {
        "psnr": grey.psnr,
        "ssim": float("nan") if grey.ssim is None else grey.ssim,
        "misfit": problem.misfit(problem.measured(torch.from_numpy(found).float()[None, None])),
        "seconds": seconds,
        "nodules": count,
        "lost": lost,
        "invented": invented,
        "edges": sharpness(one.truth, found),
        "noise": noise(one.truth, found, one.labels),
        "coverage": coverage(one.truth, samples) if len(samples) > 1 else float("nan"),
    }


def interval(values: np.ndarray) -> str:
    """Mean and the half width of its 95 % interval."""
    if len(values) < 2:
        return f"{values.mean():+.2f}"
    reach = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return f"{values.mean():+.2f} +- {reach:.2f}"


def table(rows: dict[str, list[dict[str, float]]]) -> str:
    columns = (
        "way | PSNR, dB | to TV, dB | SSIM | misfit, % | CPU s | lost | invented | edges "
        "| noise, HU | coverage, %"
    )
    lines = [f"| {columns} |", "|---" * 11 + "|"]
    tv = np.array([row["psnr"] for row in rows["TV"]])
    for name, found in rows.items():
        values = {key: np.array([row[key] for row in found]) for key in found[0]}
        covered = values["coverage"].mean()
        cells = [
            name,
            f"{values['psnr'].mean():.2f}",
            "" if name == "TV" else interval(values["psnr"] - tv),
            f"{values['ssim'].mean():.3f}",
            f"{100 * values['misfit'].mean():.2g}",
            f"{values['seconds'].mean():.1f}",
            f"{values['lost'].sum():.0f} of {values['nodules'].sum():.0f}",
            f"{values['invented'].sum():.0f}",
            f"{values['edges'].mean():.2f}",
            f"{np.nanmean(values['noise']):.0f}",
            "" if np.isnan(covered) else f"{100 * covered:.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def picture(case: Reconstructions, index: int, priors: list[str], file: Path) -> None:
    one = scan(case.case, HELD_OUT, index, case.scale)
    ways = ["FBP", "SIRT", "TV", "FBP-UNet", *(f"{prior} default 0" for prior in priors)]
    volumes = {way: np.load(case.file(way, index))["hu"] for way in ways}
    spacing = (320.0 / case.scale.size,) * 3
    panels = [
        Panel(hu, spacing, WINDOW, way) for way, hu in (*volumes.items(), ("truth", one.truth))
    ]
    save_picture(panels, file, "simulated, not for diagnosis")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, default=Path("work/reconstruction"))
    parser.add_argument("--phantoms", type=int, default=16)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--priors", nargs="+", default=["demo"], help="names, or NAME=FOLDER")
    parser.add_argument("--tables-only", action="store_true")
    options = parser.parse_args()
    use_threads(1)
    scale, indices = Scale(), list(range(options.phantoms))
    wanted = dict(word.partition("=")[::2] for word in options.priors)
    priors = {
        name: prdit_core.load(folder or name).at_size(scale.size) for name, folder in wanted.items()
    }
    for name in options.cases:
        case = Reconstructions(name, options.work, scale)
        if not options.tables_only:
            case.make(indices, priors)
        print(f"\n{name}, {len(indices)} phantoms\n{table(case.rows(indices, list(priors)))}\n")
        place = options.work / f"{case.folder.name}.png"
        picture(case, 0, list(priors), place)


if __name__ == "__main__":
    main()

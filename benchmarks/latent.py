"""What a model in latents is worth: its classes, distances, autoencoder and seams; what it costs.

Phantoms of a seed that nothing was trained on stand for real volumes, and others of a further seed
for a perfect model. Whatever is in the work folder already, phantoms, volumes and evaluations, is
not made again; costs are measured anew, side by side (`latent_costs.py`).

    python benchmarks/latent.py --checkpoint demo-latent [--count N] [--work DIR] [--phantoms DIR]
        [--parts classes distances reconstruction seams costs]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from latent_costs import costs
from latent_decoding import reconstruction, seams

import prdit_core
from prdit_core.data.datasets import MANIFEST
from prdit_core.data.phantoms.regions import REGIONS
from prdit_core.data.volume_sets import VolumeSet
from prdit_core.intensity import HU
from prdit_core.machine import use_threads
from prdit_core.metrics.evaluation import read_evaluation
from prdit_core.metrics.tissues import TISSUES, tissue_shares
from prdit_core.verbs.report import CONTENT, write_report

if TYPE_CHECKING:
    from prdit_core.metrics.confidence import Measured
    from prdit_core.metrics.evaluation import Evaluation

HELD_OUT_SEED, OTHER_SEED, SEED = 7000, 8000, 11
# Of a share of the voxels: classes that have none of a tissue vary in it by a few voxels only.
LEAST_SPREAD = 0.005


@dataclass(frozen=True)
class Grid:
    """Volumes of one class and size, made by the model and by hand."""

    label: str
    edge: int

    def __str__(self) -> str:
        return f"{self.label}-{self.edge}"


@dataclass(frozen=True)
class Bench:
    """A model, and where all that is made for it lies."""

    prior: prdit_core.Prior
    checkpoint: str
    work: Path
    shelf: Path
    count: int

    @property
    def grids(self) -> list[Grid]:
        """Those that phantoms are there for: cubes, in HU."""
        own = [self.prior.of_class(label) for label in self.prior.classes if label in REGIONS]
        return [
            Grid(str(one.label), grid.shape[0])
            for one in own
            if one.intensity.units == HU
            for grid in one.grids
            if len(set(grid.shape)) == 1
        ]

    @property
    def coarsest(self) -> list[Grid]:
        """The first grid of each class."""
        first: dict[str, Grid] = {}
        for grid in self.grids:
            first.setdefault(grid.label, grid)
        return list(first.values())

    def of(self, grid: Grid) -> prdit_core.Prior:
        """The model for volumes of a grid."""
        return self.prior.of_class(grid.label).at_size(grid.edge)

    def phantoms(self, grid: Grid, kind: str = "held-out") -> Path:
        """A folder of phantoms, `CLASS-EDGE-KIND`; made where there is none."""
        folder = self.shelf / f"{grid}-{kind}"
        if not (folder / MANIFEST).is_file():
            seed = HELD_OUT_SEED if kind == "held-out" else OTHER_SEED
            prdit_core.phantoms(
                self.count, size=grid.edge, seed=seed, out=folder, region=grid.label
            )
        return folder

    def made(self, grid: Grid) -> Path:
        """A folder of volumes of the model, by its command, which goes on where it was stopped."""
        folder = self.work / self.prior.digest[:8] / str(grid)
        words = ["generate", "--checkpoint", self.checkpoint, "--class", grid.label]
        words += ["--size", str(grid.edge), "--count", str(self.count), "--seed", str(SEED)]
        words += ["--threads", "1", "--out", str(folder)]
        subprocess.run(
            [sys.executable, "-m", "prdit_core.cli", *words], check=True, stdout=subprocess.DEVNULL
        )
        return folder


# --- is a volume of the class that was asked for? -----------------------------------------------


def shares(folder: Path, edge: int) -> np.ndarray:
    """Shares of the tissues (N, tissues) of all volumes of a folder, averaged down to an edge."""
    return np.array(
        [
            [tissue_shares(averaged(volume.voxels_hu, edge))[tissue] for tissue in TISSUES]
            for volume in VolumeSet.open(folder)
        ]
    )


def averaged(hu: np.ndarray, edge: int) -> np.ndarray:
    """A cube whose voxels are means of blocks; shares depend on how much a voxel mixes."""
    times = hu.shape[0] // edge
    return hu.reshape(edge, times, edge, times, edge, times).mean((1, 3, 5))


def spread(rows: np.ndarray) -> np.ndarray:
    """Of each share over the volumes of a class."""
    return np.maximum(rows.std(0, ddof=1), LEAST_SPREAD)


def away(found: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """How many spreads each row of shares is from those of a class, by the root mean square."""
    return np.sqrt((((found - rows.mean(0)) / spread(rows)) ** 2).mean(1))


def nearest(found: np.ndarray, known: dict[str, np.ndarray]) -> list[str]:
    """The likeliest class of each row of shares, tissues taken as independent and normal."""
    tissues = found.shape[1]
    scores = [
        tissues * away(found, rows) ** 2 + 2 * np.log(spread(rows)).sum() for rows in known.values()
    ]
    return [list(known)[number] for number in np.argmin(scores, axis=0)]


def classes(bench: Bench) -> None:
    """Print how many volumes are taken for their class, generated ones and other phantoms.

    The nearest class may still be far: in the last column other phantoms are about 1.
    """
    edge = min(grid.edge for grid in bench.coarsest)
    known = {grid.label: shares(bench.phantoms(grid), edge) for grid in bench.coarsest}
    head = ["asked for", "of", "recognised", *(f"as {one}" for one in known), "spreads away"]
    print(f"\n| {' | '.join(head)} |\n" + "|---" * len(head) + "|")
    right = total = 0
    for grid in bench.grids:
        folders = {"other phantoms": bench.phantoms(grid, "other"), "generated": bench.made(grid)}
        for name, folder in folders.items():
            found = shares(folder, edge)
            taken, far = nearest(found, known), np.median(away(found, known[grid.label]))
            hits = taken.count(grid.label)
            counts = " | ".join(str(taken.count(label)) for label in known)
            row = f"{grid}^3 | {name} | {hits} of {len(taken)} | {counts} | {far:.1f}"
            print(f"| {row} |", flush=True)
            if name == "generated":
                right, total = right + hits, total + len(taken)
    print(f"\nclass asked for = class recognised: {right} of {total}, {100 * right / total:.0f} %")


# --- how near are they? -------------------------------------------------------------------------


def evaluated(bench: Bench, grid: Grid) -> Evaluation:
    """Generated volumes and other phantoms against held-out ones, as `prdit-core evaluate`."""
    out = bench.work / bench.prior.digest[:8] / f"{grid}-evaluation-{bench.count}"
    if not (out / CONTENT).is_file():
        others = {
            other.label: (bench.phantoms(other), bench.made(other))
            for other in bench.coarsest
            if other.label != grid.label
        }
        # The plane of classes is of the first fake.
        fakes = {"generated": bench.made(grid), "other phantoms": bench.phantoms(grid, "other")}
        sets = prdit_core.open_sets(bench.phantoms(grid), fakes, label=grid.label, beside=others)
        write_report(prdit_core.evaluate(sets, wscore="off"), sets, out)
    return read_evaluation(out / CONTENT)


def distances(bench: Bench) -> None:
    """Print distances and shares of tissues beside those of phantoms against phantoms."""
    head = ["grid", "set", "FID", "FID corrected", "MMD unbiased", "MS-SSIM"]
    print(f"\n| {' | '.join([*head, *(f'{tissue}, %' for tissue in TISSUES)])} |")
    print("|---" * (len(head) + len(TISSUES)) + "|")
    for grid in bench.grids:
        found = evaluated(bench, grid)
        rows = {
            f"{found.sets[found.real_name].count} held-out phantoms": (found.real, found.floor),
            **{name: (fake, fake) for name, fake in found.fakes.items()},
        }
        for name, (own, away) in rows.items():
            near = (away.fid, away.fid_unbiased, away.mmd_unbiased, own.ms_ssim)
            cells = [said(number) for number in near]
            cells += [f"{100 * own.tissues[tissue]:.1f}" for tissue in TISSUES]
            print(f"| {grid}^3 | {name} | {' | '.join(cells)} |", flush=True)
    print("\nThe first row of a grid is the floor: halves of the held-out phantoms against halves.")


def said(number: Measured | None) -> str:
    """With its interval, where there is one."""
    if number is None:
        return "-"
    span = "" if number.low is None else f" ({number.low:.3g} to {number.high:.3g})"
    return f"{number.value:.3g}{span}"


PARTS = {
    "classes": classes,
    "distances": distances,
    "reconstruction": reconstruction,
    "seams": seams,
    "costs": costs,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", default="demo-latent")
    parser.add_argument("--count", type=int, default=25, help="volumes of each class and size")
    parser.add_argument("--work", type=Path, default=Path("work/latent-bench"))
    parser.add_argument("--phantoms", type=Path, help="CLASS-EDGE-held-out and -other; in the work")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    wish = parser.parse_args()
    use_threads(1)
    prior = prdit_core.load(wish.checkpoint)
    shelf = wish.phantoms or wish.work / "phantoms"
    bench = Bench(prior, wish.checkpoint, wish.work, shelf, wish.count)
    print(f"{wish.checkpoint} {prior.digest[:12]}, one thread, torch {torch.__version__}")
    for part in wish.parts:
        PARTS[part](bench)


if __name__ == "__main__":
    main()

"""Reconstruct held-out phantoms with priors and without: a paired table, wins and losses alike.

64^3; data from twice finer voxels with two rays a bin. Held-out phantoms are of seed 6; nothing
was trained or tuned on them (training: seed 1, TV and last step: seed 5, errors of networks: 40).
Every reconstruction is a cell that is kept, so that the run can be stopped and called again; with
other options it goes on with what they add. What tells most comes first: cases in the order of
`CASES`, each with single samples of all phantoms before further ones. Cells of a prior belong to
its weights, whichever name it goes by.

* PSNR, SSIM: grey 0 to 1, both clipped to -1000..400 HU; misfit: |A x - y| / |y|.
* n: phantoms that a row is the mean of; rows of cells that are missing say so.
* difference to TV: of PSNR on the same phantoms, mean and 95 % interval (Student's t).
* nodules, edges, noise, coverage: see `looks.py`.
* CPU seconds of this run, on whatever else ran beside: compare within it only.

    python benchmarks/reconstruction.py [--phantoms N] [--cases NAME ...] [--only WAY ...]
        [--priors NAME|NAME=FOLDER ...] [--samples N] [--tables-only]
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from looks import coverage, nodules, noise, sharpness
from paired import interval
from phantom_scans import CASES, FIELD_MM, Scale, Scan, scan
from reconstruction_ways import CLASSICAL, DEFAULT, KINDS, WALKS, classical_ways, prior_ways

import prdit_core
from prdit_core.files import write_atomically
from prdit_core.inverse.problem import in_measured_unit
from prdit_core.machine import use_threads
from prdit_core.metrics.fidelity import grey_fidelity
from prdit_core.pictures import Panel, save_picture

if TYPE_CHECKING:
    from reconstruction_ways import Run

    Numbers = dict[str, float]
    # Numbers of each row by phantom; an empty row is missing.
    Rows = dict[str, dict[int, Numbers]]

HELD_OUT = 6
WINDOW = (-1000.0, 400.0)
COLUMNS = (
    *("way", "n", "PSNR, dB", "to TV, dB", "SSIM", "misfit, %", "CPU s"),
    *("lost", "invented", "edges", "noise, HU", "coverage, %"),
)


@dataclass(frozen=True, eq=False)
class Priors:
    """Models by the names that rows have, and how many samples of each are wanted."""

    known: dict[str, prdit_core.Prior] = field(default_factory=dict)
    samples: int = 4

    def folder(self, name: str) -> str:
        """Of a prior's cells."""
        return f"{name}-{self.known[name].digest[:8]}"


class Reconstructions:
    """All reconstructions of one case."""

    def __init__(self, name: str, work: Path, scale: Scale, priors: Priors) -> None:
        self.name, self.case, self.scale, self.priors = name, CASES[name], scale, priors
        self.folder, self.work = work / name.replace(" ", "-").replace(",", ""), work

    def file(self, way: str, index: int) -> Path:
        return self.folder / way.replace(" ", "-") / f"{index:02d}.npz"

    def ways(self) -> dict[str, Run]:
        ways = classical_ways(self.name, self.case, self.scale, self.work)
        for name, prior in self.priors.known.items():
            own = self.priors.folder(name)

            def file(way: str, index: int, own: str = own) -> Path:
                return self.file(f"{own} {way}", index)

            for way, run in prior_ways(prior, self.scale.steps, self.priors.samples, file).items():
                ways[f"{own} {way}"] = run
        return ways

    def make(self, indices: list[int], kinds: set[str]) -> None:
        """All cells of these kinds that are not there; the last step takes its walk along."""
        wanted = kinds | {"walk"} if DEFAULT in kinds else kinds
        for way, run in self.ways().items():
            if not wanted & set(way.split(" ")):
                continue
            for index in indices:
                if not self.file(way, index).exists():
                    seconds = self._keep(way, index, run)
                    print(f"{self.name} | {way} | {index} | {seconds:.1f} CPU s", flush=True)

    def _keep(self, way: str, index: int, run: Run) -> float:
        hu, seconds = run(scan(self.case, HELD_OUT, index, self.scale), index)
        content = {"hu": np.asarray(hu, np.float32), "seconds": np.array(seconds)}

        def write(part: Path) -> None:
            with part.open("wb") as stream:
                np.savez(stream, allow_pickle=False, **content)

        write_atomically(self.file(way, index), write)
        return seconds

    def groups(self) -> dict[str, list[str]]:
        """Ways that each row is the mean of."""
        groups = {way: [way] for way in CLASSICAL}
        count = self.priors.samples
        for name, prior in self.priors.known.items():
            own, family = self.priors.folder(name), prior.network.config.family
            for kind in (*WALKS, DEFAULT):
                if kind in ("walk", DEFAULT):
                    ways = [f"{own} {kind} {number}" for number in range(count)]
                    groups[f"{name} {kind}"] = ways[:1]
                    if count > 1:
                        groups[f"{name} {kind}, mean of {count}"] = ways
                elif WALKS[kind].family in ("", family):
                    groups[f"{name} {kind}"] = [f"{own} {kind}"]
        return groups

    def rows(self, indices: list[int]) -> Rows:
        """Numbers of every row and phantom, as far as they are made."""
        rows: Rows = {row: {} for row in self.groups()}
        for row, ways in self.groups().items():
            for index in indices:
                files = [self.file(way, index) for way in ways]
                if all(file.exists() for file in files):
                    kept = [np.load(file) for file in files]
                    samples = np.stack([one["hu"] for one in kept]).astype(np.float64)
                    spent = sum(float(one["seconds"]) for one in kept)
                    one = scan(self.case, HELD_OUT, index, self.scale)
                    rows[row][index] = numbers(one, samples, spent)
        return rows

    def picture(self, rows: Rows, index: int, place: Path) -> None:
        """Rows of one phantom that are there; of priors with the last step, one and the mean."""
        one = scan(self.case, HELD_OUT, index, self.scale)
        spacing = (FIELD_MM / self.scale.size,) * 3
        panels = []
        for row, ways in self.groups().items():
            if index in rows[row] and (row in CLASSICAL or DEFAULT in row):
                hu = np.mean([np.load(self.file(way, index))["hu"] for way in ways], 0)
                caption = f"{row.replace(' default', ', with the last step')}"
                caption += f": {rows[row][index]['psnr']:.1f} dB"
                panels.append(Panel(hu, spacing, WINDOW, caption))
        panels.append(Panel(one.truth, spacing, WINDOW, f"truth (phantom {index})"))
        save_picture(panels, place, f"{self.name}; simulated, not for diagnosis")


def numbers(one: Scan, samples: np.ndarray, seconds: float) -> Numbers:
    mean = samples.mean(0)
    grey = grey_fidelity(one.truth, mean, WINDOW)
    problem = in_measured_unit(one.measurement, "cpu")
    count, lost, invented = nodules(one.truth, mean, one.labels)
    return {
        "psnr": grey.psnr,
        "ssim": float("nan") if grey.ssim is None else grey.ssim,
        "misfit": problem.misfit(problem.measured(torch.from_numpy(mean).float()[None, None])),
        "seconds": seconds,
        "nodules": count,
        "lost": lost,
        "invented": invented,
        "edges": sharpness(one.truth, mean),
        "noise": noise(one.truth, mean, one.labels),
        "coverage": coverage(one.truth, samples) if len(samples) > 1 else float("nan"),
    }


def to_tv(rows: Rows, row: str) -> str:
    """Difference of PSNR on the phantoms that have both; empty for TV and where there are none."""
    tv, own = rows["TV"], rows[row]
    both = [own[index]["psnr"] - tv[index]["psnr"] for index in own if index in tv]
    return interval(np.array(both)) if both and row != "TV" else ""


def table(rows: Rows, wanted: int) -> str:
    """Of one case; `wanted` phantoms make it whole."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    for name, by_phantom in rows.items():
        if not by_phantom:
            lines.append(f"| {name} | not made |{' |' * (len(COLUMNS) - 2)}")
            continue
        values = {key: np.array([one[key] for one in by_phantom.values()]) for key in COLUMNS_OF}
        covered, noises = values["coverage"].mean(), values["noise"]
        fine = noises[~np.isnan(noises)]
        cells = [
            name,
            f"{len(by_phantom)}" if len(by_phantom) == wanted else f"{len(by_phantom)} of {wanted}",
            f"{values['psnr'].mean():.2f}",
            to_tv(rows, name),
            f"{values['ssim'].mean():.3f}",
            f"{100 * values['misfit'].mean():.2g}",
            f"{values['seconds'].mean():.1f}",
            f"{values['lost'].sum():.0f} of {values['nodules'].sum():.0f}",
            f"{values['invented'].sum():.0f}",
            f"{values['edges'].mean():.2f}",
            f"{fine.mean():.0f}" if len(fine) else "",
            "" if np.isnan(covered) else f"{100 * covered:.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


COLUMNS_OF = (
    *("psnr", "ssim", "misfit", "seconds", "nodules", "lost", "invented", "edges", "noise"),
    "coverage",
)


def summary(cases: dict[str, Rows]) -> str:
    """PSNR of every case side by side, with the difference to TV."""
    lines = [f"| way | {' | '.join(cases)} |", "|---" * (len(cases) + 1) + "|"]
    for row in next(iter(cases.values())):
        cells = []
        for rows in cases.values():
            psnr = [one["psnr"] for one in rows[row].values()]
            difference = to_tv(rows, row)
            more = f" ({difference})" if difference else ""
            cells.append(f"{np.mean(psnr):.2f}{more}" if psnr else "not made")
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path("work/reconstruction"))
    parser.add_argument("--phantoms", type=int, default=16)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS), help="ways made")
    parser.add_argument("--priors", nargs="+", default=["demo"], help="names, or NAME=FOLDER")
    parser.add_argument("--samples", type=int, default=4, help="of each prior")
    parser.add_argument("--tables-only", action="store_true")
    options = parser.parse_args()
    use_threads(1)
    scale, indices = Scale(), list(range(options.phantoms))
    wanted = dict(word.partition("=")[::2] for word in options.priors)
    known = {
        name: prdit_core.load(folder or name).at_size(scale.size) for name, folder in wanted.items()
    }
    priors, cases = Priors(known, options.samples), {}
    for name in options.cases:
        case = Reconstructions(name, options.work, scale, priors)
        if not options.tables_only:
            case.make(indices, set(options.only))
        rows = cases[name] = case.rows(indices)
        print(f"\n{name}, {len(indices)} phantoms\n\n{table(rows, len(indices))}\n", flush=True)
        case.picture(rows, indices[0], options.work / f"{case.folder.name}.png")
    print(f"PSNR in dB, and its difference to TV\n\n{summary(cases)}")


if __name__ == "__main__":
    main()

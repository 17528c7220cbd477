"""Do volumes show the organs that were painted? A model with a control on held-out label maps.

The maps are those of phantoms that nothing was trained on. Each is given to the model, and the
volume is searched for organs by HU and by where they lie (`organs.py`). So is the phantom's own
CT, which is the most that such a search can reach, and a volume of the same seed without the map.

* Dice: of what is found and what is painted. "decoded": of the phantom's CT through the model's
  autoencoder, the most that this model can reach. "of the phantom's": the share under the map of
  what the phantom's own CT reaches. "gain": over the volume without the map, paired, with its 95 %
  interval (Student's t).
* Changes, of the first 16 maps: the same seed under a map with a larger heart, and under one with
  a nodule more. HU that are gained where the label changed, as a share of the step between what was
  painted there before and after; the mean absolute change there and in the rest of the body.

Volumes stay in the work folder and are not made again.

    python benchmarks/control.py --checkpoint demo-control [--count N] [--work DIR]
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from organs import ORGANS, body_of, dice, found, larger_heart, one_nodule_more, painted
from paired import interval

import prdit_core
from prdit_core.data.datasets import MANIFEST
from prdit_core.data.label_maps import label_maps
from prdit_core.data.volume_sets import VolumeSet
from prdit_core.files import write_atomically
from prdit_core.machine import use_threads
from prdit_core.pictures import Panel, save_picture

if TYPE_CHECKING:
    from collections.abc import Callable

    from organs import Array, Labels

    from prdit_core.volume import Volume

HELD_OUT_SEED, SEED = 7000, 21
CHANGED = 16  # maps that are changed, too
WINDOW = (-1000.0, 400.0)
CHANGES: dict[str, Callable[[Labels, tuple[str, ...]], Labels]] = {
    "larger heart": larger_heart,
    "one nodule more": one_nodule_more,
}


@dataclass(frozen=True)
class Bench:
    """A model for chests with a control, and where all that is made for it lies."""

    prior: prdit_core.Prior
    work: Path
    count: int

    def phantoms(self) -> tuple[list[Volume], list[Volume]]:
        """Scans and label maps, with the model's numbers."""
        edge = self.prior.geometry.shape[0]
        folder = self.work / f"held-out-{edge}-{self.count}"
        if not (folder / MANIFEST).is_file():
            prdit_core.phantoms(self.count, size=edge, seed=HELD_OUT_SEED, out=folder)
        return list(VolumeSet.open(folder)), label_maps(folder, self.prior.labels)

    def decoded(self, scan: Volume) -> Array:
        """HU of a scan that went through the model's autoencoder."""
        return self.prior.to_volume(self.prior.encode(scan.voxels_hu), {}).voxels_hu

    def made(self, name: str, index: int, labels: Labels | None) -> Array:
        """HU (D, H, W) under a map, or of the base alone; kept by name."""
        file = self.work / self.prior.control_digest[:8] / name / f"{index:02d}.npy"
        if not file.is_file():
            prior = self.prior if labels is None else self.prior.under(labels)
            hu = prdit_core.generate(prior, seed=SEED, index=index).voxels_hu.astype(np.float32)
            write_atomically(file, lambda part: np.save(part, hu))
        kept: Array = np.load(file)
        return kept


def overlaps(bench: Bench, scans: list[Volume], maps: list[Volume]) -> None:
    """Print Dice of every organ: of the phantom's own CT, under the map, and without it."""
    ways = ("phantom", "decoded", "map", "none")
    overlap: dict[str, list[list[float]]] = {way: [] for way in ways}
    for index, (scan, drawn) in enumerate(zip(scans, maps, strict=True)):
        labels = np.asarray(drawn.voxels_hu, np.uint8)
        volumes = {
            "phantom": scan.voxels_hu,
            "decoded": bench.decoded(scan),
            "map": bench.made("map", index, labels),
            "none": bench.made("none", index, None),
        }
        there = painted(labels, bench.prior.labels)
        for way, hu in volumes.items():
            seen = found(hu)
            overlap[way].append([dice(seen[organ], there[organ]) for organ in ORGANS])
    tables = {way: np.array(rows) for way, rows in overlap.items()}
    head = ["organ", "phantom's CT", "decoded", "under the map", "of the phantom's"]
    head += ["without", "gain"]
    print(f"\n| {' | '.join(head)} |\n" + "|---" * len(head) + "|")
    columns = {
        organ: [table[:, number] for table in tables.values()]
        for number, organ in enumerate(ORGANS)
    }
    columns["mean of organs"] = [table.mean(1) for table in tables.values()]
    for organ, (own, decoded, under, without) in columns.items():
        cells = [f"{values.mean():.3f}" for values in (own, decoded, under)]
        cells += [f"{under.mean() / own.mean():.2f}", f"{without.mean():.3f}"]
        cells += [interval(under - without, digits=3)]
        print(f"| {organ} | {' | '.join(cells)} |", flush=True)


def changes(bench: Bench, scans: list[Volume], maps: list[Volume]) -> None:
    """Print how far a painted change shows up, and where."""
    head = ["change", "step that shows", "change there, HU", "elsewhere in the body, HU"]
    print(f"\n| {' | '.join(head)} |\n" + "|---" * len(head) + "|")
    names = bench.prior.labels
    for name, change in CHANGES.items():
        steps, near, far = [], [], []
        for index, (scan, drawn) in enumerate(zip(scans, maps, strict=True)):
            labels = np.asarray(drawn.voxels_hu, np.uint8)
            other = change(labels, names)
            before, after = bench.made("map", index, labels), bench.made(name, index, other)
            there, body = labels != other, body_of(labels, names)
            usual = float(np.median(scan.voxels_hu[labels == names.index("heart") + 1]))
            step = usual - float(scan.voxels_hu[there].mean())
            steps.append(float((after - before)[there].mean()) / step)
            near.append(float(np.abs(after - before)[there].mean()))
            far.append(float(np.abs(after - before)[body & ~there].mean()))
        print(
            f"| {name} | {np.mean(steps):.2f} ({min(steps):.2f} to {max(steps):.2f}) "
            f"| {np.mean(near):.0f} | {np.mean(far):.0f} |",
            flush=True,
        )


def picture(bench: Bench, scans: list[Volume], maps: list[Volume], place: Path) -> None:
    """The first map, its phantom, and what the model makes of it."""
    spacing = bench.prior.geometry.spacing_mm
    labels = np.asarray(maps[0].voxels_hu, np.uint8)
    highest = float(len(bench.prior.labels))
    panels = [
        Panel(labels.astype(np.float32), spacing, (0.0, highest), "label map"),
        Panel(scans[0].voxels_hu, spacing, WINDOW, "its phantom"),
        Panel(bench.made("map", 0, labels), spacing, WINDOW, "under the map"),
    ]
    for name, change in CHANGES.items():
        other = change(labels, bench.prior.labels)
        panels.append(Panel(bench.made(name, 0, other), spacing, WINDOW, name))
    panels.append(Panel(bench.made("none", 0, None), spacing, WINDOW, "same seed, no map"))
    print(save_picture(panels, place, "synthetic, not for diagnosis"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", default="demo-control")
    parser.add_argument("--count", type=int, default=50, help="label maps")
    parser.add_argument("--work", type=Path, default=Path("work/control-bench"))
    wish = parser.parse_args()
    use_threads(1)
    prior = prdit_core.load(wish.checkpoint).of_control("chest")
    bench = Bench(prior, wish.work, wish.count)
    print(f"{wish.checkpoint} {prior.control_digest[:12]}, {wish.count} label maps")
    scans, maps = bench.phantoms()
    picture(bench, scans, maps, wish.work / "control.png")
    overlaps(bench, scans, maps)
    changes(bench, scans[:CHANGED], maps[:CHANGED])


if __name__ == "__main__":
    main()

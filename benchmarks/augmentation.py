"""Do synthetic pairs help where few cases are labelled? Small U-Nets with and without them.

A network learns to find organs and nodules in phantoms at 64^3: from 10 or 20 labelled ones alone,
and with a quarter as many or as many pairs of `prdit-core augment`, whose label maps are those of
the same cases, deformed anew. All networks take the same number of steps. What they are judged by
nobody learnt from; the model of the pairs has seen further phantoms, but none of these.

* Dice; HD95 in mm, the 95th percentile of how far either surface is from the other. Where a network
  finds nothing of what is there, that counts as the edge of the volume, 320 mm; where neither has
  any, the case is left out.
* spread: standard deviation over the seeds of a network's start and order of cases.
* gain: over the same number of labelled cases alone, paired by held-out case, means over seeds, and
  its 95 % interval (Student's t).

What each network scored is kept, so the run can be stopped and called again.

    python benchmarks/augmentation.py --checkpoint demo-control [--labelled N ...] [--shares P ...]
        [--seeds N] [--steps N] [--work DIR]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from organs import BONES, dice
from paired import interval
from scipy import ndimage

import prdit_core
from prdit_core.data.datasets import MANIFEST
from prdit_core.data.io import read_labels
from prdit_core.data.label_maps import label_maps
from prdit_core.data.volume_sets import VolumeSet
from prdit_core.files import write_json
from prdit_core.machine import use_threads

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from prdit_core.volume import Volume

    Mask = NDArray[np.bool_]

LABELLED_SEED, HELD_OUT_SEED, HELD_OUT = 9000, 9100, 16
FIELD_MM, BATCH, LR = 320.0, 2, 2e-3
# What is to be found, and the labels of the phantoms that it is made of.
TARGETS = {
    "lungs": ("lung_right", "lung_left", "lung_vessels", "airways"),
    "heart": ("heart",),
    "vessels": ("aorta", "great_vessels"),
    "liver": ("liver",),
    "stomach and spleen": ("stomach", "spleen"),
    "bones": BONES,
    "nodules": ("nodule",),
}


@dataclass(frozen=True)
class Pairs:
    """Volumes (N, 1, D, H, W), grey -1 to 1, and numbers of `TARGETS` from 1 (N, D, H, W)."""

    x: torch.Tensor
    y: torch.Tensor

    @classmethod
    def of(cls, scans: list[Volume], maps: list[Volume], names: tuple[str, ...]) -> Pairs:
        x = np.stack([one.voxels_hu for one in scans]).astype(np.float32)
        y = np.stack([targets(np.asarray(one.voxels_hu, np.int64), names) for one in maps])
        grey = np.clip(x, -1000, 400) / 700 + 3 / 7
        return cls(torch.from_numpy(grey)[:, None], torch.from_numpy(y))

    def and_(self, other: Pairs) -> Pairs:
        return Pairs(torch.cat([self.x, other.x]), torch.cat([self.y, other.y]))


@dataclass(frozen=True)
class Bench:
    """What is compared, and where all that is made for it lies."""

    checkpoint: str
    work: Path
    steps: int
    edge: int = 64

    @cached_property
    def prior(self) -> prdit_core.Prior:
        return prdit_core.load(self.checkpoint).of_control()

    def phantoms(self, seed: int, count: int) -> Path:
        folder = self.work / f"phantoms-{seed}-{self.edge}-{count}"
        if not (folder / MANIFEST).is_file():
            prdit_core.phantoms(count, size=self.edge, seed=seed, out=folder)
        return folder

    def drawn(self, folder: Path) -> Pairs:
        """Phantoms with their labels."""
        names = self.prior.labels
        return Pairs.of(list(VolumeSet.open(folder)), label_maps(folder, names), names)

    @cached_property
    def held_out(self) -> Pairs:
        return self.drawn(self.phantoms(HELD_OUT_SEED, HELD_OUT))

    def synthetic(self, labelled: int, count: int) -> Pairs:
        """Pairs by the command, of the maps of the labelled cases."""
        folder = self.work / self.prior.control_digest[:8] / f"pairs-{labelled}"
        maps = self.phantoms(LABELLED_SEED, labelled)
        words = ["augment", "--labels", str(maps), "--checkpoint", self.checkpoint, "--threads"]
        words += ["1", "--layout", "nifti", "--count", str(count), "--out", str(folder)]
        subprocess.run(
            [sys.executable, "-m", "prdit_core.cli", *words], check=True, stdout=subprocess.DEVNULL
        )
        files = [folder / f"synthetic_{index:05d}.nii.gz" for index in range(count)]
        scans = [prdit_core.read_volume(file) for file in files]
        maps_of = [
            read_labels(file.with_name(file.name.replace(".nii", "_labels.nii"))) for file in files
        ]
        return Pairs.of(scans, maps_of, self.prior.labels)

    def numbers(self, labelled: int, share: int, seed: int) -> dict[str, Any]:
        """Dice and HD95 of each held-out case and target."""
        name = f"{labelled}-{share}-{seed}-{self.steps}.json"
        file = self.work / self.prior.control_digest[:8] / name
        if not file.is_file():
            pairs = self.drawn(self.phantoms(LABELLED_SEED, labelled))
            if share:
                pairs = pairs.and_(self.synthetic(labelled, -(-labelled * share // 100)))
            begun = time.thread_time()
            network = trained(pairs, seed, self.steps)
            seconds = time.thread_time() - begun
            write_json(file, judged(network, self.held_out) | {"seconds": seconds})
            print(f"{labelled} labelled, {share} % more, seed {seed}: {seconds:.0f} CPU s")
        found: dict[str, Any] = json.loads(file.read_text())
        return found


def targets(labels: NDArray[np.int64], names: tuple[str, ...]) -> NDArray[np.int64]:
    """Numbers of `TARGETS` from 1 in a label map."""
    table = np.zeros(len(names) + 1, np.int64)
    for number, parts in enumerate(TARGETS.values(), 1):
        table[[names.index(part) + 1 for part in parts]] = number
    found: NDArray[np.int64] = table[labels]
    return found


def trained(pairs: Pairs, seed: int, steps: int) -> torch.nn.Module:
    """A small U-Net; every case comes once before any comes again."""
    from monai.losses import DiceCELoss
    from monai.networks.nets import UNet

    torch.manual_seed(seed)
    network = UNet(3, 1, len(TARGETS) + 1, (8, 16, 32, 64), (2, 2, 2), num_res_units=1)
    loss = DiceCELoss(to_onehot_y=True, softmax=True, include_background=False)
    optimiser = torch.optim.Adam(network.parameters(), LR)
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    order: list[int] = []
    for _ in range(steps):
        while len(order) < BATCH:
            order += torch.randperm(len(pairs.x)).tolist()
        some, order = order[:BATCH], order[BATCH:]
        optimiser.zero_grad()
        loss(network(pairs.x[some]), pairs.y[some][:, None]).backward()
        optimiser.step()
        fall.step()
    return network.eval()


@torch.no_grad()
def judged(network: torch.nn.Module, pairs: Pairs) -> dict[str, Any]:
    """Of each case and target, what a network finds against what is there."""
    overlap, away = [], []
    for x, y in zip(pairs.x, pairs.y.numpy(), strict=True):
        seen = network(x[None]).argmax(1)[0].numpy()
        spacing = FIELD_MM / len(y)
        masks = [(seen == number, y == number) for number in range(1, len(TARGETS) + 1)]
        overlap.append([dice(*two) for two in masks])
        away.append([hd95(*two, spacing) for two in masks])
    return {"dice": overlap, "hd95": away}


def hd95(a: Mask, b: Mask, spacing: float) -> float | None:
    """Of two masks, in mm; None where both are empty."""
    if not a.any() or not b.any():
        return FIELD_MM if a.any() or b.any() else None
    surfaces = [mask & ~ndimage.binary_erosion(mask) for mask in (a, b)]
    reached = [ndimage.distance_transform_edt(~surface) for surface in surfaces]
    both = [reached[1][surfaces[0]], reached[0][surfaces[1]]]
    return spacing * max(float(np.percentile(one, 95)) for one in both)


def table(bench: Bench, labelled: int, shares: list[int], seeds: int) -> None:
    """Print all shares of one number of labelled cases."""
    head = ["labelled", "synthetic, %", "Dice, all", "spread", "gain", "HD95, mm", "gain"]
    head += [f"Dice, {target}" for target in TARGETS]
    print(f"\n| {' | '.join(head)} |\n" + "|---" * len(head) + "|")
    alone: dict[str, NDArray[np.float64]] = {}
    for share in shares:
        runs = [bench.numbers(labelled, share, seed) for seed in range(seeds)]
        scores = {key: np.array([run[key] for run in runs], float) for key in ("dice", "hd95")}
        # over targets, then over seeds: one number of each held-out case
        cases = {key: np.nanmean(values, 2).mean(0) for key, values in scores.items()}
        if not share:
            alone = cases
        gains = [
            interval(cases[key] - alone[key], digits) if share and alone else ""
            for key, digits in (("dice", 3), ("hd95", 1))
        ]
        overlap = scores["dice"]
        cells = [f"{labelled}", f"{share}", f"{overlap.mean():.3f}"]
        cells += [f"{overlap.mean((1, 2)).std(ddof=1):.3f}" if seeds > 1 else "", gains[0]]
        cells += [f"{cases['hd95'].mean():.1f}", gains[1]]
        cells += [f"{value:.3f}" for value in overlap.mean((0, 1))]
        print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", default="demo-control")
    parser.add_argument("--labelled", type=int, nargs="+", default=[10, 20])
    parser.add_argument("--shares", type=int, nargs="+", default=[0, 25, 100], help="of pairs, %%")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300, help="of each network")
    parser.add_argument("--work", type=Path, default=Path("work/augmentation"))
    wish = parser.parse_args()
    use_threads(1)
    bench = Bench(wish.checkpoint, wish.work, wish.steps)
    print(f"{wish.checkpoint} {bench.prior.control_digest[:12]}, one thread")
    for labelled in wish.labelled:
        table(bench, labelled, wish.shares, wish.seeds)


if __name__ == "__main__":
    main()

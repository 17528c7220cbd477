"""What a refiner is worth at 64^3, beside upsampling, fine-tuning and training there directly.

All arms train for CPU seconds counted per process, one thread each, and go on where they were
stopped. Distance: Frechet on fixed features (`distances.py`) to held-out phantoms; its floor is
held-out against held-out. Gradient energy: of the volumes' gradient by size of detail, as a ratio
to held-out phantoms; 1 is right, below is blurred, above is noisy.

    python benchmarks/highres.py --base BASE [--work DIR] [--seconds N] [--volumes N]
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from distances import Features, frechet, phantoms
from torch.nn import functional

import prdit_core
from prdit_core.machine import use_threads
from prdit_core.metrics.spectrum import octaves
from prdit_core.pictures import Panel, save_picture
from prdit_core.training.events import Saved

SIZE = 64
TRAINING, TRAINING_SEED, HELD_OUT_SEED = 900, 1, 2
SEED = 11
BASE = "BASE"
WINDOW = (-1000.0, 400.0)


@dataclass(frozen=True)
class Run:
    """One training run.

    Attributes
    ----------
    start : another run, `BASE`, or nothing
    share : of the seconds given
    data : folder of the training volumes within the work folder
    """

    name: str
    stage: str
    start: str | None
    share: float
    save_every: int = 500
    settings: dict[str, Any] = field(default_factory=dict)
    data: str = "data"


REFINER = {"lr": 1e-3, "crop": 32}
RUNS = (
    Run("plain", "refine", BASE, 1.0, 500, {**REFINER, "consistency": 0.0}),
    Run("consistent", "refine", BASE, 1.0, 500, {**REFINER, "consistency": 0.1}),
    Run("finetuned", "finetune", "consistent", 0.25, 100, {"lr": 1e-5}),
    Run("direct-local", "local", None, 0.3, 500, {"lr": 1e-3}),
    Run("direct", "global", "direct-local", 0.7, 10, {"lr": 5e-4}),
)
ARMS = {
    "plain": "refined, without consistency term",
    "consistent": "refined, consistency 0.1",
    "finetuned": "the same, everything fine-tuned",
    "direct": "trained at 64^3 directly",
}


class Clock:
    """CPU seconds of a run over all its processes."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.before = json.loads(file.read_text()) if file.exists() else 0.0
        self.begun = time.process_time()

    def __call__(self) -> float:
        return self.before + time.process_time() - self.begun

    def keep(self) -> None:
        self.file.write_text(json.dumps(self()))


def train(run: Run, options: argparse.Namespace) -> None:
    """Train until the run's seconds are spent."""
    folder = options.work / run.name
    clock, budget = Clock(options.work / f"{run.name}.seconds.json"), run.share * options.seconds
    if clock() >= 0.99 * budget:
        return
    start = {None: None, BASE: options.base}.get(run.start, str(options.work / str(run.start)))
    config = prdit_core.TrainConfig(
        stage=run.stage,
        data=options.work / run.data,
        run=folder,
        start=start,
        save_every=run.save_every,
        preview_every=1_000_000,
        threads=1,
        **{"iterations": 1_000_000, "batch_size": 4} | run.settings,
    )
    begin = "resume" if folder.exists() else "new"
    for event in prdit_core.train_steps(config, begin, lambda: clock() >= budget):
        if isinstance(event, Saved):
            clock.keep()
            print(f"{run.name}: iteration {event.index}, {clock():.0f} s", flush=True)


def generated(
    name: str,
    prior: prdit_core.Prior,
    options: argparse.Namespace,
    walk: prdit_core.SamplingConfig,
) -> tuple[np.ndarray, float]:
    """Volumes of a prior in HU (N, D, H, W), and CPU seconds of one.

    Those that are there are not made again.
    """
    hot = f"-{walk.sampler}-{walk.k:g}" * (walk.k > 1)
    folder = options.work / "volumes" / f"{name}-{prior.digest[:8]}-{walk.steps}{hot}"
    folder.mkdir(parents=True, exist_ok=True)
    seconds = folder / "seconds.json"
    spent = json.loads(seconds.read_text()) if seconds.exists() else []
    for index in range(options.volumes):
        file = folder / f"{index:04d}.npy"
        if not file.exists():
            begun = time.process_time()
            volume = prdit_core.generate(prior, walk, seed=SEED, index=index)
            spent.append(time.process_time() - begun)
            np.save(file, volume.voxels_hu.astype(np.int16))
            seconds.write_text(json.dumps(spent))
    found = [np.load(folder / f"{index:04d}.npy") for index in range(options.volumes)]
    print(f"{name}: {np.median(spent):.1f} CPU seconds a volume", flush=True)
    return np.stack(found).astype(np.float32), float(np.median(spent))


def upsampled(hu: np.ndarray) -> np.ndarray:
    larger = functional.interpolate(
        torch.from_numpy(hu)[:, None], scale_factor=2, mode="trilinear", align_corners=False
    )
    return larger[:, 0].numpy()


def gradient_energy(hu: np.ndarray) -> np.ndarray:
    """Mean energy of the gradient by octave, coarsest first."""
    spacing = 320.0 / hu.shape[1]
    bands = octaves(hu.shape[1:], (spacing,) * 3)
    return np.mean(
        [sum(bands.energies(part) for part in np.gradient(volume)) for volume in hu], axis=0
    )


def row(name: str, spent: str, hu: np.ndarray, features: Features, real: np.ndarray) -> str:
    ratio = gradient_energy(hu) / gradient_energy(real)
    distance = frechet(features(hu), features(real))
    return f"| {name} | {spent} | {distance:.2f} | " + " | ".join(f"{r:.2f}" for r in ratio) + " |"


def picture(sets: dict[str, np.ndarray], file: Path) -> None:
    panels = [
        Panel(hu[0], (320.0 / hu.shape[1],) * 3, WINDOW, caption) for caption, hu in sets.items()
    ]
    save_picture(panels, file, "synthetic, not for diagnosis")


def compare(options: argparse.Namespace) -> None:
    training = phantoms(options.work / "data", TRAINING, TRAINING_SEED, SIZE)
    held_out = phantoms(options.work / "held-out", 2 * options.volumes, HELD_OUT_SEED, SIZE)
    real, other = held_out[: options.volumes], held_out[options.volumes :]
    features = Features(training)
    base = prdit_core.load(options.base)
    walk = prdit_core.SamplingConfig(steps=options.steps)
    low, seconds = generated("base", base, options, walk)
    sets = {"base, upsampled": upsampled(low)}
    spent = {"base, upsampled": f"0 | {seconds:.1f}"}
    for name, title in ARMS.items():
        if options.only and name not in options.only:
            continue
        sets[title], seconds = generated(name, prdit_core.load(options.work / name), options, walk)
        own = [run for run in RUNS if run.name == name or run.name == f"{name}-local"]
        files = [options.work / f"{run.name}.seconds.json" for run in own]
        trained = sum(json.loads(file.read_text()) for file in files)
        spent[title] = f"{trained:.0f} | {seconds:.1f}"
    bands = octaves(real.shape[1:], (320.0 / SIZE,) * 3)
    limits = [f"{mm:g} mm" for mm in bands.limits_mm[1:-1]]
    names = [f"over {limits[0]}", *(f"to {mm}" for mm in limits[1:]), "finest"]
    print(f"\n{options.volumes} volumes each, {options.steps} steps, base {base.digest[:12]}")
    print("| | training, CPU s | a volume, CPU s | distance | " + " | ".join(names) + " |")
    print("|---" * (len(names) + 4) + "|")
    print(row("held-out phantoms (floor)", " | ", other, features, real))
    for name, hu in sets.items():
        print(row(name, spent[name], hu, features, real), flush=True)
    shown = {"base": low, **sets, "held-out phantom": real}
    picture(shown, options.work / "highres.png")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--base", required=True, help="checkpoint of a 32^3 model")
    parser.add_argument("--work", type=Path, default=Path("work/highres"))
    parser.add_argument("--seconds", type=float, default=1200.0, help="CPU seconds of a refiner")
    parser.add_argument("--volumes", type=int, default=64)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--only", nargs="+", help="runs to train or arms to compare")
    parser.add_argument("--train-only", action="store_true")
    options = parser.parse_args()
    use_threads(1)
    prdit_core.phantoms(TRAINING, size=SIZE, seed=TRAINING_SEED, out=options.work / "data")
    for run in RUNS:
        if not options.only or run.name in options.only:
            train(run, options)
    if not options.train_only:
        compare(options)


if __name__ == "__main__":
    main()

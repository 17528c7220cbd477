"""Which refiner, which base and which training bring back detail instead of grain, at 64^3.

Every arm has its CPU seconds, one thread, and goes on exactly where it was stopped. All start from
the base of the bundled model, except the one that is trained at 64^3 directly.

Losses: of `validate`, on the validation cases, x0 at low noise (t to 200), at t 400 to 600, and
over all t. Distance: Frechet on fixed features (`distances.py`) to held-out phantoms; its floor is
held-out against held-out. Bands: gradient energy by size of detail as a ratio to held-out
phantoms. Grain: root mean square difference in HU of neighbours that are both soft tissue. Spread:
standard deviation of HU in the window of soft tissue. Shares: of voxels in per cent.

    python benchmarks/refiner_trials.py [--work DIR] [--seconds N] [--k K] [--only ARM ...]
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from distances import Features, frechet, volumes_of
from highres import BASE, Run, generated, gradient_energy, picture, train, upsampled

import prdit_core
from prdit_core.data.datasets import VOLUMES, PreparedData, case_path, write_manifest
from prdit_core.data.npy import write_array
from prdit_core.files import sha256_of
from prdit_core.machine import use_threads
from prdit_core.metrics.spectrum import octaves
from prdit_core.metrics.tissues import TISSUES, tissue_masks
from prdit_core.models.families import parameter_count
from prdit_core.runs.metrics import LEVELS
from prdit_core.training.families.prdit.objective import JointError
from prdit_core.training.validation import validate
from prdit_core.training.volumes import Volumes

SIZE, TRAINING, HELD_OUT, TRAINING_SEED, HELD_OUT_SEED = 64, 300, 64, 1, 2
SPARSE = "data-sparse"  # every second voxel of the training phantoms, as a chain's base sees them


def refiner(name: str, model: str, start: str = BASE, share: float = 1.0, **more: object) -> Run:
    settings = {"model": model, "lr": 1e-3, "crop": 32, "consistency": 0.0} | more
    return Run(name, "refine", start, share, 1000, settings)


OURS = {"sees": "below", "shows": "averages"}
AGREE = {**OURS, "heads": "agree"}
TUNED = {"lr": 1e-4, "consistency": 0.0}
RUNS = (
    refiner("patch-6", "6/4/1/192"),
    refiner("below-6", "6/4/1/192", sees="below"),
    refiner("averages-6", "6/4/1/192", shows="averages"),
    refiner("both-6", "6/4/1/192", **OURS),
    refiner("falling", "6/4/1/192", **OURS, lr_schedule="cosine", iterations=450),
    refiner("agree", "6/4/1/192", **AGREE, lr_schedule="cosine", iterations=450),
    refiner("agree-faster", "6/4/1/192", **AGREE, lr=3e-3, lr_schedule="cosine", iterations=450),
    refiner("agree-64", "6/4/1/192", **AGREE, crop=64, batch_size=2),
    refiner("agree-8", "8/4/2/192", **AGREE),
    refiner("patch-8", "8/4/2/192"),
    refiner("patch-12", "12/8/2/192"),
    refiner("below-4", "4/2/1/192", sees="below"),
    Run("top", "finetune", "both-6", 0.5, 1000, TUNED),
    Run("sizes", "finetune", "both-6", 0.5, 1000, {**TUNED, "lower_sizes": 1.0}),
    Run("sparse-base", "finetune", BASE, 0.5, 1000, {"lr": 1e-4}, SPARSE),
    refiner("sparse", "6/4/1/192", "sparse-base", 0.5),
    Run("direct-local", "local", None, 0.5, 1000, {"model": "PRDiT-XS/8/4", "lr": 1e-3}),
    Run(
        "direct",
        "global",
        "direct-local",
        1.0,
        1000,
        {"model": "PRDiT-XS/8/4", "lr": 5e-4},
    ),
)
ARMS = {
    "bundled": "the bundled chain, 6/4/1",
    "patch-6": "refiner 6/4/1, as the bundled one",
    "patch-8": "refiner 8/4/2",
    "patch-12": "refiner 12/8/2",
    "sparse": "base tuned on every second voxel, then 6/4/1",
    "below-6": "6/4/1 that sees the prediction below",
    "averages-6": "6/4/1, its base is shown averages",
    "both-6": "6/4/1 that sees below, its base is shown averages",
    "falling": "the same, learning rate falling",
    "agree": "the same, its heads agree with the state",
    "agree-faster": "the same, lr 3e-3",
    "agree-64": "heads agree, whole volumes, batch 2",
    "agree-8": "heads agree, 8/4/2",
    "below-4": "4/2/1 that sees the prediction below",
    "top": "both, all fine-tuned at 64^3",
    "sizes": "the same, with a loss at 32^3 too",
    "direct": "one network at 64^3, 8/8/0, no refiner",
}


@dataclass(frozen=True)
class Real:
    """Held-out phantoms, and the features to compare with."""

    features: Features
    volumes: np.ndarray


def every_second_voxel(data: PreparedData, folder: Path) -> None:
    """The data set that a chain's base sees: not averages, so as sharp as the finer one."""
    if (folder / "manifest.json").exists():
        return

    def sparse(cases: tuple) -> tuple:
        found = []
        for case in cases:
            file = case_path(folder, VOLUMES, case.id)
            file.parent.mkdir(parents=True, exist_ok=True)
            write_array(file, np.ascontiguousarray(data.volume(case)[::2, ::2, ::2]))
            change = {"sha256": sha256_of(file), "labels_sha256": None}
            found.append(case.model_copy(update=change))
        return tuple(found)

    manifest = data.manifest
    change = {
        "size": manifest.size // 2,
        "label_names": {},
        "train": sparse(manifest.train),
        "validation": sparse(manifest.validation),
    }
    write_manifest(folder, manifest.model_copy(update=change))


def grain(volumes: np.ndarray) -> float:
    """Root mean square difference of neighbours that are both soft tissue, in HU."""
    squares, count = 0.0, 0
    for hu in volumes:
        soft = tissue_masks(hu)["soft tissue"]
        for axis in range(3):
            low, high = (np.arange(1, hu.shape[axis]) - shift for shift in (1, 0))
            both = soft.take(low, axis) & soft.take(high, axis)
            squares += float((np.diff(hu, axis=axis)[both] ** 2).sum())
            count += int(both.sum())
    return float(np.sqrt(squares / count))


def qualities(hu: np.ndarray, real: Real) -> list[str]:
    """Cells of a row: distance, bands, grain, spread, shares."""
    ratio = gradient_energy(hu) / gradient_energy(real.volumes)
    masks = [tissue_masks(volume) for volume in hu]
    shares = [100 * np.mean([mask[name] for mask in masks]) for name in TISSUES]
    soft = np.stack([mask["soft tissue"] for mask in masks])
    return [
        f"{frechet(real.features(hu), real.features(real.volumes)):.1f}",
        *(f"{part:.2f}" for part in ratio),
        f"{grain(hu):.1f}",
        f"{hu[soft].std():.1f}",
        *(f"{share:.1f}" for share in shares),
    ]


def held_out_losses(prior: prdit_core.Prior, data: PreparedData, file: Path) -> dict[str, list]:
    """Losses by span of t; kept in `file` once computed."""
    if file.exists():
        return json.loads(file.read_text())
    judge = JointError(prior.network.module, prior.schedule)
    judged = Volumes(data, data.validation, prior.intensity)
    event = validate(judge, judged, 0, seed=0, levels=LEVELS)
    found = {**event.levels, "all": [event.losses["x0"], event.losses["eps"]]}
    file.write_text(json.dumps(found))
    return found


def seconds_of(name: str, work: Path) -> float:
    """CPU seconds of an arm and of what it started from, the bundled base apart."""
    run = next(run for run in RUNS if run.name == name)
    own = json.loads((work / f"{name}.seconds.json").read_text())
    return own if run.start in (None, BASE) else own + seconds_of(run.start, work)


def print_table(options: argparse.Namespace) -> None:
    work = options.work
    data = PreparedData.open(work / "data")
    held_out = volumes_of(PreparedData.open(work / "held-out"))
    half, other = held_out[: HELD_OUT // 2], held_out[HELD_OUT // 2 :][: options.volumes]
    real = Real(Features(volumes_of(data)), half)
    base = prdit_core.load(options.base).at_size(SIZE // 2)
    walk = prdit_core.SamplingConfig(steps=options.steps, sampler=options.sampler, k=options.k)
    low, _ = generated("base", base, options, walk)
    limits = octaves((SIZE,) * 3, (320.0 / SIZE,) * 3).limits_mm[1:-1]
    bands = [f"over {limits[0]:g} mm", *(f"to {mm:g} mm" for mm in limits[1:]), "finest"]
    losses = ("x0, t to 200", "x0, t 400 to 600", "x0", "eps")
    columns = ["training, s", "M weights", "a volume, s", *losses, "distance", *bands]
    columns += ["grain", "spread", *TISSUES]
    print(f"\n{options.volumes} volumes each, {options.steps} steps, base {base.digest[:12]}")
    print("| | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 1) + "|")

    def line(name: str, costs: list[str], found: list[str], hu: np.ndarray) -> None:
        print(f"| {name} | {' | '.join([*costs, *found, *qualities(hu, real)])} |", flush=True)

    nothing = [""] * 4
    line("held-out phantoms (floor)", [""] * 3, nothing, other)
    line("base, upsampled", [""] * 3, nothing, upsampled(low))
    sets = {"base": low}
    for name, title in ARMS.items():
        bundled = name == "bundled"
        if options.only and name not in options.only:
            continue
        if not (bundled or (work / name).exists()):
            continue
        prior = prdit_core.load(options.base if bundled else work / name).at_size(SIZE)
        file = work / f"{name}-{prior.digest[:8]}.losses.json"
        loss = held_out_losses(prior, data, file)
        hu, seconds = generated(name, prior, options, walk)
        x0, (total, eps) = loss["x0"], loss["all"]
        costs = ["" if bundled else f"{seconds_of(name, work):.0f}"]
        costs += [f"{parameter_count(prior.network.config) / 1e6:.1f}", f"{seconds:.1f}"]
        line(title, costs, [f"{v:.5f}" for v in (x0[0], x0[2], total, eps)], hu)
        sets[name] = hu
    picture({**sets, "held-out phantom": half}, work / "trials.png")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--base", default="demo", help="a model whose base makes 32^3")
    parser.add_argument("--work", type=Path, default=Path("work/trials"))
    parser.add_argument("--seconds", type=float, default=200.0, help="CPU seconds of a refiner")
    parser.add_argument("--volumes", type=int, default=32)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--sampler", default="increment-2")
    parser.add_argument("--k", type=float, default=1.0)
    parser.add_argument("--only", nargs="+", help="runs to train and arms to compare")
    parser.add_argument("--train-only", action="store_true")
    options = parser.parse_args()
    use_threads(1)
    work = options.work
    prdit_core.phantoms(TRAINING, size=SIZE, seed=TRAINING_SEED, out=work / "data")
    prdit_core.phantoms(HELD_OUT, size=SIZE, seed=HELD_OUT_SEED, out=work / "held-out")
    every_second_voxel(PreparedData.open(work / "data"), work / SPARSE)
    for run in RUNS:
        if not options.only or run.name in options.only:
            train(run, options)
    if not options.train_only:
        print_table(options)


if __name__ == "__main__":
    main()

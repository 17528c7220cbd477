"""Settings of a walk on the bundled chain at 64^3: cost, distance, spread, detail.

Which settings are good at 32^3 is found by `sampling_quality.py`; this asks whether it holds where
refiners add to the base. Columns as there; the last ones are the energy of the gradient by size of
detail, as a ratio to held-out phantoms: 1 is right, below is blurred, above is noisy.

    python benchmarks/sampling_chain.py [--volumes N] [--work DIR] [--picture FILE]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from distances import Features, frechet, phantoms
from highres import gradient_energy
from sampling_quality import SETTINGS, Made

import prdit_core
from prdit_core.machine import use_threads
from prdit_core.pictures import Panel, save_picture

if TYPE_CHECKING:
    import numpy as np

SIZE, TRAINING, HELD_OUT = 64, 900, 128
COMPARED = (
    "increment 50 k2",
    "increment 10 k1 log-snr",
    "increment-2 20 k1 log-snr",
    "increment 20 k1 log-snr change 0.1",
    "increment 20 k2 log-snr change 0.2",
    "increment 50 k2 log-snr change 0.2",
)


def row(name: str, cost: str, hu: np.ndarray, features: Features, real: np.ndarray) -> str:
    ratio = gradient_energy(hu) / gradient_energy(real)
    bands = " | ".join(f"{part:.2f}" for part in ratio)
    distance = frechet(features(hu), features(real))
    return f"| {name} | {cost} | {distance:.1f} | {hu.std(0).mean():.0f} | {bands} |"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, default=Path("work/speed-64"))
    parser.add_argument("--volumes", type=int, default=32)
    parser.add_argument("--picture", type=Path, default=Path("work/speed-64/picture.png"))
    options = parser.parse_args()
    use_threads(1)
    prior = prdit_core.load("demo").at_size(SIZE)
    sets = {name: Made(options.work / "volumes" / name, SETTINGS[name]) for name in COMPARED}
    for index in range(options.volumes):
        for made in sets.values():
            made.make(prior, index)
    features = Features(phantoms(options.work / "training", TRAINING, 1, SIZE))
    held_out = phantoms(options.work / "held-out", HELD_OUT, 2, SIZE)
    real, other = held_out[: options.volumes], held_out[-options.volumes :]
    print(f"{options.volumes} volumes each, {prior.digest[:12]} at {SIZE}^3")
    bands = ("over 80 mm", "to 40 mm", "to 20 mm", "to 10 mm", "finest")
    print("| setting | CPU s | distance | spread, HU | " + " | ".join(bands) + " |")
    print("|---" * 9 + "|")
    print(row("held-out phantoms (floor)", "", other, features, real))
    panels = []
    for name, made in sets.items():
        hu = made.volumes(options.volumes)
        seconds, _, _ = made.costs(options.volumes)
        print(row(name, f"{seconds:.1f}", hu, features, real), flush=True)
        panels.append(Panel(hu[0], prior.geometry.spacing_mm, (-1000.0, 400.0), name))
    save_picture(panels, options.picture, "synthetic, not for diagnosis")


if __name__ == "__main__":
    main()

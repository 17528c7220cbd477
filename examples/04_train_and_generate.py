"""Prepare data, train both stages, generate: a model of one's own in some minutes on a CPU."""

from pathlib import Path

import typer

import prdit_core
from prdit_core.training.events import TrainStep, Validated


def main(
    out: Path = Path("example-output/04"), count: int = 60, size: int = 16, iterations: int = 300
) -> None:
    data = out / "data"  # phantoms; for scans of your own: prdit_core.preprocess, or example 07
    prdit_core.phantoms(count, size=size, seed=0, out=data)

    start = None
    for stage in ("local", "global"):
        run = out / stage
        length = {"iterations": iterations, "batch_size": 4, "lr": 1e-3}
        config = prdit_core.TrainConfig(stage=stage, data=data, run=run, start=start, **length)
        for event in prdit_core.train_steps(config):
            if isinstance(event, TrainStep) and event.index % max(iterations // 5, 1) == 0:
                print(f"{stage} {event.index:5} of {event.total}: {event.losses['total']:.4f}")
            if isinstance(event, Validated):
                print(f"{stage} on held-out phantoms: {event.losses['total']:.4f}")
        start = str(run)

    volume = prdit_core.generate(prdit_core.load(out / "global"), seed=0)
    prdit_core.write_volume(volume, out / "volume.nii.gz")
    print(f"{out / 'volume.nii.gz'}: {volume.metadata['description']}")


if __name__ == "__main__":
    typer.run(main)

"""Fine-tune the bundled model on scans of your own, prepared as those that it learnt from."""

from pathlib import Path
from typing import Annotated

import typer

import prdit_core
from prdit_core.checkpoints.expected_data import expected_by
from prdit_core.training.events import TrainStep, Validated


def main(
    scans: Annotated[list[Path], typer.Argument(help="scans, or folders of scans")],
    out: Path = Path("example-output/07"),
    model: str = "demo",
    iterations: int = 100,
) -> None:
    expected = expected_by(model)  # its window, field of view and size
    print(f"{expected.size} voxels of a window of {expected.preset.window_hu} HU")
    data, preset = out / "data", expected.preset
    made = prdit_core.preprocess(scans, preset=preset, size=expected.size, out=data)
    print(f"{made.train} scans to train on, {made.validation} held out")

    length = {"iterations": iterations, "batch_size": 2}
    config = prdit_core.TrainConfig(
        stage="finetune", start=model, data=data, run=out / "run", **length
    )
    for event in prdit_core.train_steps(config):
        if isinstance(event, TrainStep | Validated):
            print(f"{type(event).__name__} {event.index}: {event.losses['total']:.4f}")

    volume = prdit_core.generate(prdit_core.load(out / "run"), seed=0)
    prdit_core.write_volume(volume, out / "volume.nii.gz")


if __name__ == "__main__":
    typer.run(main)

"""Split what the model predicts for a noisy scan into local part, global residual and refiner."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

import prdit_core


def main(
    scan: Annotated[str, typer.Argument(help="DICOM folder, NIfTI, NRRD or MetaImage, in HU")],
    out: Path = Path("example-output/03"),
    size: int = 64,
    t: float = 400.0,
) -> None:
    prior = prdit_core.load("demo").at_size(size)
    found = prdit_core.decompose(prior, prdit_core.read_volume(scan), t, seed=0)
    print(f"{scan}, on the model's grid and under noise of level {t:g} (of 1000)")

    def rms(name: str) -> float:
        return float(np.sqrt(np.square(found.parts[name].voxels_hu).mean()))

    added = [name for name in ("x0-global-residual", "x0-refiner") if name in found.parts]
    for name in added:
        print(f"    {name:20} changes the local part by {rms(name):6.1f} HU (root mean square)")
    print(f"    {'x0-error':20} is what is left:          {rms('x0-error'):6.1f} HU")

    parts = [found.parts[name].voxels_hu for name in ("x0-local", *added)]
    apart = np.abs(sum(parts) - found.parts["x0-total"].voxels_hu).max()
    print(f"the parts sum up to the prediction, to {apart:.1g} HU")
    for name, volume in found.parts.items():
        prdit_core.write_volume(volume, out / f"{name}.nii.gz")


if __name__ == "__main__":
    typer.run(main)

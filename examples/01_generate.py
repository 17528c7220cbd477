"""Generate a chest with the bundled model, and look at its numbers before it is saved."""

from pathlib import Path

import typer

import prdit_core


def main(out: Path = Path("example-output/01"), size: int = 32, steps: int = 20) -> None:
    model = prdit_core.load("demo")  # or a checkpoint folder, or the folder of a run
    print(f"{model.name} makes volumes of edge {model.sizes}; these have {size}")

    prior = model.at_size(size)
    config = prdit_core.SamplingConfig(steps=steps)
    for seed in (0, 1):
        volume = prdit_core.generate(prior, config, seed=seed)
        hu = volume.voxels_hu  # (D, H, W), that is (z, y, x)
        air, bone = (hu < -300).mean(), (hu > 200).mean()
        print(f"seed {seed}: {hu.min():.0f} to {hu.max():.0f} HU, {volume.spacing_mm} mm a voxel")
        print(f"    {air:.0%} air and lung, {bone:.1%} bone; {volume.metadata['description']}")
        prdit_core.write_volume(volume, out / f"seed-{seed}.nii.gz")
    print(f"the same seed gives the same bytes; see {out}")


if __name__ == "__main__":
    typer.run(main)

"""Ask how near generated volumes are to held-out ones, with what real ones get as a measure."""

from pathlib import Path

import typer

import prdit_core


def main(
    out: Path = Path("example-output/05"), count: int = 12, size: int = 32, steps: int = 20
) -> None:
    prior = prdit_core.load("demo").at_size(size)
    prdit_core.phantoms(count, size=size, seed=7, out=out / "held-out")  # no model has seen these
    for steps_taken in (steps, 1):
        config = prdit_core.SamplingConfig(steps=steps_taken)
        for index in range(count):
            volume = prdit_core.generate(prior, config, seed=0, index=index)
            prdit_core.write_volume(volume, out / f"steps-{steps_taken}" / f"{index:03}.nii.gz")

    fakes = {f"{taken} steps": out / f"steps-{taken}" for taken in (steps, 1)}
    sets = prdit_core.open_sets(out / "held-out", fakes)
    result = prdit_core.evaluate(sets, wscore="off")  # critics for the W-score need more volumes

    floor = result.floor.mmd_unbiased
    print(f"MMD, real against real: {floor.value:.4f} (95 %: {floor.low:.4f} to {floor.high:.4f})")
    for name, fake in result.fakes.items():
        mmd = fake.mmd_unbiased
        print(f"MMD, {name}: {mmd.value:.4f} (95 %: {mmd.low:.4f} to {mmd.high:.4f})")
    print(f"all numbers: {prdit_core.write_report(result, sets, out).page}")


if __name__ == "__main__":
    typer.run(main)

"""Watch a volume emerge step by step, then let the second half of the walk end otherwise."""

from collections import deque

import typer

import prdit_core


def main(size: int = 32, steps: int = 20) -> None:
    prior = prdit_core.load("demo").at_size(size)
    config = prdit_core.SamplingConfig(steps=steps)
    hu = prior.intensity.hu_per_unit  # HU in one unit of the model

    walk = list(prdit_core.generate_steps(prior, config, seed=3))
    before = walk[0].x0
    for step in walk:  # x0 is what the model now takes the finished volume to be
        moved = (step.x0 - before).square().mean().sqrt() * hu
        print(f"{step.index + 1:3} of {step.total}, t = {step.t:6.1f}: x0 moved by {moved:6.1f} HU")
        before = step.x0

    for index in (0, steps // 2, steps - 1):  # other noise is added at this step
        branch = prdit_core.branch_steps(prior, walk[index].x0, index, config, seed=4)
        (last,) = deque(branch, maxlen=1)
        away = (last.x0 - walk[-1].x0).square().mean().sqrt() * hu
        print(f"another ending from step {index + 1}: {away:.0f} HU away from the first")


if __name__ == "__main__":
    typer.run(main)

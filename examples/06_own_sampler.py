"""Write a sampler of one's own, and measure how far from a long walk a short one ends."""

from collections import deque

import typer
from torch import Tensor

import prdit_core
from prdit_core.sampling.grid import time_grid
from prdit_core.sampling.predictor import Place, increment
from prdit_core.sampling.sampler import SAMPLERS, Sampler, sample_steps


def midpoint(place: Place, t_to: float) -> Tensor:
    """Go half of the way, look there, and take the whole step with what was seen (order 2)."""
    half = (place.now.t + t_to) / 2
    there = place.denoise(increment(place, half), half)
    alpha, sigma = place.schedule.increments(place.now.t, t_to)
    return place.x + alpha * there.x0 + sigma * there.eps


def main(size: int = 32, steps: int = 10, reference: int = 200) -> None:
    prior = prdit_core.load("demo").at_size(size)
    start = next(prdit_core.generate_steps(prior, seed=0)).x_t
    ours = Sampler("midpoint", "two looks a step", midpoint, evaluations=2)

    def ending(sampler: Sampler, steps: int) -> Tensor:
        way = {"sampler": sampler, "grid": time_grid("log-snr", steps, prior.schedule)}
        cold = sample_steps(prior.denoiser(), prior.schedule, start, noise=lambda _: start, **way)
        return deque(cold, maxlen=1).pop().x0

    truth = ending(SAMPLERS["increment"], reference)
    for sampler, taken in ((SAMPLERS["increment"], 2 * steps), (ours, steps)):
        away = (ending(sampler, taken) - truth).square().mean().sqrt() * prior.intensity.hu_per_unit
        print(f"{sampler.name:9} {taken:3} steps, {2 * steps} evaluations: {away:5.1f} HU away")


if __name__ == "__main__":
    typer.run(main)

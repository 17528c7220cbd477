"""All ways to a volume that the table of reconstructions compares, one cell at a time."""

from __future__ import annotations

import json
import time
from collections import deque
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from fbp_unet import repaired, trained
from phantom_scans import Case, Scale, Scan, scan

from prdit_core.files import write_atomically
from prdit_core.inverse.couplings import Coupling
from prdit_core.inverse.problem import in_measured_unit
from prdit_core.inverse.tv import contrast
from prdit_core.verbs.classical import solved_classically
from prdit_core.verbs.reconstruct import prior_steps, prior_volume, problem_of
from prdit_core.verbs.tv_strength import phantom_numbers, strength_for, strength_steps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    import prdit_core
    from prdit_core.inverse.problem import Problem

    # Of a scan and its phantom's number: HU, and CPU seconds.
    Run = Callable[[Scan, int], tuple[np.ndarray, float]]

TRAINING = 1  # the seed of phantoms that networks and priors may learn from
USUAL_PHOTONS = 1e5  # that the product's strengths of TV were tuned at
CLASSICAL = ("FBP", "CG20", "SIRT", "TV", "FBP-UNet")


@dataclass(frozen=True)
class Walk:
    """One way of a prior.

    Attributes
    ----------
    wishes : what differs from the coupling's own walk
    family : of models that can go it; empty: all
    """

    coupling: Coupling
    wishes: Mapping[str, Any] = field(default_factory=dict)
    family: str = ""


PLAIN = Coupling(last_step="none")
WALKS = {
    "dds": Walk(Coupling("dds", last_step="none")),
    "walk": Walk(PLAIN),
    "K1": Walk(PLAIN, {"sampler": "ddim-even", "eta": 0.8}, "patch"),
    "K2": Walk(PLAIN, {"sampler": "ddim-even", "eta": 0.8, "renoise": 2}, "patch"),
}
DEFAULT = "default"  # the walk with the last step
KINDS = (*CLASSICAL, *WALKS, DEFAULT)


def classical_ways(name: str, case: Case, scale: Scale, work: Path) -> dict[str, Run]:
    """Methods without a prior, and the supervised network."""
    many = 200 if case.views >= 60 else 400  # as tuned for SIRT, specification
    unet = _unet(case, scale, work)
    tv = _tuned(work / f"tv_{name.replace(' ', '-').replace(',', '')}.json")
    return {
        "FBP": _classical("fbp"),
        "CG20": _classical("cg"),
        "SIRT": _classical("sirt", iterations=many),
        "TV": _classical("tv", strength=strength if case.photons == USUAL_PHOTONS else tv),
        "FBP-UNet": unet,
    }


def strength(problem: Problem) -> float:
    """Of total variation: the product's, which was tuned on other phantoms with as many photons."""
    return strength_for(problem).value


def _tuned(file: Path) -> Callable[[Problem], float]:
    """Tuned as `tune-tv` does, once for each case, on a phantom of a series of its own."""

    def strength_of(problem: Problem) -> float:
        if not file.exists():
            begun = time.thread_time()
            (last,) = deque(strength_steps(problem, phantom_numbers(1)), maxlen=1)
            content = json.dumps({"share": last.best})
            write_atomically(file, lambda part: part.write_text(content))
            print(f"{file.name}: {time.thread_time() - begun:.0f} CPU s", flush=True)
        share: float = json.loads(file.read_text())["share"]
        return share * contrast(problem.operator, problem.y)

    return strength_of


def _classical(
    method: str, iterations: int | None = None, strength: Callable[[Problem], float] | None = None
) -> Run:
    def run(one: Scan, _index: int) -> tuple[np.ndarray, float]:
        problem = in_measured_unit(one.measurement, "cpu")
        chosen = None if strength is None else strength(problem)
        begun = time.thread_time()
        volume = solved_classically(problem, method, iterations=iterations, strength=chosen)  # type: ignore[arg-type]
        return volume.voxels_hu, time.thread_time() - begun

    return run


def _unet(case: Case, scale: Scale, work: Path) -> Run:
    """Trained for this geometry on plain phantoms, at each dose in turn."""

    def fbp(one: Scan) -> torch.Tensor:
        problem = in_measured_unit(one.measurement, "cpu")
        return torch.from_numpy(solved_classically(problem, "fbp").voxels_hu)

    def pairs() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for index in range(scale.training):
            photons = (1e5, None, 1e4)[index % 3]
            one = scan(Case(case.views, case.arc, photons), TRAINING, index, scale)
            yield fbp(one), torch.from_numpy(one.truth).float()

    @cache
    def network() -> torch.nn.Module:
        file = work / f"unet_{case.views}_{case.arc:g}.pt"
        begun, new = time.thread_time(), not file.exists()
        made = trained(file, list(pairs()) if new else [], scale.iterations)
        if new:
            print(f"{file.name}: {time.thread_time() - begun:.0f} CPU s", flush=True)
        return made

    def run(one: Scan, _index: int) -> tuple[np.ndarray, float]:
        made = network()
        begun = time.thread_time()
        hu = repaired(made, fbp(one)).numpy()
        return hu, time.thread_time() - begun

    return run


def prior_ways(
    prior: prdit_core.Prior, steps: int, samples: int, file: Callable[[str, int], Path]
) -> dict[str, Run]:
    """Ways of a prior, single walks first: `dds`, `walk 0`, `default 0`, ..., `walk 1`, ...

    Parameters
    ----------
    file : where the volume of a way and a phantom is kept
    """
    there = {
        name: walk
        for name, walk in WALKS.items()
        if walk.family in ("", prior.network.config.family)
    }
    ways = {}
    for number in range(samples):
        for name, walk in there.items():
            if number == 0 or name == "walk":
                way = f"walk {number}" if name == "walk" else name
                ways[way] = _walk(prior, walk, steps, number)
        ways[f"{DEFAULT} {number}"] = _finished(prior, file, f"walk {number}")
    return ways


def _walk(prior: prdit_core.Prior, walk: Walk, steps: int, number: int) -> Run:
    """A sample as the command makes it, without the last step."""
    coupling, config = walk.coupling, walk.coupling.walk(steps=steps, **walk.wishes)

    def run(one: Scan, _index: int) -> tuple[np.ndarray, float]:
        problem = problem_of(prior, one.measurement, None)
        begun = time.thread_time()
        events = prior_steps(prior, problem, config, coupling, seed=0, index=number)
        (last,) = deque(events, maxlen=1)
        volume = prior_volume(prior, problem, config, coupling, last, seed=0, index=number)
        return volume.voxels_hu, time.thread_time() - begun

    return run


def _finished(prior: prdit_core.Prior, file: Callable[[str, int], Path], way: str) -> Run:
    """The last step of `reconstruct` on a walk that is there."""

    def run(one: Scan, index: int) -> tuple[np.ndarray, float]:
        problem, before = problem_of(prior, one.measurement, None), np.load(file(way, index))
        begun = time.thread_time()
        x = Coupling().finish(problem, problem.measured(torch.from_numpy(before["hu"])[None, None]))
        seconds = float(before["seconds"]) + time.thread_time() - begun
        return problem.hu(x)[0, 0].numpy(), seconds

    return run

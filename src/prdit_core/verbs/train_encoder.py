"""Train our own encoder on phantoms, for evaluations without MedicalNet weights at hand."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from prdit_core.errors import NumericalError, OutputError, UsageError
from prdit_core.files import check_writable, shown
from prdit_core.machine import package_version, use_threads
from prdit_core.metrics.encoder_files import EncoderHeader, save_encoder
from prdit_core.provenance import torch_version
from prdit_core.training.encoder import FEATURES, WIDTH, EncoderTrainer, Lesson, make_example

if TYPE_CHECKING:
    from collections.abc import Iterator

ITERATIONS, PHANTOMS = 1500, 500


@dataclass(frozen=True)
class PhantomMade:
    """Phantom `index` of `total`, counted from 1, is there to learn from."""

    index: int
    total: int


@dataclass(frozen=True)
class EncoderStep:
    """Iteration `index` of `total`, counted from 1; `losses` are "anatomy" and "faults"."""

    index: int
    total: int
    losses: dict[str, float]


@dataclass(frozen=True)
class EncoderSaved:
    """The encoder lies in the folder `path`."""

    path: Path


EncoderEvent = PhantomMade | EncoderStep | EncoderSaved


def train_encoder_steps(
    out: str | Path,
    *,
    iterations: int = ITERATIONS,
    phantoms: int = PHANTOMS,
    seed: int = 0,
    threads: int | None = None,
) -> Iterator[EncoderEvent]:
    """Train an encoder and yield every event.

    Parameters
    ----------
    out : folder to write; must not exist
    phantoms : how many different ones to learn from
    seed : equal seeds give equal bytes, on one machine with as many threads
    threads : None takes the default

    Raises
    ------
    UsageError, OutputError, NumericalError
        One line each; nothing is written then.
    """
    out = Path(out)
    if iterations < 1 or phantoms < 2 or seed < 0:
        raise UsageError(
            "an encoder needs 1 iteration, 2 phantoms and a seed of 0 or more, not "
            f"{iterations}, {phantoms} and {seed}"
        )
    if out.exists():
        raise OutputError(f"{shown(out)} exists; choose another --out")
    check_writable(out.parent)
    used = use_threads(threads)
    examples = []
    for index in range(phantoms):
        examples.append(make_example(seed, index))
        yield PhantomMade(index + 1, phantoms)
    trainer = EncoderTrainer(Lesson(examples, seed), iterations, seed)
    for iteration in range(iterations):
        losses = _finite(trainer.step(iteration), iteration)
        yield EncoderStep(iteration + 1, iterations, losses)
    record = {
        "trained_on": "phantoms of napari-prdit, with blur, noise, shifts and shuffled octants",
        "iterations": iterations,
        "phantoms": phantoms,
        "seed": seed,
        "threads": used,
        "version": package_version(),
        "torch": torch_version(),
    }
    header = EncoderHeader(width=WIDTH, features=FEATURES, record=record)
    yield EncoderSaved(save_encoder(out, header, trainer.finish()))


def train_encoder(
    out: str | Path,
    *,
    iterations: int = ITERATIONS,
    phantoms: int = PHANTOMS,
    seed: int = 0,
    threads: int | None = None,
) -> Path:
    """As `train_encoder_steps`, without looking at the steps; returns the folder."""
    steps = train_encoder_steps(
        out, iterations=iterations, phantoms=phantoms, seed=seed, threads=threads
    )
    deque(steps, maxlen=0)
    return Path(out)


def _finite(losses: dict[str, float], iteration: int) -> dict[str, float]:
    if not all(map(math.isfinite, losses.values())):
        raise NumericalError(
            f"the encoder's losses are not finite at iteration {iteration + 1}; try another --seed"
        )
    return losses

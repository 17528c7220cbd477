"""Seconds and peak memory of a model in latents and of PRDiT's bundled chain, side by side.

Every row is a process of its own on one thread: CPU seconds are medians, and what came before, such
as loading, is not in them; peak memory is what the operating system saw, all libraries in it. A
training iteration is of one volume, with random numbers for it; in stage 1 of the autoencoder that
is one patch of it, and the discriminator plays.

    python benchmarks/latent_costs.py --checkpoint CHECKPOINT     # the rows alone
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections import deque
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from memory import print_peak

import prdit_core
from prdit_core.checkpoints.catalog import find
from prdit_core.checkpoints.store import read_codec, read_header, read_weights
from prdit_core.machine import use_threads
from prdit_core.prdit_config import ModelConfig, TrainConfig
from prdit_core.training.batches import Batch
from prdit_core.training.contracts import Plan
from prdit_core.training.engine import launch
from prdit_core.training.families.latent.settings import (
    AutoencoderTraining,
    FlowTraining,
    JointTraining,
)
from prdit_core.training.loop import Trainer
from prdit_core.training.rate import Rate
from prdit_core.training.stages import stage_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from latent import Bench

    from prdit_core.config import TrainingConfig
    from prdit_core.models.prior import Prior

    Job = Callable[[Prior, str], Callable[[], object]]

CHAIN = "demo"
ROUNDS, VOLUMES = 5, 2
NOWHERE = Path()
T = 500.0


def encode(prior: Prior, _: str) -> Callable[[], object]:
    return partial(prior.encode, torch.zeros(prior.geometry.shape).numpy())


def evaluate(prior: Prior, _: str) -> Callable[[], object]:
    return partial(prior.denoise, torch.randn(prior.shape), T)


def decode(prior: Prior, _: str) -> Callable[[], object]:
    return partial(prior.codec.decode, torch.randn(prior.shape))


def volume(prior: Prior, _: str) -> Callable[[], object]:
    """As `generate` makes one by default, from noise to HU."""
    return lambda: prdit_core.generate(prior)


def train_codec(prior: Prior, checkpoint: str) -> Callable[[], object]:
    config = AutoencoderTraining(data=NOWHERE, run=NOWHERE, discriminator_from=0)
    return trained(config, prior, checkpoint)


def train_joint(prior: Prior, checkpoint: str) -> Callable[[], object]:
    config = JointTraining(data=NOWHERE, run=NOWHERE, start="", discriminator_from=0)
    return trained(config, prior, checkpoint)


def train_flow(prior: Prior, checkpoint: str) -> Callable[[], object]:
    return trained(FlowTraining(data=NOWHERE, run=NOWHERE, codec=""), prior, checkpoint)


def train_pixels(prior: Prior, checkpoint: str) -> Callable[[], object]:
    """The last part of the chain: a refiner on half of the edge, as the bundled ones were."""
    assert isinstance(prior.network.config, ModelConfig)
    last = {"stage": "refine", "crop": prior.geometry.shape[0] // 2}
    only = last if prior.network.config.refiners else {"stage": "global"}
    return trained(TrainConfig(data=NOWHERE, run=NOWHERE, start="", **only), prior, checkpoint)


def trained(config: TrainingConfig, prior: Prior, checkpoint: str) -> Callable[[], object]:
    """An iteration of a stage, of one volume on the prior's grid."""
    path, codes = find(checkpoint), isinstance(config, (AutoencoderTraining, JointTraining))
    header = read_header(path)
    network, weights = prior.network.config, None
    if codes:
        assert header.codec is not None
        network, weights = header.codec, read_codec(path, header)
    elif isinstance(config, FlowTraining):
        weights = read_weights(path, header)
    plan = Plan(network, prior.schedule, None, {})
    trainer = Trainer(
        stage_of(config.stage).recipe().task(config, plan, weights),
        launch("cpu", "32-true", "ddp"),
        rate=Rate("constant", 1e-6, 1),
        clip=1.0,
        decay=config.ema_decay,
        micro_batch=1,
    )
    shape = (1, 1, *prior.geometry.shape) if codes else prior.shape
    x0 = torch.rand(shape) * 2 - 1
    batch = Batch(x0, torch.randn(shape), torch.full((1,), T), ("one",), 0, (0,), (0,))
    return lambda: trainer.advance(batch)


LATENT: dict[str, Job] = {
    "encode": encode,
    "an evaluation": evaluate,
    "decode": decode,
    "a volume": volume,
    "training iteration, autoencoder": train_codec,
    "training iteration, autoencoder-joint": train_joint,
    "training iteration, latent": train_flow,
}
PIXELS: dict[str, Job] = {
    "an evaluation": evaluate,
    "a volume": volume,
    "training iteration, last part": train_pixels,
}


def row(checkpoint: str, size: int, name: str) -> None:
    """Print a row of the table; a process of its own calls this."""
    use_threads(1)
    torch.manual_seed(0)
    prior = prdit_core.load(checkpoint).at_size(size)
    jobs = LATENT if prior.classes else PIXELS
    job = jobs[name](prior, checkpoint)
    seconds: deque[float] = deque()
    for _ in range(VOLUMES if name == "a volume" else ROUNDS):
        begun = time.process_time()
        job()
        seconds.append(time.process_time() - begun)
    print(statistics.median(seconds))
    print_peak()


def measured(checkpoint: str, size: int, name: str) -> tuple[float, float]:
    """CPU seconds and MiB, of a process of its own."""
    words = [sys.executable, __file__, "--checkpoint", checkpoint, "--row", name, str(size)]
    found = subprocess.run(words, check=True, capture_output=True, text=True)
    seconds, peak = found.stdout.split()
    return float(seconds), float(peak)


def table(checkpoint: str, sizes: list[int]) -> None:
    print("\n| size | model | what | CPU s | peak, MiB |\n|---|---|---|---|---|")
    for size in sizes:
        rows = [(checkpoint, name) for name in LATENT] + [(CHAIN, name) for name in PIXELS]
        whole: dict[str, float] = {}
        for model, name in rows:
            seconds, peak = measured(model, size, name)
            if name == "a volume":
                whole[model] = seconds
            shown = f"{size}^3 | {Path(model).name} | {name}"
            print(f"| {shown} | {seconds:.3g} | {peak:.0f} |", flush=True)
        faster = whole[CHAIN] / whole[checkpoint]
        print(f"\na volume of {size}^3: {faster:.2f} times as fast as the chain's\n")


def costs(bench: Bench) -> None:
    """Print the table at all sizes that both models make."""
    table(bench.checkpoint, shared_sizes(bench.prior))


def shared_sizes(prior: Prior) -> list[int]:
    """Edges of cubes that the model and the chain make."""
    own = {grid.shape[0] for grid in prior.grids if len(set(grid.shape)) == 1}
    return sorted(own & set(prdit_core.load(CHAIN).sizes))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", default="demo-latent")
    parser.add_argument("--row", nargs=2, metavar=("NAME", "SIZE"), help="of a process of its own")
    wish = parser.parse_args()
    if wish.row is not None:
        row(wish.checkpoint, int(wish.row[1]), wish.row[0])
        return
    table(wish.checkpoint, shared_sizes(prdit_core.load(wish.checkpoint)))


if __name__ == "__main__":
    main()

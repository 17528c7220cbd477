"""How the 3D patch prior is trained: one stage, some tiles of every volume (paper, appendix)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from prdit_core.data.datasets import PreparedData
from prdit_core.errors import UsageError
from prdit_core.machine import BF16_WRONG_DEPTH
from prdit_core.models.families import parameter_count
from prdit_core.models.patch.config import PatchConfig, PatchTraining, patch_config
from prdit_core.models.patch.face import kept_memory
from prdit_core.models.patch.seen import View, border_shape
from prdit_core.models.patch.tiles import cut, surround
from prdit_core.models.patch.unet import UNet3d, initialise
from prdit_core.noise import Draw, generator
from prdit_core.schedule import VPLinearSchedule
from prdit_core.training.contracts import (
    Losses,
    Plan,
    Player,
    Recipe,
    Task,
    float32_on_cpu,
    own_or,
)
from prdit_core.training.objective import KINDS, mean_square, shares

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from prdit_core.checkpoints.header import Header
    from prdit_core.config import NetworkConfig
    from prdit_core.models.contracts import Shape
    from prdit_core.schedule import Schedule
    from prdit_core.training.batches import Batch

ITERATIONS, LR, CLIP = 400_000, 2e-5, 1.0  # the paper says none but the rate
JUDGED_TILES = 8  # of each held-out volume and level


class TileError(nn.Module):
    """Error on tiles somewhere in the surrounded volume; the network sees the rest as context.

    Parameters
    ----------
    tiles : of every volume
    draw : what their places and the noise around the volume are drawn for
    """

    def __init__(
        self, network: UNet3d, schedule: Schedule, *, seed: int, tiles: int, draw: Draw
    ) -> None:
        super().__init__()
        self.network = network
        self.schedule = schedule
        self.seed = seed
        self.tiles = tiles
        self.draw = draw

    def forward(self, batch: Batch) -> Losses:
        """Mean over the tiles of every volume."""
        config = self.network.config
        alpha, sigma = shares(self.schedule, batch.t)
        eps = batch.unit_noise * self.schedule.noise_std
        x_t = alpha * batch.x0 + sigma * eps
        seen, wanted = [], []
        for number, place in enumerate(batch.places):
            stream = generator(self.draw, self.seed, 0, batch.iteration, place)
            around = torch.randn(border_shape(config), generator=stream).to(eps.device)
            starts = [_start(config, stream) for _ in range(self.tiles)]
            around *= self.schedule.noise_std
            a, s = alpha[number], sigma[number]
            noisy = a * config.air + s * around
            seen.append(View(config, x_t[number], noisy).tiles(starts))
            clean = torch.full_like(around, config.air)
            clean = surround(batch.x0[number][None], config.tile, clean[None])[0]
            noise = surround(eps[number][None], config.tile, around[None])[0]
            target = noise if config.target == "noise" else a * noise - s * clean
            wanted.append(torch.stack([cut(target, start, config.tile) for start in starts]))
        times = torch.tensor([self.schedule.network_time(float(t)) for t in batch.t])
        times = times.to(eps.device).repeat_interleave(self.tiles)
        output = self.network(torch.cat(seen), times)
        error = mean_square(output.float() - torch.cat(wanted)).view(-1, self.tiles).mean(1)
        return Losses(_terms(error, alpha.flatten(), sigma.flatten(), config), error)


def _terms(error: Tensor, alpha: Tensor, sigma: Tensor, config: PatchConfig) -> dict[str, Tensor]:
    """Errors of image and noise that follow from that of the target (not those of clipped x0)."""
    if config.target == "v":
        parts = (sigma**2 * error, alpha**2 * error, error)
    else:
        parts = ((sigma / alpha) ** 2 * error, error, error)
    return dict(zip(KINDS, parts, strict=True))


def _start(config: PatchConfig, stream: torch.Generator) -> Shape:
    """Uniform over all places that a tile can have over any offset."""
    depth, height, width = (
        int(torch.randint(whole + edge, (1,), generator=stream))
        for whole, edge in zip(config.shape, config.tile, strict=True)
    )
    return depth, height, width


class PatchRecipe(Recipe[PatchTraining, PreparedData]):
    """The stage "patch"."""

    def plan(self, config: PatchTraining, data: PreparedData, start: Header | None) -> Plan:
        """A new network for the grid of the data, or that of the checkpoint to go on from."""
        shape = data.geometry.shape
        if start is None:
            name = config.model or ("small" if max(shape) < 128 else "paper")
            network = patch_config(
                name,
                shape,
                factor=config.factor,
                target=config.target,
                inputs=config.inputs or "all",
                units=data.intensity.model_range,
            )
        else:
            network = _begun(start, config, shape)
        resolved: dict[str, Any] = {
            **own_or(config, ITERATIONS, LR, CLIP),
            "factor": network.factor,
            "target": network.target,
            "inputs": network.inputs,
        }
        if BF16_WRONG_DEPTH in network.depths:
            resolved |= float32_on_cpu(config)
        schedule = VPLinearSchedule() if start is None else start.schedule
        return Plan(network, schedule, start, resolved)

    def memory(self, config: PatchTraining, network: NetworkConfig, shape: Shape) -> int:
        """Weights four times, and what the backward pass keeps of all tiles, in float32."""
        assert isinstance(network, PatchConfig)
        volumes = config.micro_batch or 1
        kept = kept_memory(network, volumes * config.tiles)
        whole = shape[0] * shape[1] * shape[2] * volumes * 24
        return kept + 4 * (5 * parameter_count(network) + whole)

    def task(self, config: PatchTraining, plan: Plan, weights: Mapping[str, Tensor] | None) -> Task:
        """One player."""
        assert isinstance(plan.network, PatchConfig)
        network = UNet3d(plan.network)
        initialise(network, config.seed)
        if weights is not None:
            network.load_state_dict(weights)
        error = partial(TileError, schedule=plan.schedule, seed=config.seed)
        objective = error(network, tiles=config.tiles, draw=Draw.TILES)
        judge = partial(error, tiles=JUDGED_TILES, draw=Draw.VALIDATED_TILES)
        return Task((Player("", network, objective, KINDS, adam),), judge)


def adam(weights: list[nn.Parameter], peak: float) -> torch.optim.Optimizer:
    """The paper's."""
    return torch.optim.Adam(weights, lr=peak)


def _begun(start: Header, config: PatchTraining, shape: Shape) -> PatchConfig:
    network = start.model
    if not isinstance(network, PatchConfig):
        raise UsageError(f"the checkpoint to start from is no patch prior but {network.family}")
    if network.shape != shape:
        raise UsageError(
            f"the checkpoint to start from knows volumes of {network.shape}; the data are of "
            f"{shape}"
        )
    for name in ("factor", "target", "inputs"):
        wanted = getattr(config, name)
        if wanted not in (None, getattr(network, name)):
            raise UsageError(
                f"the checkpoint to start from has {name} {getattr(network, name)}, not {wanted}"
            )
    if config.model is not None:
        raise UsageError("leave out --model: the checkpoint to start from has its network")
    return network

"""How BiFlowNet is trained: noise in latents of several classes and grids (spec 5)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from pydantic import ValidationError
from torch import nn

from prdit_core.checkpoints.catalog import find
from prdit_core.checkpoints.store import read_header
from prdit_core.classes import VolumeClass
from prdit_core.data.classed import ClassedData
from prdit_core.data.latent_sets import PreparedLatents
from prdit_core.errors import UsageError, first_fault
from prdit_core.files import shown
from prdit_core.geometry import fewest_voxels
from prdit_core.models.families import parameter_count
from prdit_core.models.latent.biflownet import BiFlowNet, initialise
from prdit_core.models.latent.config import BiFlowConfig
from prdit_core.models.latent.losses import mean_of_each
from prdit_core.noise import Draw, generator
from prdit_core.schedule import VPCosineSchedule
from prdit_core.training.contracts import (
    Losses,
    Plan,
    Player,
    Recipe,
    Task,
    float32_on_cpu,
    own_or,
)
from prdit_core.training.ema import Pace
from prdit_core.training.families.latent.settings import FLOWS, FlowLoss, FlowTraining
from prdit_core.training.objective import add_noise

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from torch import Tensor

    from prdit_core.checkpoints.header import Header
    from prdit_core.config import NetworkConfig
    from prdit_core.models.contracts import Shape
    from prdit_core.models.latent.control import ControlNet
    from prdit_core.schedule import Schedule
    from prdit_core.training.batches import Batch
    from prdit_core.training.families.latent.settings import LatentTraining

ITERATIONS, LR, CLIP = 200_000, 1e-4, 1.0
KINDS = ("total",)
ALONE = "volume"  # class of a set that no file gives another


class FlowError(nn.Module):
    """Error of the predicted noise, of every volume by its class, or by none for some.

    Parameters
    ----------
    unnamed : share of the volumes that are shown without their class
    """

    def __init__(
        self,
        network: BiFlowNet | ControlNet,
        schedule: Schedule,
        *,
        seed: int,
        unnamed: float = 0.0,
        loss: FlowLoss = "l1",
    ) -> None:
        super().__init__()
        self.network = network
        self.schedule = schedule
        self.seed = seed
        self.unnamed = unnamed
        self.loss = loss

    def forward(self, batch: Batch) -> Losses:
        """Mean over the latents of every volume."""
        eps = batch.unit_noise * self.schedule.noise_std
        x_t = add_noise(self.schedule, batch.x0, eps, batch.t)
        times = torch.tensor([self.schedule.network_time(float(t)) for t in batch.t])
        labels = torch.tensor([self._row(batch, number) for number in range(len(batch.cases))])
        device = x_t.device
        error = self.predicted(x_t, times.to(device), labels.to(device), batch).float() - eps
        errors = mean_of_each(error.abs() if self.loss == "l1" else error.square())
        return Losses({"total": errors}, errors)

    def predicted(self, x_t: Tensor, times: Tensor, labels: Tensor, batch: Batch) -> Tensor:
        """Noise in states (B, C, D, H, W) of a batch, by numbers of entries and rows of classes."""
        del batch
        noise: Tensor = self.network(x_t, times, labels)
        return noise

    @property
    def classes(self) -> int:
        """How many there are; the row of none comes after theirs."""
        return len(self.network.config.classes)

    def _row(self, batch: Batch, number: int) -> int:
        """Row of a volume's class; that of no class is the last."""
        stream = generator(Draw.UNNAMED, self.seed, 0, batch.iteration, batch.places[number])
        if float(torch.rand(1, generator=stream)) < self.unnamed:
            return self.classes
        return batch.labels[number]


class FlowRecipe(Recipe[FlowTraining, ClassedData]):
    """The stage "latent"."""

    def opened(self, config: FlowTraining) -> ClassedData:
        """Latents of several classes, or of one."""
        return opened_latents(config.data, ALONE)

    def plan(self, config: FlowTraining, data: ClassedData, start: Header | None) -> Plan:
        """A new network for the classes and grids of the data, or that to go on from."""
        codec = find(config.codec)
        made_by = read_header(codec)
        _check_codec(config, data, made_by)
        classes = classes_of(data)
        if start is None:
            network = _new(config, classes, made_by.codec_alone)
        else:
            network = _begun(start, classes, made_by.codec_alone)
        check_latents(network, data)
        resolved: dict[str, Any] = {
            **own_or(config, ITERATIONS, LR, CLIP),
            **float32_on_cpu(config),
        }
        return Plan(network, VPCosineSchedule(), start, resolved, codec=codec)

    def memory(self, config: FlowTraining, network: NetworkConfig, shape: Shape) -> int:
        """Weights five times, and what the backward pass keeps of the largest latents."""
        assert isinstance(network, BiFlowConfig)
        grid = read_header(find(config.codec)).codec_alone.model.latent_grid(shape)
        volumes = config.micro_batch or config.batch_size
        return 4 * (5 * parameter_count(network) + volumes * kept(network, grid))

    def task(self, config: FlowTraining, plan: Plan, weights: Mapping[str, Tensor] | None) -> Task:
        """One player."""
        assert isinstance(plan.network, BiFlowConfig)
        network = BiFlowNet(plan.network)
        initialise(network, config.seed)
        if weights is not None:
            network.load_state_dict(weights)
        judge = partial(FlowError, schedule=plan.schedule, seed=config.seed, loss=config.loss)
        return task_of(network, judge, config, plan.network)


def opened_latents(path: Path, label: str) -> ClassedData:
    """Latents of the classes that a file names, or one set of them, of this class."""
    if path.is_file():
        return ClassedData.open(path, PreparedLatents)
    return ClassedData.alone(PreparedLatents.open(path), label)


def task_of(
    network: BiFlowNet | ControlNet,
    judge: Callable[..., FlowError],
    config: LatentTraining,
    named: BiFlowConfig,
) -> Task:
    """One player, whose error a share of the volumes has without their class.

    Parameters
    ----------
    named : the network that knows the classes, and none if it can
    """
    objective = judge(network, unnamed=config.unnamed if named.null else 0.0)
    pace = Pace(config.ema_every, config.ema_from)
    return Task((Player("", network, objective, KINDS, adam),), judge, pace=pace)


def adam(weights: list[nn.Parameter], peak: float) -> torch.optim.Optimizer:
    """The release's: AdamW without decay is Adam."""
    return torch.optim.Adam(weights, lr=peak)


def classes_of(data: ClassedData) -> tuple[VolumeClass, ...]:
    """Classes of the data in their order, each with its units and grids."""
    classes = []
    for label in data.classes:
        grids = {
            one.data.geometry.shape: one.data.geometry for one in data.sets if one.label == label
        }
        order = sorted(grids, key=fewest_voxels)
        classes.append(
            VolumeClass(
                name=label,
                intensity=data.intensity(label),
                geometries=tuple(grids[shape] for shape in order),
            )
        )
    return tuple(classes)


def _new(config: FlowTraining, classes: tuple[VolumeClass, ...], codec: Header) -> BiFlowConfig:
    largest = max(max(grid.shape) for one in classes for grid in one.geometries)
    name = config.model or ("small" if largest < 128 else "paper")
    ratio = codec.geometry.shape[0] // codec.model.grid(codec.geometry.shape)[0]
    more = {
        "channels": codec.model.latent_channels,
        "patch": 2 if ratio == 4 else 1,
        "classes": classes,
        "intra": config.flows != "inter",
        "blocks": "u-net" if config.flows == "u-net" else "dit",
    }
    try:
        return BiFlowConfig(**FLOWS[name] | more)
    except ValidationError as error:
        raise UsageError(f"the data do not fit {name}: {first_fault(error)}") from error


def _begun(start: Header, classes: tuple[VolumeClass, ...], codec: Header) -> BiFlowConfig:
    network = start.model
    if not isinstance(network, BiFlowConfig):
        raise UsageError(f"the checkpoint to start from is no BiFlowNet but {network.family}")
    if network.names != tuple(one.name for one in classes):
        raise UsageError(
            f"the checkpoint to start from knows {', '.join(network.names)}; the data are of "
            f"{', '.join(one.name for one in classes)}"
        )
    if start.codec != codec.model:
        raise UsageError("the checkpoint to start from has another autoencoder than --codec")
    return network.model_copy(update={"classes": classes})


def _check_codec(config: FlowTraining, data: ClassedData, codec: Header) -> None:
    """Latents of another autoencoder would be decoded to something else."""
    for one in data.sets:
        assert isinstance(one.data, PreparedLatents)
        if one.data.codec != codec.codec_digest:
            raise UsageError(
                f"{shown(one.place)} was encoded by autoencoder {one.data.codec[:12]}, --codec "
                f"{shown(config.codec)} is {codec.codec_digest[:12]}; give that which made the "
                "latents"
            )


def check_latents(network: BiFlowConfig, data: ClassedData) -> None:
    """Raise `UsageError` unless all latents fit the network."""
    for one in data.sets:
        assert isinstance(one.data, PreparedLatents)
        _, depth, height, width = one.data.grid
        try:
            network.check_grid((depth, height, width))
        except ValueError as error:
            raise UsageError(f"latents in {shown(one.place)}: {error}") from error


def kept(network: BiFlowConfig, grid: Shape) -> int:
    """Numbers that the backward pass keeps of one state, about (measured, with some room)."""
    voxels = grid[0] * grid[1] * grid[2]
    levels = sum(width / 8 ** max(level - 1, 0) for level, width in enumerate(network.widths))
    tokens = 140 * network.width / network.patch**3 if network.intra else 0
    return int(voxels * (46 * levels + tokens))

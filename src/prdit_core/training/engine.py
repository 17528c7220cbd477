"""Devices, precision and processes: Lightning Fabric, under torchrun or srun or alone."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.strategies.model_parallel import ModelParallelStrategy

from prdit_core.errors import PrditError, UsageError
from prdit_core.machine import processes

if TYPE_CHECKING:
    from collections.abc import Callable

    from lightning_fabric.strategies.strategy import Strategy as FabricStrategy
    from torch import Tensor, nn
    from torch.distributed.device_mesh import DeviceMesh

    from prdit_core.config import Strategy

R = TypeVar("R")
_ENVIRONMENTS = {
    "none": LightningEnvironment,
    "torchrun": TorchElasticEnvironment,
    "slurm": SLURMEnvironment,
}


def launch(
    device: str, precision: str, strategy: Strategy, shards: tuple[type[nn.Module], ...] = ()
) -> Fabric:
    """Engine of this process, joined with those of the others.

    Parameters
    ----------
    shards : modules that "fsdp" splits one by one, before what is left

    Raises
    ------
    UsageError
        If several processes ask for one numbered device.
    """
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    here = processes()
    kind, _, number = device.partition(":")
    if here.world > 1 and number not in ("", "0"):
        raise UsageError(f"{here.world} processes cannot share {device}; say --device {kind}")
    alone = [int(number)] if number else 1
    fabric = Fabric(
        accelerator=kind,
        devices=here.local if here.world > 1 else alone,
        num_nodes=here.world // here.local,
        strategy=_strategy(strategy, here.world, shards),
        precision=precision,  # type: ignore[arg-type]  # a name of ours that is one of Fabric's
        plugins=[_ENVIRONMENTS[here.launcher]()],
    )
    fabric.launch()
    return fabric


def by_first(fabric: Fabric, act: Callable[[], R]) -> R:
    """Let process 0 act; all processes have its result, or raise its error."""
    if fabric.world_size == 1:
        return act()
    outcome: tuple[Any, PrditError | None] = (None, None)
    if fabric.is_global_zero:
        try:
            outcome = (act(), None)
        except PrditError as error:
            outcome = (None, error)
    result, failure = fabric.broadcast(outcome)
    if failure is not None:
        raise failure
    return result  # type: ignore[no-any-return]


def of_all(fabric: Fabric, items: list[str]) -> list[str]:
    """Items of all processes, in their order."""
    if fabric.world_size == 1:
        return items
    parts: list[list[str]] = [[] for _ in range(fabric.world_size)]
    torch.distributed.all_gather_object(parts, items)
    return [item for part in parts for item in part]


def by_place(tensor: Tensor) -> Tensor:
    """Items (B, ...) of all processes, which have as many each, by their places in the batch."""
    if not torch.distributed.is_initialized():
        return tensor
    gathered = [torch.empty_like(tensor) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(gathered, tensor.contiguous())
    return torch.stack(gathered, dim=1).flatten(0, 1)


def whole(tensor: Tensor) -> Tensor:
    """A tensor that "fsdp" has split over processes, put together; all of them must call."""
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def split_like(tensor: Tensor, target: Tensor) -> Tensor:
    """The opposite of `whole`: `tensor` on the device of `target`, split as it is."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    there = tensor.to(target.device)
    if isinstance(target, DTensor):
        return distribute_tensor(there, target.device_mesh, target.placements)
    return there


def _strategy(
    name: Strategy, world: int, shards: tuple[type[nn.Module], ...]
) -> FabricStrategy | str:
    if world == 1:
        return "auto"
    if name == "ddp":
        return DDPStrategy()
    return ModelParallelStrategy(
        partial(_shard, shards=shards), data_parallel_size=world, tensor_parallel_size=1
    )


def _shard(model: nn.Module, mesh: DeviceMesh, shards: tuple[type[nn.Module], ...]) -> nn.Module:
    """Split each transformer block or its like, then what is left (FSDP2)."""
    from torch.distributed.fsdp import fully_shard

    over = mesh["data_parallel"]
    for part in model.modules():
        if isinstance(part, shards):
            fully_shard(part, mesh=over)
    fully_shard(model, mesh=over)
    return model

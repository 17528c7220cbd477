"""The machine work runs on: devices and threads, chosen in one place and always recorded."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from prdit_core.errors import MemoryLimit, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from prdit_core.config import Precision

R = TypeVar("R")
THREADS_VARIABLE = "PRDIT_THREADS"
CGROUP = Path("/sys/fs/cgroup")


def package_version() -> str:
    """Version of napari-prdit."""
    return version("napari-prdit")


@dataclass(frozen=True)
class Processes:
    """One process among those that torchrun or srun started together.

    Attributes
    ----------
    rank : number of this process, from 0
    world : how many there are
    local : how many of them are on this machine
    launcher : who started them; "none" is a process of its own
    """

    rank: int
    world: int
    local: int
    launcher: Literal["none", "torchrun", "slurm"]

    def share(self, items: Sequence[R]) -> list[R]:
        """Those of `items` that are this process's part of the work."""
        return list(items[self.rank :: self.world])


def processes() -> Processes:
    """What the environment of torchrun or of a SLURM job step says."""
    env = os.environ
    if {"RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"} <= env.keys():
        rank, world, local = (int(env[n]) for n in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"))
        return Processes(rank, world, local, launcher="torchrun")
    # Only job steps have a step number; without srun the variables speak of the whole allocation.
    if {"SLURM_STEP_ID", "SLURM_PROCID", "SLURM_NTASKS"} <= env.keys():
        world = int(env["SLURM_NTASKS"])
        local = world // int(env.get("SLURM_NNODES", "1"))
        return Processes(int(env["SLURM_PROCID"]), world, local, launcher="slurm")
    return Processes(0, 1, 1, launcher="none")


def default_threads() -> int:
    """CPU threads of the command and the plugin: $PRDIT_THREADS, else all cores of this process.

    Processes started together share the cores of their machine. The number is part of the seed:
    sums over another number of threads differ in their last bits.
    """
    wished = os.environ.get(THREADS_VARIABLE)
    if wished is None:
        if hasattr(os, "sched_getaffinity"):
            cores = len(os.sched_getaffinity(0))
        else:
            cores = os.cpu_count() or 1
        return max(1, cores // processes().local)
    if not wished.isdigit() or not 1 <= int(wished) <= 1024:
        raise UsageError(f"{THREADS_VARIABLE}={wished!r} is no number of threads from 1 to 1024")
    return int(wished)


def use_threads(count: int | None = None) -> int:
    """Let torch use `count` CPU threads (None: the default) and return the number."""
    import torch

    threads = default_threads() if count is None else count
    torch.set_num_threads(threads)
    return threads


@contextmanager
def interruptible(ask: Callable[[], None]) -> Iterator[None]:
    """Let every layer of a network that this thread evaluates `ask`, which may raise to end it.

    A step of a large volume takes minutes; a layer, or a tile of it, does not.
    """
    from torch.nn.modules.module import register_module_forward_pre_hook

    thread = threading.get_ident()

    def before(*_: object) -> None:
        if threading.get_ident() == thread:
            ask()

    hook = register_module_forward_pre_hook(before)
    try:
        yield
    finally:
        hook.remove()


def devices() -> list[dict[str, Any]]:
    """Devices to compute on, best first: name, description, memory in bytes (None: unknown)."""
    import torch

    entries: list[dict[str, Any]] = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        entries.append(
            {
                "device": f"cuda:{index}",
                "description": properties.name,
                "memory": properties.total_memory,
            }
        )
    if torch.backends.mps.is_available():
        entries.append({"device": "mps", "description": "Apple GPU", "memory": None})
    entries.append(
        {
            "device": "cpu",
            "description": f"{default_threads()} threads",
            "memory": _physical_memory(),
        }
    )
    return entries


def choose_device(wished: str) -> str:
    """A device that exists: `auto` takes the best one.

    Raises
    ------
    UsageError
        If the device is not on this machine.
    """
    known = [str(entry["device"]) for entry in devices()]
    if wished == "auto":
        return known[0]
    name = "cuda:0" if wished == "cuda" else wished
    if name not in known:
        raise UsageError(f"device {wished!r} is not on this machine; it has {', '.join(known)}")
    return name


def own_device(wished: str) -> str:
    """As `choose_device`, but processes started together take one GPU each, in their order."""
    chosen, here = choose_device(wished), processes()
    if here.local > 1 and wished in ("auto", "cuda") and chosen.startswith("cuda"):
        return choose_device(f"cuda:{here.rank % here.local}")
    return chosen


# oneDNN's bf16 gradients of the weights of 3^3 convolutions are wrong where the input is this deep
# (seen with torch 2.13 on an EPYC with avx512_bf16); all other depths are right.
BF16_WRONG_DEPTH = 2


def fast_precision(device: str, wished: Precision) -> str:
    """The precision of training: `auto` is bf16 on a GPU and on a CPU that has instructions for it.

    On a CPU without them bf16 is more than ten times slower than float32.
    """
    if wished != "auto":
        return wished
    if device != "cpu":
        return "bf16-mixed"
    import torch

    able = torch.cpu.get_capabilities()
    return "bf16-mixed" if able.get("avx512_bf16") or able.get("amx_bf16") else "32-true"


def check_memory(
    needed: int, device: str, what: str, advice: str = "use a smaller model or size"
) -> None:
    """Refuse work that cannot fit before it starts.

    Raises
    ------
    MemoryLimit
        If `needed` bytes are more than the device has.
    """
    there = memory_of(device)
    if there is not None and needed > there:
        raise MemoryLimit(
            f"{what} needs about {needed / 2**30:.1f} GiB, {device} has {there / 2**30:.1f} GiB; "
            f"{advice}"
        )


def memory_of(device: str) -> int | None:
    """Bytes a process may use there; None where nobody knows."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.mem_get_info(device)[0]
    if device == "mps":
        return None
    limits = (_physical_memory(), _address_limit(), _container_limit())
    return min(limit for limit in limits if limit is not None)


def _physical_memory() -> int:
    import psutil

    return int(psutil.virtual_memory().total)


def _address_limit() -> int | None:
    """What `ulimit -v` leaves this process, where there is such a thing."""
    if sys.platform == "win32":
        return None
    import resource

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def _container_limit() -> int | None:
    """What the control group of a container or a SLURM job allows (Linux)."""
    limits = []
    for file in (CGROUP / "memory.max", CGROUP / "memory" / "memory.limit_in_bytes"):
        try:
            limits.append(int(file.read_text(encoding="ascii")))
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return min(limits, default=None)

"""The machine work runs on: devices and threads, chosen in one place and always recorded."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from prdit_core.errors import MemoryLimit, UsageError

if TYPE_CHECKING:
    from prdit_core.config import Precision

THREADS_VARIABLE = "PRDIT_THREADS"


def package_version() -> str:
    """Version of napari-prdit."""
    return version("napari-prdit")


def default_threads() -> int:
    """CPU threads of the command and the plugin: $PRDIT_THREADS, else all cores of this process.

    The number is part of the seed: sums over another number of threads differ in their last bits.
    """
    wished = os.environ.get(THREADS_VARIABLE)
    if wished is None:
        if hasattr(os, "sched_getaffinity"):
            return len(os.sched_getaffinity(0))
        return os.cpu_count() or 1
    if not wished.isdigit() or not 1 <= int(wished) <= 1024:
        raise UsageError(f"{THREADS_VARIABLE}={wished!r} is no number of threads from 1 to 1024")
    return int(wished)


def use_threads(count: int | None = None) -> int:
    """Let torch use `count` CPU threads (None: the default) and return the number."""
    import torch

    threads = default_threads() if count is None else count
    torch.set_num_threads(threads)
    return threads


def devices() -> list[dict[str, Any]]:
    """Devices to compute on, best first: name, description, memory in bytes (None: unknown)."""
    import torch

    found: list[dict[str, Any]] = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        found.append(
            {
                "device": f"cuda:{index}",
                "description": properties.name,
                "memory": properties.total_memory,
            }
        )
    if torch.backends.mps.is_available():
        found.append({"device": "mps", "description": "Apple GPU", "memory": None})
    found.append(
        {
            "device": "cpu",
            "description": f"{default_threads()} threads",
            "memory": _physical_memory(),
        }
    )
    return found


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


def check_memory(needed: int, device: str, what: str) -> None:
    """Refuse work that cannot fit before it starts.

    Raises
    ------
    MemoryLimit
        If `needed` bytes are more than the device has.
    """
    there = _memory_of(device)
    if there is not None and needed > there:
        raise MemoryLimit(
            f"{what} needs about {needed / 2**30:.1f} GiB, {device} has {there / 2**30:.1f} GiB; "
            "use a smaller model or size"
        )


def _memory_of(device: str) -> int | None:
    if device.startswith("cuda"):
        import torch

        return torch.cuda.mem_get_info(device)[0]
    return None if device == "mps" else _smaller(_physical_memory(), _address_limit())


def _smaller(a: int | None, b: int | None) -> int | None:
    known = [number for number in (a, b) if number is not None]
    return min(known, default=None)


def _address_limit() -> int | None:
    """What `ulimit -v` leaves this process, where there is such a thing."""
    if sys.platform == "win32":
        return None
    import resource

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def _physical_memory() -> int | None:
    if not hasattr(os, "sysconf"):
        return None
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None

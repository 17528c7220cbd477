"""Linear layers through the faster backend of this CPU (docs/decisions/0016)."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from prdit_core.errors import UsageError
from prdit_core.noise import Draw, generator

Then = Literal["none", "gelu", "silu"]
Backend = Literal["torch", "onednn"]
BACKEND_VARIABLE = "PRDIT_LINEAR"
# Fewer rows, such as time conditions, are not worth another way.
FEWEST_ROWS = 32
CPU_FILE = Path("/proc/cpuinfo")
_ONEDNN_NAMES = {"none": ("none", ""), "gelu": ("gelu", "tanh"), "silu": ("swish", "")}


class Linear(nn.Linear):
    """`nn.Linear` that may apply an activation in the same pass; for inference on any backend."""

    def forward(self, x: Tensor, then: Then = "none") -> Tensor:
        """(..., in) to (..., out).

        Parameters
        ----------
        then : activation of the result; gelu is the tanh form
        """
        if _may_choose(x, self.weight) and backend() == "onednn":
            return _onednn(x, self.weight, self.bias, then)
        return _torch(x, self.weight, self.bias, then)


def backend_on(device: str) -> Backend:
    """What computes linear layers in float32 there."""
    return backend() if device == "cpu" else "torch"


@cache
def backend() -> Backend:
    """The CPU's backend, chosen once per process; $PRDIT_LINEAR overrules.

    torch's own (MKL on x86) has no AVX-512 path on CPUs of AMD, so oneDNN is twice as fast on those
    that have AVX-512, and is taken there if it gives the same numbers. On those without, MKL is at
    its ceiling. Make and instructions decide and not a measurement, since a busy machine would
    measure otherwise now and then, and the same seed give other bytes.
    """
    wished = os.environ.get(BACKEND_VARIABLE)
    if wished is None:
        return "onednn" if _amd() and _avx512() and _agrees() else "torch"
    if wished not in get_args(Backend):
        raise UsageError(f"{BACKEND_VARIABLE}={wished!r} is none of {', '.join(get_args(Backend))}")
    if wished == "onednn" and not _agrees():
        raise UsageError(f"{BACKEND_VARIABLE}=onednn, but this torch has no working oneDNN")
    return "onednn" if wished == "onednn" else "torch"


def _may_choose(x: Tensor, weight: Tensor) -> bool:
    return (
        not torch.is_grad_enabled()
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.numel() >= FEWEST_ROWS * x.shape[-1]
        and not torch.is_autocast_enabled("cpu")
    )


def _torch(x: Tensor, weight: Tensor, bias: Tensor | None, then: Then) -> Tensor:
    out = functional.linear(x, weight, bias)
    if then == "gelu":
        return functional.gelu(out, approximate="tanh")
    return functional.silu(out) if then == "silu" else out


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None, then: Then) -> Tensor:
    name, form = _ONEDNN_NAMES[then]
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, name, [], form)
    return out


@torch.no_grad()
def _agrees() -> bool:
    """Whether oneDNN is there and computes what torch does."""
    stream = generator(Draw.BACKENDS, 0)
    shapes = ((64, 216), (216, 216), (216,))
    x, weight, bias = (torch.randn(shape, generator=stream) for shape in shapes)
    try:
        return all(
            torch.allclose(
                _onednn(x, weight, bias, then), _torch(x, weight, bias, then), rtol=1e-5, atol=1e-4
            )
            for then in get_args(Then)
        )
    except (AttributeError, RuntimeError):  # private operators: they may go or change
        return False


def _amd() -> bool:
    """Whether this is a CPU of AMD, on Linux, Windows or macOS."""
    try:
        about = CPU_FILE.read_text(encoding="ascii", errors="replace")
    except OSError:
        about = platform.processor()
    return "AuthenticAMD" in about


def _avx512() -> bool:
    """Whether this CPU, and the system, have AVX-512."""
    return bool(torch.cpu.get_capabilities().get("avx512_f"))

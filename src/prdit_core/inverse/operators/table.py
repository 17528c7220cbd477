"""The table of operators: from a spec, or its JSON, to the operator it describes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import torch
from pydantic import Field, TypeAdapter, ValidationError

from prdit_core.errors import UsageError
from prdit_core.inverse.operators.blur import BlurSpec
from prdit_core.inverse.operators.cone import ConeSpec
from prdit_core.inverse.operators.fan import FanSpec
from prdit_core.inverse.operators.kspace import KspaceSpec
from prdit_core.inverse.operators.mask import MaskSpec
from prdit_core.inverse.operators.parallel import ParallelSpec
from prdit_core.inverse.operators.super_resolution import SuperResolutionSpec
from prdit_core.machine import check_memory, memory_of

if TYPE_CHECKING:
    from prdit_core.inverse.operators.contract import LinearOperator, Spec

AnySpec = Annotated[
    ParallelSpec | FanSpec | ConeSpec | MaskSpec | SuperResolutionSpec | BlurSpec | KspaceSpec,
    Field(discriminator="kind"),
]
_ADAPTER: TypeAdapter[Spec] = TypeAdapter(AnySpec)
VERSION = 1


def read_spec(content: Any) -> Spec:
    """The spec that JSON describes, as `LinearOperator.spec` gives it.

    Raises
    ------
    UsageError
        If it is none, or one of another version.
    """
    version = content.get("version", VERSION) if isinstance(content, dict) else VERSION
    if version != VERSION:
        raise UsageError(
            f"the operator's spec is of version {version}, this program reads {VERSION}; write it "
            "again with this program, or update the program"
        )
    try:
        return _ADAPTER.validate_python(content)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"]) or "spec"
        message = fault["msg"].removeprefix("Value error, ")
        raise UsageError(f"the operator's spec is wrong: {where}: {message}") from error


def build(spec: Spec, device: str = "cpu", dtype: torch.dtype = torch.float32) -> LinearOperator:
    """The operator of a spec, if it fits.

    Raises
    ------
    UsageError
        If the device is "mps", which has no sparse matrices.
    MemoryLimit
        If it would need more memory than there is; the message says what would fit.
    """
    if device == "mps":
        raise UsageError("operators do not compute on mps; build them on the CPU and move volumes")
    # Making a sparse matrix takes as much again as it holds.
    needed, there = 2 * spec.memory(dtype), memory_of(device)
    advice = spec.fitting((there or needed) / needed)
    check_memory(needed, device, f"an operator of kind {spec.kind!r}", advice)
    return spec.operator(dtype).to(device)

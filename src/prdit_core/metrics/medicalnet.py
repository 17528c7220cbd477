"""Published MedicalNet weights: fetched or read from a file, believed only when all of them fit."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prdit_core.errors import CheckpointError, UsageError
from prdit_core.files import shown
from prdit_core.models.tensor_files import check_tensors, read_pytorch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from prdit_core.models.resnet3d import ResNet3D, Shortcut

HUB = "hub:"
# The head with which published files were pre-trained; features do not pass through it.
SEGMENTATION_HEAD = "conv_seg."


def read_medicalnet(file: Path, depth: int | None, shortcut: Shortcut | None) -> ResNet3D:
    """The network of a MedicalNet file, in evaluation mode.

    Parameters
    ----------
    depth, shortcut : as the user states them; None takes what the names in the file say

    Raises
    ------
    UsageError
        If there is no such file, or it says otherwise than the user.
    CheckpointError
        If it is damaged, unsafe, holds NaN, or misses a weight or has one too many.
    """
    from prdit_core.models.resnet3d import ResNet3D, shapes_of

    state = _state_of(read_pytorch(file), file)
    depth, shortcut = _design(state, depth, shortcut, file)
    check_tensors(state, shapes_of(depth, shortcut), f"ResNet-{depth} {shortcut}", file)
    model = ResNet3D(depth, shortcut)
    model.load_state_dict(state, strict=True)
    return model.eval().requires_grad_(False)


def fetch(address: str) -> Path:
    """File of `hub:OWNER/REPOSITORY/FILE`, from the local cache of the Hugging Face hub or online.

    Raises
    ------
    UsageError
        If the address is not of that form, the extra "hub" is not installed, or nothing came.
    """
    owner, _, rest = address.removeprefix(HUB).partition("/")
    repository, _, name = rest.partition("/")
    if not (owner and repository and name):
        raise UsageError(f"{shown(address)} is no address: give {HUB}OWNER/REPOSITORY/FILE")
    try:
        hub = importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise UsageError(
            f"{shown(address)} needs a package: pip install huggingface_hub; or download the file "
            "and give its path"
        ) from error
    try:
        return Path(hub.hf_hub_download(f"{owner}/{repository}", name))
    except Exception as error:  # of many kinds: offline, no such file, no permission
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise UsageError(
            f"cannot fetch {shown(address)}: {shown(why)}; go online, or download the file and "
            "give its path"
        ) from error


def _state_of(content: dict[str, Any], file: Path) -> dict[str, Tensor]:
    """Tensors of the network under their own names, without those of the segmentation head."""
    import torch

    inner = content.get("state_dict", content)
    if not isinstance(inner, dict) or not inner:
        raise CheckpointError(f"{shown(file)} holds no weights of a network")
    bare = {str(name).removeprefix("module."): tensor for name, tensor in inner.items()}
    if len(bare) != len(inner) or not all(isinstance(t, torch.Tensor) for t in bare.values()):
        raise CheckpointError(f"{shown(file)} holds no plain dictionary of tensors")
    return {name: t for name, t in bare.items() if not name.startswith(SEGMENTATION_HEAD)}


def _design(
    state: Mapping[str, Tensor], depth: int | None, shortcut: Shortcut | None, file: Path
) -> tuple[int, Shortcut]:
    from prdit_core.models.resnet3d import DESIGNS, design_of

    if depth is not None and depth not in DESIGNS:
        raise UsageError(f"depth {depth} is none of {', '.join(map(str, DESIGNS))}")
    stored, kind = design_of(state)
    if stored is None:
        raise CheckpointError(
            f"{shown(file)} holds no MedicalNet ResNet of depth {', '.join(map(str, DESIGNS))}"
        )
    if depth not in (None, stored):
        raise UsageError(f"{shown(file)} is a ResNet-{stored}, not of depth {depth}")
    if shortcut not in (None, kind):
        raise UsageError(f"{shown(file)} has shortcuts of type {kind}, not {shortcut}")
    return stored, kind

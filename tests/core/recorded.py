"""Reads the recorded numbers: configurations, weights, and the recipe of weights not stored."""

from __future__ import annotations

import ast
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from prdit_core.checkpoints.releases.prdit.names import renamed_state
from prdit_core.models.prdit.network import PRDiT
from prdit_core.prdit_config import ModelConfig, RefinerConfig

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor


def load(path: Path) -> dict[str, Any]:
    with np.load(path) as archive:
        return {name: archive[name] for name in archive.files}


def tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))


def recipe_weight(seed: int, name: str, shape: tuple[int, ...]) -> Tensor:
    """One weight as the recording wrote it (README of the parity folder, point 4)."""
    stream = np.random.RandomState((seed * 1000003 + zlib.crc32(name.encode())) % 2**32)
    z = stream.standard_normal(shape)
    if name.endswith("norm.weight"):
        value = 1 + 0.1 * z
    elif len(shape) == 2:
        value = 0.8 / np.sqrt(shape[1]) * z
    else:
        value = 0.05 * z
    return torch.from_numpy(np.asarray(value, dtype=np.float32))


def official_state(numbers: dict[str, Any]) -> dict[str, Tensor]:
    """Official state dict of a fixture, stored or generated and checked against its digest."""
    state = {}
    for number, name in enumerate(numbers["sd_keys"]):
        if f"sd/{name}" in numbers:
            state[str(name)] = tensor(numbers[f"sd/{name}"])
            continue
        shape = ast.literal_eval(str(numbers["sd_shapes"][number]))
        weight = recipe_weight(int(numbers["weight_seed"]), str(name), shape)
        exact = weight.double()
        found = [exact.sum().item(), exact.square().sum().item(), weight.numel()]
        np.testing.assert_allclose(found, numbers[f"digest/{name}"], rtol=1e-9, atol=1e-6)
        state[str(name)] = weight
    return state


def official_file(path: Path, numbers: dict[str, Any], **entries: Any) -> Path:
    """A file as the authors' training writes it; raw weights differ from the averaged ones."""
    ema = official_state(numbers)
    raw = {name: weight + 0.5 for name, weight in ema.items()}
    torch.save({"model": raw, "ema": ema, "epoch": 3, "train_steps": 12, **entries}, path)
    return path


def config_of(numbers: dict[str, Any], family: str) -> ModelConfig:
    """Our configuration of a fixture of the family prdit (also of high resolution), fm or tf."""
    whole = ast.literal_eval(str(numbers["config"]))
    theirs = whole.get("base", whole)
    config = ModelConfig(
        patch=theirs["patch_size"],
        stride=theirs["stride"],
        padding=theirs["padding"],
        channels=theirs["in_channels"],
        width=theirs["hidden_size"],
        depth=theirs["depth"],
        heads=theirs["num_heads"],
        norm="rms" if family == "tf" else "layer",
        output="velocity" if family == "fm" else "image-and-noise",
    )
    return config.refined_by(_refiner_of(whole)) if "base" in whole else config


def _refiner_of(theirs: dict[str, int]) -> RefinerConfig:
    return RefinerConfig(
        patch=theirs["sr_patch_size"],
        stride=theirs["sr_stride"],
        padding=theirs["sr_padding"],
        width=theirs["sr_hidden_size"],
    )


def network(numbers: dict[str, Any], family: str) -> PRDiT:
    """The network of a fixture, in evaluation mode."""
    model = PRDiT(config_of(numbers, family))
    model.load_state_dict(renamed_state(official_state(numbers)), strict=True)
    return model.eval()

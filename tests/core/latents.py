"""A tiny model in latents: two classes of CT on several grids, and one of MR."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from prdit_core.checkpoints.controls import save_control
from prdit_core.checkpoints.header import Header
from prdit_core.checkpoints.store import save_checkpoint
from prdit_core.classes import VolumeClass
from prdit_core.geometry import Geometry, cubic
from prdit_core.intensity import Intensity
from prdit_core.models.families import family_of
from prdit_core.models.latent.config import AutoencoderConfig, BiFlowConfig, ControlConfig
from prdit_core.schedule import VPCosineSchedule

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from prdit_core.config import NetworkConfig

FLAT = Geometry(shape=(16, 32, 16), spacing_mm=(4.0, 2.0, 2.0), field_of_view_mm=64.0)
HEAD = Intensity(window_hu=(-1000.0, 2000.0))
MR = Intensity(window_hu=(0.0, 1000.0), units="a.u.")
CLASSES = (
    VolumeClass(
        name="chest", intensity=Intensity(), geometries=(cubic(16, 320.0), cubic(32, 320.0))
    ),
    VolumeClass(name="head", intensity=HEAD, geometries=(FLAT, cubic(32, 256.0))),
    VolumeClass(name="head-t1", intensity=MR, geometries=(cubic(16, 256.0),)),
)
AUTOENCODER = AutoencoderConfig(ratio=4, width=4, groups=2, code_size=4, codes=16, patch=16)
BIFLOW = BiFlowConfig(
    channels=4,
    width=12,
    multipliers=(1, 1, 2),
    sub_volume=4,
    attention=(2,),
    heads=1,
    intra_heads=2,
    groups=4,
    classes=CLASSES,
)


def random_weights(config: NetworkConfig, seed: int) -> dict[str, Tensor]:
    """Nothing is zero, so that every input has a say."""
    stream = torch.Generator().manual_seed(seed)
    module = family_of(config).build(config)
    found = {}
    for name, weight in module.state_dict().items():
        noise = torch.randn(weight.shape, generator=stream)
        # those of a norm about 1, those of a layer by its inputs
        scale = 0.5 / max(weight[0].numel(), 1) ** 0.5 if weight.ndim > 1 else 0.1
        about = 1.0 if weight.ndim == 1 and name.endswith(("weight", "gain")) else 0.0
        found[name] = (about + scale * noise).to(weight.dtype)
    bounds = {"low": -1.0, "high": 1.0}
    return {
        name: torch.full_like(weight, bounds[name]) if name in bounds else weight
        for name, weight in found.items()
    }


def tiny_latent(
    folder: Path, model: BiFlowConfig = BIFLOW, codec: AutoencoderConfig = AUTOENCODER
) -> Path:
    """A checkpoint of the classes above, its weights random."""
    first = model.classes[0]
    header = Header(
        model=model,
        codec=codec,
        schedule=VPCosineSchedule(),
        intensity=first.intensity,
        geometry=first.geometries[-1],
    )
    return save_checkpoint(folder, header, random_weights(model, 1), codec=random_weights(codec, 2))


def tiny_codec(folder: Path, codec: AutoencoderConfig = AUTOENCODER) -> Path:
    """A checkpoint of the autoencoder alone, the same weights as beside `tiny_latent`."""
    header = Header(
        model=codec,
        schedule=VPCosineSchedule(),
        intensity=Intensity(),
        geometry=cubic(codec.patch, 320.0),
    )
    return save_checkpoint(folder, header, random_weights(codec, 2))


def tiny_control(folder: Path, base: Path, labels: tuple[str, ...], **more: Any) -> Path:
    """A control of `tiny_latent` beside it, for chests of 16^3, its weights random."""
    chest = CLASSES[0].model_copy(update={"geometries": CLASSES[0].geometries[:1]})
    given: dict[str, Any] = {"labels": labels, "classes": (chest,), "hint": "share"}
    config = ControlConfig(channels=4, base=BIFLOW, **(given | more))
    return save_control(folder, base, config, random_weights(config, 3), {})

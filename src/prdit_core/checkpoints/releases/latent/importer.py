"""Convert the two files of a 3D MedDiffusion release into one checkpoint of ours (spec 8)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import ValidationError

from prdit_core.checkpoints.header import Header
from prdit_core.checkpoints.releases.latent.axes import turned_autoencoder, turned_biflownet
from prdit_core.checkpoints.releases.latent.known import Unseen, released_classes
from prdit_core.checkpoints.releases.latent.names import autoencoder_state, biflownet_state
from prdit_core.checkpoints.store import save_checkpoint
from prdit_core.errors import CheckpointError, OutputError, UsageError
from prdit_core.files import check_writable, sha256_of, shown
from prdit_core.models.families import expected_shapes, family_of
from prdit_core.models.latent.config import AutoencoderConfig, BiFlowConfig
from prdit_core.models.tensor_files import check_tensors, invalid, read_pytorch
from prdit_core.schedule import VPCosineSchedule

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from prdit_core.config import WeightsName
    from prdit_core.models.latent.autoencoder import Autoencoder

# Packages whose pickled objects, all of them settings, are read as nothing.
SETTINGS = ("omegaconf",)
HEAD = 32
PUBLISHED = Unseen()
# Of the rough preview: codes that are decoded, and latent voxels along an edge of each.
PREVIEW_CODES, PREVIEW_EDGE = 24, 4


def import_latent(
    source: str | Path,
    codec: str | Path,
    out: str | Path,
    *,
    window: tuple[float, float] | None = None,
    weights: WeightsName = "ema",
    unseen: Unseen = PUBLISHED,
) -> Path:
    """Convert a BiFlowNet file and the autoencoder whose latents it was trained on.

    Parameters
    ----------
    source : BiFlowNet's ``.pt``; both are read with `weights_only`, nothing in them is run
    codec : the autoencoder's ``.ckpt``, of stage 2
    out : checkpoint folder to write; must not exist
    window : HU of the CT data the weights were trained on, (low, high); None: HU are approximate
    weights : ``ema`` samples best; ``model`` takes the raw weights
    unseen : what shapes do not tell, the published networks' unless said

    Returns
    -------
    Path of the new checkpoint folder.

    Raises
    ------
    CheckpointError
        If a file is damaged, unsafe or of another kind.
    UsageError
        If they do not belong together, or the classes are not the release's.
    """
    source, codec, out = Path(source), Path(codec), Path(out)
    if out.exists():
        raise OutputError(f"{shown(out)} exists; choose another --out")
    check_writable(out.parent)
    decoder, config = _autoencoder(codec, unseen)
    state, model = _biflownet(source, weights, window, unseen)
    if model.channels != config.code_size:
        raise UsageError(
            f"{shown(source)} is for latents of {model.channels} channels, those of "
            f"{shown(codec)} have {config.code_size}; give the --codec it was trained with"
        )
    first = model.classes[0]
    header = Header(
        model=model,
        codec=config,
        schedule=VPCosineSchedule(),
        intensity=first.intensity,
        geometry=first.geometries[-1],
        record={
            "imported": {
                "release": "3d-meddiffusion",
                "sha256": sha256_of(source),
                "codec sha256": sha256_of(codec),
                "weights": weights,
                "window": "stated" if window is not None else "approximate: not recorded",
                "axes": "weights turned from (Z, X, Y) to (z, y, x)",
                "preview": "rough, from its codes alone",
            }
        },
    )
    return save_checkpoint(out, header, state, codec=decoder)


def _autoencoder(source: Path, unseen: Unseen) -> tuple[dict[str, Tensor], AutoencoderConfig]:
    tensors = _tensors(read_pytorch(source, SETTINGS), "state_dict", source)
    try:
        state = turned_autoencoder(autoencoder_state(tensors))
        levels = {name.split(".")[2] for name in state if name.startswith("encoder.levels.")}
        width, channels = state["encoder.first.weight"].shape[:2]
        codes, code_size = state["quantiser.embeddings"].shape
        config = AutoencoderConfig.model_validate(
            {
                "channels": channels,
                "ratio": 2 ** (len(levels) - 1),
                "width": width,
                "groups": unseen.codec_groups,
                "code_size": code_size,
                "codes": codes,
                "patch": unseen.codec_patch,
            }
        )
    except ValidationError as error:
        raise invalid(source, error) from error
    except (KeyError, ValueError, RuntimeError) as error:
        raise _foreign(source, "autoencoder", error) from error
    check_tensors(state, expected_shapes(config), "the release's autoencoder", source)
    state |= _rough_preview(state, config)
    return {name: weight.float() for name, weight in state.items()}, config


def _biflownet(
    source: Path, weights: WeightsName, window: tuple[float, float] | None, unseen: Unseen
) -> tuple[dict[str, Tensor], BiFlowConfig]:
    tensors = _tensors(read_pytorch(source, SETTINGS), weights, source)
    try:
        state = biflownet_state(tensors)
        config = _biflow_config(state, window, unseen, source)
        state = turned_biflownet(state, config)
    except ValidationError as error:
        raise invalid(source, error) from error
    except (KeyError, ValueError, RuntimeError) as error:
        raise _foreign(source, "BiFlowNet", error) from error
    check_tensors(state, expected_shapes(config), "the release's BiFlowNet", source)
    return {name: weight.float() for name, weight in state.items()}, config


def _biflow_config(
    state: Mapping[str, Tensor], window: tuple[float, float] | None, unseen: Unseen, source: Path
) -> BiFlowConfig:
    classes, rows = released_classes(window), len(state["conditions.classes.weight"])
    if rows != len(classes):
        raise UsageError(
            f"{shown(source)} has {rows} classes, the release {len(classes)}; which others they "
            "are is not known"
        )
    width, channels, patch = state["intra.embedding.weight"].shape[:3]
    tokens = round(state["intra.positions"].shape[1] ** (1 / 3))
    levels = len({name.split(".")[1] for name in state if name.startswith("downs.")})
    widths = [len(state[f"downs.{level}.block1.block1.conv.weight"]) for level in range(levels)]
    attention = [n for n in range(levels) if f"downs.{n}.attention1.qkv.weight" in state]
    content = {
        "channels": channels,
        "width": width,
        "multipliers": [one // width for one in widths],
        "sub_volume": tokens * patch,
        "patch": patch,
        "attention": attention,
        "heads": len(state["middle_attention.qkv.weight"]) // (3 * HEAD),
        "intra_heads": unseen.intra_heads,
        "groups": unseen.groups,
        "classes": classes,
        "null": False,
    }
    return BiFlowConfig.model_validate(content)


def _tensors(content: dict[str, Any], key: str, source: Path) -> dict[str, Tensor]:
    import torch

    state = content.get(key)
    if not isinstance(state, dict) or not state:
        there = ", ".join(shown(str(name)) for name in list(content)[:8])
        raise CheckpointError(f"{shown(source)} has no {key!r} weights; it has {there or 'none'}")
    if not all(isinstance(weight, torch.Tensor) for weight in state.values()):
        raise CheckpointError(f"{shown(source)}: its {key!r} entry is no dictionary of tensors")
    return {str(name).removeprefix("module."): weight for name, weight in state.items()}


def _foreign(source: Path, what: str, error: Exception) -> CheckpointError:
    first = " ".join(str(error).split())
    return CheckpointError(f"{shown(source)} is no {what} of the release: {first}")


def _rough_preview(state: Mapping[str, Tensor], config: AutoencoderConfig) -> dict[str, Tensor]:
    """The linear map from scaled latents to voxels that fits even blocks of some codes best.

    The release has none, and no volumes come with it to fit one to.
    """
    import torch

    module = cast("Autoencoder", family_of(config).build(config))
    module.load_state_dict(dict(state), strict=True)
    codes = module.quantiser.embeddings
    some = codes[torch.linspace(0, len(codes) - 1, min(PREVIEW_CODES, len(codes))).long()]
    edge = PREVIEW_EDGE
    with torch.no_grad():
        decoded = [
            module.decode(code[None, :, None, None, None].expand(1, -1, edge, edge, edge))
            for code in some
        ]
    module.fit_picture(some, torch.cat([volume.mean((2, 3, 4)) for volume in decoded]))
    return {"picture": module.picture, "picture_bias": module.picture_bias}

"""Known weights by name: bundled ones, those users fetch themselves, and their own folders."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from prdit_core.checkpoints.header import HEADER
from prdit_core.checkpoints.store import (
    codec_weights,
    read_codec,
    read_control,
    read_header,
    read_weights,
)
from prdit_core.errors import CheckpointError, UsageError
from prdit_core.files import shown
from prdit_core.models.families import family_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from prdit_core.checkpoints.header import Header
    from prdit_core.config import NetworkConfig
    from prdit_core.models.codec import Codec
    from prdit_core.models.contracts import Network
    from prdit_core.models.prior import Prior

BUNDLED = Path(__file__).resolve().parents[1] / "bundled"
RUN_CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class Entry:
    """One known set of weights.

    Attributes
    ----------
    where : how a user gets it; bundled weights are part of the installation
    intensity : "exact" or "approximate" HU
    folder : where bundled weights lie, if not in a folder of their name
    """

    name: str
    where: str
    licence: str
    size: int
    intensity: str
    description: str
    folder: str = ""


CATALOGUE = {
    entry.name: entry
    for entry in (
        Entry(
            "demo",
            "bundled",
            "Apache-2.0",
            128,
            "exact",
            "small; learnt from this project's own thorax phantoms, not from patients",
        ),
        Entry(
            "demo-latent",
            "bundled",
            "Apache-2.0",
            64,
            "exact",
            "3D MedDiffusion, small: chest, head and legs at 64^3, of phantoms",
        ),
        Entry(
            "demo-control",
            "bundled",
            "Apache-2.0",
            64,
            "exact",
            "demo-latent with the control beside it: chests that belong to painted organs",
            folder="demo-latent",
        ),
        Entry(
            "tf-prdit-lidc-128",
            "linked from the README of the authors' TF-PRDiT repository; download it and run: "
            "prdit-core import FILE.pt --norm rms --size 128 --out DIR",
            "Apache-2.0 (code); the authors' page for the weights",
            128,
            "approximate",
            "DiT-B/12/12 on LIDC-IDRI (RMSNorm variant)",
        ),
        Entry(
            "prdit-fm-256",
            "linked from the README of the authors' PRDiT-FM repository; download it and run: "
            "prdit-core import FILE.pt --norm layer --size 256 --out DIR",
            "Apache-2.0 (code); the authors' page for the weights",
            256,
            "approximate",
            "flow-matching model at 256^3",
        ),
        Entry(
            "3d-meddiffusion",
            "linked from the README of the authors' 3D-MedDiffusion repository; download "
            "BiFlowNet's .pt and the autoencoder's .ckpt (stage 2) and run: prdit-core import "
            "BIFLOW.pt --codec AE.ckpt --release 3d-meddiffusion --out DIR",
            "none is stated: ask the authors what you may do with their weights",
            256,
            "approximate",
            "BiFlowNet in latents, CT and MR of seven classes",
        ),
    )
}


def find(name_or_path: str | Path) -> Path:
    """Folder of a checkpoint: a catalogue name, a checkpoint folder, or a run folder (its newest).

    Raises
    ------
    UsageError
        If nothing goes by that name, or the weights must first be fetched by the user.
    CheckpointError
        If a run folder holds no complete checkpoint.
    """
    path = Path(name_or_path)
    entry = CATALOGUE.get(str(name_or_path))
    try:
        is_checkpoint = (path / HEADER).is_file() or (path / RUN_CHECKPOINTS).is_dir()
    except OSError as error:
        raise UsageError(f"no checkpoint at {shown(path)}: {error.strerror}") from error
    if entry is not None and not is_checkpoint:
        if entry.where != "bundled":
            raise UsageError(f"{entry.name} is not bundled: {entry.where}")
        return BUNDLED / (entry.folder or entry.name)
    if (path / RUN_CHECKPOINTS).is_dir():
        return newest(path)
    if not (path / HEADER).is_file():
        raise UsageError(
            f"no checkpoint at {shown(path)}: give a folder with {HEADER}, a run folder, "
            f"or one of {', '.join(CATALOGUE)} (official .pt files: prdit-core import)"
        )
    return path


def saved(run: Path) -> list[Path]:
    """Checkpoint folders of a run, oldest first; unfinished writes are not among them."""
    folders = (run / RUN_CHECKPOINTS).glob("iteration-*")
    return sorted(folder for folder in folders if (folder / HEADER).is_file())


def newest(run: Path) -> Path:
    """Newest checkpoint folder of a run."""
    folders = saved(run)
    if not folders:
        raise CheckpointError(f"run {shown(run)} has saved no checkpoint yet")
    return folders[-1]


def set_aside(folder: Path) -> Path:
    """Rename a damaged checkpoint of a run so that it counts as saved no longer."""
    aside = folder.with_name(f"damaged-{folder.name}")
    while aside.exists():  # the disk damaged this iteration before
        aside = aside.with_name(f"{aside.name}-again")
    return folder.rename(aside)


def load(name_or_path: str | Path, device: str = "cpu") -> Prior:
    """Load a prior by catalogue name or path, verified (hashes, names, shapes, finite values).

    Parameters
    ----------
    name_or_path
        ``demo``, a checkpoint folder, or the folder of a training run.
    device
        ``cpu``, ``cuda``, ``cuda:1``, ``mps``.

    Raises
    ------
    UsageError, CheckpointError
        If there is no such checkpoint, or it cannot be trusted.
    """
    path = find(name_or_path)
    return assemble(read_header(path), path, Path(name_or_path).name).to(device)


def assemble(header: Header, path: Path, name: str) -> Prior:
    """Build the prior that a header describes from the weights beside it.

    Raises
    ------
    UsageError
        If it holds no network that predicts, but a codec alone.
    """
    from prdit_core.models.codec import Identity
    from prdit_core.models.prior import Prior

    face = family_of(header.model).face
    if face is None:
        title = family_of(header.model).title
        raise UsageError(f"{name} is a codec ({title}): it makes no volumes of its own")
    network = face(filled(header.model, read_weights(path, header)))
    control = read_control(path, header)
    if header.control is not None and control is not None:
        network = steered(network, filled(header.control.config, control))
    decoder = read_codec(path, header)
    codec = Identity() if decoder is None else codec_of(header, decoder)
    return Prior(
        network=network,
        codec=codec.of(header.geometry.shape),
        schedule=header.schedule,
        intensity=header.intensity,
        geometry=header.geometry,
        name=name,
        digest=header.base_digest,  # without a condition, the control has no say
        record=header.record,
        control_digest=header.digest,
    )


def steered(network: Network, module: nn.Module) -> Network:
    """A network with a bare control beside it.

    Raises
    ------
    CheckpointError
        If it is no control.
    """
    config: NetworkConfig = module.config  # type: ignore[assignment]
    family = family_of(config)
    if family.steered is None:
        raise CheckpointError(f"family {config.family} is no control")
    return family.steered(network, module)


class LoadedCodec(NamedTuple):
    """A codec, its configuration, and what latents of it call it by."""

    codec: Codec
    config: NetworkConfig
    digest: str


def load_codec(name_or_path: str | Path, device: str = "cpu") -> LoadedCodec:
    """Load a codec, verified: a checkpoint of its own, or that beside a model in latents.

    Raises
    ------
    UsageError, CheckpointError
        If there is no such checkpoint, it is no codec, or cannot be trusted.
    """
    path = find(name_or_path)
    header = read_header(path)
    config = header.codec_alone.model
    codec = family_of(config).codec
    if codec is None:
        raise UsageError(
            f"{shown(name_or_path)} is no codec but {family_of(config).title}; train one with "
            "--stage autoencoder"
        )
    module = filled(config, codec_weights(path, header))
    return LoadedCodec(codec(module).to(device), config, header.codec_digest)


def filled(config: NetworkConfig, weights: dict[str, Tensor]) -> nn.Module:
    """Network in evaluation mode; its weights were read first, for a header may lie about sizes."""
    module = family_of(config).build(config)
    module.load_state_dict(weights, strict=True)
    return module.eval().requires_grad_(False)


def codec_of(header: Header, weights: dict[str, Tensor], device: str = "cpu") -> Codec:
    """The codec beside a model, of its weights."""
    assert header.codec is not None  # else it has no weights
    codec = family_of(header.codec).codec
    if codec is None:
        raise CheckpointError(f"family {header.codec.family} is no codec")
    return codec(filled(header.codec, weights)).to(device)

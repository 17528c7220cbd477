"""What every output carries: how it was made, and that it is no patient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prdit_core.files import sha256_of
from prdit_core.intensity import HU

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from prdit_core.config import Branch, SamplingConfig
    from prdit_core.volume import Volume

SYNTHETIC = "synthetic, not for diagnosis"
SIMULATED = "simulated from a volume, not for diagnosis"
# What a record has if its volume is that of a step on the way: its number, from 1.
ESTIMATE = "estimate_at_step"
_BRANCHES = "branches"
DERIVED = "derived from a scan by a model, not for diagnosis"
# Keys of a record that say which file it is of, in which units, and which checkpoint made it.
FILE, DIGEST, UNITS, MAKER = "volume", "sha256", "units", "checkpoint_sha256"
CLASS = "class"  # of a model of several
RESEARCH = "for research, not for diagnosis"  # of what no model made


def stamp(
    *,
    seed: int,
    index: int,
    config: SamplingConfig,
    checkpoint: str,
    checkpoint_sha256: str,
    device: str,
    threads: int,
    linear: str,
    branches: Sequence[Branch] = (),
    label: str | None = None,
    units: str = HU,
) -> dict[str, Any]:
    """Metadata of a generated volume; equal settings give equal metadata.

    Parameters
    ----------
    label, units : class of the volume and units of its voxels, left out where there is none and
        where they are HU
    """
    from prdit_core.machine import package_version

    metadata = {
        "notice": SYNTHETIC,
        "seed": seed,
        "index": index,
        **config.model_dump(),
        "checkpoint": checkpoint,
        "checkpoint_sha256": checkpoint_sha256,
        "device": device,
        "threads": threads,
        "linear": linear,
        "version": package_version(),
        "torch": torch_version(),
    }
    if branches:
        metadata[_BRANCHES] = [str(branch) for branch in branches]
    if label is not None:
        metadata[CLASS] = label
    if units != HU:
        metadata[UNITS] = units
    return _described(metadata)


def estimate_stamp(metadata: Mapping[str, Any], step: int) -> dict[str, Any]:
    """Metadata of what a walk predicts at a step, from that of its finished volume.

    Parameters
    ----------
    step : from 0; branches that leave the walk later are not part of it
    """
    from prdit_core.config import Branch

    estimate = {**metadata, ESTIMATE: step + 1}
    before = [text for text in metadata.get(_BRANCHES, ()) if Branch.parse(text).step <= step]
    estimate.pop(_BRANCHES, None)
    return _described({**estimate, _BRANCHES: before} if before else estimate)


def _described(metadata: dict[str, Any]) -> dict[str, Any]:
    """With a line for headers of files, the most important first: NIfTI keeps 79 characters."""
    words = [SYNTHETIC]
    if ESTIMATE in metadata:
        words.append(f"estimate at step {metadata[ESTIMATE]} of {metadata['steps']}")
    if UNITS in metadata:
        words.append(f"units {metadata[UNITS]}")
    made = f"PRDiT {metadata['checkpoint_sha256'][:8]}"
    made += f" seed {metadata['seed']} index {metadata['index']}"
    made += "".join(f" branch {text}" for text in metadata.get(_BRANCHES, ()))
    return {**metadata, "description": "; ".join([*words, made])}


def notice_of(metadata: Mapping[str, Any]) -> str:
    """`SYNTHETIC` or `DERIVED` where the metadata of a volume say so, else `RESEARCH`."""
    for stated in (metadata.get("notice"), metadata.get("description")):
        for notice in (SYNTHETIC, DERIVED):
            if str(stated).startswith(notice):
                return notice
    return RESEARCH


def stated_notice(description: str) -> dict[str, str]:
    """Metadata from a file's line of description if it is one of ours; nothing of others.

    So a volume whose record was lost is still known to be synthetic, and what others write into
    that line, which may name a patient, goes nowhere.
    """
    notice = notice_of({"description": description.strip()})
    return {} if notice == RESEARCH else {"notice": notice, "description": description.strip()}


def volume_record(volume: Volume, file: Path, voxels: Path) -> dict[str, Any]:
    """What a JSON beside a saved volume says: its metadata, its geometry, and which file it is.

    Parameters
    ----------
    file : the volume as users name it
    voxels : where its voxels lie, which is another file for .mhd
    """
    return {
        **volume.metadata,
        "shape": list(volume.shape),
        "spacing_mm": list(volume.spacing_mm),
        "affine": volume.affine.tolist(),
        UNITS: volume.units,
        FILE: file.name,
        DIGEST: sha256_of(voxels),
    }


def torch_version() -> str:
    """Version of torch without importing it."""
    from importlib.metadata import version

    return version("torch")

"""Which prepared data sets there are to choose from, and what one is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prdit_core.data.datasets import MANIFEST, read_manifest
from prdit_core.geometry import by

if TYPE_CHECKING:
    from pathlib import Path


def known_data(root: Path) -> list[str]:
    """Paths of the data sets directly below `root`."""
    return [str(file.parent) for file in sorted(root.glob(f"*/{MANIFEST}"))]


def described_data(folder: Path) -> str:
    """Size, spacing and number of scans of a data set, for people.

    Raises
    ------
    InputRejected
        If it is no prepared data set, or damaged.
    """
    manifest = read_manifest(folder)
    geometry = manifest.preset.geometry(manifest.size)
    held_out = len(manifest.validation)
    return (
        f"{by(geometry.shape)} voxels of {geometry.spacing_mm[0]:g} mm, "
        f"{manifest.preset.intensity}\n"
        f"{len(manifest.train):,} scans to train on, "
        + (f"{held_out:,} held out to check with" if held_out else "none held out to check with")
    )

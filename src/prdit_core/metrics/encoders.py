"""Encoders that turn a volume into the features in which distributions are compared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from prdit_core.errors import InputRejected, UsageError
from prdit_core.files import sha256_of, shown
from prdit_core.intensity import Intensity
from prdit_core.metrics.encoder_files import HEADER, read_encoder
from prdit_core.metrics.medicalnet import HUB, fetch, read_medicalnet

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray
    from torch import nn

    from prdit_core.geometry import Geometry
    from prdit_core.models.resnet3d import Shortcut
    from prdit_core.volume import Volume

BUNDLED = Path(__file__).resolve().parents[1] / "bundled" / "encoder"
BUNDLED_NAME = "phantom"
PAPERS_DEPTH = 50


@dataclass(frozen=True, eq=False)
class Encoder:
    """A fixed network that describes volumes by features, and how volumes are prepared for it.

    Attributes
    ----------
    name : says whose network it is, as reports print it
    digest : SHA-256 of the file of weights
    comparable : one sentence: with which published numbers its distances may be compared
    feature_count : features of one volume, F
    intensity : units in which it sees volumes
    geometry : grid to which it brings volumes; None takes them on their own
    """

    name: str
    digest: str
    comparable: str
    feature_count: int
    intensity: Intensity
    geometry: Geometry | None
    network: nn.Module
    device: str

    @property
    def preparation(self) -> str:
        """One sentence: what is done to a volume before it is encoded."""
        low, high = self.intensity.window_hu
        bottom, top = self.intensity.model_range
        units = f"HU clipped to {low:g} to {high:g} and mapped to {bottom:g} to {top:g}"
        if self.geometry is None:
            return f"{units}, on the volume's own grid."
        return (
            f"{units}, resampled to {self.geometry.shape[0]}^3 voxels of "
            f"{self.geometry.spacing_mm[0]:g} mm about the volume's middle."
        )

    def prepare(self, volume: Volume) -> NDArray[np.float32]:
        """A volume as the network sees it, (D, H, W).

        Raises
        ------
        InputRejected
            If the volume holds NaN or infinity.
        """
        if not np.all(np.isfinite(volume.voxels_hu)):
            raise InputRejected("a volume to be evaluated holds NaN or infinity; leave it out")
        x = self.intensity.to_model(volume.voxels_hu)
        grid = self.geometry
        if grid is None or _lies_on(volume, grid):
            return x
        return _on_grid(x, volume.affine, grid, self.intensity.model_range[0])

    def features(self, volumes: Iterable[Volume]) -> Iterator[NDArray[np.float64]]:
        """Features (F,) of each volume, one at a time: volumes are not kept.

        Raises
        ------
        InputRejected
            If a volume holds NaN or infinity.
        """
        import torch

        for volume in volumes:
            x = torch.from_numpy(self.prepare(volume))[None, None].to(self.device)
            with torch.inference_mode():
                features: NDArray[np.float64] = self.network(x)[0].double().cpu().numpy()
            yield features


def load_encoder(
    name_or_file: str = BUNDLED_NAME,
    depth: int | None = None,
    shortcut: Shortcut | None = None,
    *,
    intensity: Intensity | None = None,
    device: str = "cpu",
) -> Encoder:
    """Load an encoder, verified: every weight named, shaped and finite as its network needs it.

    Parameters
    ----------
    name_or_file
        ``phantom`` (ours, bundled), a folder of `prdit-core train-encoder`, a MedicalNet file
        (``resnet_50.pth``, with or without ``module.`` names), or ``hub:OWNER/REPOSITORY/FILE`` of
        the Hugging Face hub (needs the extra "hub").
    depth, shortcut
        10, 18, 34 or 50, and "A" or "B", of a MedicalNet file; its names say both, and a file
        that says otherwise is refused.
    intensity
        Units in which a MedicalNet network sees volumes: [-1, 1] unless given. The paper names
        [0, 1] (A.9.3), its spacing is the volumes' own. Encoders of ours bring their own units.

    Raises
    ------
    UsageError
        If there is no such encoder, it cannot be fetched, or it is not as stated.
    CheckpointError
        If a file is damaged, unsafe or of another network: weights are never left random.
    """
    if name_or_file.startswith(HUB):
        return _medicalnet(fetch(name_or_file), depth, shortcut, intensity, device)
    path = BUNDLED if name_or_file == BUNDLED_NAME else Path(name_or_file)
    if path.is_file():
        return _medicalnet(path, depth, shortcut, intensity, device)
    if not (path / HEADER).is_file():
        raise UsageError(
            f"there is no encoder {shown(name_or_file)}: give {BUNDLED_NAME}, a folder of "
            f"train-encoder, a MedicalNet file, or {HUB}OWNER/REPOSITORY/FILE"
        )
    if depth is not None or shortcut is not None:
        raise UsageError(f"depth and shortcut are of MedicalNet files; {shown(path)} is none")
    return _own(path, device)


def _own(folder: Path, device: str) -> Encoder:
    header, model = read_encoder(folder)
    return Encoder(
        name=f"phantom encoder {header.sha256[:8]} of napari-prdit, not MedicalNet",
        digest=header.sha256,
        comparable=(
            "Comparable only with distances of this very encoder (SHA-256 "
            f"{header.sha256[:12]}), never with the paper's FID or MMD, which need MedicalNet "
            "ResNet-50."
        ),
        feature_count=header.features,
        intensity=header.intensity,
        geometry=header.geometry,
        network=model.to(device),
        device=device,
    )


def _medicalnet(
    file: Path,
    depth: int | None,
    shortcut: Shortcut | None,
    intensity: Intensity | None,
    device: str,
) -> Encoder:
    model = read_medicalnet(file, depth, shortcut)
    digest = sha256_of(file)
    like_the_paper = (
        "Comparable with the paper's FID and MMD only if this file is MedicalNet's published "
        "ResNet-50, and volumes, their grid, window and number are the paper's."
    )
    return Encoder(
        name=f"ResNet-{model.depth} {model.shortcut} of MedicalNet's layout, {digest[:8]}",
        digest=digest,
        comparable=like_the_paper
        if model.depth == PAPERS_DEPTH
        else f"Not comparable with the paper's FID or MMD, which need ResNet-{PAPERS_DEPTH}.",
        feature_count=model.feature_count,
        intensity=intensity or Intensity(),
        geometry=None,
        network=model.to(device),
        device=device,
    )


def _lies_on(volume: Volume, geometry: Geometry) -> bool:
    """Whether a volume has these voxels already, wherever it lies."""
    alike = np.allclose(volume.spacing_mm, geometry.spacing_mm, rtol=1e-3)
    return volume.shape == geometry.shape and alike


def _on_grid(
    x: NDArray[np.float32], affine: NDArray[np.float64], geometry: Geometry, outside: float
) -> NDArray[np.float32]:
    """`x` averaged by whole factors and interpolated on a cube about its middle."""
    from prdit_core.data.resampling import WorkingGrid, averaged, image_of, resample

    depth, height, width = x.shape
    middle = affine @ [(width - 1) / 2, (height - 1) / 2, (depth - 1) / 2, 1.0]
    grid = WorkingGrid(geometry.shape[0], geometry.spacing_mm[0], middle[:3])
    return resample(averaged(image_of(x, affine), grid.spacing_mm), grid, outside)

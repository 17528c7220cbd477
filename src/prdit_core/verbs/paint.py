"""From painted organs to CT: volumes that belong to a label map of any grid, and lie on it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk

from prdit_core.data.label_maps import SOURCE
from prdit_core.data.resampling import on_grid
from prdit_core.errors import InputRejected
from prdit_core.files import shown
from prdit_core.verbs.generate import generate_steps
from prdit_core.verbs.step_volume import step_volume
from prdit_core.volume import Volume, axial_affine

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from prdit_core.config import SamplingConfig
    from prdit_core.models.prior import Prior

_SAME_PLACE = 1e-3  # of a voxel, by which grids that are one may differ


@dataclass(frozen=True, eq=False)
class Painting:
    """A label map, and a prior that makes volumes which belong to it.

    Attributes
    ----------
    labels : on its own grid, numbers as `Prior.labels` has them
    prior : under these labels, on a grid of its own
    affine : where that grid lies: its middle is that of the labels
    beyond : share of what is labelled that the prior's grid does not cover
    """

    labels: Volume
    prior: Prior
    affine: NDArray[np.float64]
    beyond: float

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know."""
        if self.beyond < 0.005:
            return ()
        grid = self.prior.geometry
        edges = " x ".join(f"{n * mm:g}" for n, mm in zip(grid.shape, grid.spacing_mm, strict=True))
        return (
            f"{100 * self.beyond:.0f} % of what is labelled lies outside the {edges} mm that the "
            "model makes around the middle of the label map; there is air",
        )

    @property
    def outside(self) -> float:
        """What volumes have beyond the prior's grid: the lowest value of the model's window."""
        return self.prior.intensity.window_hu[0]

    def on_labels(self, volume: Volume) -> Volume:
        """A volume of the prior's grid on that of the labels; see `on_grid_of`."""
        metadata = {**volume.metadata, **({"notes": list(self.notes)} if self.notes else {})}
        voxels = on_grid_of(self.labels, volume.voxels_hu, self.affine, self.outside)
        return Volume(voxels, self.labels.affine, metadata)


def on_grid_of(
    labels: Volume, voxels: NDArray[Any], affine: NDArray[np.float64], outside: float
) -> NDArray[Any]:
    """Voxels of a grid on that of a label map, interpolated linearly; as they are on the same."""
    if _one_grid(affine, voxels.shape, labels):
        return voxels
    return on_grid(voxels, affine, labels.shape, labels.affine, sitk.sitkLinear, outside)


def painting_of(prior: Prior, labels: Volume, scale: float = 1.0) -> Painting:
    """Bring a label map to the prior's grid, the nearest label to each voxel.

    Parameters
    ----------
    prior : with a control for its class and grid, see `Prior.of_control`
    labels : of any grid and orientation, numbers as `Prior.labels` has them
    scale : see `Prior.under`

    Raises
    ------
    UsageError, InputRejected
        As `Prior.under`.
    """
    shape = prior.geometry.shape
    middle = labels.affine @ [*((n - 1) / 2 for n in reversed(labels.shape)), 1]
    centre = (float(middle[0]), float(middle[1]), float(middle[2]))
    affine = axial_affine(prior.geometry.spacing_mm, shape, centre)
    drawn = np.asarray(labels.voxels_hu, np.uint8)
    if _one_grid(affine, shape, labels):
        seen, beyond = drawn, 0.0
    else:
        near = sitk.sitkNearestNeighbor
        seen = on_grid(drawn, labels.affine, shape, affine, near, 0)
        whole = np.ones(shape, np.uint8)
        covered = on_grid(whole, affine, labels.shape, labels.affine, near, 0)
        beyond = float(1 - covered[drawn > 0].mean()) if drawn.any() else 0.0
    source = labels.metadata.get(SOURCE, {})
    try:
        under = prior.under(seen, scale, source)
    except InputRejected as error:
        raise InputRejected(f"{shown(source.get('file', 'the label map'))}: {error}") from error
    return Painting(labels, under, affine, beyond)


def paint(
    prior: Prior,
    labels: Volume,
    config: SamplingConfig | None = None,
    *,
    scale: float = 1.0,
    seed: int = 0,
    index: int = 0,
) -> Volume:
    """One generated volume that belongs to a label map, on its grid; see `painting_of`."""
    painting = painting_of(prior, labels, scale)
    config = config or prior.network.config.walk
    (last,) = deque(generate_steps(painting.prior, config, seed=seed, index=index), maxlen=1)
    return painting.on_labels(step_volume(painting.prior, config, last, seed=seed, index=index))


def painter(prior: Prior, config: SamplingConfig, scale: float) -> dict[str, Any]:
    """All that `paint` depends on besides labels, seed and index, as JSON, for `augment_steps`."""
    return {
        "checkpoint_sha256": prior.control_digest,
        "class": prior.label,
        "shape": list(prior.geometry.shape),
        "scale": scale,
        **config.model_dump(),
    }


def _one_grid(affine: NDArray[np.float64], shape: tuple[int, ...], labels: Volume) -> bool:
    away = np.abs(np.linalg.solve(affine, labels.affine) - np.eye(4)) * [*reversed(shape), 1]
    return labels.shape == shape and bool(away.max() < _SAME_PLACE)

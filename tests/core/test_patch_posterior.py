"""The patch prior's tiles on a Gaussian field, whose posterior given a tile is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from prdit_core.models.contracts import Key
from prdit_core.models.patch.config import PatchConfig
from prdit_core.models.patch.denoiser import PatchDenoiser
from prdit_core.models.patch.tiles import inside, tile_starts
from prdit_core.schedule import VPLinearSchedule

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

CONFIG = PatchConfig(
    tile=(4, 4, 4),
    factor=3,
    width=4,
    multipliers=(1,),
    blocks=1,
    groups=1,
    inputs="tile",
    air=0.0,
    largest=1000.0,
)
SCHEDULE, LENGTH, T = VPLinearSchedule(), 2.5, 520.0


def covariance(edges: tuple[int, ...]) -> NDArray[np.float64]:
    """Of voxels whose correlation falls with the square of their distance."""
    places = np.stack(np.meshgrid(*map(np.arange, edges), indexing="ij"), -1).reshape(-1, 3)
    squares = ((places[:, None] - places[None]) ** 2).sum(-1)
    return np.exp(-squares / (2 * LENGTH**2))


def gain(t: float) -> NDArray[np.float64]:
    """Matrix from a noisy tile to its posterior mean."""
    alpha, sigma, own = SCHEDULE.alpha(t), SCHEDULE.sigma(t), covariance(CONFIG.tile)
    noisy = alpha**2 * own + sigma**2 * np.eye(len(own))
    return alpha * np.linalg.solve(noisy, own).T


class TilePosterior(torch.nn.Module):
    """The best network there can be that sees a tile alone."""

    config = CONFIG

    def forward(self, seen: Tensor, times: Tensor) -> Tensor:
        matrix = torch.from_numpy(gain(T)).float()
        tile = seen.reshape(len(seen), -1)
        mean = tile @ matrix.T
        noise = (tile - SCHEDULE.alpha(T) * mean) / SCHEDULE.sigma(T)
        return noise.reshape(seen.shape)


def field(seed: int) -> Tensor:
    """A noisy state of the field, (1, 1, 12, 12, 12)."""
    rng = np.random.default_rng(seed)
    line = np.exp(-((np.arange(12)[:, None] - np.arange(12)) ** 2) / (2 * LENGTH**2))
    root = np.linalg.cholesky(line + 1e-8 * np.eye(12))
    clean = np.einsum("ai,bj,ck,ijk", root, root, root, rng.standard_normal((12, 12, 12)))
    noisy = SCHEDULE.alpha(T) * clean + SCHEDULE.sigma(T) * rng.standard_normal(clean.shape)
    return torch.from_numpy(noisy).float()[None, None]


def denoiser(seed: int = 0) -> PatchDenoiser:
    return PatchDenoiser(TilePosterior(), SCHEDULE, Key(seed, 0))  # type: ignore[arg-type]


def looked(x_t: Tensor, look: int) -> Tensor:
    """Clean volume by one look, unclipped: from its noise."""
    _, eps = denoiser()._look(x_t[0], T, look)
    return (x_t[0] - SCHEDULE.sigma(T) * eps) / SCHEDULE.alpha(T)


def test_the_stitched_posterior_is_that_of_every_tile() -> None:
    """Computed anew, tile by tile, where tiles lie in the volume as a whole."""
    x_t, own = field(0), denoiser()
    found = looked(x_t, 3)[0].numpy()
    offset = own._offset(T, 3)
    matrix, compared = gain(T), 0
    for start in tile_starts((12, 12, 12), (4, 4, 4), offset):
        boxes = inside(start, (12, 12, 12), (4, 4, 4))
        if boxes is None or any(part.stop - part.start < 4 for part in boxes[0]):
            continue
        tile = x_t[0, 0][boxes[0]].numpy().ravel()
        np.testing.assert_allclose(found[boxes[0]].ravel(), matrix @ tile, atol=1e-4)
        compared += 1
    assert compared >= 8


def seam(x0: NDArray[np.float32], offset: int) -> float:
    """Energy of gradients across the borders of tiles along the first axis, by that elsewhere."""
    squares = (np.diff(x0, axis=0) ** 2).mean(axis=(1, 2))[3:-3]  # the middle of the volume
    border = [(place + 1 - offset) % 4 == 0 for place in range(3, 8)]
    return float(squares[border].mean() / squares[np.logical_not(border)].mean())


@pytest.mark.slow
def test_a_seam_of_one_offset_is_gone_in_the_mean_over_offsets() -> None:
    fixed, averaged = [], []
    for seed in range(6):
        x_t = field(seed)
        looks = [looked(x_t, look)[0].numpy() for look in range(48)]
        offsets = [denoiser()._offset(T, look)[0] for look in range(48)]
        fixed += [seam(looks[0], offsets[0])]
        averaged += [seam(np.mean(looks, axis=0), offsets[0])]
    assert np.mean(fixed) > 1.5
    assert np.mean(averaged) == pytest.approx(1, abs=0.25)
    assert abs(np.mean(averaged) - 1) < 0.3 * (np.mean(fixed) - 1)

"""Gradient guidance against the recorded walks of TF-PRDiT, and the X-rays it was made for."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
import recorded
import torch
import torch.nn.functional as F
from test_samplers import recorded_prior

from prdit_core.inverse.consistency import LeastSquares
from prdit_core.inverse.guidance import Guidance, hot_growth
from prdit_core.inverse.operators.blur import BlurSpec
from prdit_core.inverse.operators.cone import XRAY_SAD_MM, XRAY_SID_MM, ConeSpec
from prdit_core.inverse.operators.mask import mask_of
from prdit_core.inverse.operators.table import build
from prdit_core.models.contracts import Prediction
from prdit_core.sampling.grid import time_grid
from prdit_core.sampling.sampler import SAMPLERS, sample_steps
from prdit_core.schedule import CosineSchedule

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np
    from torch import Tensor

TF = CosineSchedule(noise_std=1.0, last_t=999)


@dataclass(frozen=True)
class Task:
    """How a walk was recorded.

    Attributes
    ----------
    fading : whether the push fades with sigma^2
    replaced : whether known voxels are put into the predicted volume besides
    """

    k: float
    noise_weight: float
    scale: float
    fading: bool
    replaced: bool = False


# Numbers of the recorded settings; which of them fade was found from the recorded states.
TASKS = {
    "sr": Task(k=2, noise_weight=0.9, scale=20, fading=False),
    "deblur": Task(k=2, noise_weight=1.0, scale=10, fading=False),
    "infill": Task(k=2, noise_weight=1.0, scale=3, fading=True, replaced=True),
    "xrayloop": Task(k=4, noise_weight=0.95, scale=0.7, fading=True),
}


def measured(name: str, numbers: dict[str, Any]) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """The operator of a recording, and the data."""
    if name == "xrayloop":  # stands in for X-rays: means along two axes
        return lambda x: torch.stack([x.mean(3), x.mean(4)], 2), numbers["y"].movedim(0, 1)[None]
    y = numbers["condition"][None]
    if name == "sr":  # trilinear, so the mean of the 2^3 voxels in the middle of each 4^3
        return lambda x: F.interpolate(x, scale_factor=0.25, mode="trilinear"), y
    if name == "deblur":
        return build(BlurSpec(shape=(16, 16, 16), sigma=2.0, radius=2)), y
    operator = build(mask_of(numbers["mask"][0].numpy()))
    return operator, operator(y)


@pytest.mark.parametrize("name", TASKS)
def test_recorded_guidance_is_replayed(name: str, parity: Path) -> None:
    task, numbers = TASKS[name], recorded.load(parity / f"tf_guided_{name}_8.npz")
    numbers = {key: torch.from_numpy(n) for key, n in numbers.items() if n.dtype.kind == "f"}
    prior = recorded_prior(parity, "tf", "tf_model_p4s2d2.npz", TF)
    operator, y = measured(name, numbers)
    grid = replace(time_grid("release", 8, TF), hot_at_zero=True)
    push = Guidance(
        operator,  # type: ignore[arg-type]
        y,
        strength=lambda t: task.scale * (TF.sigma(t) ** 2 if task.fading else 1.0),
        growth=hot_growth(SAMPLERS["euler"], grid, task.k, TF),
        decode=prior.codec.decode,
    )

    def edit(prediction: Prediction, x_t: Tensor, t: float) -> Prediction:
        pushed = push(prediction, x_t, t)
        if not task.replaced:
            return pushed
        return LeastSquares(operator, y, iterations=1)(pushed, x_t, t)  # type: ignore[arg-type]

    drawn = 0
    for step in sample_steps(
        prior.denoise,
        TF,
        numbers["z"],
        sampler=SAMPLERS["euler"],
        grid=grid,
        k=task.k,
        noise=lambda index: task.noise_weight * numbers["unit_noise"][index],
        edit=edit,
    ):
        drawn += step.t_next > grid.reach(step.t, step.t_next, task.k)
        torch.testing.assert_close(step.x0, numbers["x0"][step.index], atol=2e-4, rtol=1e-5)
        torch.testing.assert_close(step.x, numbers["xs"][step.index + 1], atol=2e-4, rtol=1e-5)
    assert drawn == len(numbers["unit_noise"]) and step.index == 7


@pytest.mark.parametrize("sampler", ["increment", "euler", "resynthesis"])
def test_a_push_moves_the_state_by_its_length_whatever_the_step(sampler: str) -> None:
    """Of sum(x) towards 0: the gradient of |e| is 1 everywhere."""
    for steps, k in ((4, 2.0), (10, 2.0), (10, 3.0)):
        grid = time_grid("exact", steps, TF)
        row = SAMPLERS[sampler]
        growth = hot_growth(row, grid, k, TF)
        edit = Guidance(lambda x: x.sum((2, 3, 4)), torch.zeros(1, 1), lambda t: 0.1, growth, nop)  # type: ignore[arg-type]
        walked = {}
        for name, change in (("free", None), ("pushed", edit)):
            walked[name] = next(
                iter(
                    sample_steps(
                        half,
                        TF,
                        torch.ones(1, 1, 2, 2, 2).double(),
                        sampler=row,
                        grid=replace(grid, first=1),
                        k=k,
                        noise=lambda _: torch.zeros(1, 1, 2, 2, 2),
                        edit=change,
                    )
                )
            )
        t, t_next = grid.times[1:3]
        kept = TF.alpha(t_next) / TF.alpha(grid.reach(t, t_next, k))  # by the noise that follows
        moved = walked["pushed"].x - walked["free"].x
        torch.testing.assert_close(moved, torch.full_like(moved, -0.1 * kept))
        assert torch.equal(walked["pushed"].x0, walked["free"].x0)


def nop(x: Tensor) -> Tensor:
    return x


def half(x: Tensor, t: float) -> Prediction:
    return Prediction(0.5 * x, 0.5 * x)


def test_cold_steps_are_not_pushed() -> None:
    grid = time_grid("exact", 5, TF)
    growth = hot_growth(SAMPLERS["increment"], grid, 2.0, TF)
    assert [growth(t) != 0 for t in grid.times] == [True, True, True, True, False, False]
    assert not any(map(hot_growth(SAMPLERS["increment"], grid, 1.0, TF), grid.times))


# ---------------------------------------------------------------------------------------------
# The X-rays of the release. It gives pi, an angle in radians, to a function that takes degrees, so
# its views lie 3.14159 degrees beside those it means; and its volumes are half a voxel off the
# axis, which is where ours lie with one more voxel of air at the far ends.


def release_views(views: int) -> ConeSpec:
    step = 90.0 if views == 2 else 360.0 / views
    return ConeSpec(
        shape=(33, 33, 33),
        spacing_mm=(8.0, 8.0, 8.0),
        angles_deg=tuple(math.pi - step * number for number in range(views)),
        bins=32,
        bin_mm=8.0,
        rows=32,
        row_mm=8.0,
        source_axis_mm=XRAY_SAD_MM,
        source_detector_mm=XRAY_SID_MM,
    )


class Boxes:
    """Exact integrals through voxels of constant value along the beams of a cone (Siddon)."""

    def __init__(self, spec: ConeSpec) -> None:
        self.spec = spec
        voxels = math.prod(spec.shape)
        places, lengths, rays = [], [], []
        for view, (source, along) in enumerate(spec.beams()):
            planes = torch.arange(spec.shape[0] + 1) - 0.5
            crossings = ((planes - source[:, None]) / along[..., None]).flatten(1).sort(1).values
            middle = (crossings[:, 1:] + crossings[:, :-1]) / 2
            voxel = (source + middle[..., None] * along[:, None]).round().long()
            inside = ((voxel >= 0) & (voxel < spec.shape[0])).all(-1)
            z, y, x = voxel[inside].T
            places.append((z * spec.shape[1] + y) * spec.shape[2] + x)
            lengths.append(crossings.diff(dim=1)[inside])
            rays.append(torch.nonzero(inside)[:, 0] + view * len(along))
        index = torch.stack([torch.cat(rays), torch.cat(places)])
        shape = (math.prod(spec.range_shape), voxels)
        values = torch.cat(lengths).float()
        self.matrix = torch.sparse_coo_tensor(index, values, shape, check_invariants=True)

    def __call__(self, x: Tensor) -> Tensor:
        sums = torch.sparse.mm(self.matrix, x.reshape(-1, 1))
        return sums.view(1, 1, *self.spec.range_shape)


def padded(volume: np.ndarray) -> Tensor:
    return F.pad(torch.from_numpy(volume), (0, 1) * 3)


@pytest.mark.parametrize("views", [1, 2, 4, 8])
def test_the_release_s_x_rays_are_boxes_along_the_beams_of_our_cone(
    views: int, parity: Path
) -> None:
    numbers, boxes = recorded.load(parity / "tf_drr.npz"), Boxes(release_views(views))
    for name in ("vol", "rand"):
        expected = torch.from_numpy(numbers[f"drr_{name}_{views}"])[:, 0]
        found = boxes(padded(numbers[name]))[0, 0]
        assert float((found - expected).norm() / expected.norm()) < 1e-4
    # Ours interpolates between voxels instead, which blurs what changes from one to the next.
    ours = build(release_views(views))(padded(numbers["vol"]))[0, 0]
    expected = torch.from_numpy(numbers[f"drr_vol_{views}"])[:, 0]
    assert float((ours - expected).norm() / expected.norm()) < 0.13


def test_the_gradient_of_the_misfit_is_the_release_s(parity: Path) -> None:
    numbers, boxes = recorded.load(parity / "tf_drr.npz"), Boxes(release_views(2))
    y = boxes(padded(numbers["rand"]))
    guidance = Guidance(boxes, y, lambda t: 1.0, lambda t: 1.0, nop)  # type: ignore[arg-type]
    volume = padded(numbers["vol"])
    misfit = float((boxes(volume) - y).norm())
    assert misfit == pytest.approx(float(numbers["resid_norm"]), rel=1e-4)
    found = guidance.gradient(volume)[..., :32, :32, :32]
    expected = torch.from_numpy(numbers["grad_norm_wrt_vol"])
    assert float((found - expected).norm() / expected.norm()) < 1e-4

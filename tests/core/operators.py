"""Operators to test: one of every kind at least, none with equal edges or spacings."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from prdit_core.inverse.operators.blur import BlurSpec
from prdit_core.inverse.operators.cone import ConeSpec, xray_pair
from prdit_core.inverse.operators.contract import LinearOperator, Spec
from prdit_core.inverse.operators.fan import FanSpec
from prdit_core.inverse.operators.mask import mask_of
from prdit_core.inverse.operators.parallel import ParallelSpec
from prdit_core.inverse.operators.projector import spread_angles
from prdit_core.inverse.operators.super_resolution import SuperResolutionSpec
from prdit_core.inverse.sampling_patterns import FastScan
from prdit_core.noise import Draw, generator, unit_noise

SPACING = (2.0, 1.5, 0.7)
SPECS: dict[str, Spec] = {
    "sparse view": ParallelSpec(
        shape=(3, 6, 8), spacing_mm=SPACING, angles_deg=spread_angles(7), bins=11, bin_mm=1.1
    ),
    "limited angle, axis off the middle": ParallelSpec(
        shape=(2, 8, 6),
        spacing_mm=SPACING,
        angles_deg=spread_angles(5, 120),
        bins=9,
        bin_mm=1.3,
        axis_bin=3.3,
    ),
    "fan": FanSpec(
        shape=(3, 6, 8),
        spacing_mm=SPACING,
        angles_deg=spread_angles(6, 360),
        bins=10,
        bin_mm=1.2,
        source_axis_mm=20,
        source_detector_mm=30,
    ),
    "cone": ConeSpec(
        shape=(4, 6, 5),
        spacing_mm=SPACING,
        angles_deg=spread_angles(5, 360),
        bins=7,
        bin_mm=2.0,
        rows=6,
        row_mm=2.5,
        source_axis_mm=20,
        source_detector_mm=30,
    ),
    "steep cone": ConeSpec(
        shape=(9, 3, 3),
        spacing_mm=(1.0, 1.0, 1.0),
        angles_deg=(10.0,),
        bins=3,
        bin_mm=0.5,
        rows=12,
        row_mm=2.0,
        source_axis_mm=3,
        source_detector_mm=5,
    ),
    "X-ray pair": xray_pair((6, 5, 4), (8.0, 8.0, 8.0), pixels=7),
    "inpainting": mask_of(torch.rand((3, 4, 5), generator=generator(Draw.START, 3)).numpy() > 0.4),
    "super-resolution": SuperResolutionSpec(shape=(4, 2, 6), factor=2),
    "blur, zero": BlurSpec(shape=(4, 5, 6), sigma=1.5, radius=3),
    "blur, edge": BlurSpec(shape=(4, 5, 6), sigma=0.7, radius=2, border="edge"),
    "blur, reflect": BlurSpec(shape=(5, 4, 6), sigma=1.5, radius=3, border="reflect"),
    "blur, symmetric": BlurSpec(shape=(4, 5, 6), sigma=1.5, radius=3, border="symmetric"),
    "blur, wrap": BlurSpec(shape=(4, 5, 6), sigma=1.5, radius=3, border="wrap"),
    "k-space, columns": FastScan("gaussian", 2, 0.2).spec((3, 5, 8)),
    "k-space with a phase, places": FastScan("poisson", 3, 0.05, "smooth").spec((3, 8, 7)),
}


class MatrixSpec(Spec):
    kind: Literal["matrix"] = "matrix"
    rows: int

    @property
    def range_shape(self) -> tuple[int]:
        return (self.rows,)

    def memory(self, dtype: torch.dtype) -> int:
        return self.rows * self.shape[2] * dtype.itemsize

    def fitting(self, share: float) -> str:
        return f"{share:.0%}"

    def operator(self, dtype: torch.dtype) -> Matrix:
        return Matrix(torch.zeros(self.rows, self.shape[2], dtype=dtype))


class Matrix(LinearOperator):
    """An operator of one's own: any matrix, on volumes of one row."""

    def __init__(self, matrix: torch.Tensor) -> None:
        rows, columns = matrix.shape
        super().__init__(MatrixSpec(shape=(1, 1, columns), rows=rows), matrix.dtype)
        self.register_buffer("matrix", matrix, persistent=False)

    def _measure(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(2) @ self.matrix.t()

    def _spread(self, y: torch.Tensor) -> torch.Tensor:
        return (y @ self.matrix)[:, :, None, None]


def volume_of(
    operator: LinearOperator, batch: int = 2, channels: int = 2, key: int = 0
) -> torch.Tensor:
    shape = (batch, channels, *operator.domain_shape)
    return unit_noise(shape, Draw.START, key).to(operator.dtype)


def measurement_of(operator: LinearOperator, key: int = 1) -> torch.Tensor:
    shape = (2, 2, *operator.range_shape)
    return unit_noise(shape, Draw.START, key).to(operator.dtype)


def matrix_of(operator: LinearOperator) -> np.ndarray:
    """The operator as an explicit matrix, column by column."""
    voxels = int(np.prod(operator.domain_shape))
    units = torch.eye(voxels, dtype=operator.dtype).view(voxels, 1, *operator.domain_shape)
    return operator(units).flatten(1).t().numpy()

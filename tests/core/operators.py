"""Operators to test: one of every kind at least, none with equal edges or spacings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from prdit_core.inverse.operators.blur import BlurSpec
from prdit_core.inverse.operators.cone import ConeSpec, xray_pair
from prdit_core.inverse.operators.fan import FanSpec
from prdit_core.inverse.operators.mask import mask_of
from prdit_core.inverse.operators.parallel import ParallelSpec
from prdit_core.inverse.operators.projector import spread_angles
from prdit_core.inverse.operators.super_resolution import SuperResolutionSpec
from prdit_core.noise import generator, unit_noise

if TYPE_CHECKING:
    from prdit_core.inverse.operators.contract import LinearOperator, Spec

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
    "inpainting": mask_of(torch.rand((3, 4, 5), generator=generator(3)).numpy() > 0.4),
    "super-resolution": SuperResolutionSpec(shape=(4, 2, 6), factor=2),
    "blur, zero": BlurSpec(shape=(4, 5, 6), sigma=1.5, radius=3),
    "blur, edge": BlurSpec(shape=(4, 5, 6), sigma=0.7, radius=2, border="edge"),
    "blur, reflect": BlurSpec(shape=(5, 4, 6), sigma=1.5, radius=3, border="reflect"),
    "blur, symmetric": BlurSpec(shape=(4, 5, 6), sigma=1.5, radius=3, border="symmetric"),
    "blur, wrap": BlurSpec(shape=(4, 5, 6), sigma=1.5, radius=3, border="wrap"),
}


def volume_of(
    operator: LinearOperator, batch: int = 2, channels: int = 2, key: int = 0
) -> torch.Tensor:
    shape = (batch, channels, *operator.domain_shape)
    return unit_noise(shape, key).to(operator.dtype)


def measurement_of(operator: LinearOperator, key: int = 1) -> torch.Tensor:
    shape = (2, 2, *operator.range_shape)
    return unit_noise(shape, key).to(operator.dtype)


def matrix_of(operator: LinearOperator) -> np.ndarray:
    """The operator as an explicit matrix, column by column."""
    voxels = int(np.prod(operator.domain_shape))
    units = torch.eye(voxels, dtype=operator.dtype).view(voxels, 1, *operator.domain_shape)
    return operator(units).flatten(1).t().numpy()

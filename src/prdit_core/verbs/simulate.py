"""Simulate what a scanner would measure of a volume."""

from __future__ import annotations

import math
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from prdit_core.data.resampling import pool_mean
from prdit_core.errors import UsageError
from prdit_core.intensity import HU
from prdit_core.inverse import scanners
from prdit_core.inverse.attenuation import WATER_PER_MM, of_hu
from prdit_core.inverse.dose import integrals_of, photon_counts
from prdit_core.inverse.measurement import Measurement
from prdit_core.inverse.operators.blur import BlurSpec
from prdit_core.inverse.operators.cone import xray_pair
from prdit_core.inverse.operators.kspace import KspaceSpec
from prdit_core.inverse.operators.projector import ViewsSpec
from prdit_core.inverse.operators.super_resolution import SuperResolutionSpec
from prdit_core.inverse.operators.table import build
from prdit_core.inverse.sampling_patterns import USUAL, FastScan
from prdit_core.machine import package_version
from prdit_core.noise import Draw, unit_noise
from prdit_core.provenance import SIMULATED, UNITS, torch_version
from prdit_core.volume import Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from prdit_core.config import OperatorName
    from prdit_core.inverse.operators.contract import Spec

# Spacings that agree to this are the same.
_SAME = 1e-3


def simulate(
    volume: Volume,
    spec: Spec,
    *,
    photons: float | None = None,
    noise: float | None = None,
    seed: int = 0,
    index: int = 0,
) -> Measurement:
    """What the operator of `spec` measures of a volume in HU, or in other units.

    Parameters
    ----------
    spec : on the grid of `coarser(volume)`: the projections are those of the volume's own, twice
        finer voxels, with two rays a bin. Or on that of the volume: whoever reconstructs then uses
        the operator that made the data, which is recorded as `inverse_crime`
    photons : sent along each ray; None: no noise
    noise : of k-space, standard deviation of real and imaginary part in the units of the volume,
        where it is as large, the transform being orthonormal; None: none
    seed, index : of the noise

    Raises
    ------
    UsageError
        If the spec is on neither grid, if photons are counted by an operator without rays, if there
        is noise without k-space, or rays go through what is no CT.
    MemoryLimit
        If the operator does not fit.
    """
    target, crime = _target(volume, spec)
    weights = None
    if noise is not None and not isinstance(spec, KspaceSpec):
        raise UsageError(f"noise is that of k-space, not of {spec.kind!r}")
    if isinstance(spec, ViewsSpec):
        if volume.units != HU:
            raise UsageError(f"projections are of a CT in HU, not of volumes in {volume.units}")
        values = _line_integrals(volume, spec, crime)
        if photons is not None:
            counts = photon_counts(torch.from_numpy(values), photons, seed=seed, index=index)
            noisy, believed = integrals_of(counts, photons)
            values, weights = noisy.numpy(), believed.numpy()
    elif photons is not None:
        raise UsageError(f"photons are counted by projections, not by {spec.kind!r}")
    else:
        x = torch.from_numpy(target.voxels_hu.astype(np.float32))[None, None]
        values = build(spec)(x)[0, 0].numpy()
        if noise is not None:
            grain = unit_noise(values.shape, Draw.KSPACE_NOISE, seed, index)
            values = values + noise * grain.numpy()
            weights = np.full_like(values, noise**-2)
    about: dict[str, Any] = {
        "notice": SIMULATED,
        # Which volume it was, but not whose.
        "volume": {key: value for key, value in volume.metadata.items() if key != "patient_key"},
        "volume_sha256": sha256(volume.voxels_hu.tobytes()).hexdigest(),
        "photons": photons,
        **({} if isinstance(spec, ViewsSpec) else {UNITS: volume.units}),
        **({"noise": noise} if isinstance(spec, KspaceSpec) else {}),
        "seed": seed,
        "index": index,
        "inverse_crime": crime,
        "water_per_mm": WATER_PER_MM,
        "version": package_version(),
        "torch": torch_version(),
    }
    return Measurement(values, spec, weights, affine=target.affine, metadata=about)


def spec_for(
    operator: OperatorName,
    target: Volume,
    *,
    views: int,
    arc_deg: float | None,
    factor: int,
    sigma: float,
    fast: FastScan = USUAL,
) -> Spec:
    """The operator of this name that measures a grid; each heeds some of the settings.

    Parameters
    ----------
    target : on the grid that is to be reconstructed
    views : of parallel, fan or cone beam
    arc_deg : degrees that they cover; None: half a turn of parallel beam, else a turn
    factor : edge of the blocks of super-resolution, in voxels
    sigma : of the blur, in voxels
    fast : how k-space is sampled
    """
    shape, spacing = target.shape, target.spacing_mm
    match operator:
        case "parallel":
            return scanners.parallel_scan(shape, spacing, views, arc_deg or 180.0)
        case "fan":
            return scanners.fan_scan(shape, spacing, views, arc_deg or 360.0)
        case "cone":
            return scanners.cone_scan(shape, spacing, views, arc_deg or 360.0)
        case "x-ray":
            return xray_pair(shape, spacing, pixels=max(shape))
        case "super-resolution":
            return SuperResolutionSpec(shape=shape, factor=factor)
        case "blur":
            return BlurSpec(shape=shape, sigma=sigma, radius=math.ceil(3 * sigma))
        case "kspace":
            return fast.spec(shape)


def coarser(volume: Volume) -> Volume:
    """The volume in voxels twice as large, means of eight; an odd last voxel is left out."""
    depth, height, width = (edge // 2 * 2 for edge in volume.shape)
    if min(depth, height, width) == 0:
        raise UsageError(f"a volume of {volume.shape} voxels cannot be halved; take its own grid")
    even = volume.voxels_hu[:depth, :height, :width].astype(np.float32)
    affine = volume.affine.copy()
    affine[:3, :3] *= 2
    affine[:3, 3] += volume.affine[:3, :3].sum(axis=1) / 2
    return Volume(pool_mean(even, 2), affine, volume.metadata)


def _target(volume: Volume, spec: Spec) -> tuple[Volume, bool]:
    """The volume on the grid of the spec, and whether that is the one it came on."""
    if _is_on(spec, volume):
        return volume, True
    if isinstance(spec, ViewsSpec) and _is_on(spec, half := coarser(volume)):
        return half, False
    raise UsageError(
        f"the operator is for {spec.shape} voxels, which is neither the grid of the volume, "
        f"{volume.shape}, nor a twice coarser one of the same extent"
    )


def _is_on(spec: Spec, volume: Volume) -> bool:
    if spec.shape != volume.shape:
        return False
    return not isinstance(spec, ViewsSpec) or np.allclose(
        spec.spacing_mm, volume.spacing_mm, rtol=_SAME
    )


def _line_integrals(volume: Volume, spec: ViewsSpec, same_grid: bool) -> NDArray[np.float32]:
    """Of attenuation, which is not negative."""
    traced = spec if same_grid else spec.halved()
    depth, height, width = traced.shape
    hu = torch.from_numpy(volume.voxels_hu[:depth, :height, :width].astype(np.float32))
    y = build(traced)(of_hu().per_mm(hu).clamp(min=0)[None, None])[0, 0]
    blocks = [
        part for n, rays in zip(spec.range_shape, y.shape, strict=True) for part in (n, rays // n)
    ]
    means: NDArray[np.float32] = y.reshape(blocks).mean(dim=(1, 3, 5)).numpy()
    return means

"""How near a reconstruction is to the scan it is meant to be: PSNR, SSIM, MAE in HU, by tissue."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from prdit_core.errors import InputRejected
from prdit_core.metrics.similarity import KERNEL, ssim
from prdit_core.metrics.tissues import tissue_masks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

# Of 12-bit CT, -1024 to 3071; to be stated with every PSNR and SSIM.
LOWEST_HU, PEAK_HU = -1024.0, 4095.0


@dataclass(frozen=True)
class TissueError:
    """Errors where the scan shows one tissue.

    Attributes
    ----------
    share : of the voxels
    mae_hu, rmse_hu : mean absolute and root mean square error; None where there is no such voxel
    """

    share: float
    mae_hu: float | None
    rmse_hu: float | None


@dataclass(frozen=True)
class Fidelity:
    """Errors of a reconstruction.

    Attributes
    ----------
    mae_hu, rmse_hu : mean absolute and root mean square error
    psnr : 20 log10(peak / rmse) in dB; infinite where there is no error
    ssim : mean structural similarity of HU above -1024; None where an edge is shorter than its
        window
    peak_hu : HU that PSNR and SSIM take for the full range
    tissues : errors by what the scan shows
    """

    mae_hu: float
    rmse_hu: float
    psnr: float
    ssim: float | None
    peak_hu: float
    tissues: Mapping[str, TissueError]


def fidelity(
    scan_hu: NDArray[Any], reconstruction_hu: NDArray[Any], peak_hu: float = PEAK_HU
) -> Fidelity:
    """Compare a reconstruction with its scan, voxel by voxel.

    Parameters
    ----------
    scan_hu, reconstruction_hu : (D, H, W) HU on one grid

    Raises
    ------
    InputRejected
        If the shapes differ or a voxel is NaN or infinite.
    """
    scan, reconstruction = (np.asarray(x, dtype=np.float64) for x in (scan_hu, reconstruction_hu))
    _check(scan, reconstruction)
    error = reconstruction - scan
    mae, rmse = _sizes(error)
    large_enough = min(scan.shape) >= KERNEL
    return Fidelity(
        mae_hu=mae,
        rmse_hu=rmse,
        psnr=20 * math.log10(peak_hu / rmse) if rmse else math.inf,
        ssim=ssim(scan - LOWEST_HU, reconstruction - LOWEST_HU, peak_hu) if large_enough else None,
        peak_hu=peak_hu,
        tissues={name: _within(error, mask) for name, mask in tissue_masks(scan).items()},
    )


@dataclass(frozen=True)
class GreyFidelity:
    """Nearness of what one sees: both volumes clipped to a window and scaled to 0..1.

    Attributes
    ----------
    psnr : -20 log10(rmse of grey) in dB; infinite where there is no error
    ssim : mean structural similarity of grey; None where an edge is shorter than its window
    window_hu : what was clipped to
    """

    psnr: float
    ssim: float | None
    window_hu: tuple[float, float]


def grey_fidelity(
    scan_hu: NDArray[Any], reconstruction_hu: NDArray[Any], window_hu: tuple[float, float]
) -> GreyFidelity:
    """Compare a reconstruction with its scan as grey values of a window.

    Papers on reconstruction with generative models state PSNR in this way. Whatever lies outside of
    the window, such as dense bone, counts no further than its end; `fidelity` clips nothing.

    Raises
    ------
    InputRejected
        If the shapes differ or a voxel is NaN or infinite.
    """
    scan, reconstruction = (np.asarray(x, dtype=np.float64) for x in (scan_hu, reconstruction_hu))
    _check(scan, reconstruction)
    low, high = window_hu
    a, b = ((np.clip(x, low, high) - low) / (high - low) for x in (scan, reconstruction))
    _, rmse = _sizes(b - a)
    return GreyFidelity(
        psnr=-20 * math.log10(rmse) if rmse else math.inf,
        ssim=ssim(a, b, 1.0) if min(a.shape) >= KERNEL else None,
        window_hu=window_hu,
    )


def _check(scan: NDArray[np.float64], reconstruction: NDArray[np.float64]) -> None:
    if scan.shape != reconstruction.shape:
        raise InputRejected(
            f"a reconstruction of shape {reconstruction.shape} does not lie on a scan of "
            f"{scan.shape}; resample it to the scan's grid"
        )
    if not (np.all(np.isfinite(scan)) and np.all(np.isfinite(reconstruction))):
        raise InputRejected("scan or reconstruction holds NaN or infinite HU; repair it first")


def _within(error: NDArray[np.float64], mask: NDArray[np.bool_]) -> TissueError:
    if not mask.any():
        return TissueError(0.0, None, None)
    return TissueError(float(mask.mean()), *_sizes(error[mask]))


def _sizes(error: NDArray[np.float64]) -> tuple[float, float]:
    """Mean absolute and root mean square."""
    return float(np.abs(error).mean()), float(np.sqrt(np.square(error).mean()))

"""Geometries of scanners that see all of a volume, for simulations."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from prdit_core.errors import UsageError
from prdit_core.inverse.operators.cone import ConeSpec
from prdit_core.inverse.operators.fan import FanSpec
from prdit_core.inverse.operators.parallel import ParallelSpec
from prdit_core.inverse.operators.projector import spread_angles

if TYPE_CHECKING:
    from prdit_core.inverse.operators.contract import Shape, Spacing

# Of a clinical scanner.
SAD_MM, SID_MM = 595.0, 1085.0


def parallel_scan(
    shape: Shape, spacing_mm: Spacing, views: int, arc_deg: float = 180.0
) -> ParallelSpec:
    """Parallel views over half a turn, or over less; bins as wide as pixels."""
    bin_mm = min(spacing_mm[1:])
    return ParallelSpec(
        shape=shape,
        spacing_mm=spacing_mm,
        angles_deg=spread_angles(views, arc_deg),
        bins=math.ceil(2 * _radius_mm(shape, spacing_mm) / bin_mm),
        bin_mm=bin_mm,
    )


def fan_scan(shape: Shape, spacing_mm: Spacing, views: int, arc_deg: float = 360.0) -> FanSpec:
    """Fan beam views over a turn, or less; bins as wide as pixels where they cross the axis."""
    bins, bin_mm = _bins(shape, spacing_mm)
    return FanSpec(
        shape=shape,
        spacing_mm=spacing_mm,
        angles_deg=spread_angles(views, arc_deg),
        bins=bins,
        bin_mm=bin_mm,
        source_axis_mm=SAD_MM,
        source_detector_mm=SID_MM,
    )


def cone_scan(shape: Shape, spacing_mm: Spacing, views: int, arc_deg: float = 360.0) -> ConeSpec:
    """Cone beam views over a turn, or less; square pixels as wide as bins of `fan_scan`."""
    bins, bin_mm = _bins(shape, spacing_mm)
    nearest = SAD_MM - _radius_mm(shape, spacing_mm)
    height = shape[0] * spacing_mm[0] * SID_MM / nearest
    return ConeSpec(
        shape=shape,
        spacing_mm=spacing_mm,
        angles_deg=spread_angles(views, arc_deg),
        bins=bins,
        bin_mm=bin_mm,
        rows=math.ceil(height / bin_mm),
        row_mm=bin_mm,
        source_axis_mm=SAD_MM,
        source_detector_mm=SID_MM,
    )


def _radius_mm(shape: Shape, spacing_mm: Spacing) -> float:
    """Of the circle around a slice."""
    return math.hypot(shape[1] * spacing_mm[1], shape[2] * spacing_mm[2]) / 2


def _bins(shape: Shape, spacing_mm: Spacing) -> tuple[int, float]:
    """How many bins a fan needs, and their width."""
    radius, bin_mm = _radius_mm(shape, spacing_mm), min(spacing_mm[1:]) * SID_MM / SAD_MM
    if radius >= SAD_MM:
        raise UsageError(
            f"a volume {2 * radius:.0f} mm across reaches the source, {SAD_MM:g} mm from the axis; "
            "take parallel beam"
        )
    reach = SID_MM * math.tan(math.asin(radius / SAD_MM))
    return math.ceil(2 * reach / bin_mm), bin_mm

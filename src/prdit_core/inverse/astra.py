"""Geometries of the ASTRA toolbox, in and out, as the JSON of its dictionaries.

Read are `parallel`, `fanflat`, `parallel3d` and `cone`, and their `_vec` forms where these say the
same: a source or a beam that turns in a circle, and a detector upright to it. ASTRA has angles in
radians and lengths in any unit. Its world coordinates are ours; of its volumes, 2D arrays have rows
against y as ours do, 3D arrays have them with y (W. van Aarle et al., Opt. Express 24, 25129
(2016)).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from prdit_core.errors import UsageError, first_fault
from prdit_core.inverse.astra_vectors import SAME, Views, not_ours, recognised, vectors_of
from prdit_core.inverse.operators.circular import CircularSpec
from prdit_core.inverse.operators.cone import ConeSpec
from prdit_core.inverse.operators.contract import Count
from prdit_core.inverse.operators.fan import FanSpec
from prdit_core.inverse.operators.parallel import ParallelSpec
from prdit_core.inverse.operators.projector import ViewsSpec

if TYPE_CHECKING:
    from prdit_core.inverse.operators.contract import Spec

Length = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_LINE, _PLANE = {"DetectorCount"}, {"DetectorRowCount", "DetectorColCount"}
_CIRCLE = {"DistanceOriginSource", "DistanceOriginDetector"}
_SQUARES = {"DetectorSpacingX", "DetectorSpacingY", "ProjectionAngles"} | _PLANE
_NEEDED: dict[str, set[str]] = {
    "parallel": {"DetectorWidth", "ProjectionAngles"} | _LINE,
    "fanflat": {"DetectorWidth", "ProjectionAngles"} | _LINE | _CIRCLE,
    "parallel3d": _SQUARES,
    "cone": _SQUARES | _CIRCLE,
    "parallel_vec": {"Vectors"} | _LINE,
    "fanflat_vec": {"Vectors"} | _LINE,
    "parallel3d_vec": {"Vectors"} | _PLANE,
    "cone_vec": {"Vectors"} | _PLANE,
}


class _Projections(BaseModel):
    """`proj_geom`, with ASTRA's names."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal[
        "parallel",
        "fanflat",
        "parallel3d",
        "cone",
        "parallel_vec",
        "fanflat_vec",
        "parallel3d_vec",
        "cone_vec",
    ]
    DetectorWidth: Length = 1.0
    DetectorSpacingX: Length = 1.0
    DetectorSpacingY: Length = 1.0
    DetectorCount: Count = 1
    DetectorRowCount: Count = 1
    DetectorColCount: Count = 1
    DistanceOriginSource: Length = 1.0
    DistanceOriginDetector: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    ProjectionAngles: list[FiniteFloat] = []
    Vectors: list[list[FiniteFloat]] = []

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        given, needed = self.model_fields_set - {"type"}, _NEEDED[self.type]
        if given != needed:
            raise ValueError(f"{self.type} has the fields {', '.join(sorted(needed))}")
        numbers = 12 if needed >= _PLANE else 6
        if any(len(vector) != numbers for vector in self.Vectors):
            raise ValueError(f"a vector of {self.type} has {numbers} numbers")
        return self

    @property
    def plane(self) -> bool:
        """Whether the detector has rows."""
        return _NEEDED[self.type] >= _PLANE

    @property
    def bins(self) -> int:
        return self.DetectorColCount if self.plane else self.DetectorCount


class _Volume(BaseModel):
    """`vol_geom`, with ASTRA's names."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    GridRowCount: Count
    GridColCount: Count
    GridSliceCount: Count = 1
    option: dict[str, FiniteFloat] = {}

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.GridSliceCount, self.GridRowCount, self.GridColCount

    @property
    def spacing(self) -> tuple[float, float, float]:
        z, y, x = (self._edge(axis, n) for axis, n in zip("ZYX", self.shape, strict=True))
        return z, y, x

    def _edge(self, axis: str, count: int) -> float:
        """Of a voxel; one unit where no window is given."""
        low = self.option.get(f"WindowMin{axis}", -count / 2)
        high = self.option.get(f"WindowMax{axis}", count / 2)
        if high <= 0 or abs(low + high) > SAME * high:
            raise UsageError(
                f"ASTRA's volume reaches from {low:g} to {high:g} along {axis.lower()}; the axis "
                "of rotation must be in its middle"
            )
        return (high - low) / count


class _Geometry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    proj_geom: _Projections
    vol_geom: _Volume | None = None


def spec_of(content: Any, rows: int = 1) -> ViewsSpec:
    """The spec of ASTRA's `proj_geom`, alone or in one dictionary with `vol_geom`.

    Without a volume, it is as wide as the detector is seen at the axis, in voxels as wide as bins
    are there.

    Parameters
    ----------
    content : what the JSON holds
    rows : of the measurement, for geometries of one row: as many slices, all alike

    Raises
    ------
    UsageError
        If it is none of ASTRA's, or one that our operators do not have.
    """
    if isinstance(content, dict) and "type" in content:
        content = {"proj_geom": content}
    try:
        geometry = _Geometry.model_validate(content)
        given = geometry.proj_geom
        return _spec(given, _views(given), geometry.vol_geom, rows)
    except ValidationError as error:
        raise UsageError(f"the ASTRA geometry is wrong: {first_fault(error)}") from error


def astra_geometry(spec: Spec) -> dict[str, Any]:
    """`proj_geom` and `vol_geom` of a spec: parallel, fan or cone beam.

    Raises
    ------
    UsageError
        For an operator that ASTRA does not have.
    """
    if not isinstance(spec, ViewsSpec):
        raise UsageError(f"ASTRA has no geometry like {spec.kind!r}, only those of projections")
    _, pixel_y, pixel_x = spec.spacing_mm
    slices, height, width = spec.shape
    window = {"X": width * pixel_x, "Y": height * pixel_y}
    volume: dict[str, Any] = {"GridRowCount": height, "GridColCount": width}
    if isinstance(spec, ConeSpec):
        volume["GridSliceCount"], window["Z"] = slices, slices * spec.spacing_mm[0]
    volume["option"] = {
        f"Window{end}{axis}": sign * extent / 2
        for axis, extent in window.items()
        for end, sign in (("Min", -1), ("Max", 1))
    }
    return {"proj_geom": _projections(spec), "vol_geom": volume}


def _views(given: _Projections) -> Views:
    if given.Vectors:
        parallel = given.type.startswith("parallel")
        return recognised(np.array(given.Vectors), given.bins, parallel=parallel)
    circle = _NEEDED[given.type] >= _CIRCLE
    return Views(
        tuple(np.degrees(given.ProjectionAngles).tolist()),
        given.DetectorSpacingX if given.plane else given.DetectorWidth,
        given.DetectorSpacingY,
        source=given.DistanceOriginSource if circle else None,
        detector=given.DistanceOriginDetector if circle else 0.0,
    )


def _spec(given: _Projections, views: Views, volume: _Volume | None, rows: int) -> ViewsSpec:
    source, shrink = views.source, 1.0
    if source is not None:
        shrink = source / (source + views.detector)
    pixel = views.bin_width * shrink
    height = views.row_height * shrink if given.plane else pixel
    slices = given.DetectorRowCount if given.plane else rows
    shape, spacing = (slices, given.bins, given.bins), (height, pixel, pixel)
    if volume is not None:
        shape, spacing = volume.shape, volume.spacing
        if not given.plane:  # a plane that stands for all rows
            shape, spacing = (rows, *shape[1:]), (pixel, *spacing[1:])
        elif source is None and shape[0] != slices:
            raise not_ours(f"it has {slices} rows of parallel rays for {shape[0]} slices")
    content: dict[str, Any] = {
        "shape": shape,
        "spacing_mm": spacing,
        "angles_deg": views.angles_deg,
        "bins": given.bins,
        "bin_mm": views.bin_width,
        "axis_bin": views.axis_bin,
    }
    if source is None:
        return ParallelSpec(**content)
    content |= {"source_axis_mm": source, "source_detector_mm": source + views.detector}
    if not given.plane:
        return FanSpec(**content)
    return ConeSpec(**content, rows=given.DetectorRowCount, row_mm=views.row_height)


def _projections(spec: ViewsSpec) -> dict[str, Any]:
    kind = "fanflat" if spec.kind == "fan" else spec.kind
    counts: dict[str, Any] = {"DetectorCount": spec.bins}
    widths: dict[str, Any] = {"DetectorWidth": spec.bin_mm}
    if isinstance(spec, ConeSpec):
        counts = {"DetectorRowCount": spec.rows, "DetectorColCount": spec.bins}
        widths = {"DetectorSpacingX": spec.bin_mm, "DetectorSpacingY": spec.row_mm}
    if spec.centre != (spec.bins - 1) / 2:
        return {"type": f"{kind}_vec", **counts, "Vectors": vectors_of(spec)}
    circle: dict[str, Any] = {}
    if isinstance(spec, CircularSpec):
        behind = spec.source_detector_mm - spec.source_axis_mm
        circle = {"DistanceOriginSource": spec.source_axis_mm, "DistanceOriginDetector": behind}
    angles = {"ProjectionAngles": np.radians(spec.angles_deg).tolist()}
    return {"type": kind, **counts, **widths, **circle, **angles}

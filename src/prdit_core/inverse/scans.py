"""From files of scanners to measurements."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from prdit_core.data.dxchange import read_dxchange
from prdit_core.data.fastmri import holds_kspace, read_kspace
from prdit_core.data.grid import rejected
from prdit_core.data.payload import damage_named
from prdit_core.data.projections import Projections
from prdit_core.data.tiff import SUFFIXES as TIFF
from prdit_core.data.tiff import is_pictures, read_pictures
from prdit_core.errors import InputRejected, UsageError, first_fault
from prdit_core.files import shown
from prdit_core.geometry import by
from prdit_core.inverse import astra
from prdit_core.inverse.measurement import Measurement
from prdit_core.inverse.measurement_files import read_measurement
from prdit_core.inverse.mri import measurement_of_kspace
from prdit_core.inverse.operators.cone import ConeSpec
from prdit_core.inverse.operators.parallel import ParallelSpec
from prdit_core.inverse.operators.projector import ViewsSpec
from prdit_core.inverse.operators.slices import SlicesSpec
from prdit_core.inverse.operators.table import read_spec
from prdit_core.inverse.sinograms import check_angles, check_integrals, find_axis, missing_arc

if TYPE_CHECKING:
    from pathlib import Path

    from prdit_core.inverse.measurement import Length

HDF5 = (".h5", ".hdf5", ".hdf", ".nxs")
# Formats that are known and not read, by what makes them.
_OTHERS = {
    ".nsipro": "NSI",
    ".txrm": "Zeiss",
    ".xrm": "Zeiss",
    ".xtekct": "Nikon",
    ".dcm": "DICOM-CT-PD",
    ".ima": "DICOM-CT-PD",
    ".mat": "MATLAB",
}
_GEOMETRY_BYTES = 2**26


@dataclass(frozen=True)
class RawOptions:
    """What raw projections do not say, stated by the user.

    Attributes
    ----------
    flats, darks : TIFF pictures without object, and without beam; see `read_pictures`
    geometry : JSON of ASTRA's dictionaries, or of a spec of ours
    axis_bin : where the axis of rotation is, in bins of the detector from 0; None: as the geometry
        says, else it is searched
    rows : of the detector, first and last + 1; None: all
    binning : bins side by side that are taken as one
    every : takes each so-many-th view
    unit_mm : length of ASTRA's unit, or of a pixel where there is no geometry
    """

    flats: Path | None = None
    darks: Path | None = None
    geometry: Path | None = None
    axis_bin: float | None = None
    rows: tuple[int, int] | None = None
    binning: int = 1
    every: int = 1
    unit_mm: float | None = None


NOTHING_STATED = RawOptions()


def open_measurement(path: Path, options: RawOptions = NOTHING_STATED) -> Measurement:
    """Read a measurement of ours (.npz), or of a scanner.

    Raw projections are DXchange HDF5 or TIFF pictures, k-space is HDF5 as of fastMRI.

    Raises
    ------
    InputRejected
        If the file is of no known kind, damaged, or not to be trusted.
    UsageError
        If options do not fit the file.
    """
    suffix, name = path.suffix.lower(), shown(path.name)
    if suffix == ".npz":
        if options != NOTHING_STATED:
            raise UsageError(
                f"{name} has a geometry and is not raw: leave out the options of raw projections"
            )
        return read_measurement(path)
    if suffix in HDF5:
        if holds_kspace(path):
            if options != NOTHING_STATED:
                raise UsageError(f"{name} holds k-space: leave out the options of raw projections")
            return measurement_of_kspace(read_kspace(path))
        if options.flats is not None or options.darks is not None:
            raise UsageError(
                f"{name} has flats and darks of its own: leave out --flats and --darks"
            )
        raw = read_dxchange(path, options.rows)
        spec, length = _geometry(options, raw.counts.shape[1])
        return measurement_of(raw, options, spec, length)
    if is_pictures(path):
        return _of_pictures(path, options)
    if suffix in _OTHERS:
        raise rejected(
            name,
            f"{_OTHERS[suffix]} projections cannot be read yet",
            "export line integrals as .npz, or raw projections as DXchange HDF5 or TIFF",
        )
    if not suffix and not path.exists():
        raise rejected(name, "there is no such file or folder", "check the path")
    raise rejected(
        name,
        "no known kind of measurement",
        f"give .npz of ours, HDF5 ({', '.join(HDF5)}) of DXchange or fastMRI, or TIFF "
        f"({', '.join(TIFF)}), a "
        "folder or a pattern of them",
    )


def measurement_of(
    projections: Projections,
    options: RawOptions = NOTHING_STATED,
    spec: ViewsSpec | None = None,
    length: Length = "pixel",
) -> Measurement:
    """Line integrals and geometry of raw projections.

    Parameters
    ----------
    options : of those, axis, binning, views and unit
    spec : geometry of the projections, with its own angles; None: parallel, on a volume that has a
        slice for each row of the detector and is as wide as it, lengths in pixels
    length : of the spec

    Raises
    ------
    InputRejected
        If the projections cannot be those of a scan, or do not say where the axis is.
    UsageError
        If the axis lies outside of the detector, or hardly a bin or a view would be left.
    """
    name, (views, rows, bins) = projections.name, projections.counts.shape
    if spec is not None:
        projections = replace(projections, angles_deg=np.array(spec.angles_deg))
        expected = (spec.rows if isinstance(spec, ConeSpec) else spec.shape[0], spec.bins)
        if (rows, bins) != expected:
            why = f"its pictures have {rows} x {bins} pixels, its geometry {by(expected)}"
            raise rejected(name, why, "check the geometry, rows and bins")
    _check(options, views, rows if isinstance(spec, ConeSpec) else None, bins, name)
    taken = projections.thinned(options.every)
    high = options.binning if isinstance(spec, ConeSpec) else 1
    integrals = taken.binned(options.binning, high).line_integrals()
    by_rows, angles = integrals.swapaxes(0, 1).copy(), taken.angles_deg
    whole = spec or _in_pixels(rows, bins)
    notes = check_integrals(by_rows, len(angles), name)
    notes += check_angles(angles, whole.period_deg, name)
    binned = whole.binned(options.binning)
    axis = binned.centre
    if options.axis_bin is not None:
        axis = (options.axis_bin + 0.5) / options.binning - 0.5
    elif spec is None:
        axis = find_axis(by_rows, angles, name)
        unbinned = (axis + 0.5) * options.binning - 0.5
        notes.append(f"axis of rotation found at bin {unbinned:.1f}")
    final = binned.model_copy(update={"angles_deg": tuple(angles.tolist()), "axis_bin": axis})
    notes += missing_arc(final)
    if options.unit_mm is not None:
        final, length = _scaled(final, options.unit_mm), "mm"
    values = by_rows if isinstance(final, SlicesSpec) else integrals
    return Measurement(values, final, length=length, metadata={"source": name, "notes": notes})


def _of_pictures(path: Path, options: RawOptions) -> Measurement:
    name = shown(path.name)
    if options.flats is None or options.darks is None:
        raise UsageError(
            f"{name}: pictures do not say what a detector counts without object and without beam; "
            "give --flats and --darks, or keep line integrals as .npz"
        )
    if options.geometry is None:
        raise UsageError(
            f"{name}: pictures do not say from where they were taken; give --geometry, the JSON of "
            "ASTRA's proj_geom"
        )
    counts, flats, darks = (
        read_pictures(place, options.rows) for place in (path, options.flats, options.darks)
    )
    spec, length = _geometry(options, counts.shape[1])
    assert spec is not None
    if len(counts) == 1 and spec.views == counts.shape[1] > 1 and flats.shape[1] == 1:
        counts = counts.swapaxes(0, 1)  # one picture is a sinogram: a row for each view
        spec, length = _geometry(options, 1)
        assert spec is not None
    raw = Projections(name, counts, flats, darks, np.array(spec.angles_deg))
    return measurement_of(raw, options, spec, length)


def _geometry(options: RawOptions, rows: int) -> tuple[ViewsSpec | None, Length]:
    """The stated geometry of so many rows, and what its lengths are in."""
    file = options.geometry
    if file is None:
        return None, "pixel"
    name = shown(file.name)
    try:
        with damage_named(name):
            large = file.stat().st_size > _GEOMETRY_BYTES
            content: Any = None if large else json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise rejected(name, "it is no JSON of a geometry", "give ASTRA's proj_geom as JSON")
    try:
        if "kind" not in content:
            return astra.spec_of(content, rows), "pixel"
        spec = read_spec(content)
    except UsageError as error:
        raise InputRejected(f"{name}: {error}") from error
    if not isinstance(spec, ViewsSpec):
        raise rejected(name, f"{spec.kind} has no views", "give the geometry of projections")
    return spec, "mm"


def _check(options: RawOptions, views: int, rows: int | None, bins: int, name: str) -> None:
    """Refuse options that leave nothing, or make no sense for this detector."""
    axis, binning, every = options.axis_bin, options.binning, options.every
    if axis is not None and not -0.5 <= axis <= bins - 0.5:
        raise UsageError(f"an axis at {axis:g} lies outside of the {bins} bins of {name}")
    if not 1 <= binning <= bins // 2:
        raise UsageError(f"{bins} bins of {name} cannot be taken {binning} at a time")
    if rows is not None and rows % binning:
        raise UsageError(f"{rows} rows of {name} cannot be taken {binning} at a time")
    if not 1 <= every <= views // 2:
        raise UsageError(f"of {views} views of {name} each {every}th leaves too few")


def _in_pixels(rows: int, bins: int) -> ParallelSpec:
    """Parallel projections of a detector whose pixels have no size."""
    return ParallelSpec(
        shape=(rows, bins, bins),
        spacing_mm=(1.0, 1.0, 1.0),
        angles_deg=(0.0,),
        bins=bins,
        bin_mm=1.0,
    )


def _scaled(spec: ViewsSpec, unit_mm: float) -> ViewsSpec:
    try:
        return spec.scaled(unit_mm)
    except ValidationError as error:
        raise UsageError(f"a unit of {unit_mm:g} mm: {first_fault(error)}") from error

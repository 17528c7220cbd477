"""From files of scanners to measurements."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prdit_core.data.dxchange import read_dxchange
from prdit_core.errors import InputRejected, UsageError
from prdit_core.files import shown
from prdit_core.inverse.measurement import Measurement, read_measurement
from prdit_core.inverse.operators.parallel import ParallelSpec
from prdit_core.inverse.sinograms import check_angles, check_integrals, find_axis

if TYPE_CHECKING:
    from pathlib import Path

    from prdit_core.data.projections import Projections

_HDF5 = (".h5", ".hdf5", ".hdf", ".nxs")
# Formats of vendors that are known and not read.
_VENDORS = {
    ".nsipro": "NSI",
    ".txrm": "Zeiss",
    ".xrm": "Zeiss",
    ".xtekct": "Nikon",
    ".dcm": "DICOM-CT-PD",
    ".ima": "DICOM-CT-PD",
}


def open_measurement(
    path: Path,
    *,
    axis_bin: float | None = None,
    rows: tuple[int, int] | None = None,
    several: int = 1,
) -> Measurement:
    """Read a measurement of ours (.npz) or raw parallel projections (DXchange HDF5).

    Parameters
    ----------
    axis_bin, rows, several : for raw projections; see `measurement_of` and `read_dxchange`

    Raises
    ------
    InputRejected
        If the file is of no known kind, damaged, or not to be trusted.
    UsageError
        If options do not fit the file.
    """
    suffix, name = path.suffix.lower(), shown(path.name)
    if suffix in _HDF5:
        raw = read_dxchange(path, rows)
        return measurement_of(raw, axis_bin=axis_bin, several=several)
    if suffix in _VENDORS:
        raise InputRejected(
            f"{name}: {_VENDORS[suffix]} projections cannot be read yet; export line integrals as "
            ".npz, or raw projections as DXchange HDF5"
        )
    if suffix != ".npz":
        raise InputRejected(
            f"{name}: no known kind of measurement; give .npz of ours or DXchange HDF5 "
            f"({', '.join(_HDF5)})"
        )
    if axis_bin is not None or rows is not None or several != 1:
        raise UsageError(f"axis, rows and binning are for raw projections; {name} has a geometry")
    return read_measurement(path)


def measurement_of(
    projections: Projections, *, axis_bin: float | None = None, several: int = 1
) -> Measurement:
    """Line integrals and geometry of raw parallel projections; lengths in pixels of the detector.

    The volume has a slice for each row of the detector, as wide as it.

    Parameters
    ----------
    axis_bin : where the axis of rotation is, in bins of the detector from 0; None: it is searched
    several : bins side by side that are taken as one

    Raises
    ------
    InputRejected
        If the projections cannot be those of a scan, or do not say where the axis is.
    UsageError
        If the axis lies outside of the detector, or hardly a bin would be left.
    """
    name, width = projections.name, projections.counts.shape[2]
    if axis_bin is not None and not -0.5 <= axis_bin <= width - 0.5:
        raise UsageError(f"an axis at {axis_bin:g} lies outside of the {width} bins of {name}")
    if not 1 <= several <= width // 2:
        raise UsageError(f"{width} bins of {name} cannot be taken {several} at a time")
    angles = projections.angles_deg
    integrals = projections.binned(several).line_integrals().swapaxes(0, 1).copy()
    notes = [*check_integrals(integrals, len(angles), name), *check_angles(angles, 180.0, name)]
    if axis_bin is None:
        axis = find_axis(integrals, angles, name)
        notes.append(f"axis of rotation found at bin {(axis + 0.5) * several - 0.5:.1f}")
    else:
        axis = (axis_bin + 0.5) / several - 0.5
    rows, _, bins = integrals.shape
    spec = ParallelSpec(
        shape=(rows, bins, bins),
        spacing_mm=(1.0, float(several), float(several)),
        angles_deg=tuple(angles.tolist()),
        bins=bins,
        bin_mm=float(several),
        axis_bin=axis,
    )
    return Measurement(integrals, spec, length="pixel", metadata={"source": name, "notes": notes})

"""`prdit-core simulate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from prdit_core.cli.console import Json, door, refuse_unheeded, result, say
from prdit_core.cli.options import Threads, those_given
from prdit_core.cli.reading import reads_scans
from prdit_core.config import OperatorName, PatternName, PhaseName
from prdit_core.errors import InputRejected, OutputError, UsageError
from prdit_core.files import shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from prdit_core.data.io import ReadOptions
    from prdit_core.inverse.measurement import Measurement
    from prdit_core.volume import Volume

PROJECTIONS: tuple[OperatorName, ...] = ("parallel", "fan", "cone", "x-ray")
# Which operators an option is for.
FOR: dict[str, tuple[OperatorName, ...]] = {
    "views": ("parallel", "fan", "cone"),
    "arc": ("parallel", "fan", "cone"),
    "photons": PROJECTIONS,
    "factor": ("super-resolution",),
    "sigma": ("blur",),
    **dict.fromkeys(("pattern", "acceleration", "centre", "phase", "noise"), ("kspace",)),
}


@door
@reads_scans
def simulate(
    volume: Annotated[str, typer.Argument(help="Scan, or generated volume.", metavar="VOLUME")],
    out: Annotated[Path, typer.Option(help="FILE.npz of the measurement.")],
    operator: Annotated[
        OperatorName, typer.Option(help="What measures; parallel, fan and cone see all of it.")
    ] = "parallel",
    views: Annotated[
        int | None, typer.Option(min=1, max=65_536, help="Of parallel, fan or cone beam. [20]")
    ] = None,
    arc: Annotated[
        float | None,
        typer.Option(
            min=1,
            max=360,
            help="Degrees that views cover; 120 limit the angle. [180, of fan and cone 360]",
        ),
    ] = None,
    photons: Annotated[
        float | None,
        typer.Option(min=1, max=1e12, help="Sent along each ray, such as 1e5. [no noise]"),
    ] = None,
    factor: Annotated[
        int | None,
        typer.Option(min=2, max=64, help="Edge of the blocks of super-resolution, in voxels. [4]"),
    ] = None,
    sigma: Annotated[
        float | None,
        typer.Option(min=0.1, max=100, help="Of the blur, standard deviation in voxels. [1.5]"),
    ] = None,
    pattern: Annotated[
        PatternName | None,
        typer.Option(help="Of k-space: columns of normal density, or Poisson disc. [gaussian]"),
    ] = None,
    acceleration: Annotated[
        float | None,
        typer.Option(min=1, max=1000, help="Places of k-space for each that is sampled. [8]"),
    ] = None,
    centre: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Share of k-space that is whole, in its middle. [0.04]"),
    ] = None,
    phase: Annotated[
        PhaseName | None,
        typer.Option(help="Of k-space: smooth gives the volume one, which is known. [none]"),
    ] = None,
    noise: Annotated[
        float | None,
        typer.Option(
            min=1e-9, max=1e9, help="Of k-space, standard deviation in the volume's units. [none]"
        ),
    ] = None,
    same_grid: Annotated[
        bool,
        typer.Option(
            "--same-grid",
            help="For reconstruction on the volume's own grid: the data are too good then, which "
            "is recorded. Else voxels of the reconstruction are twice as large.",
        ),
    ] = False,
    like: Annotated[
        str | None,
        typer.Option(
            help="Checkpoint whose window, field of view and grid the scan is brought to first, so "
            "that its prior can reconstruct it."
        ),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(help="With --like: voxels of the reconstruction. [those of the model]"),
    ] = None,
    truth: Annotated[
        Path | None,
        typer.Option(help="FILE.nii.gz: also write the volume as a reconstruction should be."),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Of the noise, and of what k-space is sampled.")
    ] = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that hold something else.")
    ] = False,
    threads: Threads = None,
    *,
    options: ReadOptions,
    json: Json = False,
) -> None:
    """Simulate a measurement of a volume, to reconstruct it from.

    Projections are line integrals of attenuation, with the noise of counted photons if wished; the
    others are in the volume's units, on its own grid. k-space is that of a scan with a single coil.
    """
    given = {"views": views, "arc": arc, "photons": photons, "factor": factor, "sigma": sigma}
    fast: dict[str, Any] = {"pattern": pattern, "acceleration": acceleration, "centre": centre}
    refuse_unheeded(operator, {**given, **fast, "phase": phase, "noise": noise}, FOR)
    if size is not None and like is None:
        raise UsageError("--size goes with --like; else the grid is that of the volume")
    from prdit_core.checkpoints.expected_data import expected_by
    from prdit_core.data.io import read_volume, write_volume
    from prdit_core.data.sources import named, refuse_overlap
    from prdit_core.data.transforms import conform
    from prdit_core.files import check_writable
    from prdit_core.inverse.measurement_files import check_name, read_measurement, write_measurement
    from prdit_core.inverse.sampling_patterns import FastScan
    from prdit_core.machine import use_threads
    from prdit_core.verbs.simulate import coarser, spec_for
    from prdit_core.verbs.simulate import simulate as measure

    check_name(out)
    for file in (out, truth):
        if file is not None:
            refuse_overlap([named(volume)], file)
            check_writable(file.parent)
    use_threads(threads)
    scan = read_volume(volume, options)
    finer = operator in PROJECTIONS and not same_grid
    if like is not None:
        expected = expected_by(like, size)
        conformed = conform(scan, expected.preset, expected.size * (2 if finer else 1))
        scan = conformed.volume
        for note in conformed.notes:
            say(f"note: {note}")
    target = coarser(scan) if finer else scan
    spec = spec_for(
        operator,
        target,
        views=views or 20,
        arc_deg=arc,
        factor=factor or 4,
        sigma=sigma or 1.5,
        fast=FastScan(seed=seed, phase=phase or "none", **those_given(**fast)),
    )
    measurement = measure(scan, spec, photons=photons, noise=noise, seed=seed)
    if not overwrite:
        _refuse_other(out, lambda: _is_same(read_measurement(out), measurement))
        if truth is not None:
            _refuse_other(truth, lambda: _is_near(read_volume(truth), target))
    if truth is not None:
        write_volume(target, truth)
    write_measurement(measurement, out)
    shape = list(measurement.values.shape)
    content = {"measurement": str(out), "shape": shape, "truth": truth and str(truth)}
    lines = [f"{out}: {operator}, {' x '.join(map(str, shape))} numbers"]
    if truth is not None:
        lines.append(f"{truth}: the volume on the grid of a reconstruction")
    result(content, lines, json)


def _refuse_other(file: Path, is_same: Callable[[], bool]) -> None:
    """Raise `OutputError` if the file is there and holds something else."""
    try:
        if not file.exists() or is_same():
            return
    except InputRejected:
        pass
    raise OutputError(
        f"{shown(file)} is there and holds something else; choose another name, or add --overwrite"
    )


def _is_same(one: Measurement, other: Measurement) -> bool:
    same = one.spec == other.spec and one.metadata.get("seed") == other.metadata["seed"]
    return same and np.array_equal(one.values, other.values)


def _is_near(one: Volume, other: Volume) -> bool:
    """But for the rounding of HU."""
    return one.shape == other.shape and bool(np.all(np.abs(one.voxels_hu - other.voxels_hu) <= 0.5))

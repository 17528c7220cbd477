"""`prdit-core calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prdit_core.cli.console import Json, door, progress, result, stoppable
from prdit_core.cli.options import Device, Threads
from prdit_core.errors import CheckpointError, OutputError, UsageError
from prdit_core.files import check_writable, shown

if TYPE_CHECKING:
    from prdit_core.inverse.calibration import Calibration
    from prdit_core.models.prior import Prior


@door
def calibrate(
    checkpoint: Annotated[
        str, typer.Argument(help="Bundled name, checkpoint folder, or run folder of `train`.")
    ],
    data: Annotated[
        Path, typer.Option(help="Prepared volumes that it has not seen (preprocess, phantoms).")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="JSON file; a bundled model needs one. [beside the weights]"
        ),
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Volumes, at most.")] = 16,
    seed: Annotated[int, typer.Option(min=0, help="Of the noise.")] = 0,
    device: Device = "cpu",
    threads: Threads = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Measure sizes anew that were measured before.")
    ] = False,
    json: Json = False,
) -> None:
    """Measure how wrong a model's predictions are at each t, for reconstructions that weigh them.

    Of a model of several sizes all up to that of the data are measured; run again with other data
    for the larger ones. The weights and their hash stay as they are.
    """
    from prdit_core.checkpoints.catalog import BUNDLED, find, load
    from prdit_core.data.datasets import PreparedData
    from prdit_core.data.sources import named, refuse_overlap
    from prdit_core.inverse.calibration import CALIBRATION, write_calibration
    from prdit_core.machine import choose_device, use_threads
    from prdit_core.verbs.calibrate import calibrate_steps

    folder = find(checkpoint)
    if out is None and folder.is_relative_to(BUNDLED):
        raise UsageError(
            f"{shown(checkpoint)} is part of the installation, which is left as it is: name a file "
            "with --out, and give it to reconstruct as --calibration"
        )
    file = folder / CALIBRATION if out is None else named(out)
    if file.suffix != ".json":
        raise UsageError(f"a calibration is a .json file, not {shown(file.name)}")
    refuse_overlap([named(data)], file)
    prior = load(checkpoint, choose_device(device))
    before = _there(file, prior, overwrite)
    check_writable(file.parent)
    prepared = PreparedData.open(named(data))
    if before is not None and not overwrite:
        twice = [size for size in before.sizes if size <= prepared.geometry.shape[0]]
        if twice:
            raise OutputError(
                f"{shown(file)} has the error at size {', '.join(map(str, twice))}; measure it "
                "anew with --overwrite"
            )
    use_threads(threads)
    with stoppable() as stop, progress(not json) as bar:
        task = bar.add_task("calibrate")
        for step in calibrate_steps(prior, prepared, count=count, seed=seed):
            bar.update(task, completed=step.index + 1, total=step.total)
            stop.raise_if_asked()
    calibration = step.calibration
    write_calibration(
        calibration if before is None else before.with_tables(calibration.tables), file
    )
    result(
        {"calibration": str(file), "tables": [table.model_dump() for table in calibration.tables]},
        [f"calibration  {file}", *_lines(calibration, prior)],
        json,
    )


def _there(file: Path, prior: Prior, overwrite: bool) -> Calibration | None:
    """What the file holds already, to be completed."""
    from prdit_core.inverse.calibration import read_calibration

    if not file.exists():
        return None
    try:
        return read_calibration(file, prior)
    except CheckpointError as error:
        if overwrite:
            return None
        raise OutputError(f"{error}, with another --out or --overwrite") from error


def _lines(calibration: Calibration, prior: Prior) -> list[str]:
    """The errors for people, in HU."""
    times = calibration.tables[0].times
    lines = [f"{'t':>6}  " + "  ".join(f"{table.size:>4}^3" for table in calibration.tables)]
    for number, t in enumerate(times):
        hu = (table.errors[number] * prior.intensity.hu_per_unit for table in calibration.tables)
        lines.append(f"{t:>6g}  " + "  ".join(f"{error:>6.1f}" for error in hu))
    return [*lines, f"root mean square in HU, over {calibration.tables[0].volumes} volumes"]

"""`prdit-core tune-tv`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from prdit_core.cli.console import Json, door, progress, result, stoppable
from prdit_core.cli.options import Device, Threads
from prdit_core.cli.reading import reads_scans

if TYPE_CHECKING:
    from prdit_core.data.io import ReadOptions


@door
@reads_scans
def tune_tv(
    measurement: Annotated[
        str,
        typer.Argument(help=".npz of `simulate` or your own, or DXchange HDF5.", metavar="FILE"),
    ],
    volume: Annotated[
        list[str] | None,
        typer.Option(help="Scan to tune on, not the one that was measured; repeat. [phantoms]"),
    ] = None,
    phantoms: Annotated[
        int, typer.Option(min=1, max=16, help="How many to tune on, where no --volume is given.")
    ] = 3,
    device: Device = "cpu",
    threads: Threads = None,
    *,
    options: ReadOptions,
    json: Json = False,
) -> None:
    """Find how strong total variation should be for a measurement, on volumes that are others.

    They are stretched to its grid and measured with its geometry and photons. Give the strength to
    `reconstruct --method tv --tv-strength`; tuned on what is reconstructed, TV would look too good.
    """
    from prdit_core.data.io import read_volume
    from prdit_core.data.sources import named
    from prdit_core.inverse.problem import in_measured_unit
    from prdit_core.inverse.scans import open_measurement
    from prdit_core.inverse.tv import contrast
    from prdit_core.machine import choose_device, use_threads
    from prdit_core.verbs.tv_strength import phantom_numbers, strength_steps

    scan = open_measurement(named(measurement))
    volumes = [read_volume(name, options) for name in volume or []]
    use_threads(threads)
    problem = in_measured_unit(scan, choose_device(device))
    trials = []
    with stoppable() as stop, progress(not json) as bar:
        task = bar.add_task("tune-tv")
        for trial in strength_steps(problem, volumes or phantom_numbers(phantoms)):
            bar.update(task, completed=trial.index + 1, total=trial.total)
            trials.append({"share": trial.share, "error": trial.error})
            stop.raise_if_asked()
    strength = trial.best * contrast(problem.operator, problem.y)
    source = f"{len(volumes)} volumes" if volumes else f"{phantoms} phantoms"
    result(
        {"strength": strength, "share": trial.best, "source": source, "trials": trials},
        [f"--tv-strength {strength:.3g}", f"tuned on {source}, {trial.best:.3g} of the contrast"],
        json,
    )

"""`prdit-core preprocess` and `prdit-core phantoms`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prdit_core.cli.console import door, progress, result, say, stoppable
from prdit_core.errors import PartialFailure, UsageError

if TYPE_CHECKING:
    from prdit_core.data.transforms import Preset
    from prdit_core.verbs.preprocess import Event

Out = Annotated[Path, typer.Option(help="Folder of the prepared data set.")]
Size = Annotated[int, typer.Option(help="Voxels along each edge: 32, 64, 128 or 256.")]
Validation = Annotated[
    float, typer.Option(min=0, max=0.5, help="Share of the patients held out for validation.")
]
Workers = Annotated[int, typer.Option(min=1, max=256, help="Processes; the result is the same.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@door
def preprocess(
    source: Annotated[
        list[Path], typer.Argument(help="Scans, or folders of scans.", metavar="SOURCE...")
    ],
    out: Out,
    preset: Annotated[
        str,
        typer.Option(help="lidc-idri, rad-chestct (as the paper) or chest-320 (whole chests)."),
    ] = "chest-320",
    size: Size = 128,
    field_of_view: Annotated[
        float | None, typer.Option(help="Edge of the cube in mm, in place of the preset's.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the split by patient.")] = 0,
    validation: Validation = 0.1,
    workers: Workers = 1,
    series: Annotated[
        str | None, typer.Option(help="DICOM series to take where a folder holds several.")
    ] = None,
    frame: Annotated[int | None, typer.Option(min=0, help="Frame of a 4D NIfTI.")] = None,
    assume_orientation: Annotated[
        str | None,
        typer.Option(help="Axis directions such as LPS, for files that state none."),
    ] = None,
    assume_rescale: Annotated[
        tuple[float, float] | None,
        typer.Option(help="Slope and intercept (1 -1024) for DICOM without these tags."),
    ] = None,
    hu_offset: Annotated[
        float, typer.Option(help="Added to every voxel, such as -1024 for unsigned files.")
    ] = 0.0,
    nan_fill: Annotated[float | None, typer.Option(help="HU in place of NaN voxels.")] = None,
    json: Json = False,
) -> None:
    """Make a training data set out of CT scans: window, resample, crop or pad, average-pool.

    Accepts DICOM folders, NIfTI, NRRD, MetaImage and RAD-ChestCT .npz. One bad scan does not stop
    the others (exit code 4 and report.json). Run again to go on.
    """
    from prdit_core.data.io import ReadOptions
    from prdit_core.verbs.preprocess import preprocess_steps

    options = ReadOptions(
        series=series,
        frame=frame,
        assume_orientation=assume_orientation,
        assume_rescale=assume_rescale,
        hu_offset=hu_offset,
        nan_fill=nan_fill,
    )
    events = preprocess_steps(
        source,
        preset=_preset(preset, field_of_view),
        size=size,
        out=out,
        read_options=options,
        validation_fraction=validation,
        seed=seed,
        workers=workers,
    )
    _drain(events, "scans", json)


@door
def phantoms(
    out: Out,
    count: Annotated[int, typer.Option(min=1, help="Number of phantoms.")] = 100,
    size: Size = 64,
    seed: Annotated[int, typer.Option(min=0, help="Phantom i depends on (seed, i) only.")] = 0,
    validation: Validation = 0.1,
    workers: Workers = 1,
    json: Json = False,
) -> None:
    """Make procedural thorax phantoms with labels: a data set to train on, free of patients."""
    from prdit_core.verbs.preprocess import phantom_steps

    events = phantom_steps(
        count, size=size, seed=seed, out=out, validation_fraction=validation, workers=workers
    )
    _drain(events, "phantoms", json)


def _preset(name: str, field_of_view_mm: float | None) -> Preset:
    from prdit_core.data.transforms import PRESETS

    if name not in PRESETS:
        raise UsageError(f"preset {name!r} is not known; choose one of {', '.join(PRESETS)}")
    preset = PRESETS[name]
    if field_of_view_mm is None:
        return preset
    return type(preset).model_validate(preset.model_dump() | {"field_of_view_mm": field_of_view_mm})


def _drain(events: Iterator[Event], what: str, as_json: bool) -> None:
    from prdit_core.verbs.preprocess import CasePrepared, CaseRejected, CaseSkipped, DataSetWritten

    written: DataSetWritten | None = None
    rejected: list[dict[str, str]] = []
    partial: PartialFailure | None = None
    with stoppable() as stop, progress(not as_json) as bar:
        task = bar.add_task(what, total=None)
        try:
            for event in events:
                if isinstance(event, DataSetWritten):
                    written = event
                    continue
                bar.update(task, completed=event.index + 1, total=event.total)
                if isinstance(event, CaseRejected):
                    rejected.append({"scan": event.source, "reason": event.reason})
                    say(f"rejected {event.reason}")
                elif isinstance(event, CaseSkipped):
                    say(f"skipped {event.source}: the same as {event.same_as}")
                elif isinstance(event, CasePrepared):
                    for note in event.case.notes:
                        say(f"note: {note}")
                stop.raise_if_asked()
        except PartialFailure as failure:
            partial = failure
    if written is not None:
        content: dict[str, Any] = {
            "data": str(written.folder),
            "train": written.train,
            "validation": written.validation,
            "rejected": rejected,
            "notes": list(written.notes),
        }
        line = f"{written.folder}: {written.train} to train on, {written.validation} to validate"
        result(content, [line, *(f"note: {note}" for note in written.notes)], as_json)
    if partial is not None:
        raise partial

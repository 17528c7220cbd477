"""`prdit-core preprocess`, `prdit-core phantoms` and `prdit-core remove-cases`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prdit_core.cli.console import Json, door, progress, result, say, stoppable
from prdit_core.cli.reading import reads_scans
from prdit_core.errors import PartialFailure, UsageError
from prdit_core.files import shown
from prdit_core.geometry import size_in_words

if TYPE_CHECKING:
    from prdit_core.data.io import ReadOptions
    from prdit_core.data.outcomes import DataSetWritten, PreparationEvent, ScanEvent
    from prdit_core.data.presets import Preset

# Paths stay text until the verb has seen them, since Path("") is the current folder. What ranges
# numbers may have is for the verbs to say, too.
Out = Annotated[str, typer.Option(metavar="PATH", help="Folder of the prepared data set.")]
SIZES = "Voxels along each edge: 8, 16, 32, 64, 128 or 256."
Size = Annotated[int, typer.Option(help=SIZES)]
Validation = Annotated[float, typer.Option(help="Share of the patients held out, above 0 to 0.5.")]
Workers = Annotated[int, typer.Option(help="Processes, 1 to 61; the result is the same.")]
Slab = Annotated[
    float | None,
    typer.Option(
        metavar="MM",
        help="Keep the middle along z only, so many mm, for models of volumes that are no cubes.",
    ),
]
DEFAULT_PRESETS, DEFAULT_SIZE = {"ct": "chest-320", "mr": "head-256-mr"}, 128


@door
@reads_scans
def preprocess(
    source: Annotated[
        list[str], typer.Argument(help="Scans, or folders of scans.", metavar="SOURCE...")
    ],
    out: Out,
    preset: Annotated[
        str | None,
        typer.Option(
            help="lidc-idri, rad-chestct (as the paper), chest-320, head-256, legs-320, "
            "head-256-mr. [chest-320, of MR head-256-mr]"
        ),
    ] = None,
    size: Annotated[int | None, typer.Option(help=f"{SIZES} [{DEFAULT_SIZE}]")] = None,
    field_of_view: Annotated[
        float | None, typer.Option(help="Edge of the cube in mm, in place of the preset's.")
    ] = None,
    slab: Slab = None,
    like: Annotated[
        str | None,
        typer.Option(
            help="Checkpoint to prepare data for (name, folder or run): takes its window, field "
            "of view and size, or with --size another of its resolutions, or twice the highest for "
            "a refiner."
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", help="Label maps, each NIfTI of its scan's name and on its scan's grid."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the split by patient.")] = 0,
    validation: Validation = 0.1,
    workers: Workers = 1,
    *,
    options: ReadOptions,
    json: Json = False,
) -> None:
    """Make a training data set out of scans: window, resample, crop or pad, average-pool.

    Accepts DICOM folders, NIfTI, NRRD, MetaImage and RAD-ChestCT .npz of CT; of MR with --modality
    mr, windowed by the percentiles of each scan. One bad scan does not stop
    the others (exit code 4 and report.json). Run again to go on, or with other scans to add them.
    """
    from prdit_core.verbs.preprocess import preprocess_steps

    changes = {"field_of_view_mm": field_of_view, "slab_mm": slab}
    chosen, edge = _chosen(preset, size, changes, like, DEFAULT_PRESETS[options.modality])
    events = preprocess_steps(
        source,
        preset=chosen,
        size=edge,
        out=out,
        read_options=options,
        labels=labels,
        validation_fraction=validation,
        seed=seed,
        workers=workers,
    )
    drain(events, "scans", json)


@door
def phantoms(
    out: Out,
    count: Annotated[int, typer.Option(min=1, help="Number of phantoms.")] = 100,
    region: Annotated[str, typer.Option(help="chest, head or legs.")] = "chest",
    modality: Annotated[
        str, typer.Option(help="ct; or t1 or t2, MR of the head in arbitrary units.")
    ] = "ct",
    slab: Slab = None,
    size: Size = 64,
    seed: Annotated[int, typer.Option(min=0, help="Phantom i depends on (seed, i) only.")] = 0,
    validation: Validation = 0.1,
    workers: Workers = 1,
    json: Json = False,
) -> None:
    """Make procedural phantoms of a region with labels: a data set free of patients."""
    from prdit_core.verbs.phantoms import phantom_steps

    events = phantom_steps(
        count,
        size=size,
        seed=seed,
        out=out,
        region=region,
        modality=modality,
        slab_mm=slab,
        validation_fraction=validation,
        workers=workers,
    )
    drain(events, "phantoms", json)


@door
def remove_cases(
    data: Annotated[str, typer.Argument(help="Prepared data set.", metavar="DATA")],
    cases: Annotated[
        list[str],
        typer.Argument(help="Ids, or scans as report.json names them.", metavar="CASE..."),
    ],
    json: Json = False,
) -> None:
    """Take cases out of a prepared data set; nothing else does that."""
    from prdit_core.verbs.remove_cases import remove_cases

    _tell(remove_cases(data, cases), {}, json)


def _chosen(
    preset: str | None,
    size: int | None,
    changes: dict[str, float | None],
    like: str | None,
    default: str,
) -> tuple[Preset, int]:
    """Preset and size, as named or as a checkpoint has them."""
    rivals = {
        "--preset": preset,
        "--field-of-view": changes["field_of_view_mm"],
        "--slab": changes["slab_mm"],
    }
    given = [option for option, value in rivals.items() if value is not None]
    if like is not None and given:
        raise UsageError(f"--like takes them from the checkpoint; leave out {', '.join(given)}")
    if like is not None:
        return _like(like, size)
    named = _preset(default if preset is None else preset, changes)
    return named, DEFAULT_SIZE if size is None else size


def _preset(name: str, changes: dict[str, float | None]) -> Preset:
    from prdit_core.data.presets import PRESETS

    if name not in PRESETS:
        raise UsageError(f"preset {name!r} is not known; choose one of {', '.join(PRESETS)}")
    preset = PRESETS[name]
    own = {field: value for field, value in changes.items() if value is not None}
    return type(preset).model_validate(preset.model_dump() | own) if own else preset


def _like(checkpoint: str, wanted: int | None) -> tuple[Preset, int]:
    """Preset and size of data that are like those of a checkpoint; say what they are."""
    from prdit_core.checkpoints.expected_data import expected_by

    expected = expected_by(checkpoint, wanted)
    preset, size = expected.preset, expected.size
    voxels = size_in_words(preset.geometry(size).shape)
    say(
        f"note: like {shown(checkpoint)}: {preset.intensity}, {voxels} voxels, "
        f"field of view {preset.field_of_view_mm:g} mm, {preset.grid} grid"
        + ("" if expected.exact else " (approximate: not recorded by its authors)")
    )
    return preset, size


def drain(events: Iterator[PreparationEvent], what: str, as_json: bool) -> None:
    """Show what becomes of each case, and the whole at the end; stop after one if asked to."""
    from prdit_core.verbs.preprocess import DataSetWritten

    written: DataSetWritten | None = None
    outcomes = _Outcomes()
    partial: PartialFailure | None = None
    with stoppable() as stop, progress(not as_json) as bar:
        task = bar.add_task(what, total=None)
        try:
            for event in events:
                if isinstance(event, DataSetWritten):
                    written = event
                    continue
                bar.update(task, completed=event.index + 1, total=event.total)
                outcomes.add(event)
                stop.raise_if_asked()
        except PartialFailure as failure:
            partial = failure
    if written is not None:
        _tell(written, vars(outcomes), as_json)
    if partial is not None:
        raise partial


def _tell(written: DataSetWritten, scans: dict[str, Any], as_json: bool) -> None:
    content = {
        "data": str(written.folder),
        "train": written.train,
        "validation": written.validation,
        "notes": list(written.notes),
        **scans,
    }
    line = f"{written.folder}: {written.train} to train on, {written.validation} to validate"
    result(content, [line, *(f"note: {note}" for note in written.notes)], as_json)


@dataclass
class _Outcomes:
    """What there is to say about single scans, said at once and kept for the JSON."""

    rejected: list[dict[str, str]] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)
    scan_notes: list[dict[str, str]] = field(default_factory=list)

    def add(self, event: ScanEvent) -> None:
        from prdit_core.verbs.preprocess import CaseRejected, CaseSkipped

        source = event.source
        if isinstance(event, CaseRejected):
            self.rejected.append({"source": source, "reason": event.reason})
            say(shown(f"rejected {source}: {event.reason}"))
        elif isinstance(event, CaseSkipped):
            self.skipped.append({"source": source, "same_as": event.same_as})
            say(shown(f"skipped {source}: the same as {event.same_as}"))
        else:
            for note in event.case.notes:
                self.scan_notes.append({"source": source, "note": note})
                say(shown(f"note {source}: {note}"))

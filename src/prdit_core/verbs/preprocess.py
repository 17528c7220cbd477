"""Prepare data sets: scans become cubes to train on.

The verb is an iterator of events. It can be stopped at any time and goes on when run again, and
writes the same bytes whatever the order of files and the number of workers.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from prdit_core.data.builder import (
    check_fraction,
    check_workers,
    claim_folder,
    in_order,
)
from prdit_core.data.io import AS_STATED
from prdit_core.data.membership import SCANS, add_cases, cases_in
from prdit_core.data.outcomes import (
    CasePrepared,
    CaseRejected,
    CaseSkipped,
    DataSetWritten,
    PreparationEvent,
    ScanTally,
    outcome,
    update_report,
    written,
)
from prdit_core.data.paired_labels import LabelFolder
from prdit_core.data.patients import is_known
from prdit_core.data.preparing import prepare_scan
from prdit_core.data.sources import find_sources, links_left_out, named, refuse_overlap
from prdit_core.data.transforms import check_size
from prdit_core.errors import InputRejected, PartialFailure, UsageError
from prdit_core.files import shown
from prdit_core.intensity import HU
from prdit_core.machine import package_version

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from prdit_core.data.datasets import Case
    from prdit_core.data.io import ReadOptions
    from prdit_core.data.presets import Preset

__all__ = [
    "CasePrepared",
    "CaseRejected",
    "CaseSkipped",
    "DataSetWritten",
    "PreparationEvent",
    "preprocess",
    "preprocess_steps",
]

ONE_SCAN = "one scan only, so none is left to validate with"
ONE_PATIENT = "all scans are of one patient, so none is left to validate with"


def preprocess_steps(
    sources: Sequence[str | Path],
    *,
    preset: Preset,
    size: int,
    out: str | Path,
    read_options: ReadOptions = AS_STATED,
    labels: str | Path | None = None,
    validation_fraction: float = 0.1,
    seed: int = 0,
    workers: int = 1,
) -> Iterator[PreparationEvent]:
    """Make a prepared data set of all scans at or below `sources`.

    Scans are added to those that are in the data set already, prepared with the same settings,
    as if all had been given at once; also when two commands run at the same time. `remove_cases`
    takes them out. `report.json` in `out` says what became of each scan; it names files, so it is
    not for sharing, as `source` of the events and `patients.json`, which tells patients apart.
    All else names neither files nor patients.

    `labels` is a folder of label maps, one of each scan and on its grid (see `LabelFolder`): they
    are prepared with the scans, nearest neighbour, and lie beside them as those of phantoms do.

    Yields
    ------
    One of CasePrepared, CaseSkipped, CaseRejected for each scan, then DataSetWritten.

    Raises
    ------
    UsageError
        If a number is out of range, a path is empty, `out` lies in a source, or preset and reading
        options are of different modalities.
    OutputError
        If `out` cannot be written, holds something else or a data set of other settings.
    RunBusy
        If another command that changes `out` does not come to an end.
    InputRejected
        If there is no scan, or none that can be used, a folder cannot be listed, or `labels` is no
        folder of label maps.
    PartialFailure
        After DataSetWritten, if some scans were rejected.
    """
    folder, places = named(out), [named(source) for source in sources]
    check_size(size)
    preset.geometry(size)
    check_fraction(validation_fraction)
    check_workers(workers)
    maps = _label_folder(labels, places)
    refuse_overlap([*places, *([maps.folder] if maps else [])], folder)
    _check_modality(preset, read_options)
    scans = find_sources(places)
    if not scans:
        raise InputRejected("no scan found; give files or folders of CT volumes or DICOM series")
    settings = {
        "kind": SCANS,
        "made_with": f"napari-prdit {package_version()}",
        "preset": preset.model_dump(mode="json"),
        "size": size,
        "read_options": read_options.model_dump(mode="json"),
        "seed": seed,
        "validation_fraction": validation_fraction,
    }
    if maps:  # of which data sets without say nothing
        settings["labels"] = maps.names or "numbers"
    claim_folder(folder, settings)
    prepare = partial(prepare_scan, folder, preset, size, read_options, maps)
    tally = ScanTally(scans, cases_in(folder))
    for result in in_order(prepare, scans, workers):
        yield tally.add(result)
    names = maps.names if maps else {}
    members = add_cases(folder, tally.kept, settings, names) if tally.kept else None
    report = shown(update_report(folder, tally))
    if members is None:
        raise InputRejected(f"none of {len(scans)} scans can be used; see {report}")
    yield written(folder, members, [*links_left_out(places), *_split_notes(members.cases)])
    if tally.rejected:
        raise PartialFailure(
            f"{len(tally.rejected)} of {len(scans)} scans were rejected, the others are "
            f"prepared; see {report}"
        )


def preprocess(
    sources: Sequence[str | Path],
    *,
    preset: Preset,
    size: int,
    out: str | Path,
    read_options: ReadOptions = AS_STATED,
    labels: str | Path | None = None,
    validation_fraction: float = 0.1,
    seed: int = 0,
    workers: int = 1,
) -> DataSetWritten:
    """As `preprocess_steps`, without looking at the steps."""
    return outcome(
        preprocess_steps(
            sources,
            preset=preset,
            size=size,
            out=out,
            read_options=read_options,
            labels=labels,
            validation_fraction=validation_fraction,
            seed=seed,
            workers=workers,
        )
    )


def _label_folder(labels: str | Path | None, places: Sequence[Path]) -> LabelFolder | None:
    """The label maps, which must not lie among the scans: they would be taken for some."""
    if labels is None:
        return None
    refuse_overlap(places, named(labels), "label maps")
    return LabelFolder.open(named(labels))


def _check_modality(preset: Preset, options: ReadOptions) -> None:
    """Refuse scans read as of another modality than the preset is for."""
    wanted = "ct" if preset.units == HU else "mr"
    if options.modality != wanted:
        raise UsageError(
            f"preset {preset.name} is for {preset.units}: scans of modality {wanted}, not "
            f"{options.modality}; change --preset or --modality"
        )


def _split_notes(cases: Sequence[Case]) -> list[str]:
    """What keeps the split from being one by patient."""
    if len(cases) == 1:
        return [ONE_SCAN]
    if len({case.patient for case in cases}) == 1:
        return [ONE_PATIENT]
    unknown = sum(not is_known(case) for case in cases)
    named_none = "1 scan names" if unknown == 1 else f"{unknown} scans name"
    return [f"{named_none} no patient; split by scan"] if unknown else []

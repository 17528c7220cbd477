"""Prepare data sets: scans become cubes to train on, or phantoms are made as such.

Both verbs are iterators of events. They can be stopped at any time and go on when run again, and
write the same bytes whatever the order of files and the number of workers.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prdit_core.data.builder import (
    check_fraction,
    claim_folder,
    finish_case,
    finished_case,
    in_order,
    split_by_patient,
)
from prdit_core.data.datasets import Case, Manifest, write_case, write_manifest
from prdit_core.data.io import AS_STATED, ReadOptions, read_volume
from prdit_core.data.phantoms import LABELS, make_phantom
from prdit_core.data.sources import Source, content_hash, find_sources, refuse_overlap
from prdit_core.data.transforms import PRESETS, WORKING_EDGE, Preset, check_size, conform
from prdit_core.errors import (
    InputRejected,
    MemoryLimit,
    NumericalError,
    PartialFailure,
    UsageError,
)
from prdit_core.files import shown, write_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

REPORT = "report.json"
PHANTOM_PRESET = PRESETS["chest-320"]
MAX_PHANTOMS = 100_000


@dataclass(frozen=True)
class CasePrepared:
    """A cube was written, or was there from an earlier run (`reused`)."""

    index: int
    total: int
    case: Case
    reused: bool


@dataclass(frozen=True)
class CaseSkipped:
    """A scan gave the same cube as one before it."""

    index: int
    total: int
    source: str
    same_as: str


@dataclass(frozen=True)
class CaseRejected:
    """A scan cannot be used, for the reason given."""

    index: int
    total: int
    source: str
    reason: str


@dataclass(frozen=True)
class DataSetWritten:
    """The data set is complete; `notes` say what its user should know."""

    folder: Path
    train: int
    validation: int
    skipped: int
    rejected: int
    notes: tuple[str, ...]


ScanEvent = CasePrepared | CaseSkipped | CaseRejected
Event = ScanEvent | DataSetWritten


def preprocess_steps(
    sources: Sequence[str | Path],
    *,
    preset: Preset,
    size: int,
    out: str | Path,
    read_options: ReadOptions = AS_STATED,
    validation_fraction: float = 0.1,
    seed: int = 0,
    workers: int = 1,
) -> Iterator[Event]:
    """Make a prepared data set of all scans at or below `sources`.

    The data set holds exactly these scans: cubes of an earlier run in the same folder are used
    again for scans that are still given, and left out otherwise. `report.json` in `out` says
    what became of each scan; it names files, so it is not for sharing.

    Yields
    ------
    One of CasePrepared, CaseSkipped, CaseRejected for each scan, then DataSetWritten.

    Raises
    ------
    UsageError
        If a number is out of range, or `out` lies in a source.
    OutputError
        If `out` cannot be written or holds something else.
    InputRejected
        If there is no scan, or none that can be used.
    PartialFailure
        After DataSetWritten, if some scans were rejected.
    """
    folder, places = Path(out), [Path(source) for source in sources]
    check_size(size)
    check_fraction(validation_fraction)
    refuse_overlap(places, folder)
    scans = find_sources(places)
    if not scans:
        raise InputRejected("no scan found; give files or folders of CT volumes or DICOM series")
    settings = {
        "kind": "scans",
        "preset": preset.model_dump(mode="json"),
        "size": size,
        "read_options": read_options.model_dump(mode="json"),
        "seed": seed,
        "validation_fraction": validation_fraction,
    }
    claim_folder(folder, settings)
    prepare = partial(_prepare_scan, folder, preset, size, read_options)
    kept: dict[str, Case] = {}
    events: list[ScanEvent] = []
    for index, outcome in enumerate(in_order(prepare, scans, workers)):
        events.append(_event(index, scans, outcome, kept))
        yield events[-1]
    report = _write_report(folder, events)
    rejected = sum(isinstance(event, CaseRejected) for event in events)
    if not kept:
        raise InputRejected(f"none of {len(scans)} scans can be used; see {shown(report)}")
    skipped = len(scans) - rejected - len(kept)
    yield _write_data_set(folder, list(kept.values()), settings, {}, skipped, rejected)
    if rejected:
        raise PartialFailure(
            f"{rejected} of {len(scans)} scans were rejected, the others are prepared; "
            f"see {shown(report)}"
        )


def preprocess(
    sources: Sequence[str | Path],
    *,
    preset: Preset,
    size: int,
    out: str | Path,
    read_options: ReadOptions = AS_STATED,
    validation_fraction: float = 0.1,
    seed: int = 0,
    workers: int = 1,
) -> DataSetWritten:
    """As `preprocess_steps`, without looking at the steps."""
    return _last(
        preprocess_steps(
            sources,
            preset=preset,
            size=size,
            out=out,
            read_options=read_options,
            validation_fraction=validation_fraction,
            seed=seed,
            workers=workers,
        )
    )


def phantom_steps(
    count: int,
    *,
    size: int,
    seed: int,
    out: str | Path,
    validation_fraction: float = 0.1,
    workers: int = 1,
) -> Iterator[Event]:
    """Make `count` phantoms with labels as a prepared data set of preset chest-320.

    Phantom i depends on seed and i alone. They are made at half the voxel size, at the finest
    1.25 mm, and average-pooled. The same call goes on where it was stopped; a higher count adds.

    Yields
    ------
    CasePrepared for each phantom, DataSetWritten at the end.

    Raises
    ------
    UsageError
        If a number is out of range.
    OutputError
        If `out` cannot be written or holds something else.
    """
    folder = Path(out)
    check_size(size)
    check_fraction(validation_fraction)
    if not 1 <= count <= MAX_PHANTOMS or seed < 0:
        raise UsageError(f"{count} phantoms of seed {seed}: 1 to {MAX_PHANTOMS}, seed 0 or more")
    settings = {
        "kind": "phantoms",
        "preset": PHANTOM_PRESET.model_dump(mode="json"),
        "size": size,
        "seed": seed,
        "validation_fraction": validation_fraction,
        "generator": _phantom_generator(),
    }
    claim_folder(folder, settings)
    prepare = partial(_prepare_phantom, folder, size, seed)
    cases = []
    for index, (case, reused) in enumerate(in_order(prepare, range(count), workers)):
        cases.append(case)
        yield CasePrepared(index, count, case, reused)
    yield _write_data_set(folder, cases, settings, LABELS, 0, 0)


def phantoms(
    count: int,
    *,
    size: int,
    seed: int,
    out: str | Path,
    validation_fraction: float = 0.1,
    workers: int = 1,
) -> DataSetWritten:
    """As `phantom_steps`, without looking at the steps."""
    return _last(
        phantom_steps(
            count,
            size=size,
            seed=seed,
            out=out,
            validation_fraction=validation_fraction,
            workers=workers,
        )
    )

"""Filling the folder of a prepared data set: what it is of, and how it is split.

`settings.json` says what every case in the folder was made with.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from filelock import FileLock, Timeout

from prdit_core.data.datasets import CASES, MANIFEST, Manifest, write_manifest
from prdit_core.errors import MemoryLimit, OutputError, RunBusy, UsageError
from prdit_core.files import check_writable, shown, write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from prdit_core.data.datasets import Case

SETTINGS, LOCK = "settings.json", ".lock"
PATIENCE_S = 600.0
MAX_WORKERS = 61  # the most that Windows allows
NOT_IN_SETTINGS = ("preset", "size", "made_with")  # fields of the manifest itself

Job = TypeVar("Job")
Result = TypeVar("Result")


def claim_folder(folder: Path, settings: dict[str, Any]) -> None:
    """Make `folder` the place of a data set with these settings, or see that it already is.

    As long as it has no case, as after a refusal, other settings take the place of the first.

    Raises
    ------
    OutputError
        If it cannot be written, or holds other files or a data set of other settings.
    """
    check_writable(folder)
    path = folder / SETTINGS
    visible = [entry.name for entry in folder.iterdir() if not entry.name.startswith(".")]
    if visible and SETTINGS not in visible:  # which is the first that a data set writes
        raise OutputError(f"{shown(folder)} holds other files; choose an empty folder")
    with locked(folder):
        if not any((folder / CASES).glob("*.json")) and not (folder / MANIFEST).exists():
            write_json(path, settings)
    check_settings(folder, settings)


def check_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Raise `OutputError` unless `folder` holds a data set with these settings."""
    there, wanted = _flat(read_settings(folder)), _flat(settings)
    names = [name for name in {**there, **wanted} if there.get(name) != wanted.get(name)]
    if names:
        now = ", ".join(f"{n} {there.get(n)}, now {wanted.get(n)}" for n in sorted(names)[:4])
        raise OutputError(
            f"{shown(folder)} was prepared with other settings ({shown(now)}); "
            "choose another folder"
        )


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other commands from changing which cases are in the data set; they wait.

    Raises
    ------
    RunBusy
        If another command does not come to an end.
    OutputError
        If no lock can be made there.
    """
    lock = FileLock(folder / LOCK, timeout=PATIENCE_S)
    try:
        lock.acquire()
    except Timeout as error:
        raise RunBusy(f"another command changes {shown(folder)}; wait for it") from error
    except OSError as error:
        raise OutputError(f"cannot lock {shown(folder)}: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()


def split_by_patient(
    cases: Sequence[Case], *, fraction: float, seed: int
) -> tuple[tuple[Case, ...], tuple[Case, ...]]:
    """Cases to train on and to validate with, each sorted by id.

    Patients are ranked by a hash of seed and their first case, so order and names of files do
    not matter. With two patients or more at least one validates and one trains.

    Raises
    ------
    UsageError
        If `fraction` is not above 0 and at most 0.5.
    """
    check_fraction(fraction)
    ordered = sorted(cases, key=lambda case: case.id)
    first: dict[str, str] = {}
    for case in ordered:
        first.setdefault(case.patient, case.id)
    patients = sorted(first, key=lambda patient: _rank(seed, first[patient]))
    count = min(max(1, round(fraction * len(patients))), len(patients) - 1)
    held_out = set(patients[:count])
    return (
        tuple(case for case in ordered if case.patient not in held_out),
        tuple(case for case in ordered if case.patient in held_out),
    )


def check_fraction(fraction: float) -> None:
    """Raise `UsageError` unless `fraction` is above 0 and at most 0.5."""
    if not 0 < fraction <= 0.5:
        raise UsageError(f"validation fraction {fraction:g} is not above 0 and at most 0.5")


def write_data_set(
    folder: Path, cases: Sequence[Case], settings: dict[str, Any], label_names: dict[str, int]
) -> Manifest:
    """Split the cases and write the manifest, which makes the data set complete.

    There patients are numbered, since who can guess an ID could find it by its key.
    """
    train, validation = split_by_patient(
        cases, fraction=settings["validation_fraction"], seed=settings["seed"]
    )
    numbers = _patient_numbers(cases)
    manifest = Manifest(
        made_with=settings["made_with"],
        preset=settings["preset"],
        size=settings["size"],
        settings={name: settings[name] for name in settings if name not in NOT_IN_SETTINGS},
        label_names=label_names,
        train=tuple(_numbered(case, numbers) for case in train),
        validation=tuple(_numbered(case, numbers) for case in validation),
    )
    write_manifest(folder, manifest)
    return manifest


def in_order(
    function: Callable[[Job], Result], jobs: Sequence[Job], workers: int
) -> Iterator[Result]:
    """Results of all jobs in their order, computed by `workers` processes (1: by this one).

    Raises
    ------
    UsageError
        If `workers` is out of range.
    MemoryLimit
        If a worker process was killed.
    """
    check_workers(workers)
    if workers == 1:
        yield from map(function, jobs)
        return
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(jobs) or 1), spawn, _use_one_thread)
    try:
        yield from pool.map(function, jobs)
    except BrokenProcessPool as error:
        raise MemoryLimit(
            "a worker process was killed, as happens for want of memory; finished cases are kept: "
            "run again with fewer workers"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def read_settings(folder: Path) -> dict[str, Any]:
    """What every case in a data set was made with.

    Raises
    ------
    OutputError
        If that cannot be read.
    """
    path = folder / SETTINGS
    try:
        content = json.loads(path.read_bytes())
        return dict(content)
    except (OSError, ValueError, TypeError) as error:
        raise OutputError(f"{shown(path)} is damaged; choose another folder") from error


def check_workers(workers: int) -> None:
    """Raise `UsageError` unless `workers` is from 1 to `MAX_WORKERS`."""
    if not 1 <= workers <= MAX_WORKERS:
        raise UsageError(f"{workers} workers: use 1 to {MAX_WORKERS}")


def _patient_numbers(cases: Sequence[Case]) -> dict[str, str]:
    """A number for each patient's key, in the order of their first case by id."""
    keys = dict.fromkeys(case.patient for case in sorted(cases, key=lambda case: case.id))
    return {key: f"patient-{number:04d}" for number, key in enumerate(keys, 1)}


def _numbered(case: Case, numbers: dict[str, str]) -> Case:
    return case.model_copy(update={"patient": numbers[case.patient]})


def _use_one_thread() -> None:
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted name."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat


def _rank(seed: int, case_id: str) -> str:
    return hashlib.sha256(f"{seed} {case_id}".encode()).hexdigest()

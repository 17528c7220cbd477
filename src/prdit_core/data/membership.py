"""Which cases are in a data set: scans and phantoms are added, and only taken out by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prdit_core.data.builder import check_settings, locked, read_settings, write_data_set
from prdit_core.data.datasets import MANIFEST, read_manifest
from prdit_core.data.paired_labels import names_found
from prdit_core.data.patients import Register, is_known
from prdit_core.data.preparing import files_of
from prdit_core.errors import InputRejected, OutputError, UsageError
from prdit_core.files import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from prdit_core.data.datasets import Case, Manifest

# What `settings` says the cases are made of.
SCANS, PHANTOMS = "scans", "phantoms"


@dataclass(frozen=True)
class Membership:
    """A data set after a change.

    Attributes
    ----------
    manifest : as it was written
    cases : all cases sorted by id, with patients that `is_known` can judge
    earlier : how many were there before and are not among those added
    seen : how many of those to train on before validate now
    """

    manifest: Manifest
    cases: tuple[Case, ...]
    earlier: int
    seen: int


def cases_in(folder: Path) -> tuple[Case, ...]:
    """The cases that are in the data set already, patients by number; none where it is new.

    Raises
    ------
    OutputError
        If its manifest is damaged.
    """
    manifest = _manifest_in(folder)
    return () if manifest is None else manifest.cases


def add_cases(
    folder: Path,
    cases: Sequence[Case],
    settings: dict[str, Any],
    label_names: dict[str, int] | None,
) -> Membership:
    """Write the manifest of the cases that are in the data set and of these, each cube once.

    The result is the same as if all were prepared by one command. Other commands may do the
    same at the same time: they take turns.

    Parameters
    ----------
    label_names : label name to number; None: the numbers that the cases have

    Raises
    ------
    OutputError
        If what is there is damaged or of other settings, or nothing tells whose the scans are.
    RunBusy
        If another command does not come to an end.
    """
    with locked(folder):
        check_settings(folder, settings)
        for case in cases:
            if not files_of(folder, case.id)[0].exists():
                raise OutputError(f"case {case.id} was removed meanwhile; run again")
        before = _manifest_in(folder)
        added = {case.id for case in cases}
        others = [case for case in cases_in(folder) if case.id not in added]
        register = Register.read(folder)
        others = _recalled(others, register, settings["kind"])
        if settings["kind"] == SCANS:
            cases = register.enter(cases)
            register.write(folder)
        kept = without_doubles([*cases, *others])
        names = names_found(kept) if label_names is None else label_names
        manifest = write_data_set(folder, kept, settings, names)
    return Membership(manifest, tuple(kept), len(others), _seen(before, manifest))


def remove_cases(folder: Path, ids: Sequence[str]) -> Membership:
    """Take cases out of the data set, their files too; the rest is split anew.

    Raises
    ------
    UsageError
        If one is not in the data set, or none would be left.
    InputRejected
        If `folder` is no prepared data set.
    OutputError
        If it cannot be written, or nothing tells whose the scans in it are.
    RunBusy
        If another command does not come to an end.
    """
    read_manifest(folder)
    with locked(folder):
        before, settings = read_manifest(folder), read_settings(folder)
        if absent := sorted(set(ids) - {case.id for case in before.cases}):
            raise UsageError(f"not in {shown(folder)}: {shown(', '.join(absent))}")
        left = [case for case in before.cases if case.id not in ids]
        if not left:
            raise UsageError(f"no case would be left in {shown(folder)}; remove the folder instead")
        register = Register.read(folder)
        kept = sorted(_recalled(left, register, settings["kind"]), key=lambda case: case.id)
        manifest = write_data_set(folder, kept, settings, before.label_names)
        for case_id in ids:
            for path in files_of(folder, case_id):
                path.unlink(missing_ok=True)
            register.patients.pop(case_id, None)
        if settings["kind"] == SCANS:
            register.write(folder)
    return Membership(manifest, tuple(kept), len(kept), _seen(before, manifest))


def without_doubles(cases: Iterable[Case]) -> list[Case]:
    """Cases sorted by id, one of each cube: that whose patient is known, for the split."""
    kept: dict[str, Case] = {}
    for case in sorted(cases, key=lambda case: (not is_known(case), case.id)):
        kept.setdefault(case.sha256, case)
    return sorted(kept.values(), key=lambda case: case.id)


def _manifest_in(folder: Path) -> Manifest | None:
    if not (folder / MANIFEST).exists():
        return None
    try:
        return read_manifest(folder)
    except InputRejected as error:
        remedy = f"remove {MANIFEST} and give all scans again, or choose another folder"
        raise OutputError(f"nothing can be added: {error}; {remedy}") from error


def _recalled(cases: Sequence[Case], register: Register, kind: str) -> list[Case]:
    """Cases of a manifest with their patients; each phantom is its own."""
    if kind == SCANS:
        return register.recall(cases)
    return [case.model_copy(update={"patient": case.id}) for case in cases]


def _seen(before: Manifest | None, now: Manifest) -> int:
    """How many cases to train on in `before` validate now."""
    if before is None:
        return 0
    return len({case.id for case in before.train} & {case.id for case in now.validation})

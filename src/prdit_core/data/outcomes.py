"""What becomes of each scan on its way into a data set, told as events and as a report."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prdit_core.data.builder import locked
from prdit_core.data.membership import cases_in
from prdit_core.data.patients import is_known
from prdit_core.data.preparing import Prepared, Refused
from prdit_core.files import write_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from prdit_core.data.datasets import Case
    from prdit_core.data.membership import Membership
    from prdit_core.data.sources import ScanSource


@dataclass(frozen=True)
class CasePrepared:
    """A cube was written, or was there from an earlier run (`reused`)."""

    index: int
    total: int
    source: str
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
    notes: tuple[str, ...]


ScanEvent = CasePrepared | CaseSkipped | CaseRejected
PreparationEvent = ScanEvent | DataSetWritten
PreparationReport = dict[str, list[dict[str, Any]]]
REPORT = "report.json"


class ScanTally:
    """What became of the scans so far, in a data set that may have cases already."""

    def __init__(self, scans: Sequence[ScanSource], present: Sequence[Case]) -> None:
        self.names = [scan.name for scan in scans]
        self.done = 0
        self._present = {case.sha256: case.id for case in present}
        self._kept: dict[str, tuple[Case, str]] = {}
        self.skipped: list[tuple[str, str]] = []
        self.rejected: list[tuple[str, str]] = []

    def add(self, result: Prepared | Refused) -> ScanEvent:
        """Count the result for the next scan, and tell it as an event."""
        index, total, name = self.done, len(self.names), self.names[self.done]
        self.done += 1
        if isinstance(result, Refused):
            self.rejected.append((name, result.reason))
            return CaseRejected(index, total, name, result.reason)
        case = result.case
        first = self._kept.setdefault(case.sha256, (case, name))
        if first[0] is case:
            same_as = self._present.get(case.sha256, case.id)
            if same_as != case.id:
                return CaseSkipped(index, total, name, same_as)
            return CasePrepared(index, total, name, case, result.reused)
        kept, dropped = sorted([first, (case, name)], key=_rank_among_equals)
        self._kept[case.sha256] = kept
        self.skipped.append((dropped[1], case.sha256))
        return CaseSkipped(index, total, name, first[0].id)

    @property
    def kept(self) -> list[Case]:
        """The cases that these scans gave, sorted by id."""
        return sorted((case for case, _ in self._kept.values()), key=lambda case: case.id)

    def report(self, cases: Sequence[Case], earlier: PreparationReport) -> PreparationReport:
        """What became of these scans and, from the report of earlier commands, of others.

        Parameters
        ----------
        cases
            All that are in the data set now.
        earlier
            The report as it stands.
        """
        id_of = {case.sha256: case.id for case in cases}
        source_of = {entry["case"]: entry["source"] for entry in earlier["prepared"]}
        skipped = list(self.skipped)
        for case, name in self._kept.values():
            if case.id in id_of.values():
                source_of[case.id] = name
            else:
                skipped.append((name, case.sha256))
        prepared = [
            {"source": source_of.get(case.id, ""), "case": case.id, "notes": list(case.notes)}
            for case in cases
        ]
        again = {name for name, _ in (*skipped, *self.rejected)}
        again |= {entry["source"] for entry in prepared}
        return {
            "prepared": prepared,
            "skipped": _others(earlier["skipped"], again)
            + [{"source": name, "same_as": id_of.get(sha256, "")} for name, sha256 in skipped],
            "rejected": _others(earlier["rejected"], again)
            + [{"source": name, "reason": reason} for name, reason in self.rejected],
        }


def written(folder: Path, members: Membership, notes: Iterable[str]) -> DataSetWritten:
    """The event of a complete data set; its notes also say what became of earlier cases."""
    cases = members.manifest
    told = (*notes, *_growth_notes(members))
    return DataSetWritten(folder, len(cases.train), len(cases.validation), told)


def outcome(steps: Iterable[PreparationEvent]) -> DataSetWritten:
    """Drain a preparation; its last event."""
    return [event for event in steps if isinstance(event, DataSetWritten)][-1]


def update_report(folder: Path, tally: ScanTally) -> Path:
    """Write what became of these scans, and of those of earlier commands, to `report.json`.

    Raises
    ------
    OutputError
        If it cannot be written.
    RunBusy
        If another command does not come to an end.
    """
    path = folder / REPORT
    with locked(folder):
        return write_json(path, tally.report(cases_in(folder), _read_report(path)))


def cases_by_source(folder: Path) -> dict[str, list[str]]:
    """The cases that scans of a name became; folders may have held scans of the same name."""
    cases: dict[str, list[str]] = {}
    for entry in _read_report(folder / REPORT)["prepared"]:
        cases.setdefault(entry["source"], []).append(entry["case"])
    return cases


def _growth_notes(members: Membership) -> list[str]:
    """What became of the cases that were there before."""
    counts = {
        "cases of earlier commands are kept; remove-cases takes them out": members.earlier,
        "cases that were to train on validate now; earlier models saw them": members.seen,
    }
    return [f"{count} {text}" for text, count in counts.items() if count]


def _read_report(path: Path) -> PreparationReport:
    """A report as it stands; an empty one where it is gone or damaged, since little needs it."""
    wanted = {"prepared": "case", "skipped": "same_as", "rejected": "reason"}
    try:
        content = json.loads(path.read_bytes())
        for part, field in wanted.items():
            texts = [text for entry in content[part] for text in (entry["source"], entry[field])]
            if not all(isinstance(text, str) for text in texts):
                raise ValueError(part)
    except (OSError, ValueError, TypeError, KeyError):
        return {part: [] for part in wanted}
    return {part: content[part] for part in wanted}


def _others(entries: list[dict[str, Any]], again: set[str]) -> list[dict[str, Any]]:
    return [entry for entry in entries if entry["source"] not in again]


def _rank_among_equals(candidate: tuple[Case, str]) -> tuple[bool, str, str]:
    """Of equal cubes the one with a known patient is kept, for the sake of the split."""
    case, source = candidate
    return not is_known(case), case.id, source

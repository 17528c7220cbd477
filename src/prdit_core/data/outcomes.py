"""What becomes of each scan on its way into a data set, told as events and as a report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prdit_core.data.preparing import Prepared, Refused, patient_is_known

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from prdit_core.data.datasets import Case
    from prdit_core.data.sources import Source


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
Event = ScanEvent | DataSetWritten


class ScanTally:
    """What became of the scans so far."""

    def __init__(self, scans: Sequence[Source]) -> None:
        self.names = [scan.name for scan in scans]
        self.done = 0
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
            return CasePrepared(index, total, name, case, result.reused)
        kept, dropped = sorted([first, (case, name)], key=_rank_among_equals)
        self._kept[case.sha256] = kept
        self.skipped.append((dropped[1], case.sha256))
        return CaseSkipped(index, total, name, first[0].id)

    @property
    def kept(self) -> list[Case]:
        """The cases of the data set, sorted by id."""
        return sorted((case for case, _ in self._kept.values()), key=lambda case: case.id)

    def report(self) -> dict[str, Any]:
        """The content of `report.json`, the same whatever the order of work."""
        prepared = sorted(self._kept.values(), key=lambda kept: kept[0].id)
        return {
            "prepared": [
                {"source": name, "case": case.id, "notes": case.notes} for case, name in prepared
            ],
            "skipped": [
                {"source": name, "same_as": self._kept[sha256][0].id}
                for name, sha256 in self.skipped
            ],
            "rejected": [{"source": name, "reason": reason} for name, reason in self.rejected],
        }


def _rank_among_equals(candidate: tuple[Case, str]) -> tuple[bool, str, str]:
    """Of equal cubes the one with a known patient is kept, for the sake of the split."""
    case, source = candidate
    return not patient_is_known(case), case.id, source

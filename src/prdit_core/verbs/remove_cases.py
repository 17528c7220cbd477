"""Take cases out of a prepared data set, which never loses one otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prdit_core.data import membership
from prdit_core.data.outcomes import DataSetWritten, ScanTally, cases_by_source, update_report
from prdit_core.data.sources import named
from prdit_core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def remove_cases(data: str | Path, cases: Sequence[str]) -> DataSetWritten:
    """Take cases and their files out of a data set, and split the rest anew.

    Parameters
    ----------
    data
        Folder of the data set.
    cases
        Ids of cases, or scans as `report.json` names them.

    Raises
    ------
    UsageError
        If one is not in the data set or stands for several, or none would be left.
    InputRejected
        If `data` is no prepared data set.
    OutputError
        If it cannot be written.
    RunBusy
        If another command that changes it does not come to an end.
    """
    folder = named(data)
    known = cases_by_source(folder)
    members = membership.remove_cases(folder, [_only(known.get(case, [case])) for case in cases])
    if known:
        update_report(folder, ScanTally((), ()))
    manifest = members.manifest
    return DataSetWritten(folder, len(manifest.train), len(manifest.validation), ())


def _only(ids: list[str]) -> str:
    if len(ids) > 1:
        raise UsageError(f"scans of that name became {', '.join(ids)}; give one of these")
    return ids[0]

"""Take cases out of a prepared data set, which never loses one otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prdit_core.data import membership
from prdit_core.data.outcomes import DataSetWritten, ScanTally, case_of_source, update_report
from prdit_core.data.sources import named

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
        If one is not in the data set, or none would be left.
    InputRejected
        If `data` is no prepared data set.
    OutputError
        If it cannot be written.
    RunBusy
        If another command that changes it does not come to an end.
    """
    folder = named(data)
    known = case_of_source(folder)
    members = membership.remove_cases(folder, [known.get(case, case) for case in cases])
    if known:
        update_report(folder, ScanTally((), ()))
    manifest = members.manifest
    return DataSetWritten(folder, len(manifest.train), len(manifest.validation), ())

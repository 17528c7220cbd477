"""Write an evaluation down: evaluation.json for machines, report.html for people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from prdit_core.files import write_json

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prdit_core.evaluation.sets import EvaluatedSets
    from prdit_core.metrics.evaluation import Evaluation
    from prdit_core.volume import Volume

CONTENT, PAGE = "evaluation.json", "report.html"


@dataclass(frozen=True)
class ReportFiles:
    """The files of an evaluation."""

    content: Path
    page: Path


def write_report(evaluation: Evaluation, sets: EvaluatedSets, out: Path) -> ReportFiles:
    """Write evaluation.json and report.html into the folder `out`; equal content, equal bytes.

    Raises
    ------
    InputRejected
        If a volume that is to be pictured cannot be read any more.
    OutputError
        If a file cannot be written.
    """
    from prdit_core.reports.page import write_report as write_page

    page = write_page(evaluation, _pictured(evaluation, sets), out / PAGE)
    return ReportFiles(write_json(out / CONTENT, evaluation.model_dump(mode="json")), page)


def _pictured(evaluation: Evaluation, sets: EvaluatedSets) -> Iterator[tuple[str, str, Volume]]:
    """Set, name and volume of all that the page shows: the first of each set, and nearest pairs."""
    from prdit_core.reports.copies import pictured_pairs
    from prdit_core.reports.gallery import SHOWN

    first = [(name, volume) for name, of in sets.judged.items() for volume in of.names[:SHOWN]]
    for name, volume in dict.fromkeys([*first, *pictured_pairs(evaluation)]):
        volumes = sets.all[name]
        yield name, volume, volumes.read(volumes.find(volume))

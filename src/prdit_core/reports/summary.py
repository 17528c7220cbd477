"""What an evaluation found, in a few sentences for somebody who reads no further."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prdit_core.reports.copies import checked_sets
from prdit_core.reports.numbers import with_interval
from prdit_core.reports.tables import (
    COLUMNS,
    Column,
    fakes_of,
    ranked,
    shown_columns,
)

if TYPE_CHECKING:
    from prdit_core.metrics.confidence import Measured
    from prdit_core.metrics.evaluation import Evaluation

_ENOUGH = 3  # names, before "and others"


def sentences(evaluation: Evaluation) -> list[str]:
    """Which set is nearest to the real one, how near that is, and whether copies were found."""
    lines = [_nearest(evaluation, c) for c in shown_columns(evaluation)[:1] if c in COLUMNS[:2]]
    return [line for line in (*lines, *_diversity(evaluation), *_copies(evaluation)) if line]


def _nearest(evaluation: Evaluation, column: Column) -> str:
    fakes, floor = fakes_of(evaluation, column), column.of_real(evaluation)
    known = {name: number for name, number in fakes.items() if number is not None}
    if not known:
        return ""
    marks = ranked(fakes, column, floor)
    best = next((name for name, mark in marks.items() if mark == "best"), next(iter(known)))
    tied = [name for name, mark in marks.items() if mark == "tied"]
    nearest = "lies nearest to the real volumes" if marks else "against real volumes"
    chance = f"; {_names(tied)} may be as near" if tied else ""
    number = known[best]
    return (
        f"{best} {nearest}: {column.title} {with_interval(number)}{chance}. "
        f"{_against_floor(number, floor)}"
    )


def _against_floor(number: Measured, floor: Measured | None) -> str:
    """Whether a better model could be told from this one at all."""
    if floor is None:
        return ""
    if number.overlaps(floor):
        return f"That is not told apart from halves of the real set: {with_interval(floor)}."
    side = "more" if number.value < floor.value else "less"
    return f"Halves of the real set differ {side}: {with_interval(floor)}."


def _diversity(evaluation: Evaluation) -> list[str]:
    column = next(column for column in COLUMNS if column.good == "as real")
    floor = column.of_real(evaluation)
    if floor is None:
        return []
    fakes = fakes_of(evaluation, column).items()
    alike = [n for n, m in fakes if m and m.value > floor.value and not m.overlaps(floor)]
    return [f"{_names(alike)}: volumes resemble each other more than real ones do."] * bool(alike)


def _copies(evaluation: Evaluation) -> list[str]:
    checked = checked_sets(evaluation)
    if not checked:
        return ["Whether volumes are copies of training volumes was not checked."]
    copies = [f"{len(near.flagged)} of {n}" for n, near in checked.items() if near.flagged]
    if copies:
        return [f"Volumes that look like copies of training volumes: {', '.join(copies)}."]
    return ["No volume looks like a copy of a training volume."]


def _names(names: list[str]) -> str:
    shown = ", ".join(names[:_ENOUGH])
    return shown if len(names) <= _ENOUGH else f"{shown} and others"

"""What an evaluation found, in a few sentences for somebody who reads no further."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prdit_core.reports.tables import (
    COLUMNS,
    Column,
    fakes_of,
    floor_of,
    ranked,
    shown_columns,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prdit_core.reports.numbers import Measured

_ENOUGH = 3  # names, before "and others"


def sentences(evaluation: Mapping[str, Any]) -> list[str]:
    """Which set is nearest to the real one, how near that is, and whether copies were found."""
    lines = [_nearest(evaluation, c) for c in shown_columns(evaluation)[:1] if c in COLUMNS[:2]]
    return [line for line in (*lines, *_diversity(evaluation), *_copies(evaluation)) if line]


def _nearest(evaluation: Mapping[str, Any], column: Column) -> str:
    fakes, floor = fakes_of(evaluation, column), floor_of(evaluation, column)
    known = {name: number for name, number in fakes.items() if number is not None}
    if not known:
        return ""
    marks = ranked(fakes, column, floor)
    best = next((name for name, mark in marks.items() if mark == "best"), next(iter(known)))
    tied = [name for name, mark in marks.items() if mark == "tied"]
    said = f"{best} lies nearest to the real volumes" if marks else f"{best} against real volumes"
    chance = f"; {_names(tied)} may be as near" if tied else ""
    return f"{said}: {column.title} {known[best]}{chance}. {_against_floor(known[best], floor)}"


def _against_floor(number: Measured, floor: Measured | None) -> str:
    """Whether a better model could be told from this one at all."""
    if floor is None:
        return ""
    if number.overlaps(floor):
        return f"That is not told apart from halves of the real set: {floor}."
    side = "more" if number.value < floor.value else "less"
    return f"Halves of the real set differ {side}: {floor}."


def _diversity(evaluation: Mapping[str, Any]) -> list[str]:
    column = next(column for column in COLUMNS if column.good == "as real")
    floor = floor_of(evaluation, column)
    if floor is None:
        return []
    fakes = fakes_of(evaluation, column).items()
    alike = [n for n, m in fakes if m and m.value > floor.value and not m.overlaps(floor)]
    return [f"{_names(alike)}: volumes resemble each other more than real ones do."] * bool(alike)


def _copies(evaluation: Mapping[str, Any]) -> list[str]:
    checked = {n: f["nearest"] for n, f in evaluation["fakes"].items() if f.get("nearest")}
    if not checked:
        return ["Whether volumes are copies of training volumes was not checked."]
    found = [f"{len(c['flagged'])} of {n}" for n, c in checked.items() if c["flagged"]]
    if found:
        return [f"Volumes that look like copies of training volumes: {', '.join(found)}."]
    return ["No volume looks like a copy of a training volume."]


def _names(names: list[str]) -> str:
    shown = ", ".join(names[:_ENOUGH])
    return shown if len(names) <= _ENOUGH else f"{shown} and others"

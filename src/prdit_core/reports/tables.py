"""Tables of a page: what was compared, and distances from the real volumes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Literal

from prdit_core.reports.markup import Html, joined, paragraph, table, tag
from prdit_core.reports.numbers import Measured, measured_cell

if TYPE_CHECKING:
    from collections.abc import Mapping

FLOOR = "real against real"
ROLES = {"real": "real, to compare with", "fake": "generated", "training": "what was trained on"}


@dataclass(frozen=True)
class Column:
    """A measure of the main table; `good` says which values are, `meaning` what it tells."""

    key: str
    title: str
    good: Literal["low", "as real"]
    meaning: str


COLUMNS = (
    Column(
        "fid_unbiased",
        "corrected FID",
        "low",
        "Distance of the two clouds of features, taken as Gaussian. Corrected for the number of "
        "volumes: the one to compare sets of different sizes by.",
    ),
    Column(
        "fid",
        "FID",
        "low",
        "The same as papers compute it. The fewer volumes, the larger it comes out, so the row of "
        "halves of the real set can lie above a good model.",
    ),
    Column(
        "mmd_unbiased",
        "unbiased MMD",
        "low",
        "Distance of the two clouds without any assumption on their shape. Around 0 where they "
        "are the same; below 0 is chance.",
    ),
    Column("mmd", "MMD", "low", "The same as papers compute it; never quite 0."),
    Column(
        "ms_ssim",
        "MS-SSIM",
        "as real",
        "How much volumes of one set resemble each other; lower is more diverse. Best is as in "
        "the real set: above it, a model repeats itself; below it, it may add noise.",
    ),
)


def sets_table(evaluation: Mapping[str, Any]) -> Html:
    """Which sets of volumes took part; of a folder only its name, since pages are shared."""
    sets = sorted(evaluation["sets"].items(), key=lambda named: list(ROLES).index(named[1]["role"]))
    head = ["set", "what it is", "volumes", "voxels (z, y, x)", "spacing in mm", "folder"]
    rows = (
        [
            name,
            ROLES[entry["role"]],
            f"{entry['count']:,}",
            " × ".join(map(str, entry["shape"])),
            " × ".join(f"{edge:g}" for edge in entry["spacing_mm"]),
            PurePath(str(entry.get("path") or "")).name,
        ]
        for name, entry in sets
    )
    return table(head, rows)


def shown_columns(evaluation: Mapping[str, Any]) -> list[Column]:
    """Measures that any set has."""
    entries = [evaluation["floor"], *evaluation["fakes"].values()]
    return [c for c in COLUMNS if any(Measured.read(entry.get(c.key)) for entry in entries)]


def distances_table(evaluation: Mapping[str, Any]) -> Html:
    """Each fake against the real set, below the real set against itself."""
    columns = shown_columns(evaluation)
    cells = [_column_cells(evaluation, column) for column in columns]
    names = [tag("th", FLOOR, class_="floor", scope="row"), *evaluation["fakes"]]
    rows = ([name, *(column[i] for column in cells)] for i, name in enumerate(names))
    arrows = {"low": "lower is better", "as real": "best as in real"}
    head = [
        tag("th", c.title, tag("span", arrows[c.good], class_="interval"), scope="col")
        for c in columns
    ]
    return joined([table(["set", *head], rows, "distances"), _meanings(evaluation, columns)])


def floor_of(evaluation: Mapping[str, Any], column: Column) -> Measured | None:
    """What the real volumes have among themselves."""
    entry = evaluation["real"] if column.good == "as real" else evaluation["floor"]
    return Measured.read(entry.get(column.key))


def fakes_of(evaluation: Mapping[str, Any], column: Column) -> dict[str, Measured | None]:
    """What the fakes have."""
    return {n: Measured.read(fake.get(column.key)) for n, fake in evaluation["fakes"].items()}


def ranked(
    numbers: Mapping[str, Measured | None], column: Column, floor: Measured | None
) -> dict[str, str]:
    """The best of several sets, and those whose difference from it may be chance."""
    known = {name: number for name, number in numbers.items() if number is not None}
    if len(known) < 2 or (column.good == "as real" and floor is None):
        return {}
    aim = floor.value if floor is not None and column.good == "as real" else None
    best = min(known, key=lambda n: known[n].value if aim is None else abs(known[n].value - aim))
    marks = {name: "tied" for name, number in known.items() if number.overlaps(known[best])}
    return marks | {best: "best"}


def _column_cells(evaluation: Mapping[str, Any], column: Column) -> list[Html]:
    floor, fakes = floor_of(evaluation, column), fakes_of(evaluation, column)
    known = [number for number in (floor, *fakes.values()) if number is not None]
    ends = [0.0, *(end for number in known for end in number.span)]
    scale = min(ends), max(ends)
    marks = ranked(fakes, column, floor)
    guide = None if floor is None else floor.value
    cells = [measured_cell(floor, "", scale, None)]
    return cells + [
        measured_cell(number, marks.get(name, ""), scale, guide) for name, number in fakes.items()
    ]


def _meanings(evaluation: Mapping[str, Any], columns: list[Column]) -> Html:
    """What each column means, and where the intervals come from."""
    entries = [evaluation["floor"], evaluation["real"], *evaluation["fakes"].values()]
    numbers = (Measured.read(entry.get(c.key)) for c in columns for entry in entries)
    hows = dict.fromkeys(number.how for number in numbers if number is not None and number.how)
    terms = [part for c in columns for part in (tag("dt", c.title), tag("dd", c.meaning))]
    sources = paragraph(f"Intervals: {'; '.join(hows)}.") if hows else Html("")
    return joined([tag("dl", *terms), sources])

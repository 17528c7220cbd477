"""Tables of a page: what was compared, and distances from the real volumes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Literal

from prdit_core.reports.markup import Html, joined, paragraph, table, tag
from prdit_core.reports.numbers import measured_cell, span

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from prdit_core.metrics.confidence import Measured
    from prdit_core.metrics.evaluation import Evaluation, Fake

FLOOR = "real against real"
ROLES = {"real": "real, to compare with", "fake": "generated", "training": "what was trained on"}


@dataclass(frozen=True)
class Column:
    """A measure of the main table.

    Attributes
    ----------
    of_fake, of_real : the number of a fake, and what real volumes have among themselves
    good : which values are
    meaning : what it tells
    """

    title: str
    of_fake: Callable[[Fake], Measured | None]
    of_real: Callable[[Evaluation], Measured | None]
    good: Literal["low", "as real"]
    meaning: str


COLUMNS = (
    Column(
        "corrected FID",
        lambda fake: fake.fid_unbiased,
        lambda evaluation: evaluation.floor.fid_unbiased,
        "low",
        "Distance of the two clouds of features, taken as Gaussian. Corrected for the number of "
        "volumes: the one to compare sets of different sizes by.",
    ),
    Column(
        "FID",
        lambda fake: fake.fid,
        lambda evaluation: evaluation.floor.fid,
        "low",
        "The same as papers compute it. The fewer volumes, the larger it comes out, so the row of "
        "halves of the real set can lie above a good model.",
    ),
    Column(
        "unbiased MMD",
        lambda fake: fake.mmd_unbiased,
        lambda evaluation: evaluation.floor.mmd_unbiased,
        "low",
        "Distance of the two clouds without any assumption on their shape. Around 0 where they "
        "are the same; below 0 is chance.",
    ),
    Column(
        "MMD",
        lambda fake: fake.mmd,
        lambda evaluation: evaluation.floor.mmd,
        "low",
        "The same as papers compute it; never quite 0.",
    ),
    Column(
        "MS-SSIM",
        lambda fake: fake.ms_ssim,
        lambda evaluation: evaluation.real.ms_ssim,
        "as real",
        "How much volumes of one set resemble each other; lower is more diverse. Best is as in "
        "the real set: above it, a model repeats itself; below it, it may add noise.",
    ),
)


def sets_table(evaluation: Evaluation) -> Html:
    """Which sets of volumes took part; of a folder only its name, since pages are shared."""
    sets = sorted(evaluation.sets.items(), key=lambda named: list(ROLES).index(named[1].role))
    head = ["set", "what it is", "volumes", "voxels (z, y, x)", "spacing in mm", "folder"]
    rows = (
        [
            name,
            ROLES[entry.role],
            f"{entry.count:,}",
            " × ".join(map(str, entry.shape)),
            " × ".join(f"{edge:g}" for edge in entry.spacing_mm),
            PurePath(entry.path).name,
        ]
        for name, entry in sets
    )
    return table(head, rows)


def shown_columns(evaluation: Evaluation) -> list[Column]:
    """Measures that any set has."""
    return [column for column in COLUMNS if any(_numbers(evaluation, column))]


def distances_table(evaluation: Evaluation) -> Html:
    """Each fake against the real set, below the real set against itself."""
    columns = shown_columns(evaluation)
    cells = [_column_cells(evaluation, column) for column in columns]
    names = [tag("th", FLOOR, class_="floor", scope="row"), *evaluation.fakes]
    rows = ([name, *(column[i] for column in cells)] for i, name in enumerate(names))
    arrows = {"low": "lower is better", "as real": "best as in real"}
    head = [
        tag("th", c.title, tag("span", arrows[c.good], class_="interval"), scope="col")
        for c in columns
    ]
    return joined([table(["set", *head], rows, "distances"), _meanings(evaluation, columns)])


def fakes_of(evaluation: Evaluation, column: Column) -> dict[str, Measured | None]:
    """What the fakes have."""
    return {name: column.of_fake(fake) for name, fake in evaluation.fakes.items()}


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


def _column_cells(evaluation: Evaluation, column: Column) -> list[Html]:
    floor, fakes = column.of_real(evaluation), fakes_of(evaluation, column)
    known = [number for number in (floor, *fakes.values()) if number is not None]
    ends = [0.0, *(end for number in known for end in span(number))]
    scale = min(ends), max(ends)
    marks = ranked(fakes, column, floor)
    guide = None if floor is None else floor.value
    cells = [measured_cell(floor, "", scale, None)]
    return cells + [
        measured_cell(number, marks.get(name, ""), scale, guide) for name, number in fakes.items()
    ]


def _meanings(evaluation: Evaluation, columns: list[Column]) -> Html:
    """What each column means, and where the intervals come from."""
    numbers = (number for column in columns for number in _numbers(evaluation, column))
    hows = dict.fromkeys(number.how for number in numbers if number is not None)
    terms = [part for c in columns for part in (tag("dt", c.title), tag("dd", c.meaning))]
    sources = paragraph(f"Intervals: {'; '.join(hows)}.") if hows else Html("")
    return joined([tag("dl", *terms), sources])


def _numbers(evaluation: Evaluation, column: Column) -> list[Measured | None]:
    return [column.of_real(evaluation), *fakes_of(evaluation, column).values()]

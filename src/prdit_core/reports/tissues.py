"""Table of tissues: how many voxels have the HU of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prdit_core.reports.markup import Html, table, tag
from prdit_core.reports.numbers import percent, shaded

if TYPE_CHECKING:
    from prdit_core.metrics.evaluation import Description, Evaluation

# A tissue whose share differs by this part of it has the full colour.
FULL = 0.5


def tissues_table(evaluation: Evaluation) -> Html:
    """Share of the voxels in each band of HU; colour where a fake differs from real."""
    real, fakes = evaluation.real, evaluation.fakes
    rows = (
        [
            tissue,
            tag("td", percent(share), _interval(real, tissue)),
            *(_cell(fake, tissue, share) for fake in fakes.values()),
        ]
        for tissue, share in real.tissues.items()
    )
    return table(["tissue", evaluation.real_name, *fakes], rows)


def _cell(fake: Description, tissue: str, real: float) -> Html:
    share = fake.tissues[tissue]
    points = round(100 * (share - real), 2)
    change = f" ({points:+.2g})" if points else ""
    content = (percent(share) + change, _interval(fake, tissue))
    return shaded(content, share - real, FULL * real)


def _interval(description: Description, tissue: str) -> Html:
    ends = description.tissue_intervals[tissue]
    words = "unsure" if ends is None else " to ".join(map(percent, ends))
    return tag("span", words, class_="interval")

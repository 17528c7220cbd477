"""Table of tissues: how many voxels have the HU of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prdit_core.reports.looks import real_name
from prdit_core.reports.markup import Html, table, tag
from prdit_core.reports.numbers import percent, shaded

if TYPE_CHECKING:
    from collections.abc import Mapping

# A tissue whose share differs by this part of it has the full colour.
FULL = 0.5


def tissues_table(evaluation: Mapping[str, Any]) -> Html:
    """Share of the voxels in each band of HU; colour where a fake differs from real."""
    real, fakes = evaluation["real"], evaluation["fakes"]
    rows = (
        [
            tissue,
            tag("td", percent(share), _interval(real, tissue)),
            *(_cell(fake, tissue, share) for fake in fakes.values()),
        ]
        for tissue, share in real["tissues"].items()
    )
    return table(["tissue", real_name(evaluation), *fakes], rows)


def _cell(fake: Mapping[str, Any], tissue: str, real: float) -> Html:
    share = fake["tissues"][tissue]
    points = round(100 * (share - real), 2)
    change = f" ({points:+.2g})" if points else ""
    content = (percent(share) + change, _interval(fake, tissue))
    return shaded(content, share - real, FULL * real)


def _interval(entry: Mapping[str, Any], tissue: str) -> Html:
    found = entry["tissue_intervals"][tissue]
    words = "unsure" if found is None else f"{percent(found[0])} to {percent(found[1])}"
    return tag("span", words, class_="interval")

"""Whether generated volumes are copies of training volumes, and how the nearest ones look."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prdit_core.reports.gallery import pictured
from prdit_core.reports.markup import Html, joined, paragraph, table, tag
from prdit_core.reports.numbers import plain, with_interval

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from prdit_core.metrics.evaluation import (
        Evaluation,
        NearestEntry,
        NearestPair,
        NearestScale,
        SetEntry,
    )
    from prdit_core.reports.gallery import Pictures

LISTED = 20
ABOUT = (
    "For each generated volume, the training volume that is nearest to it, voxel by voxel; the "
    "distance is the root mean square difference in HU. A model that learned volumes by heart "
    "gives back some that are much nearer to a training volume than real volumes, which it was "
    "not trained on. Distances like those of the real volumes, or larger ones, are as they should "
    "be."
)
SKIPPED = (
    "Not checked: no training volumes were given. With --training DIR each generated volume is "
    "compared with those that the model was trained on."
)


def copies_section(evaluation: Evaluation, pictures: Pictures) -> Html:
    """Distances to training, what was flagged in red, and the nearest pairs as pictures."""
    checked = checked_sets(evaluation)
    if not checked:
        return paragraph(SKIPPED)
    pairs = (_pairs(evaluation, name, near, pictures) for name, near in checked.items())
    explained = [paragraph(ABOUT), _limit(evaluation), _distances(evaluation, checked)]
    return joined([*explained, *pairs])


def alarms(evaluation: Evaluation) -> Html:
    """A red box for each set in which something looks like a copy."""
    return joined(_alarm(name, near.flagged) for name, near in checked_sets(evaluation).items())


def pictured_pairs(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Set and name of all volumes of which pairs are shown."""
    volumes = [
        volume
        for name, near in checked_sets(evaluation).items()
        for pair in near.pairs
        for volume in ((name, pair.fake), (evaluation.training_name, pair.training))
    ]
    return list(dict.fromkeys(volumes))


def checked_sets(evaluation: Evaluation) -> dict[str, NearestEntry]:
    """The fakes in which copies were looked for."""
    return {n: fake.nearest for n, fake in evaluation.fakes.items() if fake.nearest is not None}


def _alarm(name: str, flagged: Sequence[NearestPair]) -> Html:
    lines = [
        f"{copy.fake} resembles {copy.training} (they differ by {plain(copy.distance)} HU)"
        for copy in flagged
    ]
    if not lines:
        return Html("")
    if len(lines) > LISTED:
        lines[LISTED:] = [f"and {len(lines) - LISTED} more, in evaluation.json"]
    title = tag("strong", f"{name}: {_counted(len(flagged))} of a training volume")
    items = tag("ul", *(tag("li", line) for line in lines))
    return tag("div", title, items, class_="box alarm")


def _counted(copies: int) -> str:
    return "1 volume looks like a copy" if copies == 1 else f"{copies} volumes look like copies"


def _limit(evaluation: Evaluation) -> Html:
    """Below which distance a volume is flagged."""
    usual, part = _usual(evaluation), evaluation.protocol.copy_below
    if usual is None:
        return Html("")
    return paragraph(
        f"Flagged is what lies nearer than {plain(part * usual)} HU: {part:g} × the median of the "
        "real volumes. Copies that were mirrored, turned or cut are not found."
    )


def _usual(evaluation: Evaluation) -> float | None:
    """Median distance of real volumes."""
    return None if evaluation.nearest_scale is None else evaluation.nearest_scale.median.value


def _distances(evaluation: Evaluation, checked: Mapping[str, NearestEntry]) -> Html:
    scale = evaluation.nearest_scale
    rows = [
        [name, *_of_set(near), _copies(near, evaluation.sets[name])]
        for name, near in checked.items()
    ]
    if scale is not None:
        real = tag("th", "real, not trained on", class_="floor", scope="row")
        rows.insert(0, [real, *_of_set(scale), ""])
    return table(["set", "median in HU", "least in HU", "flagged as copies"], rows)


def _of_set(near: NearestScale) -> tuple[str, str]:
    return with_interval(near.median), plain(near.least)


def _copies(near: NearestEntry, entry: SetEntry) -> Html:
    copies = len(near.flagged)
    return tag("td", f"{copies} of {entry.count:,}", class_="alarm" if copies else "")


def _pairs(evaluation: Evaluation, name: str, near: NearestEntry, pictures: Pictures) -> Html:
    training, flagged = evaluation.training_name, {pair.fake for pair in near.flagged}
    rows = [
        tag(
            "div",
            pictured(pictures.get((name, pair.fake)), f"generated: {pair.fake}"),
            pictured(pictures.get((training, pair.training)), f"training: {pair.training}"),
            tag("p", f"they differ by {plain(pair.distance)} HU", *_against(evaluation, pair)),
            class_="pair alarm" if pair.fake in flagged else "pair",
        )
        for pair in near.pairs
    ]
    return joined([tag("h3", f"Nearest pairs of {name}"), *rows]) if rows else Html("")


def _against(evaluation: Evaluation, pair: NearestPair) -> list[str]:
    """The distance as a multiple of what is usual for real volumes."""
    usual = _usual(evaluation)
    return [f"; {pair.distance / usual:.2g} × what is usual for real volumes"] if usual else []

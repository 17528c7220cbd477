"""Whether generated volumes are copies of training volumes, and how the nearest ones look."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prdit_core.reports.gallery import pictured
from prdit_core.reports.markup import Html, joined, paragraph, table, tag
from prdit_core.reports.numbers import MISSING, Measured, plain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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


def copies_section(evaluation: Mapping[str, Any], pictures: Pictures) -> Html:
    """Distances to training, what was flagged in red, and the nearest pairs as pictures."""
    checked = {n: f["nearest"] for n, f in evaluation["fakes"].items() if f.get("nearest")}
    if not checked:
        return paragraph(SKIPPED)
    pairs = (_pairs(evaluation, name, found, pictures) for name, found in checked.items())
    explained = [paragraph(ABOUT), _limit(evaluation), _distances(evaluation, checked)]
    return joined([*explained, *pairs])


def alarms(evaluation: Mapping[str, Any]) -> Html:
    """A red box for each set in which something looks like a copy."""
    found = ((name, fake.get("nearest")) for name, fake in evaluation["fakes"].items())
    return joined(_flagged(name, near["flagged"]) for name, near in found if near)


def pictured_pairs(evaluation: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Set and name of all volumes of which pairs are shown."""
    training = training_name(evaluation)
    found = [
        key
        for name, fake in evaluation["fakes"].items()
        for pair in (fake.get("nearest") or {}).get("pairs", ())
        for key in ((name, pair["fake"]), (training, pair["training"]))
    ]
    return list(dict.fromkeys(found))


def training_name(evaluation: Mapping[str, Any]) -> str:
    """What the set that was trained on is called."""
    named = (name for name, entry in evaluation["sets"].items() if entry["role"] == "training")
    return next(named, "training")


def _flagged(name: str, flagged: Sequence[Mapping[str, Any]]) -> Html:
    lines = [
        f"{c['fake']} resembles {c['training']} (they differ by {plain(c['distance'])} HU)"
        for c in flagged
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


def _limit(evaluation: Mapping[str, Any]) -> Html:
    """Below which distance a volume is flagged."""
    usual, part = _usual(evaluation), evaluation["protocol"].get("copy_below")
    if usual is None or part is None:
        return Html("")
    return paragraph(
        f"Flagged is what lies nearer than {plain(part * usual)} HU: {part:g} × the median of the "
        "real volumes. Copies that were mirrored, turned or cut are not found."
    )


def _usual(evaluation: Mapping[str, Any]) -> float | None:
    """Median distance of real volumes."""
    number = Measured.read((evaluation.get("nearest_scale") or {}).get("median"))
    return None if number is None else number.value


def _distances(evaluation: Mapping[str, Any], checked: Mapping[str, Mapping[str, Any]]) -> Html:
    scale = evaluation.get("nearest_scale")
    sets = evaluation["sets"]
    rows = [
        [name, _median(found), plain(found["least"]), _count(found, sets[name])]
        for name, found in checked.items()
    ]
    if scale is not None:
        real = tag("th", "real, not trained on", class_="floor", scope="row")
        rows.insert(0, [real, _median(scale), plain(scale["least"]), ""])
    return table(["set", "median in HU", "least in HU", "flagged as copies"], rows)


def _count(found: Mapping[str, Any], entry: Mapping[str, Any]) -> Html:
    copies = len(found["flagged"])
    return tag("td", f"{copies} of {entry['count']:,}", class_="alarm" if copies else "")


def _median(found: Mapping[str, Any]) -> str:
    number = Measured.read(found["median"])
    return MISSING if number is None else str(number)


def _pairs(
    evaluation: Mapping[str, Any], name: str, found: Mapping[str, Any], pictures: Pictures
) -> Html:
    training, flagged = training_name(evaluation), {f["fake"] for f in found["flagged"]}
    rows = [
        tag(
            "div",
            pictured(pictures.get((name, pair["fake"])), f"generated: {pair['fake']}"),
            pictured(pictures.get((training, pair["training"])), f"training: {pair['training']}"),
            tag("p", f"they differ by {plain(pair['distance'])} HU", *_against(evaluation, pair)),
            class_="pair alarm" if pair["fake"] in flagged else "pair",
        )
        for pair in found["pairs"]
    ]
    return joined([tag("h3", f"Nearest pairs of {name}"), *rows]) if rows else Html("")


def _against(evaluation: Mapping[str, Any], pair: Mapping[str, Any]) -> list[str]:
    """The distance as a multiple of what is usual for real volumes."""
    usual = _usual(evaluation)
    return [f"; {pair['distance'] / usual:.2g} × what is usual for real volumes"] if usual else []

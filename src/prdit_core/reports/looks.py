"""How each set of volumes looks in every figure of a page: one colour, one dash, one marker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from prdit_core.reports.markup import Html, tag

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prdit_core.metrics.evaluation import Evaluation

# After Okabe and Ito, for the colour-blind; each can be told from white and from nearly black.
COLOURS = ("#d55e00", "#2a8fd0", "#009e73", "#c65d96", "#b8860b", "#8172c9")
DASHES = ("", "7 3", "2 2")
# As matplotlib draws them, and as letters; that of the real set is hollow.
MARKERS = {"o": "●", "s": "■", "^": "▲", "D": "◆", "v": "▼", "P": "✚"}
HOLLOW = "○"
# matplotlib knows no colour of the page; this one is replaced by it.
INK = "#010203"


@dataclass(frozen=True)
class Look:
    """Of one set.

    Attributes
    ----------
    dash : as SVG takes it, in units of the line's width; empty for a whole line
    """

    colour: str
    dash: str
    marker: str


REAL = Look(INK, "", "o")


def looks(evaluation: Evaluation) -> dict[str, Look]:
    """Looks of the real set and of all fakes, in the order of the tables."""
    return {evaluation.real_name: REAL} | told_apart(evaluation.fakes)


def told_apart(names: Iterable[str]) -> dict[str, Look]:
    """A look for each name, by its place."""
    return {
        name: Look(
            COLOURS[i % len(COLOURS)],
            DASHES[i // len(COLOURS) % len(DASHES)],
            list(MARKERS)[i % len(MARKERS)],
        )
        for i, name in enumerate(names)
    }


def legend(sets: Iterable[tuple[str, Look]]) -> Html:
    """Which line and marker belong to whom; no name goes into a drawing, where nothing escapes."""
    keys = (tag("li", *_key(look), name) for name, look in sets)
    return tag("ul", *keys, class_="legend")


def markers(classes: Iterable[tuple[str, Look]]) -> Html:
    """Which marker belongs to whom, where there are no lines."""
    keys = (tag("li", _marker(look), name) for name, look in classes)
    return tag("ul", *keys, class_="legend")


def _key(look: Look) -> tuple[Html, Html]:
    real = look.colour == INK
    colour = "currentColor" if real else look.colour
    dash = {"stroke_dasharray": look.dash} if look.dash else {}
    end = {"x1": "1", "y1": "5", "x2": "27", "y2": "5"}
    line = tag("line", stroke=colour, stroke_width="3", **end, **dash)
    return tag("svg", line, width="28", height="10", aria_hidden="true"), _marker(look)


def _marker(look: Look) -> Html:
    real = look.colour == INK
    colour, sign = ("currentColor", HOLLOW) if real else (look.colour, MARKERS[look.marker])
    return tag("span", sign, style=f"color: {colour}", aria_hidden="true")

"""Numbers with their confidence, as people read them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from prdit_core.reports.markup import Html, joined, tag

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prdit_core.metrics.confidence import Measured

MISSING = "n/a"
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_BAR, _BAR_HEIGHT = 110.0, 12.0


def span(number: Measured) -> tuple[float, float]:
    """The lowest and the highest that have to be drawn."""
    ends = (number.value, *(number.interval or ()))
    return min(ends), max(ends)


def with_interval(number: Measured) -> str:
    """A number and its interval in words."""
    return f"{plain(number.value)} ({interval_in_words(number.interval)})"


def plain(value: float) -> str:
    """Three digits that count, without the notation of computers."""
    if not math.isfinite(value):
        return MISSING
    if value == 0:
        return "0"
    if 1e-3 <= abs(value) < 1e4:
        return f"{value:#.3g}".rstrip(".") if abs(value) < 1000 else f"{value:,.0f}"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa} × 10{str(int(exponent)).translate(_SUPERSCRIPT)}"


def interval_in_words(interval: tuple[float, float] | None) -> str:
    """An interval in words."""
    return "unsure" if interval is None else f"{plain(interval[0])} to {plain(interval[1])}"


def percent(share: float) -> str:
    """A share of the whole; one too small to print is not called nothing."""
    return "< 0.01 %" if 0 < share < 1e-4 else f"{100 * share:.3g} %"


def shaded(content: Iterable[str], value: float, full: float) -> Html:
    """A cell that is orange where `value` is above 0 and blue below, strongest at `full`."""
    strength = min(abs(value) / full, 1) * 0.6 if full > 0 else 0.0
    colour = "213, 94, 0" if value > 0 else "42, 143, 208"
    return tag("td", *content, style=f"background: rgba({colour}, {strength:.2f})")


def measured_cell(
    number: Measured | None, mark: str, scale: tuple[float, float], guide: float | None
) -> Html:
    """A cell of a table: the number, its interval in words and drawn, and perhaps a mark.

    Parameters
    ----------
    mark : "best", "tied" or ""
    scale : values at the left and the right end of the drawing
    guide : where a dashed line stands
    """
    if number is None:
        return tag("td", MISSING, class_="missing")
    words = {"best": "best", "tied": "≈ best"}.get(mark, "")
    badge = tag("span", words, class_="badge") if words else Html("")
    interval = tag("span", interval_in_words(number.interval), class_="interval")
    value = tag("span", plain(number.value), class_="value")
    parts = joined([value, badge, interval, _drawn(number, scale, guide)])
    return tag("td", parts, class_=f"measured {mark}".strip(), title=number.how)


def _drawn(number: Measured, scale: tuple[float, float], guide: float | None) -> Html:
    """The interval as a line with a dot, on an axis that spans `scale`."""
    left, right = scale

    def at(value: float) -> str:
        return f"{4 + (_BAR - 8) * (value - left) / (right - left) if right > left else 4:.1f}"

    middle = f"{_BAR_HEIGHT / 2:g}"
    parts = [_line(at(left), middle, at(right), middle, "axis")]
    if guide is not None:
        parts.append(_line(at(guide), "0", at(guide), f"{_BAR_HEIGHT:g}", "guide"))
    if number.interval is not None:
        low, high = map(at, number.interval)
        parts.append(_line(low, middle, high, middle, "range"))
    parts.append(tag("circle", cx=at(number.value), cy=middle, r="3.2"))
    size = {"width": f"{_BAR:g}", "height": f"{_BAR_HEIGHT:g}"}
    return tag("svg", *parts, class_="bar", aria_hidden="true", **size)


def _line(x1: str, y1: str, x2: str, y2: str, kind: str) -> Html:
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=kind)

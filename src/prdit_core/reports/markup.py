"""HTML that cannot forget to escape: text becomes markup in one place."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class Html(str):
    """Markup; every other text is escaped where it enters a page."""

    __slots__ = ()


def tag(name: str, *content: str, **attributes: str) -> Html:
    """An element; its attributes are named as in HTML, but `class_`, and `_` for `-`."""
    named = ((key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items())
    opened = "".join(f' {key}="{_text(value)}"' for key, value in named if value)
    return Html(f"<{name}{opened}>{joined(content)}</{name}>")


def image(source: str, alternative: str) -> Html:
    """A picture, and what it shows in words."""
    return Html(f'<img src="{_text(source)}" alt="{_text(alternative)}" loading="lazy">')


def joined(parts: Iterable[str]) -> Html:
    """Parts after each other, escaped unless they are markup."""
    return Html("".join(part if isinstance(part, Html) else _text(part) for part in parts))


def paragraph(*content: str) -> Html:
    """A paragraph that explains something."""
    return tag("p", *content)


def table(head: Iterable[str], rows: Iterable[Iterable[str]], class_: str = "") -> Html:
    """A table that scrolls by itself where the page is narrow; a row begins with its name.

    Cells that are elements of a table already stay as they are.
    """
    top = tag("tr", *(_cell(cell, "th", "col") for cell in head))
    body = (tag("tr", *(_row(list(cells)))) for cells in rows)
    whole = tag("table", tag("thead", top), tag("tbody", *body), class_=class_)
    return tag("div", whole, class_="wide")


def _row(cells: list[str]) -> list[Html]:
    return [_cell(cells[0], "th", "row"), *(_cell(cell, "td", "") for cell in cells[1:])]


def _cell(content: str, name: str, scope: str) -> Html:
    if isinstance(content, Html) and content.startswith(("<td", "<th")):
        return content
    return tag(name, content, scope=scope)


def _text(text: str) -> str:
    """Control characters, which names of files may hold, are shown and not obeyed."""
    visible = (c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)
    return escape("".join(visible))

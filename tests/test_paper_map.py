"""`docs/paper_map.md` covers the paper's index, and every symbol it names exists."""

from __future__ import annotations

import importlib
import re
from operator import attrgetter
from pathlib import Path

import pytest

PAPER_MAP = Path(__file__).resolve().parents[1] / "docs" / "paper_map.md"
INDEX = {
    *(f"Eq. {number}" for number in range(1, 12)),
    "Alg. 1",
    *(f"Fig. {number}" for number in range(1, 4)),
    *(f"Table {number}" for number in range(1, 12)),
}
ROW = re.compile(r"^\| ((?:Eq|Alg|Fig)\. \d+|Table \d+) \| (.+) \| (.+) \|$", re.MULTILINE)
SYMBOL = re.compile(r"`(prdit_core[\w.]*):([\w.]+)`")
LATER = re.compile(r"not built yet \(issue \d+\)")

ROWS = {item: (subject, place) for item, subject, place in ROW.findall(PAPER_MAP.read_text())}
SYMBOLS = SYMBOL.findall(PAPER_MAP.read_text())


def test_the_map_covers_the_paper() -> None:
    assert ROWS.keys() == INDEX


@pytest.mark.parametrize("item", sorted(ROWS))
def test_an_item_has_a_symbol_or_an_issue(item: str) -> None:
    _, place = ROWS[item]
    assert SYMBOL.search(place) or LATER.search(place)


@pytest.mark.parametrize(("module", "name"), sorted(set(SYMBOLS)))
def test_a_symbol_exists(module: str, name: str) -> None:
    attrgetter(name)(importlib.import_module(module))

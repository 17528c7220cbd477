"""metrics.jsonl: one JSON object a line, appended while the run goes on.

A line is {"kind": "train" or "validation", "iteration", "loss": {"x0", "eps", "total"}, "levels"},
where "levels" has a list for each loss: its mean in `LEVELS` equal spans of t, null where the
batch had none. Lines of training also have "grad_norm" and "lr".
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from prdit_core.files import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

LEVELS = 5


def append_line(file: Path, content: dict[str, Any]) -> None:
    """Add one line."""
    with file.open("a", encoding="utf-8", newline="\n") as stream:
        stream.write(json.dumps(content) + "\n")


def read_lines(file: Path) -> list[dict[str, Any]]:
    """All whole lines; one that is being written, or was cut, is left out."""
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    return [content for line in text.splitlines() if (content := _parsed(line)) is not None]


def keep_until(file: Path, iteration: int) -> int:
    """Drop what lies past `iteration`; return how many iterations of training were dropped."""
    lines = read_lines(file)
    kept = [line for line in lines if line["iteration"] <= iteration]
    text = "".join(json.dumps(line) + "\n" for line in kept)
    if file.exists():
        write_atomically(file, lambda part: _write(part, text))
    return sum(line["iteration"] > iteration and line["kind"] == "train" for line in lines)


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        content = json.loads(line)
    except ValueError:
        return None
    whole = isinstance(content, dict) and {"kind", "iteration"} <= content.keys()
    return content if whole else None


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")

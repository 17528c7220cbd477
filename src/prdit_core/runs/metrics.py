"""metrics.jsonl and history.jsonl: JSON lines, appended while the run goes on.

A line of metrics has "kind" ("train" or "validation"), "iteration", "loss" (by kind: "total", for
denoisers "x0" and "eps", and what else a stage has) and "levels": a list for each loss, its means
in `LEVELS` equal spans of t, null where the batch had none. Lines of training also have
"grad_norm" and "lr".
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from prdit_core.files import write_text

if TYPE_CHECKING:
    from pathlib import Path

LEVELS = 5


def append_line(file: Path, content: dict[str, Any]) -> None:
    """Add one line, on its own even if the last one was cut."""
    with file.open("ab+") as stream:
        if stream.tell() > 0:
            stream.seek(-1, os.SEEK_END)
            if stream.read(1) != b"\n":
                stream.write(b"\n")
        stream.write(json.dumps(content).encode() + b"\n")


def read_lines(file: Path) -> list[dict[str, Any]]:
    """All whole lines of a file of JSON lines; one being written, or cut, is left out."""
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
        write_text(file, text)
    return sum(line["iteration"] > iteration and line["kind"] == "train" for line in lines)


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        content = json.loads(line)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None

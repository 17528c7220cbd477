"""Reading files that grow, and losses from them, without reading anything twice."""

from __future__ import annotations

import json
import math
import os
from array import array
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from prdit_core.files import shown

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

LOSSES = ("total", "x0", "eps")
CHUNK = 1 << 20
LAST_BYTES = 4096
# Curves are running means over this part of the run, but of no more than so many iterations.
SMOOTHED, WIDEST = 1 / 40, 200
# More points than this cannot be told apart on a screen.
POINTS = 2000


class News(NamedTuple):
    """What a file holds beyond what was read; `anew`: forget that, it is another file now."""

    anew: bool
    lines: list[str]
    more: bool


class Tail:
    """Whole lines of a file as they come; a line that is being written waits for its end.

    A file that was replaced, or is shorter than before, is read from its start again: a resumed
    run drops what lies past its checkpoint.

    Parameters
    ----------
    newest
        Begin so many bytes before the end of the file; None begins at its start.
    """

    def __init__(self, file: Path, newest: int | None = None) -> None:
        self._file = file
        self._newest = newest
        self._offset = 0
        self._inode: int | None = None

    def read(self) -> News:
        """Lines that were added since, of at most `CHUNK` bytes."""
        try:
            with self._file.open("rb") as stream:
                anew = self._find_place(os.fstat(stream.fileno()))
                stream.seek(self._offset)
                cut_off = anew and self._offset > 0
                chunk = stream.read(CHUNK)
        except OSError:  # not there yet, or no longer
            anew, self._inode = self._inode is not None, None
            return News(anew, [], False)
        whole = chunk[: chunk.rfind(b"\n") + 1]
        full = len(chunk) == CHUNK
        self._offset += len(whole) or (len(chunk) if full else 0)
        lines = whole.decode("utf-8", "replace").split("\n")[:-1]
        return News(anew, lines[1:] if cut_off else lines, full)

    def _find_place(self, state: os.stat_result) -> bool:
        """Whether to begin anew, with the offset set accordingly."""
        if state.st_ino == self._inode and state.st_size >= self._offset:
            return False
        self._inode = state.st_ino
        self._offset = 0 if self._newest is None else max(0, state.st_size - self._newest)
        return True


def last_line(file: Path) -> str:
    """Last line that is not empty; nothing where there is no such file."""
    try:
        with file.open("rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - LAST_BYTES))
            lines = stream.read().decode("utf-8", "replace").split("\n")
    except OSError:
        return ""
    return next((shown(line.strip()) for line in reversed(lines) if line.strip()), "")


class LossHistory:
    """Losses by iteration, of training or of validation."""

    def __init__(self) -> None:
        self._iterations = array("d")
        self._losses = {name: array("d") for name in LOSSES}

    def __len__(self) -> int:
        return len(self._iterations)

    def add(self, line: dict[str, Any]) -> None:
        """One line of metrics."""
        self._iterations.append(line["iteration"])
        for name, values in self._losses.items():
            values.append(line["loss"].get(name, math.nan))

    def clear(self) -> None:
        """Forget all."""
        for values in (self._iterations, *self._losses.values()):
            del values[:]

    def curve(self, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Iterations and losses, both (n,)."""
        return np.array(self._iterations), np.array(self._losses[name])

    def smooth_curve(self, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Iterations and running means, both (n,), of at most `POINTS` iterations."""
        at, losses = self.curve(name)
        means = running_mean(losses, max(1, min(WIDEST, round(len(losses) * SMOOTHED))))
        shown_ones = np.unique(np.linspace(0, max(0, len(at) - 1), POINTS).astype(int))[: len(at)]
        return at[shown_ones], means[shown_ones]


def running_mean(values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Means over `width` neighbours, (n,); fewer at both ends."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    centres = np.arange(len(values))
    first = np.maximum(0, centres - width // 2)
    last = np.minimum(len(values), centres - width // 2 + width)
    means: NDArray[np.float64] = (sums[last] - sums[first]) / (last - first)
    return means


def add_metrics(lines: Iterable[str], train: LossHistory, validation: LossHistory) -> None:
    """Sort lines of metrics.jsonl into both histories; those that were cut are left out."""
    histories = {"train": train, "validation": validation}
    for line in lines:
        try:
            content = json.loads(line)
            histories[content["kind"]].add(content)
        except (ValueError, KeyError, TypeError):
            continue

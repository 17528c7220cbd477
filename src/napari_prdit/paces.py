"""Seconds per evaluation on this machine: measured once, kept in the user's cache folder."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from platformdirs import user_cache_path

from prdit_core.errors import OutputError
from prdit_core.files import read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# Computing of a default that a newcomer waits for. Loading comes on top, and painting without a
# graphics card takes several times as long again: ten seconds or so in all.
AFFORDABLE_S = 2.5
# Edge that two cores of a few years ago can afford, for as long as nothing was measured.
UNMEASURED_EDGE = 64


@dataclass(frozen=True)
class Setting:
    """What the seconds of an evaluation depend on, besides its size."""

    digest: str
    device: str
    threads: int

    def __str__(self) -> str:
        return f"{self.digest} {self.device} {self.threads} threads"


def known_paces(setting: Setting) -> dict[int, float]:
    """Seconds of one evaluation by edge; nothing is known of a file that cannot be read."""
    try:
        return {int(edge): float(seconds) for edge, seconds in _read()[str(setting)].items()}
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}


def remember_paces(setting: Setting, seconds: Mapping[int, float]) -> None:
    """Keep what was measured; a folder that cannot be written is no fault of the user's work."""
    known = {**known_paces(setting), **seconds}
    paces = {str(edge): round(one, 5) for edge, one in known.items()}
    with suppress(OutputError):
        write_json(_file(), _read() | {str(setting): paces})


def affordable(seconds: Mapping[int, float], edges: list[int]) -> int:
    """The largest edge whose volume is there about ten seconds after a click, else the smallest.

    Parameters
    ----------
    seconds : of a volume by edge, as far as they are known
    edges : those of a model
    """
    fits = [edge for edge in edges if seconds.get(edge, AFFORDABLE_S + 1) <= AFFORDABLE_S]
    if not any(edge in seconds for edge in edges):
        fits = [edge for edge in edges if edge <= UNMEASURED_EDGE]
    return max(fits, default=min(edges))


def _file() -> Path:
    return user_cache_path("napari-prdit", appauthor=False) / "seconds-per-evaluation.json"


def _read() -> dict[str, Any]:
    return read_json(_file()) or {}

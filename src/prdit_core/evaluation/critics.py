"""The W-score of an evaluation: whether it can be had, and the work of it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from prdit_core.errors import PrditError, UsageError
from prdit_core.evaluation.passes import EvaluationStep
from prdit_core.evaluation.sets import REAL
from prdit_core.files import shown

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from prdit_core.evaluation.passes import Pass
    from prdit_core.evaluation.sets import EvaluatedSets
    from prdit_core.metrics.wscore import CriticProtocol, WScore

WScoreChoice = Literal["auto", "on", "off"]


def critics_for(
    sets: EvaluatedSets, protocol: str, choice: WScoreChoice
) -> tuple[CriticProtocol | None, list[str]]:
    """How critics are trained, or None; and what to say where they should be but cannot.

    Raises
    ------
    UsageError
        If the choice is "on" and the sets are too small.
    InputRejected
        If the choice is "on" and critics cannot see such volumes.
    """
    if choice == "off":
        return None, []
    from prdit_core.metrics.wscore import CRITIC_PROTOCOLS

    critics = CRITIC_PROTOCOLS[protocol]
    try:
        _check(sets, critics)
    except PrditError as error:
        if choice == "on":
            raise
        return None, [f"No W-score: {error}."]
    return critics, []


def scores(
    looks: Mapping[str, Pass],
    critics: CriticProtocol,
    *,
    seed: int,
    device: str,
    scratch: str | Path | None,
) -> Generator[EvaluationStep, None, WScore]:
    """Train critics on a copy of the volumes that lies below `scratch` meanwhile."""
    from prdit_core.metrics.wscore import CriticStep, wscore_steps

    # Windows removes no file that is mapped; the system clears its folder of temporary files.
    with tempfile.TemporaryDirectory(dir=scratch, ignore_cleanup_errors=True) as folder:
        stored = {}
        for number, (name, look) in enumerate(looks.items()):
            stored[name] = yield from look.store(critics, Path(folder) / f"{number}.raw")
        real = stored.pop(REAL)
        for event in wscore_steps(real, stored, critics, seed=seed, device=device):
            if isinstance(event, CriticStep):
                yield EvaluationStep(event.words, event.index, event.total)
            else:
                wscore: WScore = event
        del real, stored
        return wscore


def _check(sets: EvaluatedSets, critics: CriticProtocol) -> None:
    """Raise where critics cannot be trained on these volumes."""
    for name, volumes in sets.judged.items():
        if len(volumes) < critics.least:
            raise UsageError(
                f"{shown(name)} has {len(volumes)} volumes; critics of protocol {critics.name} "
                f"need {critics.least} or more of each set"
            )
    critics.prepare(sets.real.read(0))

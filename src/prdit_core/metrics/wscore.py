"""W-score: Wasserstein distances by a WGAN-GP critic, and their pairwise ratios (A.9.3, A.10).

A critic learns to score real volumes above fake ones as steeply as a gradient of norm 1 allows.
On volumes it has not seen, W1 of a model is the mean score of real volumes less that of the
model's (Eq. 9). A W-score is the W1 of one model over that of another, its anchor (Eq. 11). As
in the paper, every two models have critics of their own, which learn from the fakes of both.
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003, since pydantic reads it
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from prdit_core.errors import InputRejected, UsageError
from prdit_core.files import shown
from prdit_core.metrics.wscore_protocols import CRITIC_PROTOCOLS, CriticProtocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from prdit_core.metrics.critic_run import Verdict

__all__ = ["CRITIC_PROTOCOLS", "CriticProtocol", "CriticStep", "Ratio", "WScore", "wscore_steps"]


@dataclass(frozen=True)
class CriticStep:
    """One of `total` iterations over all critics is done; `words` says which, for people."""

    index: int
    total: int
    words: str


@dataclass(frozen=True)
class Ratio:
    """Mean and standard deviation over seeds of log(W1 of the column / W1 of the row)."""

    mean: float
    std: float


@dataclass(frozen=True)
class Convergence:
    """Whether a critic converged: no proof, but a critic that fails a check proves nothing.

    Attributes
    ----------
    ok : all checks passed
    change : of W1 on held-out volumes of its mix, from the last but one third of training to the
        last, as a share of the last; at most 0.25
    gradient : mean norm of the gradient in the last tenth of training; 0.75 to 1.25, since W1 is
        stretched by it
    held_out_share : W1 on held-out volumes over W1 on those it learnt from, in the last tenth; at
        least 0.5, or the critic knows its volumes by heart. Where models are as good as real there
        is nothing else to learn, and this check fails.
    failed : sentences, one for each check that failed
    """

    ok: bool
    change: float | None
    gradient: float | None
    held_out_share: float | None
    failed: tuple[str, ...]


@dataclass(frozen=True)
class WScore:
    """What the critics found; the last event, and the entry "wscore" of evaluation.json.

    Attributes
    ----------
    names : models, in the order of rows and columns
    w1 : W1 of each model by seed, mean over its critics; None where one diverged
    log_ratio : positive where the row is nearer to the real volumes than the column (Table 11);
        None where a W1 is not positive
    reasons : why there is none, by "row | column", row before column
    converged : whether each critic converged, by its words
    """

    protocol: CriticProtocol
    names: tuple[str, ...]
    w1: Mapping[str, tuple[float | None, ...]]
    log_ratio: tuple[tuple[Ratio | None, ...], ...]
    reasons: Mapping[str, str]
    converged: Mapping[str, Convergence]


def wscore_steps(
    real: NDArray[np.float32],
    fakes: Mapping[str, NDArray[np.float32]],
    protocol: CriticProtocol,
    *,
    seed: int = 0,
    device: str = "cpu",
) -> Iterator[CriticStep | WScore]:
    """Train critics and compare models; events of progress, and at last the `WScore`.

    Parameters
    ----------
    real : (N, D, H, W) float32 in [-1, 1], as `CriticProtocol.prepare` makes them; may be a memmap.
        None of them may have trained a model.
    fakes : volumes of each model by name, of the same shape
    seed : equal seeds give equal scores on one machine with as many threads

    Raises
    ------
    UsageError
        If there is no model, a set is too small for the protocol, or shapes differ.
    InputRejected
        If a set holds NaN or infinity.
    """
    from prdit_core.metrics.critic_run import REAL, Sets, Verdict, run_critic

    _check(real, fakes, protocol)
    groups: list[tuple[str, ...]] = [*combinations(fakes, 2)] or [tuple(fakes)]
    total = protocol.seeds * len(groups) * protocol.iterations
    verdicts: list[list[Verdict]] = []
    for number in range(protocol.seeds):
        verdicts.append([])
        for group in groups:
            done = (len(groups) * number + len(verdicts[-1])) * protocol.iterations
            volumes = {REAL: real} | {name: fakes[name] for name in group}
            sets = Sets(volumes, seed, number, device)
            for event in run_critic(sets, protocol, len(verdicts[-1])):
                if isinstance(event, Verdict):
                    verdicts[-1].append(event)
                else:
                    yield CriticStep(done + event, total, _words(group, number))
    yield score(protocol, tuple(fakes), groups, verdicts)


def _check(
    real: NDArray[np.float32], fakes: Mapping[str, NDArray[np.float32]], protocol: CriticProtocol
) -> None:
    if not fakes:
        raise UsageError("a W-score needs the volumes of one model or more")
    for name, volumes in [("the real set", real), *fakes.items()]:
        if volumes.shape[1:] != real.shape[1:]:
            raise UsageError(
                f"{shown(name)} has volumes of {volumes.shape[1:]}, the real set of "
                f"{real.shape[1:]}; generate or resample them to one shape"
            )
        if len(volumes) < protocol.least:
            raise UsageError(
                f"{shown(name)} has {len(volumes)} volumes; W-scores of protocol {protocol.name} "
                f"need {protocol.least} or more of each"
            )
        if not all(np.isfinite(volume).all() for volume in volumes):
            raise InputRejected(f"{shown(name)} holds NaN or infinity; leave those volumes out")


def _words(group: Sequence[str], number: int) -> str:
    return f"critic of {' and '.join(group)}, seed {number + 1}"


def score(
    protocol: CriticProtocol,
    names: tuple[str, ...],
    groups: Sequence[tuple[str, ...]],
    verdicts: Sequence[Sequence[Verdict]],
) -> WScore:
    """Bring together what critics found.

    Parameters
    ----------
    groups : models that share a critic
    verdicts : of each seed, of the critic of each group
    """
    ratios: dict[tuple[str, str], Ratio] = {(name, name): Ratio(0.0, 0.0) for name in names}
    reasons = {}
    for row, column in combinations(names, 2):
        which = next(i for i, group in enumerate(groups) if {row, column} <= set(group))
        pairs = [(by[which].w1[row], by[which].w1[column]) for by in verdicts]
        ratio = _ratio(row, column, pairs)
        if isinstance(ratio, str):
            reasons[f"{row} | {column}"] = ratio
        else:
            ratios[row, column], ratios[column, row] = ratio, Ratio(-ratio.mean, ratio.std)
    return WScore(
        protocol,
        names,
        {name: tuple(_mean_w1(name, by) for by in verdicts) for name in names},
        tuple(tuple(ratios.get((row, column)) for column in names) for row in names),
        reasons,
        {
            _words(group, number): verdict.convergence
            for number, by in enumerate(verdicts)
            for group, verdict in zip(groups, by, strict=True)
        },
    )


def _ratio(
    row: str, column: str, pairs: Sequence[tuple[float | None, float | None]]
) -> Ratio | str:
    """Log-ratio over seeds, or why there is none."""
    logs = []
    for number, values in enumerate(pairs, 1):
        for name, value in zip((row, column), values, strict=True):
            if value is None:
                return f"the critic of seed {number} diverged"
            if value <= 0:
                return (
                    f"W1 of {name} is not positive at seed {number} ({value:.3g}): the critic "
                    "does not tell it from real volumes"
                )
        logs.append(np.log(values[1]) - np.log(values[0]))  # type: ignore[arg-type]
    return Ratio(float(np.mean(logs)), float(np.std(logs, ddof=1)) if len(logs) > 1 else 0.0)


def _mean_w1(name: str, verdicts: Sequence[Verdict]) -> float | None:
    """W1 of a model over the critics that saw it."""
    values = [verdict.w1[name] for verdict in verdicts if name in verdict.w1]
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) else None

"""What to be careful about in an evaluation, in sentences for its reader."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prdit_core.evaluation.sets import REAL
from prdit_core.files import shown
from prdit_core.metrics.frechet import FEWEST_FOR_CORRECTION

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prdit_core.evaluation.findings import Findings


def doubts(findings: Findings) -> Iterator[str]:
    """Warnings, the gravest first."""
    yield from _copies(findings)
    yield from _not_held_out(findings)
    yield from _repeats(findings)
    yield from _few(findings)
    yield from _unequal(findings)


def _copies(findings: Findings) -> Iterator[str]:
    scale = findings.scale
    if scale is None:
        return
    for name in findings.sets.fakes:
        copies = sum(map(scale.is_copy, findings.neighbours[name]))
        if copies:
            yield (
                f"{copies} of {_count(findings, name)} volumes of {shown(name)} are so near to a "
                "training volume that they look like copies."
            )


def _not_held_out(findings: Findings) -> Iterator[str]:
    known = len(findings.training_volumes_in(REAL))
    if known:
        yield (
            f"{known} of {_count(findings, REAL)} real volumes are training volumes. A model that "
            "copies them looks good: give volumes that it was not trained on."
        )
    scale = findings.scale
    near = 0 if scale is None else sum(map(scale.is_copy, findings.neighbours[REAL]))
    if near:
        yield (
            f"{near} of {_count(findings, REAL)} real volumes lie as near to a training volume as "
            "copies do: perhaps patients are in both sets."
        )


def _repeats(findings: Findings) -> Iterator[str]:
    real = set(findings.surveys[REAL].digests)
    for name in findings.sets.judged:
        digests = findings.surveys[name].digests
        repeated = len(digests) - len(set(digests))
        if repeated:
            yield f"{repeated} volumes of {shown(name)} are equal to others of the same set."
        shared = sum(digest in real for digest in digests) if name != REAL else 0
        if shared:
            yield (
                f"{shared} volumes of {shown(name)} are equal to real ones: corrected and "
                "unbiased distances are too small, for they take sets to be independent."
            )


def _few(findings: Findings) -> Iterator[str]:
    protocol, features = findings.protocol, findings.encoder.feature_count
    counts = {name: _count(findings, name) for name in findings.sets.judged}
    few = [f"{shown(name)} ({n})" for name, n in counts.items() if n < protocol.advised_volumes]
    if few:
        yield (
            f"Fewer volumes than protocol {protocol.name} advises ({protocol.advised_volumes}): "
            f"{', '.join(few)}. Distances of so few are uncertain."
        )
    fewest = min(counts.values())
    if fewest < FEWEST_FOR_CORRECTION:
        yield f"FID is not corrected for the number of volumes: {FEWEST_FOR_CORRECTION} are needed."
    elif fewest < 2 * features:
        yield (
            f"{fewest} volumes are few for {features} features: the corrected FID still comes out "
            "too large. Compare it only between sets of equal numbers and with the floor."
        )


def _unequal(findings: Findings) -> Iterator[str]:
    counts = {_count(findings, name) for name in findings.sets.fakes}
    if len(counts) > 1:
        yield (
            "The generated sets differ in their numbers of volumes: compare the corrected FID and "
            "the unbiased MMD, not those as papers compute them."
        )


def _count(findings: Findings, name: str) -> int:
    return len(findings.sets.all[name])

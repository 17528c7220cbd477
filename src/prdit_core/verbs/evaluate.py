"""Compare generated volumes with real ones: every number with its confidence."""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Literal

from prdit_core.errors import UsageError
from prdit_core.evaluation.critics import WScoreChoice, critics_for, scores
from prdit_core.evaluation.doubts import doubts
from prdit_core.evaluation.findings import ClassFeatures, Findings
from prdit_core.evaluation.passes import EvaluationStep, Pass
from prdit_core.evaluation.sets import REAL, TRAINING
from prdit_core.metrics.evaluation import Evaluation
from prdit_core.metrics.floor import floor_of
from prdit_core.metrics.frechet import frechet
from prdit_core.metrics.mmd import kernel_width, mmd
from prdit_core.metrics.protocols import PROTOCOLS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from prdit_core.evaluation.sets import EvaluatedSets
    from prdit_core.metrics.encoders import Encoder
    from prdit_core.metrics.protocols import EvaluationProtocol


def evaluate_steps(
    sets: EvaluatedSets,
    encoder: Encoder | None = None,
    *,
    protocol: str = "recommended",
    wscore: WScoreChoice = "auto",
    seed: int = 0,
    device: str = "cpu",
    scratch: str | Path | None = None,
) -> Iterator[EvaluationStep | Evaluation]:
    """Measure sets of volumes, one event for each volume and distance; last comes the result.

    Volumes are read one at a time, several times over; only their features are kept.

    Parameters
    ----------
    sets : see `open_sets`
    encoder : what makes features; None takes the protocol's
    protocol : a name of `PROTOCOLS`: "recommended" or "paper"
    wscore : whether critics are trained; "auto" does where the sets are large enough
    seed : of halves, pairs and critics; equal seeds give equal evaluations on one machine
    device : where the protocol's encoder and the critics work
    scratch : folder for the critics' copy of the volumes; None: the system's

    Raises
    ------
    UsageError
        If a setting cannot be used, or "on" asks for a W-score that cannot be had.
    InputRejected
        If a volume cannot be read, holds NaN or lies on another grid than its set.
    """
    row = find_protocol(protocol)
    critics, remarks = critics_for(sets, row.wscore, wscore)
    encoder = protocol_encoder(row, device) if encoder is None else encoder
    looks = {name: Pass(name, volumes, row) for name, volumes in sets.all.items()}
    findings = Findings(sets, row, encoder, seed)
    yield from _look(looks, findings)
    yield from _measure(findings)
    warnings = (*remarks, *doubts(findings))
    if critics is None:
        yield findings.evaluation(None, warnings)
        return
    judged = {name: looks[name] for name in sets.judged}
    scored = yield from scores(judged, critics, seed=seed, device=device, scratch=scratch)
    yield findings.evaluation(scored, warnings)


def evaluate(
    sets: EvaluatedSets,
    encoder: Encoder | None = None,
    *,
    protocol: str = "recommended",
    wscore: WScoreChoice = "auto",
    seed: int = 0,
    device: str = "cpu",
) -> Evaluation:
    """Measure sets of volumes; see `evaluate_steps`.

    Examples
    --------
    >>> sets = prdit_core.open_sets("held-out", {"demo": "made"})  # doctest: +SKIP
    >>> prdit_core.evaluate(sets).fakes["demo"].fid_unbiased.value  # doctest: +SKIP
    """
    steps = evaluate_steps(
        sets, encoder, protocol=protocol, wscore=wscore, seed=seed, device=device
    )
    (last,) = deque(steps, maxlen=1)
    assert isinstance(last, Evaluation)
    return last


def find_protocol(name: str) -> EvaluationProtocol:
    """The protocol of that name; raises `UsageError` where there is none."""
    if name not in PROTOCOLS:
        raise UsageError(f"protocol {name!r} is not known; choose one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def protocol_encoder(
    protocol: EvaluationProtocol,
    device: str,
    name: str | None = None,
    depth: int | None = None,
    shortcut: Literal["A", "B"] | None = None,
) -> Encoder:
    """An encoder that sees volumes as the protocol says, or the protocol's own.

    Parameters
    ----------
    name, depth, shortcut : see `load_encoder`; None takes what the protocol names

    Raises
    ------
    UsageError
        If the protocol needs weights that it cannot bring, or there is no such encoder.
    CheckpointError
        If a file of weights is damaged or of another network.
    """
    from prdit_core.metrics.encoders import load_encoder

    chosen = protocol.encoder if name is None else name
    if chosen is None:
        raise UsageError(
            f"protocol {protocol.name} needs MedicalNet's 3D ResNet-50: give its file with "
            "--encoder, or take --protocol recommended"
        )
    return load_encoder(chosen, depth, shortcut, intensity=protocol.intensity, device=device)


def _look(looks: Mapping[str, Pass], findings: Findings) -> Iterator[EvaluationStep]:
    """All that volumes are read for; what cannot be used is refused by the first pass."""
    for name, look in looks.items():
        findings.surveys[name] = yield from look.survey()
    for name in findings.sets.judged:
        findings.features[name] = yield from looks[name].encode(findings.encoder)
        findings.alike[name] = yield from looks[name].diversity(findings.seed)
    seen = partial(Pass, protocol=findings.protocol)
    for label, pair in findings.sets.beside.items():
        real = yield from seen(f"real {label}", pair.real).encode(findings.encoder)
        made = yield from seen(f"generated {label}", pair.fake).encode(findings.encoder)
        findings.beside[label] = ClassFeatures(real, made)
    if findings.sets.training is None:
        return
    thumbnails = findings.surveys[TRAINING].thumbnails
    for name in findings.sets.judged:
        known = findings.training_volumes_in(name) if name == REAL else {}
        findings.neighbours[name] = yield from looks[name].neighbours(
            looks[TRAINING], thumbnails, known
        )


def _measure(findings: Findings) -> Iterator[EvaluationStep]:
    """Distances between features."""
    words, total = "measuring distances", len(findings.sets.fakes) + 1
    real = findings.features[REAL]
    gamma = kernel_width(real)
    findings.floor = floor_of(real, gamma, findings.seed)
    yield EvaluationStep(words, 0, total)
    for index, name in enumerate(findings.sets.fakes, start=1):
        fake, seed = findings.features[name], findings.seed
        findings.distances[name] = frechet(real, fake, seed), mmd(real, fake, gamma, seed)
        yield EvaluationStep(words, index, total)

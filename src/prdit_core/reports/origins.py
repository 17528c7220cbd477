"""How an evaluation was made, so that it can be judged and made again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from prdit_core.reports.markup import Html, joined, paragraph, tag

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prdit_core.metrics.evaluation import Evaluation

SHARING = (
    "This page holds pictures of the real volumes, and of training volumes where pairs are shown. "
    "Share it only as you may share those."
)


def method(evaluation: Evaluation) -> Html:
    """Encoder, whether its numbers compare with published ones, and the protocol."""
    encoder, protocol = evaluation.encoder, evaluation.protocol
    terms = [
        ("encoder", f"{encoder.name}, {encoder.features:,} features of each volume"),
        ("volumes are prepared", encoder.preparation),
        ("compares with the paper?", encoder.comparable),
        ("protocol", f"{protocol.name}, seed {evaluation.seed}"),
    ]
    rows = [part for term, words in terms for part in (tag("dt", term), tag("dd", words))]
    return joined([tag("dl", *rows), _all_of("Protocol in full", protocol.model_dump(mode="json"))])


def footer(evaluation: Evaluation) -> Html:
    """What it was made with, and what it is not for."""
    encoder = evaluation.encoder
    hashes = [f"encoder {encoder.name}: SHA-256 {encoder.sha256}"]
    hashes += [
        f"checkpoint of {name}: SHA-256 {entry.checkpoint_sha256}"
        for name, entry in evaluation.sets.items()
        if entry.checkpoint_sha256
    ]
    lines = tag("ul", *(tag("li", line) for line in hashes), class_="hashes")
    made = f"Made by prdit-core {evaluation.program}; all numbers are in evaluation.json."
    notice = tag("p", tag("strong", evaluation.notice))
    return tag("footer", notice, paragraph(SHARING), paragraph(made), lines)


def _all_of(title: str, settings: Mapping[str, Any]) -> Html:
    """Every setting as it is recorded."""
    rows = [
        part
        for name, value in settings.items()
        for part in (tag("dt", name.replace("_", " ")), tag("dd", _worded(value)))
    ]
    return tag("details", tag("summary", title), tag("dl", *rows)) if rows else Html("")


def _worded(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

"""The W-score: which of two models a critic finds farther from the real volumes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prdit_core.reports.markup import Html, joined, paragraph, table, tag
from prdit_core.reports.numbers import MISSING, plain, shaded

if TYPE_CHECKING:
    from prdit_core.metrics.wscore import WScore

ABOUT = (
    "A small network, the critic, learns to tell real volumes from those of two models, and says "
    "how far each model's are from real. A cell compares its row with its column: the logarithm of "
    "the ratio of both distances, mean and spread over seeds. Blue, above 0: the row is "
    "nearer to real than the column. Orange, below 0: it is farther. Around 0: the same."
)


def wscore_section(scored: WScore) -> Html:
    """Matrix of all pairs, the distances it was made from, and what to doubt."""
    return joined([paragraph(ABOUT), _matrix(scored), _reasons(scored), _distances(scored)])


def _matrix(scored: WScore) -> Html:
    names = scored.names
    known = [abs(cell.mean) for row in scored.log_ratio for cell in row if cell is not None]
    full = max(known, default=0.0)
    rows = (
        [name, *(_cell(scored, i, j, full) for j in range(len(names)))]
        for i, name in enumerate(names)
    )
    return table(["row against column", *names], rows, "matrix")


def _cell(scored: WScore, i: int, j: int, full: float) -> Html:
    if i == j:
        return tag("td", "·", class_="missing")
    names, ratio = scored.names, scored.log_ratio[i][j]
    if ratio is None:
        pairs = (f"{names[i]} | {names[j]}", f"{names[j]} | {names[i]}")
        why = next((scored.reasons[pair] for pair in pairs if pair in scored.reasons), "")
        return tag("td", "not available", class_="missing", title=why)
    return shaded([f"{ratio.mean:+.2f} ± {ratio.std:.2f}"], -ratio.mean, full)


def _reasons(scored: WScore) -> Html:
    """Why cells are empty, and which critics did not settle."""
    lines = [f"Not available: {pair}: {why}" for pair, why in scored.reasons.items()]
    lines += [
        f"Do not trust the {critic}, which did not converge: {'; '.join(check.failed)}"
        for critic, check in scored.converged.items()
        if not check.ok
    ]
    return tag("ul", *(tag("li", line) for line in lines), class_="doubt") if lines else Html("")


def _distances(scored: WScore) -> Html:
    """Distances from real, one for each seed."""
    most = max((len(values) for values in scored.w1.values()), default=0)
    head = ["critic's distance from real", *(f"seed {n + 1}" for n in range(most))]
    rows = (
        [name, *(MISSING if value is None else plain(value) for value in values)]
        for name, values in scored.w1.items()
    )
    return tag("details", tag("summary", "Distances by seed"), table(head, rows))

"""What commands that paint label maps share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prdit_core.cli.console import say

if TYPE_CHECKING:
    from pathlib import Path

    from prdit_core.models.prior import Prior
    from prdit_core.verbs.paint import Painting


def painted(prior: Prior, file: Path, scale: float) -> Painting:
    """A label map of a file with a prior under it, and what there is to say of that."""
    from prdit_core.data.label_maps import read_label_map
    from prdit_core.verbs.paint import painting_of

    painting = painting_of(prior, read_label_map(file, prior.labels, as_stored=True), scale)
    for note in painting.notes:
        say(f"note: {note}")
    return painting

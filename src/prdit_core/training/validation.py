"""Losses on held-out patients, at fixed noise levels with fixed noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from prdit_core.errors import NumericalError
from prdit_core.noise import Draw, unit_noise
from prdit_core.schedule import T
from prdit_core.training.batches import Batch
from prdit_core.training.events import Validated
from prdit_core.training.loop import Tally, joined, sums_by_level

if TYPE_CHECKING:
    from torch import nn

    from prdit_core.training.batches import Source

CASES = 8  # at most; the first by id


@torch.no_grad()
def validate(
    judge: nn.Module, held_out: Source, iteration: int, *, seed: int, levels: int
) -> Validated:
    """Losses at the middle of each of `levels` spans of t.

    Every volume and level has noise of its own that is the same at every validation, so that
    two validations differ by the weights only. No state of any generator is touched.

    Parameters
    ----------
    judge : objective of the network that is validated, see `Task.judge`

    Raises
    ------
    NumericalError
        If a loss is not finite.
    """
    terms, times = [], []
    device = next(judge.parameters()).device
    for number, case in enumerate(held_out.names[:CASES]):
        x0 = torch.from_numpy(held_out.read(number))[None].to(device)
        label, found = (held_out.labels[number],), held_out.condition(number)
        condition = None if found is None else torch.from_numpy(found)[None].to(device)
        for level in range(levels):
            noise = unit_noise(tuple(x0.shape), Draw.VALIDATION, seed, 0, number, level)
            t = torch.tensor([T * (level + 0.5) / levels], device=device)
            batch = Batch(x0, noise.to(device), t, (case,), level, (number,), label, condition)
            terms.append(judge(batch).terms)
            times.append(t)
    sums = sums_by_level(joined(terms), torch.cat(times)).cpu()
    if not torch.isfinite(sums).all():
        raise NumericalError(f"iteration {iteration}: the validation loss is not finite")
    tally = Tally(tuple(terms[0]), sums, stop_requests=0)
    return Validated(iteration, tally.loss(), tally.levels())

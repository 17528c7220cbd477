"""Losses on held-out patients, at fixed noise levels with fixed noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from prdit_core.errors import NumericalError
from prdit_core.noise import Draw, unit_noise
from prdit_core.runs.metrics import LEVELS
from prdit_core.schedule import T
from prdit_core.training.events import Validated
from prdit_core.training.loop import Tally, sums_by_level
from prdit_core.training.objective import add_noise, losses

if TYPE_CHECKING:
    from prdit_core.models.prdit.network import PRDiT
    from prdit_core.models.prior import Prior
    from prdit_core.training.batches import Source

CASES = 8  # at most; the first by id


@torch.no_grad()
def validate(module: PRDiT, prior: Prior, held_out: Source, iteration: int, seed: int) -> Validated:
    """Errors of `module`, the network of `prior`, at the middle of each span of t.

    Every volume and level has noise of its own that is the same at every validation, so that
    two validations differ by the weights only. No state of any generator is touched.

    Raises
    ------
    NumericalError
        If a loss is not finite.
    """
    sums = torch.zeros(4, LEVELS, dtype=torch.float64)
    for number in range(min(CASES, len(held_out.names))):
        x0 = torch.from_numpy(held_out.read(number))[None, None].to(prior.device)
        for level in range(LEVELS):
            t = torch.tensor([T * (level + 0.5) / LEVELS])
            place = (0, number, level)
            noise = unit_noise(prior.shape, Draw.VALIDATION, seed, *place).to(prior.device)
            eps = noise * prior.schedule.noise_std
            asked = torch.tensor([prior.schedule.network_time(float(t))], device=prior.device)
            t = t.to(prior.device)
            output = module(add_noise(prior.schedule, x0, eps, t), asked)
            found = losses(output, x0, eps, t, prior.schedule, module.config.output)
            sums += sums_by_level(found, t).cpu()
    if not torch.isfinite(sums).all():
        raise NumericalError(f"iteration {iteration}: the validation loss is not finite")
    tally = Tally(sums, asked=0)
    return Validated(iteration, tally.loss(), tally.levels())

"""What PRDiT minimises: the joint error of all stages (Eq. 3, 4), and a chain's terms (3.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from prdit_core.models.prdit.highres_refiner import below
from prdit_core.training.contracts import Losses
from prdit_core.training.objective import add_noise, losses, mean_square

if TYPE_CHECKING:
    from torch import Tensor

    from prdit_core.models.prdit.network import PRDiT
    from prdit_core.patches import Box
    from prdit_core.schedule import Schedule
    from prdit_core.training.batches import Batch
    from prdit_core.training.families.prdit.crop import Crop


class JointError(nn.Module):
    """Error of image and noise, or of the velocity, at the highest resolution of a network.

    What is told is that error alone (Eq. 3 and 4), so that runs with other weights compare.

    Parameters
    ----------
    consistency : weight of `inconsistency` of a chain
    lower_sizes : weight of the same error at every lower resolution of a chain
    crop : where the last refiner is trained; None: everywhere
    """

    def __init__(
        self,
        network: PRDiT,
        schedule: Schedule,
        *,
        consistency: float = 0.0,
        lower_sizes: float = 0.0,
        crop: Crop | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.schedule = schedule
        self.consistency = consistency
        self.lower_sizes = lower_sizes
        self.crop = crop

    def forward(self, batch: Batch) -> Losses:
        """Errors of every volume."""
        kind = self.network.config.output
        x0, t, schedule = batch.x0, batch.t, self.schedule
        eps = batch.unit_noise * schedule.noise_std
        times = torch.tensor([schedule.network_time(float(v)) for v in t], device=t.device)
        box = None if self.crop is None else self.crop.box(batch.iteration, tuple(x0.shape[-3:]))
        outputs = self.network.pyramid(add_noise(schedule, x0, eps, t), times, box)
        outputs = [output.float() for output in outputs]
        terms = losses(outputs[-1], _within(x0, box), _within(eps, box), t, schedule, kind)
        objective = terms["total"]
        if self.consistency and len(outputs) > 1:
            lower = _within(outputs[-2], _halved(box))
            objective = objective + self.consistency * inconsistency(outputs[-1], lower)
        if self.lower_sizes:
            chain = zip(reversed(outputs[:-1]), reversed(self.network.config.refiners), strict=True)
            for output, refiner in chain:
                x0, eps = below(x0, eps, refiner.shows)
                further = losses(output, x0, eps, t, schedule, kind)
                objective = objective + self.lower_sizes * further["total"]
        return Losses(terms, objective)


def inconsistency(output: Tensor, below: Tensor) -> Tensor:
    """How far a chain's x0 strays from that of the resolution below it, (B,) (3.4).

    The low frequencies of a refined volume are what averages over 2^3 voxels keep. The lower
    prediction is the standard: it gets no gradient of this.

    Parameters
    ----------
    output : (B, 2C, D, H, W) joint prediction
    below : (B, 2C, D/2, H/2, W/2) joint prediction at half the resolution
    """
    _, x0_hat = output.chunk(2, dim=1)
    _, low = below.detach().chunk(2, dim=1)
    return mean_square(functional.avg_pool3d(x0_hat, 2) - low)


def _within(x: Tensor, box: Box | None) -> Tensor:
    return x if box is None else x[(..., *box)]


def _halved(box: Box | None) -> Box | None:
    """The same box at half the resolution."""
    if box is None:
        return None
    depth, height, width = (slice(part.start // 2, part.stop // 2) for part in box)
    return depth, height, width

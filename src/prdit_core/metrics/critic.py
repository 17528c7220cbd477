"""The WGAN-GP critic of the W-score: its network and its training (A.9.3, Eq. 10)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from prdit_core.models.initial import draw_weights
from prdit_core.noise import Draw, generator

if TYPE_CHECKING:
    from collections.abc import Callable

SMALLEST = 4  # voxels along the shortest edge that the last convolution sees, at least
SLOPE = 0.2
BETAS = (0.5, 0.999)


class Critic(nn.Module):
    """Convolutions of stride 2, InstanceNorm3d and LeakyReLU, and one number; no sigmoid.

    Parameters
    ----------
    shape : (D, H, W) of the volumes; halved as long as all edges stay whole and at least 4
    width : channels of the first level; they double from level to level
    """

    def __init__(self, shape: tuple[int, int, int], width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inner, outer = 1, width
        while all(edge % 2 == 0 and edge >= 2 * SMALLEST for edge in shape):
            layers.append(nn.Conv3d(inner, outer, 4, stride=2, padding=1))
            if inner > 1:
                layers.append(nn.InstanceNorm3d(outer, affine=True))
            layers.append(nn.LeakyReLU(SLOPE))
            depth, height, across = (edge // 2 for edge in shape)
            shape, inner, outer = (depth, height, across), outer, 2 * outer
        layers.append(nn.Conv3d(inner, 1, shape))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, D, H, W) to scores (B,)."""
        return cast("Tensor", self.layers(x)).flatten()


@dataclass(frozen=True)
class CriticLosses:
    """What one iteration saw.

    Attributes
    ----------
    w1 : mean score of the real batch less that of the fake batch
    gradient : mean norm of the critic's gradient between them; 1 where it is 1-Lipschitz
    """

    w1: float
    gradient: float


class CriticTrainer:
    """Trains one critic; all that is random in it depends on `key` alone.

    Parameters
    ----------
    draw : gives the real and the fake batch of an iteration, (B, 1, D, H, W) each
    penalty : weight lambda of the gradient penalty
    """

    def __init__(
        self,
        critic: Critic,
        draw: Callable[[int], tuple[Tensor, Tensor]],
        *,
        lr: float,
        penalty: float,
        seed: int,
        number: int,
        group: int,
    ) -> None:
        draw_weights(critic, Draw.CRITIC_WEIGHTS, seed, number, group)
        self.critic, self.draw, self.penalty = critic, draw, penalty
        self.key = seed, number, group
        self.optimiser = torch.optim.Adam(critic.parameters(), lr, betas=BETAS)

    def step(self, iteration: int) -> CriticLosses:
        """One step up the objective of Eq. 10."""
        real, fake = self.draw(iteration)
        stream = generator(Draw.CRITIC_PENALTY, *self.key, iteration)
        share = torch.rand((len(real), 1, 1, 1, 1), generator=stream).to(real.device)
        scores = self.critic(torch.cat([real, fake]))
        w1 = scores[: len(real)].mean() - scores[len(real) :].mean()
        norms = gradient_norms(self.critic, torch.lerp(fake, real, share))
        loss = self.penalty * (norms - 1).square().mean() - w1
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return CriticLosses(w1.item(), norms.mean().item())


def gradient_norms(critic: Critic, between: Tensor) -> Tensor:
    """Norm of the critic's gradient at each volume (B,), itself differentiable."""
    between = between.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    norms: Tensor = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
    return norms

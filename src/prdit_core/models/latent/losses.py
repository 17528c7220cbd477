"""Losses of the autoencoder's two players, as pure functions (spec 2, release's weights).

Each is that of every volume of a batch, (B,); the mean over the batch is what is minimised.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

RECONSTRUCTION = 4.0
ADVERSARIAL = 2.0
FEATURES = 4.0


def reconstruction(x: Tensor, decoded: Tensor) -> Tensor:
    """4 mean |x - decoded|."""
    return RECONSTRUCTION * mean_of_each((x - decoded).abs())


def adversarial(logits: Tensor) -> Tensor:
    """What the generator has from logits of what it decoded: 2 times minus their mean."""
    return -ADVERSARIAL * mean_of_each(logits)


def feature_matching(fake: Sequence[Tensor], real: Sequence[Tensor]) -> Tensor:
    """4 times the sum over hidden layers of the mean absolute difference.

    Parameters
    ----------
    fake, real : activations of all layers, logits last; those of the real volumes get no gradient
    """
    pairs = zip(fake[:-1], real[:-1], strict=True)
    differences = [mean_of_each((a - b.detach()).abs()) for a, b in pairs]
    total = differences[0]
    for difference in differences[1:]:
        total = total + difference
    return FEATURES * total


def hinge(real: Tensor, fake: Tensor) -> Tensor:
    """What the discriminator minimises: 2 times half the sum of both hinges, from logits."""
    both = mean_of_each(functional.relu(1 - real)) + mean_of_each(functional.relu(1 + fake))
    return ADVERSARIAL * 0.5 * both


def mean_of_each(values: Tensor) -> Tensor:
    """(B, ...) to (B,), in float32."""
    return values.float().flatten(1).mean(1)

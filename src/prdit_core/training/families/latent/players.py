"""The autoencoder against its discriminator: what either minimises (spec 2)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import nn

from prdit_core.models.latent import losses
from prdit_core.models.latent.patch_volume import (
    PatchVolume,
    decoded_by_patches,
    encoded_by_patches,
)
from prdit_core.training.contracts import Losses

if TYPE_CHECKING:
    from torch import Tensor

    from prdit_core.models.latent.autoencoder import Autoencoder
    from prdit_core.models.latent.discriminator import Discriminator
    from prdit_core.training.batches import Batch
    from prdit_core.training.families.latent.boxes import TrainingBoxes
    from prdit_core.training.families.latent.codebook import Codebook

# Of the autoencoder; "dead" is the share of codes that hardly any vector chose lately.
PATCH_KINDS = ("reconstruction", "commitment", "adversarial", "features", "total", "dead")
JOINT_KINDS = ("reconstruction", "adversarial", "features", "total")
RIVAL = "discriminator"


@dataclass
class Duel:
    """What both players know; neither owns it, so that none trains the other's weights.

    Attributes
    ----------
    start : iteration from which both play
    pairs : volumes and what was decoded of them, from the first player's turn to the second's
    """

    discriminator: Discriminator
    start: int
    pairs: deque[tuple[Tensor, Tensor]] = field(default_factory=deque)

    def terms(self, x: Tensor, decoded: Tensor, iteration: int) -> dict[str, Tensor]:
        """What the autoencoder has of the discriminator, each (B,); nothing before the start."""
        if iteration < self.start:
            nothing = torch.zeros(len(x), device=x.device)
            return {"adversarial": nothing, "features": nothing}
        self.pairs.append((x, decoded.detach()))
        fake = self.discriminator(decoded)
        with torch.no_grad():
            real = self.discriminator(x)
        return {
            "adversarial": losses.adversarial(fake[-1]),
            "features": losses.feature_matching(fake, real),
        }


class AutoencoderError(nn.Module):
    """Stage 1: encoder, codes and decoder on a patch of every volume."""

    def __init__(
        self, network: Autoencoder, boxes: TrainingBoxes, duel: Duel, codebook: Codebook
    ) -> None:
        super().__init__()
        self.network = network
        self.boxes = boxes
        self.duel = duel
        self.codebook = codebook

    def forward(self, batch: Batch) -> Losses:
        """Mean over the patch of every volume."""
        x, network = self.boxes.of(batch), self.network
        z = network.encode(x).float()
        self.codebook.begin(z, batch.iteration)
        quantised = network.quantiser(z)
        self.codebook.see(z, quantised.indices)
        decoded = network.decoder(network.after(quantised.z))
        parts = {
            "reconstruction": losses.reconstruction(x, decoded),
            "commitment": quantised.commitment,
            **self.duel.terms(x, decoded, batch.iteration),
        }
        total = torch.stack(list(parts.values())).sum(0)
        return Losses({**parts, "total": total, "dead": self.codebook.dead.expand(len(x))}, total)


class DecoderError(nn.Module):
    """Stage 2: the decoder on volumes at once; what comes before it is neither moved nor asked."""

    def __init__(self, network: Autoencoder, boxes: TrainingBoxes, duel: Duel) -> None:
        super().__init__()
        self.network = network
        self.boxes = boxes
        self.duel = duel

    def forward(self, batch: Batch) -> Losses:
        """Mean over every volume."""
        x, network = self.boxes.of(batch), self.network
        with torch.no_grad():
            codes = network.quantiser.nearest(encoded_by_patches(network, x))
        decoded = network.decoder(network.after(codes))
        parts = {
            "reconstruction": losses.reconstruction(x, decoded),
            **self.duel.terms(x, decoded, batch.iteration),
        }
        total = torch.stack(list(parts.values())).sum(0)
        return Losses({**parts, "total": total}, total)


class HingeError(nn.Module):
    """The discriminator's: volumes against what was decoded of them in the same iteration."""

    def __init__(self, duel: Duel) -> None:
        super().__init__()
        self.discriminator = duel.discriminator
        self.duel = duel

    def forward(self, batch: Batch) -> Losses:
        """Mean over the logits of every volume; `batch` was seen by the first player."""
        del batch
        x, decoded = self.duel.pairs.popleft()
        real, fake = self.discriminator(x)[-1], self.discriminator(decoded)[-1]
        loss = losses.hinge(real, fake)
        return Losses({RIVAL: loss}, loss)


class PatchJudge(nn.Module):
    """Whole volumes, encoded and decoded patch by patch, without the discriminator's opinion."""

    def __init__(self, network: Autoencoder) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: Batch) -> Losses:
        """Mean over every volume."""
        z = encoded_by_patches(self.network, batch.x0).float()
        commitment = self.network.quantiser(z).commitment
        error = losses.reconstruction(batch.x0, decoded_by_patches(self.network, z))
        total = error + commitment
        return Losses({"reconstruction": error, "commitment": commitment, "total": total}, total)


class JointJudge(nn.Module):
    """Whole volumes, decoded at once where that fits into memory."""

    def __init__(self, network: Autoencoder) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: Batch) -> Losses:
        """Mean over every volume."""
        codec = PatchVolume(self.network)
        error = losses.reconstruction(batch.x0, codec.decode(codec.encode(batch.x0)))
        return Losses({"reconstruction": error, "total": error}, error)

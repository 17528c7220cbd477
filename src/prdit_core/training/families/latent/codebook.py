"""How the codes move in stage 1: once an iteration, by the vectors of all parts and processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from prdit_core.noise import Draw, generator
from prdit_core.training.engine import by_place

if TYPE_CHECKING:
    from torch import Tensor

    from prdit_core.models.latent.quantiser import Quantiser

FIRST, MOVED = 0, 1  # the draws of an iteration


class Codebook:
    """Collects what chose which code, and updates the quantiser after the step.

    What is random in it depends on (seed, iteration), so that its state is the quantiser's alone.
    """

    def __init__(self, quantiser: Quantiser, seed: int) -> None:
        self.quantiser = quantiser
        self.seed = seed
        self._seen: list[tuple[Tensor, Tensor]] = []

    @property
    def dead(self) -> Tensor:
        """Share of codes that less than one vector a step has chosen lately."""
        return (self.quantiser.counts < 1).float().mean()

    def begin(self, z: Tensor, iteration: int) -> None:
        """Take vectors of the first batch (of its first part, where it comes in parts) for codes.

        A saved buffer says whether that was done: a run that goes on never begins anew.
        """
        if not self.quantiser.initialised:
            vectors = by_place(z.detach())
            self.quantiser.initialise(vectors, *self._draws(vectors, iteration, FIRST))

    def see(self, z: Tensor, indices: Tensor) -> None:
        """Keep latents (B, code_size, d, h, w) and the codes (B, d, h, w) they chose."""
        self._seen.append((z.detach(), indices))

    def move(self, iteration: int) -> None:
        """Update the codes by all that was seen in an iteration."""
        z, indices = (by_place(torch.cat(parts)) for parts in zip(*self._seen, strict=True))
        self._seen.clear()
        self.quantiser.update(z, indices, *self._draws(z, iteration, MOVED))

    def _draws(self, z: Tensor, iteration: int, which: int) -> tuple[Tensor, Tensor | None]:
        """Order of the candidates, and noise where there are fewer vectors than codes."""
        codes, vectors = len(self.quantiser.embeddings), z.numel() // z.shape[1]
        count = max(1, -(-codes // vectors)) * vectors
        stream = generator(Draw.CODES, self.seed, 0, iteration, which)
        order = torch.randperm(count, generator=stream).to(z.device)
        if vectors >= codes:
            return order, None
        return order, torch.randn(count, z.shape[1], generator=stream).to(z.device)

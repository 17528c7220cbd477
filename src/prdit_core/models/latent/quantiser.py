"""The codebook: nearest codes, their moving averages, and codes that nobody uses (spec 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from prdit_core.models.latent.losses import mean_of_each

if TYPE_CHECKING:
    from torch import Tensor

DECAY = 0.99
COMMITMENT = 0.25
EPS = 1e-7
# Vectors that are compared with all codes at once: a matter of memory only.
AT_ONCE = 8192


@dataclass(frozen=True)
class Quantised:
    """What a quantiser makes of a batch.

    Attributes
    ----------
    z : (B, code_size, D, H, W) codes, whose gradient is that of the vectors they stand for
    indices : (B, D, H, W) numbers of the codes
    commitment : (B,) how far the vectors are from their codes, weight included
    perplexity : number of codes that are used, were they used evenly
    """

    z: Tensor
    indices: Tensor
    commitment: Tensor
    perplexity: Tensor


class Quantiser(nn.Module):
    """Codes (K, code_size), and running counts and sums of the vectors that chose them.

    Nothing here follows training or evaluation mode: codes move when `update` is called, and
    never elsewhere.
    """

    embeddings: Tensor
    counts: Tensor
    sums: Tensor
    initialised: Tensor

    def __init__(self, codes: int, code_size: int) -> None:
        super().__init__()
        self.register_buffer("embeddings", torch.zeros(codes, code_size))
        self.register_buffer("counts", torch.zeros(codes))
        self.register_buffer("sums", torch.zeros(codes, code_size))
        self.register_buffer("initialised", torch.zeros(()))  # a number, as all weights

    def forward(self, z: Tensor) -> Quantised:
        """Nearest codes of latents (B, code_size, D, H, W)."""
        vectors = as_vectors(z)
        indices = self._indices(vectors)
        codes = functional.embedding(indices, self.embeddings)
        grid = (len(z), *z.shape[2:])
        placed = torch.unflatten(codes, 0, grid).movedim(-1, 1)
        shares = torch.bincount(indices, minlength=len(self.embeddings)) / len(indices)
        return Quantised(
            z=z + (placed - z).detach(),
            indices=torch.unflatten(indices, 0, grid),
            commitment=COMMITMENT * mean_of_each((z - placed).square()),
            perplexity=torch.exp(-(shares * (shares + 1e-7).log()).sum()),
        )

    def nearest(self, z: Tensor) -> Tensor:
        """The codes themselves, without gradients."""
        indices = self._indices(as_vectors(z))
        codes = functional.embedding(indices, self.embeddings)
        placed: Tensor = torch.unflatten(codes, 0, (len(z), *z.shape[2:])).movedim(-1, 1)
        return placed

    @torch.no_grad()
    def initialise(self, z: Tensor, order: Tensor, noise: Tensor | None = None) -> None:
        """Take vectors of the first batch for codes; what was there is forgotten.

        Parameters
        ----------
        order, noise : as of `candidates`
        """
        codes = self.candidates(z, order, noise)
        self.embeddings.copy_(codes)
        self.sums.copy_(codes)
        self.counts.fill_(1)
        self.initialised.fill_(1)

    @torch.no_grad()
    def update(
        self,
        z: Tensor,
        indices: Tensor,
        order: Tensor | None,
        noise: Tensor | None = None,
    ) -> int:
        """Move the codes towards the vectors that chose them, and draw unused ones anew.

        Counts and sums of codes that are drawn are kept, so that a code is drawn at every step
        until it is used once a step on average.

        Parameters
        ----------
        z, indices : latents of all processes, and what `forward` gave for them
        order, noise : as of `candidates`; without an order no code is drawn

        Returns
        -------
        number of codes that are hardly used
        """
        vectors, flat = as_vectors(z), indices.flatten()
        used = torch.bincount(flat, minlength=len(self.counts)).to(vectors.dtype)
        sums = torch.zeros_like(self.sums).index_add_(0, flat, vectors)
        self.counts.mul_(DECAY).add_(used, alpha=1 - DECAY)
        self.sums.mul_(DECAY).add_(sums, alpha=1 - DECAY)
        total = self.counts.sum()
        smooth = (self.counts + EPS) * total / (total + EPS * len(self.counts))
        codes = self.sums / smooth[:, None]
        dead = self.counts < 1
        if order is not None:
            codes = torch.where(dead[:, None], self.candidates(z, order, noise), codes)
        self.embeddings.copy_(codes)
        return int(dead.sum())

    def candidates(self, z: Tensor, order: Tensor, noise: Tensor | None = None) -> Tensor:
        """A vector of the batch for every code.

        Parameters
        ----------
        order : permutation of the vectors of `z`, repeated until there are as many as codes
        noise : unit noise of the repeated vectors; needed where there are fewer than codes

        Raises
        ------
        ValueError
            If it is needed and not given.
        """
        vectors, wanted = as_vectors(z), len(self.embeddings)
        if len(vectors) < wanted:
            if noise is None:
                raise ValueError(f"{len(vectors)} vectors for {wanted} codes need noise")
            repeats = -(-wanted // len(vectors))
            std = 0.01 / vectors.shape[1] ** 0.5
            vectors = vectors.repeat(repeats, 1) + std * noise
        return vectors[order][:wanted]

    def _indices(self, vectors: Tensor) -> Tensor:
        """Numbers of the nearest codes of (N, code_size), in float32 whatever the precision."""
        codes = self.embeddings.float()
        squares = codes.square().sum(1)
        with torch.autocast(codes.device.type, enabled=False):
            parts = [
                (squares - 2 * part @ codes.T).argmin(1)
                for part in torch.split(vectors.detach().float(), AT_ONCE)
            ]
        return torch.cat(parts)


def as_vectors(z: Tensor) -> Tensor:
    """(B, code_size, D, H, W) to (B D H W, code_size), row-major."""
    return z.movedim(1, -1).flatten(0, 3)

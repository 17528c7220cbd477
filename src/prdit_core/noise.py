"""Random numbers as a pure function of a key: no hidden state, no dependence on order or batch.

A key is (seed, index, purpose, place...). The purpose stands at one fixed place in every key, so
that two purposes never share a stream, whatever their seeds, indices and places are.
"""

from __future__ import annotations

from enum import Enum, unique
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Library = Literal["torch", "numpy"]

# Counted up whenever keys change; a run resumes exactly only under the keys it was begun with.
NOISE_KEYS = 2
_WORD = 2**32
# Longest key of a seed of one word; the second word of larger seeds comes after so many.
_LONGEST = 8


@unique
class Draw(Enum):
    """What random numbers are for: the word at the third place of the key, and who draws.

    Streams of torch and of numpy come from different algorithms, so their words may be equal.
    """

    # Generation, and what is drawn for one volume.
    START = 0, "torch"
    CORRECTOR = 1, "torch"
    DECOMPOSE = 2, "torch"
    BRANCH = 5, "torch"
    # Training.
    PREVIEW = 3, "torch"
    VALIDATION = 4, "torch"
    CROP = 6, "torch"
    BATCH = 7, "torch"
    WEIGHTS = 8, "torch"
    ORDER = 3, "numpy"
    ROTA = 40, "numpy"
    # Encoder of our own.
    ENCODER_WEIGHTS = 9, "torch"
    SPOILT = 4, "numpy"
    # Phantoms.
    PATIENT = 0, "numpy"
    LUNGS = 1, "numpy"
    SCAN = 2, "numpy"
    HEAD = 13, "numpy"
    CELLS = 14, "numpy"
    LEGS = 15, "numpy"
    TISSUES = 16, "numpy"
    ECHO = 17, "numpy"
    # Evaluation.
    PAIRS = 5, "numpy"
    HALVES = 6, "numpy"
    FLOOR = 7, "numpy"
    MEDIANS = 8, "numpy"
    SIMILARITY = 11, "numpy"
    CRITIC_WEIGHTS = 10, "torch"
    CRITIC_PENALTY = 11, "torch"
    CRITIC_SPLIT = 9, "numpy"
    CRITIC_BATCH = 10, "numpy"
    # Augmentation.
    DEFORMATION = 32, "numpy"
    ORGAN_SIZES = 33, "numpy"
    # Inverse problems.
    POWER_ITERATION = 13, "torch"
    PHOTONS = 14, "torch"
    KSPACE_SAMPLES = 30, "numpy"
    KSPACE_PHASE = 31, "numpy"
    KSPACE_NOISE = 30, "torch"
    # The patch prior: its weights, and what a look at a state draws; then what training draws.
    PATCH_WEIGHTS = 20, "torch"
    OFFSET = 21, "torch"
    BORDER = 22, "torch"
    RENOISE = 23, "torch"
    TILES = 24, "torch"
    VALIDATED_TILES = 25, "torch"
    CALIBRATION = 15, "torch"
    # The autoencoder of latents: its weights, those of its discriminator, what it is trained on,
    # and the codes that are drawn anew.
    CODEC_WEIGHTS = 40, "torch"
    DISCRIMINATOR_WEIGHTS = 41, "torch"
    CODEC_PATCH = 42, "torch"
    CODES = 43, "torch"
    # BiFlowNet: its weights, and which volumes are shown without their class.
    FLOW_WEIGHTS = 44, "torch"
    UNNAMED = 45, "torch"
    # Numbers on which two backends are compared.
    BACKENDS = 12, "torch"

    @property
    def word(self) -> int:
        """Number of the purpose in keys."""
        return self.value[0]

    @property
    def library(self) -> Library:
        """Whose generator draws."""
        return "torch" if self.value[1] == "torch" else "numpy"


def generator(draw: Draw, seed: int, index: int = 0, *place: int) -> torch.Generator:
    """A CPU generator that depends on nothing but its key.

    Parameters
    ----------
    draw : what for, a purpose of torch
    seed : non-negative, of at most 64 bits
    index : which volume of a series, below 2^32; 0 where there is no series
    place : where in that volume or run, each below 2^32
    """
    import torch

    _check(draw, "torch")
    sequence = np.random.SeedSequence(key_words(draw, seed, index, *place))
    words = sequence.generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(words[0]) & (2**63 - 1))


def numpy_generator(draw: Draw, seed: int, index: int = 0, *place: int) -> np.random.Generator:
    """As `generator`, for a purpose of numpy."""
    _check(draw, "numpy")
    return np.random.default_rng(np.random.SeedSequence(key_words(draw, seed, index, *place)))


def unit_noise(
    shape: tuple[int, ...], draw: Draw, seed: int, index: int = 0, *place: int
) -> Tensor:
    """Standard normal numbers of `shape`, float32 on the CPU, the same for the same key."""
    import torch

    return torch.randn(shape, generator=generator(draw, seed, index, *place))


def key_words(draw: Draw, seed: int, index: int, *place: int) -> list[int]:
    """A key as words of 32 bits, the purpose at the third place.

    numpy would cut longer numbers into several words, which moved all that follow.

    Raises
    ------
    ValueError
        If a number is negative or too large.
    """
    high, low = divmod(seed, _WORD)
    words = [low, index, draw.word, *place]
    if len(words) > _LONGEST or not all(0 <= word < _WORD for word in (high, *words)):
        raise ValueError(f"no key: {draw.name}, seed {seed}, index {index}, place {place}")
    return words if high == 0 else [*words, *[0] * (_LONGEST - len(words)), high]


def _check(draw: Draw, library: Library) -> None:
    if draw.library != library:
        raise ValueError(f"{draw.name} is drawn by {draw.library}, not by {library}")

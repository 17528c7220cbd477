"""The lesson of our encoder: say what lies where in a phantom, and how its picture was spoilt."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from prdit_core.data.phantoms import LABELS, make_phantom
from prdit_core.intensity import Intensity
from prdit_core.models.initial import draw_weights
from prdit_core.models.phantom_encoder import PhantomEncoder
from prdit_core.noise import Draw, numpy_generator

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

SPACING_MM = 5.0
WIDTH, FEATURES = 12, 64
BATCH = 16
PEAK_LR = 3e-3
# Phantoms to learn from lie far from those that people make with small seeds.
SERIES = 1_000_000
FAULTS = ("blur", "noise", "grain", "shift", "contrast", "shuffled")


@dataclass(frozen=True, eq=False)
class Example:
    """A phantom to learn from.

    Attributes
    ----------
    voxels_hu : (64, 64, 64) int16
    shares : (2, 2, 2, L) square roots of the shares of all labels in each octant
    """

    voxels_hu: NDArray[np.int16]
    shares: NDArray[np.float32]


def make_example(seed: int, index: int) -> Example:
    """Phantom `index` of the series of `seed`."""
    phantom = make_phantom(SERIES + seed, index, spacing_mm=SPACING_MM)
    halves = phantom.labels.reshape(2, 32, 2, 32, 2, 32).transpose(0, 2, 4, 1, 3, 5)
    octants = halves.reshape(2, 2, 2, -1)
    shares = [np.mean(octants == label, axis=-1) for label in range(len(LABELS))]
    return Example(phantom.volume.voxels_hu, np.sqrt(np.stack(shares, axis=-1), dtype=np.float32))


class Lesson:
    """Batches of spoilt phantoms, each a function of (seed, iteration), with what to say of them.

    Half of the faults are absent from a volume on average, so that clean volumes are seen too.
    """

    def __init__(self, examples: Sequence[Example], seed: int) -> None:
        self.examples, self.seed = examples, seed
        shares = np.stack([example.shares for example in examples])
        self.mean, self.std = shares.mean(axis=0), shares.std(axis=0) + np.float32(0.02)
        self.intensity = Intensity()

    @property
    def targets(self) -> int:
        """Numbers to say of a volume."""
        return int(self.mean.size) + len(FAULTS)

    def batch(self, iteration: int) -> tuple[Tensor, Tensor]:
        """Volumes (B, 1, 64, 64, 64) in model units and targets (B, T)."""
        rng = numpy_generator(Draw.SPOILT, self.seed, 0, iteration)
        drawn = rng.choice(len(self.examples), BATCH, replace=len(self.examples) < BATCH)
        pairs = [self._spoilt(self.examples[index], rng) for index in drawn]
        x = self.intensity.to_model(np.stack([voxels for voxels, _ in pairs]))
        answers = np.stack([answers for _, answers in pairs])
        return torch.from_numpy(x[:, None]), torch.from_numpy(answers)

    def clean(self) -> Iterator[Tensor]:
        """All phantoms as they are, (1, 1, 64, 64, 64) each."""
        for example in self.examples:
            yield torch.from_numpy(self.intensity.to_model(example.voxels_hu)[None, None])

    def _spoilt(
        self, example: Example, rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        present = rng.random(4) < 0.5
        blur = float(np.exp(rng.uniform(np.log(0.3), np.log(2.5)))) * present[0]
        noise = float(np.exp(rng.uniform(np.log(10), np.log(200)))) * present[1]
        grain = rng.uniform(0, 1.5) * present[1]
        shift, contrast = rng.normal(0, 60) * present[2], rng.normal(0, 0.15) * present[3]
        shuffled = rng.random() < 0.2
        voxels = example.voxels_hu.astype(np.float32)
        if shuffled:
            order = rng.permutation(8)
            voxels = _octants_in_order(voxels, order)
        voxels = smooth(voxels * np.float32(1 + contrast) + np.float32(shift), blur)
        if noise:
            voxels = voxels + np.float32(noise) * textured(voxels.shape, grain, rng)
        faults = [blur, math.log1p(noise / 10), grain, shift / 60, contrast / 0.15, shuffled]
        where = ((example.shares - self.mean) / self.std).ravel()
        return voxels, np.concatenate([where, np.array(faults)]).astype(np.float32)


def smooth(voxels: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Gaussian blur of `sigma` voxels, (D, H, W) with equal edges; borders keep their weight."""
    if sigma <= 0:
        return voxels
    place = np.arange(voxels.shape[0])
    weights = np.exp(-0.5 * ((place[:, None] - place) / sigma) ** 2)
    weights = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    for axis in range(3):
        voxels = np.moveaxis(np.tensordot(weights, voxels, axes=(1, axis)), 0, axis)
    return voxels


def textured(shape: tuple[int, ...], grain: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Noise of standard deviation 1 whose grain is `grain` voxels coarse."""
    noise = smooth(rng.standard_normal(shape, np.float32), grain)
    noise /= noise.std()
    return noise


def _octants_in_order(array: NDArray[np.float32], order: NDArray[np.intp]) -> NDArray[np.float32]:
    """A cube (n, n, n, ...) whose octants have changed places."""
    half = array.shape[0] // 2
    corners = [np.array(c) * half for c in np.ndindex(2, 2, 2)]
    out = np.empty_like(array)
    for to, source in zip(corners, order, strict=True):
        out[_box(to, half)] = array[_box(corners[source], half)]
    return out


def _box(corner: NDArray[np.intp], edge: int) -> tuple[slice, ...]:
    return tuple(slice(int(start), int(start) + edge) for start in corner)


class EncoderTrainer:
    """An encoder, linear answers on its features, and Adam with a warm-up and a cosine."""

    def __init__(self, lesson: Lesson, iterations: int, seed: int) -> None:
        self.lesson, self.iterations = lesson, iterations
        self.model = PhantomEncoder(WIDTH, FEATURES)
        self.answers = nn.Linear(FEATURES, lesson.targets)
        whole = nn.ModuleList([self.model, self.answers])
        draw_weights(whole, Draw.ENCODER_WEIGHTS, seed)
        self.optimiser = torch.optim.AdamW(whole.parameters(), PEAK_LR, weight_decay=1e-4)

    def step(self, iteration: int) -> dict[str, float]:
        """Learn from batch `iteration`, from 0; mean squared errors of "anatomy" and "faults"."""
        for group in self.optimiser.param_groups:
            group["lr"] = PEAK_LR * learning(iteration, self.iterations)
        x, targets = self.lesson.batch(iteration)
        predictions = self.answers(self.model(x))
        whole = targets[:, -1] == 0  # a shuffled chest has no anatomy to speak of
        wrong = (predictions - targets).square()
        where, faults = wrong[whole, : -len(FAULTS)], wrong[:, -len(FAULTS) :].mean()
        where = where.mean() if whole.any() else where.sum()  # all may be shuffled
        self.optimiser.zero_grad()
        (where + faults).backward()
        self.optimiser.step()
        return {"anatomy": where.item(), "faults": faults.item()}

    @torch.no_grad()
    def finish(self) -> PhantomEncoder:
        """The encoder in evaluation mode, its features of mean 0 and variance 1 over phantoms."""
        model = self.model.eval()
        model.scale.reset_running_stats()
        features = torch.cat([model(x) for x in self.lesson.clean()])
        model.scale.register_buffer("running_mean", features.mean(dim=0))
        model.scale.register_buffer("running_var", features.var(dim=0))
        return model


def learning(iteration: int, iterations: int) -> float:
    """Share of the peak learning rate: a warm-up over a twentieth, then a cosine to 0."""
    warm = max(1, iterations // 20)
    if iteration < warm:
        return (iteration + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (iteration - warm) / max(1, iterations - warm)))

"""One critic from split to verdict: what it learns from, what it says of the rest, what is sure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from prdit_core.metrics.critic import Critic, CriticTrainer
from prdit_core.metrics.wscore import Convergence
from prdit_core.noise import Draw, numpy_generator

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from prdit_core.metrics.critic import CriticLosses
    from prdit_core.metrics.wscore_protocols import CriticProtocol

LOOKS = 10  # times a critic is looked at on volumes it does not learn from
REAL = ""  # name of the real volumes among the sets
# What a converged critic keeps: see `Convergence`.
LARGEST_CHANGE, GRADIENTS, SMALLEST_SHARE = 0.25, (0.75, 1.25), 0.5


@dataclass(frozen=True)
class Verdict:
    """W1 of each model of the mix on held-out volumes (None: the critic diverged)."""

    w1: Mapping[str, float | None]
    convergence: Convergence


@dataclass(frozen=True)
class CriticCheck:
    """A tenth of training.

    Attributes
    ----------
    learnt, gradient : means of its batches, see `CriticLosses`
    held_out : W1 of each model on held-out volumes at its end
    """

    learnt: float
    gradient: float
    held_out: Mapping[str, float]

    @property
    def mixed(self) -> float:
        """W1 of the mix on held-out volumes."""
        return float(np.mean(list(self.held_out.values())))


class Sets:
    """Real and fake volumes, each split at random into halves to learn from and to judge by."""

    def __init__(
        self, volumes: Mapping[str, NDArray[np.float32]], seed: int, number: int, device: str
    ) -> None:
        self.volumes, self.device = volumes, device
        self.seed, self.number = seed, number
        self.learnt: dict[str, NDArray[np.intp]] = {}
        self.held_out: dict[str, NDArray[np.intp]] = {}
        for name, there in volumes.items():
            order = numpy_generator(Draw.CRITIC_SPLIT, seed, number, len(there)).permutation(
                len(there)
            )
            half = len(there) // 2
            self.learnt[name], self.held_out[name] = order[:half], order[half:]

    def models(self) -> list[str]:
        """Names of the fakes."""
        return [name for name in self.volumes if name != REAL]

    def batch(self, iteration: int, size: int) -> tuple[Tensor, Tensor]:
        """Real volumes to learn from, and as many fakes in turn of all models."""
        rng = numpy_generator(Draw.CRITIC_BATCH, self.seed, self.number, iteration)
        real = [(REAL, int(i)) for i in rng.choice(self.learnt[REAL], size, replace=False)]
        models = rng.permutation(self.models())
        fake = [
            (name, int(rng.choice(self.learnt[name])))
            for name in (str(models[turn % len(models)]) for turn in range(size))
        ]
        return self._stack(real), self._stack(fake)

    def held_out_batches(self, name: str, size: int) -> Iterator[Tensor]:
        """All volumes of a set to judge by."""
        for start in range(0, len(self.held_out[name]), size):
            yield self._stack([(name, int(i)) for i in self.held_out[name][start : start + size]])

    def _stack(self, chosen: Sequence[tuple[str, int]]) -> Tensor:
        x = np.stack([self.volumes[name][index] for name, index in chosen])
        return torch.from_numpy(x.astype(np.float32, copy=False))[:, None].to(self.device)


def run_critic(sets: Sets, protocol: CriticProtocol, group: int) -> Iterator[int | Verdict]:
    """Train a critic; yields the number of each iteration done, and at last the verdict."""
    depth, height, width = sets.volumes[REAL].shape[1:]
    critic = Critic((depth, height, width), protocol.width).to(sets.device)
    trainer = CriticTrainer(
        critic,
        lambda iteration: sets.batch(iteration, protocol.batch),
        lr=protocol.lr,
        penalty=protocol.penalty,
        seed=sets.seed,
        number=sets.number,
        group=group,
    )
    looks: list[CriticCheck] = []
    lessons: list[CriticLosses] = []
    ends = {round(protocol.iterations * n / LOOKS) for n in range(1, LOOKS + 1)}
    for iteration in range(protocol.iterations):
        lessons.append(trainer.step(iteration))
        if not math.isfinite(lessons[-1].w1 + lessons[-1].gradient):
            yield Verdict(dict.fromkeys(sets.models()), _diverged(iteration + 1))
            return
        if iteration + 1 in ends:
            looks.append(_look(critic, sets, lessons, protocol.batch))
            lessons = []
        yield iteration + 1
    yield Verdict(looks[-1].held_out, judge(looks))


@torch.no_grad()
def _look(critic: Critic, sets: Sets, lessons: Sequence[CriticLosses], size: int) -> CriticCheck:
    means = {
        name: np.mean(
            torch.cat([critic(x) for x in sets.held_out_batches(name, size)]).double().cpu().numpy()
        )
        for name in sets.volumes
    }
    return CriticCheck(
        learnt=float(np.mean([lesson.w1 for lesson in lessons])),
        gradient=float(np.mean([lesson.gradient for lesson in lessons])),
        held_out={name: float(means[REAL] - means[name]) for name in sets.models()},
    )


def judge(looks: Sequence[CriticCheck]) -> Convergence:
    """Apply the checks of `Convergence` to the looks of a whole training."""
    third = max(1, len(looks) // 3)
    before, last = (
        float(np.mean([look.mixed for look in part]))
        for part in (looks[-2 * third : -third] or looks, looks[-third:])
    )
    change = abs(last - before) / abs(last) if last else None
    share = looks[-1].mixed / looks[-1].learnt if looks[-1].learnt else None
    gradient = looks[-1].gradient
    checks = {
        "its W1 was still changing; train longer": change is not None and change <= LARGEST_CHANGE,
        "its gradient is not near 1, so W1 is off scale": GRADIENTS[0] <= gradient <= GRADIENTS[1],
        "W1 on held-out volumes is far below that on those learnt from; give more volumes, unless "
        "the models are as good as real": share is not None and share >= SMALLEST_SHARE,
    }
    failed = tuple(sentence for sentence, passed in checks.items() if not passed)
    return Convergence(not failed, change, gradient, share, failed)


def _diverged(iteration: int) -> Convergence:
    return Convergence(False, None, None, None, (f"it diverged at iteration {iteration}",))

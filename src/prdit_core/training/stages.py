"""The stages of training as rows of one table: what trains, how fast (A.9.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from prdit_core.errors import UsageError
from prdit_core.models.prdit.network import PRDiT, initialise

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from prdit_core.config import ModelConfig


@dataclass(frozen=True)
class Stage:
    """One row.

    Attributes
    ----------
    trains : prefixes of the weights that are optimised, all others are frozen; "{last}" stands for
        the number of the chain's last refiner
    lr : learning rate by depth of the global part; the deepest row at most as deep applies
    clip : largest norm of the gradient
    iterations : of the release, at a global batch of 64 ("refine", "finetune": of the paper)
    needs_start : whether a checkpoint to go on from must be given
    """

    name: str
    trains: tuple[str, ...]
    lr: Mapping[int, float]
    clip: float
    iterations: int
    needs_start: bool

    def learning_rate(self, depth: int) -> float:
        """The paper's rate for a model of this depth."""
        return self.lr[max(known for known in self.lr if known <= depth or known == min(self.lr))]

    def trained(self, config: ModelConfig) -> tuple[str, ...]:
        """Prefixes of the weights that are optimised in a network."""
        return tuple(prefix.format(last=len(config.refiners) - 1) for prefix in self.trains)

    def model_config(self, config: ModelConfig) -> ModelConfig:
        """The network this stage builds: stage 1 has no global part."""
        return config.model_copy(update={"depth": 0}) if self.name == "local" else config


STAGES = {
    stage.name: stage
    for stage in (
        Stage("local", ("",), {0: 1e-4}, 1.0, 104_000, needs_start=False),
        Stage(
            "global",
            ("global_residual.", "time.global_head."),
            {4: 9e-5, 8: 6e-5, 12: 4e-5},
            1.0,
            130_000,
            needs_start=True,
        ),
        # A.8.1: 2000 epochs of about 1000 volumes, eight at a time.
        Stage("refine", ("refiners.{last}.",), {0: 6e-5}, 1.0, 250_000, needs_start=True),
        # Rate and clip are those of A.8; 100 epochs of about 1000 volumes, two at a time.
        Stage("finetune", ("",), {0: 1e-6}, 0.4, 50_000, needs_start=True),
    )
}


def freeze(model: PRDiT, stage: Stage) -> None:
    """Let only the stage's own weights take gradients."""
    for name, weight in model.named_parameters():
        weight.requires_grad_(name.startswith(stage.trained(model.config)))


def prepare(
    config: ModelConfig,
    stage: Stage,
    seed: int,
    start: tuple[ModelConfig, Mapping[str, Tensor]] | None,
) -> PRDiT:
    """A network ready for the stage.

    Parameters
    ----------
    start
        Configuration and weights of the checkpoint to go on from (EMA weights). It may be a whole
        model of the same shape, a local part of the same width, or the chain below the last
        refiner.

    Raises
    ------
    UsageError
        If a local part of another width or patch geometry is offered: it depends on both.
    """
    model = PRDiT(config)
    initialise(model, seed)
    if start is not None:
        begun, weights = start
        _check_same(begun, config)
        whole = begun.depth == config.depth
        kept = dict(weights) if whole else {name: weights[name] for name in model.local_state()}
        missing = model.load_state_dict(kept, strict=False)
        if missing.unexpected_keys:
            raise UsageError(
                f"the checkpoint to start from has unknown weights: {missing.unexpected_keys}"
            )
    freeze(model, stage)
    return model


def _check_same(begun: ModelConfig, config: ModelConfig) -> None:
    ours, theirs = dict(config), dict(begun)
    unlike = [
        f"{name} {theirs[name]} instead of {ours[name]}"
        for name in ours
        if name not in ("depth", "heads", "refiners") and ours[name] != theirs[name]
    ]
    if begun.depth and begun.heads != config.heads:
        unlike.append(f"heads {begun.heads} instead of {config.heads}")
    if begun.depth not in (0, config.depth):
        unlike.append(f"depth {begun.depth} instead of 0 or {config.depth}")
    if begun.refiners not in (config.refiners, config.refiners[:-1]):
        known = ", ".join(f"{cut.patch}/{cut.stride}/{cut.padding}" for cut in begun.refiners)
        unlike.append(f"other refiners ({known or 'none'})")
    if unlike:
        raise UsageError(
            f"the checkpoint to start from has {', '.join(unlike)}; a part cannot be shared"
        )

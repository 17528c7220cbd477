"""PRDiT's stages as rows of one table: what trains, how fast (A.9.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prdit_core.prdit_config import ModelConfig


@dataclass(frozen=True)
class PRDiTStage:
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


PRDIT_STAGES = {
    stage.name: stage
    for stage in (
        PRDiTStage("local", ("",), {0: 1e-4}, 1.0, 104_000, needs_start=False),
        PRDiTStage(
            "global",
            ("global_residual.", "time.global_head."),
            {4: 9e-5, 8: 6e-5, 12: 4e-5},
            1.0,
            130_000,
            needs_start=True,
        ),
        # A.8.1: 2000 epochs of about 1000 volumes, eight at a time.
        PRDiTStage("refine", ("refiners.{last}.",), {0: 6e-5}, 1.0, 250_000, needs_start=True),
        # Rate and clip are those of A.8; 100 epochs of about 1000 volumes, two at a time.
        PRDiTStage("finetune", ("",), {0: 1e-6}, 0.4, 50_000, needs_start=True),
    )
}

"""What a family of models is to the trainer: a recipe for each stage, and the task it makes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar, cast

from prdit_core.config import TrainingConfig
from prdit_core.data.classed import one_grid, open_data
from prdit_core.errors import UsageError
from prdit_core.machine import choose_device
from prdit_core.runs.metrics import LEVELS
from prdit_core.training.ema import EVERY_STEP, Pace
from prdit_core.training.volumes import AnyData

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from torch import Tensor, nn
    from torch.optim import Optimizer

    from prdit_core.checkpoints.header import Header
    from prdit_core.config import NetworkConfig
    from prdit_core.schedule import AnySchedule
    from prdit_core.training.batches import Source

C = TypeVar("C", bound=TrainingConfig)
D = TypeVar("D", bound=AnyData)


def _nothing_moves(iteration: int) -> None:
    del iteration


class Losses(NamedTuple):
    """Of every volume in a batch.

    Attributes
    ----------
    terms : what metrics and curves show, by the names of `Player.kinds`, each (B,)
    objective : (B,) what is minimised, which may hold further terms
    """

    terms: dict[str, Tensor]
    objective: Tensor


@dataclass(frozen=True)
class Player:
    """Weights that one optimiser moves, and what it minimises by them.

    Attributes
    ----------
    name : "" for the network itself; of a second player, and then in the names of what is saved
    network : its weights; those that take gradients are optimised
    objective : module that turns a `Batch` into `Losses`. Its forward is the only call in which
        engines set precision and exchange gradients. Weights of another player that it needs must
        not be among its own: hold that module in a tuple
    kinds : names of the terms, no two players' the same
    optimiser : made of the weights and the peak of the learning rate
    begins : iteration from which it plays; before that it has no losses and nothing moves
    """

    name: str
    network: nn.Module
    objective: nn.Module
    kinds: tuple[str, ...]
    optimiser: Callable[[list[nn.Parameter], float], Optimizer]
    begins: int = 0


@dataclass(frozen=True)
class Task:
    """What the one loop advances: in each iteration all who play step once, or none does.

    Attributes
    ----------
    players : one, or two with a discriminator; the first trains `network`
    judge : the objective that a network is validated by; its losses are kinds of the first player,
        "total" among them, and depend on weights and batch only
    levels : spans of t that volumes are judged in; 1 where nothing is noised
    pace : of the averaged weights
    after_step : what moves by no gradient, in all processes after all players have stepped; of
        the iteration
    fit : fills in what of an averaged network follows from the volumes trained on, before it is
        written or shown; what to record of it. None: nothing does
    """

    players: tuple[Player, ...]
    judge: Callable[[Any], nn.Module]
    levels: int = LEVELS
    pace: Pace = EVERY_STEP
    after_step: Callable[[int], None] = _nothing_moves
    fit: Callable[[Any, Source], dict[str, Any]] | None = None

    @property
    def network(self) -> nn.Module:
        """What is averaged, validated and written into checkpoints."""
        return self.players[0].network

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of the losses of all players."""
        return tuple(kind for player in self.players for kind in player.kinds)


@dataclass(frozen=True)
class Plan:
    """What a stage makes of settings, data and the checkpoint to go on from.

    Attributes
    ----------
    network, schedule : what is trained, on which process
    begun : what is taken of the checkpoint to go on from; None: there is none
    resolved : settings that were None, or are another family's way to say the same
    notes : what was decided for the user
    codec : checkpoint of what decodes the network's states; None: they are voxels
    base : checkpoint of what the network steers, which stays as it is; None: it stands alone
    """

    network: NetworkConfig
    schedule: AnySchedule
    begun: Header | None
    resolved: Mapping[str, Any]
    notes: tuple[str, ...] = field(default=())
    codec: Path | None = None
    base: Path | None = None


class Recipe(ABC, Generic[C, D]):
    """One stage of a family: pure decisions first, the network last.

    Attributes
    ----------
    needs_start : whether a checkpoint to go on from must be given
    shards : modules that "fsdp" splits over processes one by one
    """

    needs_start: bool = False
    shards: tuple[type[nn.Module], ...] = ()

    def opened(self, config: C) -> D:
        """The data of a run: for most stages one set of one grid.

        Raises
        ------
        UsageError, InputRejected
            If they are of another kind, or cannot be trusted.
        """
        return cast("D", one_grid(open_data(config.data), f"stage {config.stage}"))

    @abstractmethod
    def plan(self, config: C, data: D, start: Header | None) -> Plan:
        """Decide what is trained, and how long, fast and tightly clipped unless the user says.

        `Plan.resolved` holds at least "iterations", "lr" and "clip".

        Raises
        ------
        UsageError
            If the settings contradict each other, the data or the checkpoint to start from.
        """

    @abstractmethod
    def memory(self, config: C, network: NetworkConfig, shape: tuple[int, int, int]) -> int:
        """Bytes that training on volumes (D, H, W) takes on one device, about.

        Parameters
        ----------
        config : with `micro_batch` volumes at once
        """

    @abstractmethod
    def task(self, config: C, plan: Plan, weights: Mapping[str, Tensor] | None) -> Task:
        """The network and what trains it, of a run whose settings are all resolved.

        Parameters
        ----------
        weights : averaged ones of `plan.begun`
        """

    def lighter(self, config: C) -> Iterator[C]:
        """The same training in less memory, the quickest first."""
        volumes = config.micro_batch or 1
        for times in range(1, volumes.bit_length()):
            yield config.model_copy(update={"micro_batch": volumes >> times})


def own_or(config: TrainingConfig, iterations: int, lr: float, clip: float) -> dict[str, Any]:
    """What every stage decides where the settings leave it open: theirs, or else its own."""
    return {
        "iterations": config.iterations or iterations,
        "lr": config.lr or lr,
        "clip": config.clip or clip,
    }


def without_start(stage: str) -> UsageError:
    """What to say where a stage lacks what it goes on from."""
    return UsageError(
        f"stage {stage} starts from a checkpoint: give the run or checkpoint with --from"
    )


def float32_on_cpu(config: TrainingConfig) -> dict[str, Any]:
    """Precision of a network whose gradients in bf16 are wrong on a CPU (`BF16_WRONG_DEPTH`)."""
    on_cpu = choose_device(config.device) == "cpu"
    return {"precision": "32-true"} if config.precision == "auto" and on_cpu else {}

"""How a ControlNet is trained: the noise as of its base, which stays, under label maps (spec 6)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from prdit_core.checkpoints.catalog import find
from prdit_core.checkpoints.store import read_control, read_header
from prdit_core.data.labelled_sets import LabelledData
from prdit_core.data.latent_sets import PreparedLatents
from prdit_core.errors import UsageError, first_fault
from prdit_core.files import shown
from prdit_core.models.families import parameter_count
from prdit_core.models.latent.biflownet import BiFlowNet
from prdit_core.models.latent.config import BiFlowConfig, ControlConfig
from prdit_core.models.latent.control import ControlledNet, ControlNet, control_of, label_hint
from prdit_core.training.contracts import Plan, Recipe, float32_on_cpu, own_or, without_start
from prdit_core.training.families.latent.flow import (
    ALONE,
    CLIP,
    FlowError,
    check_latents,
    classes_of,
    kept,
    opened_latents,
    task_of,
)
from prdit_core.training.families.latent.settings import ControlTraining, FlowLoss

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from prdit_core.checkpoints.header import Header
    from prdit_core.config import NetworkConfig
    from prdit_core.models.contracts import Shape
    from prdit_core.schedule import Schedule
    from prdit_core.training.batches import Batch
    from prdit_core.training.contracts import Task

ITERATIONS, LR = 50_000, 1e-4


class ControlError(FlowError):
    """Error of the noise that a base and its control predict under the label maps of a batch.

    Parameters
    ----------
    network : the control
    base : what it steers, which takes no gradients
    codec : configuration of what encoded the volumes
    """

    def __init__(
        self,
        network: ControlNet,
        base: BiFlowNet,
        codec: NetworkConfig,
        schedule: Schedule,
        *,
        seed: int,
        unnamed: float = 0.0,
        loss: FlowLoss = "l1",
    ) -> None:
        super().__init__(network, schedule, seed=seed, unnamed=unnamed, loss=loss)
        self.base = base
        self.codec = codec

    @property
    def classes(self) -> int:
        """Those of the base."""
        return len(self.base.config.classes)

    def predicted(self, x_t: Tensor, times: Tensor, labels: Tensor, batch: Batch) -> Tensor:
        """Noise as of both."""
        assert isinstance(self.network, ControlNet)
        assert batch.conditions is not None  # of labelled data
        depth, height, width = batch.conditions.shape[1:]
        grid = (x_t.shape[2], x_t.shape[3], x_t.shape[4])
        volume = self.codec.padded((depth, height, width))
        hint = label_hint(batch.conditions, self.network.config, grid, volume)
        return ControlledNet(self.base, self.network, hint)(x_t, times, labels)


class ControlRecipe(Recipe[ControlTraining, LabelledData]):
    """The stage "control"."""

    needs_start = True

    def opened(self, config: ControlTraining) -> LabelledData:
        """Latents with label maps, of classes of the base."""
        network, _ = _base(config)
        alone = network.names[0] if len(network.names) == 1 else ALONE
        return LabelledData(opened_latents(config.data, alone), network.names)

    def plan(self, config: ControlTraining, data: LabelledData, start: Header | None) -> Plan:
        """A control for the labels, classes and grids of the data."""
        network, header = _base(config)
        _check(config, data, header)
        check_latents(network, data)
        try:
            control = ControlConfig(
                channels=network.channels,
                base=network,
                labels=data.labels,
                dual=config.variant == "dual",
                hint=config.hint,
                classes=classes_of(data),
            )
        except ValidationError as error:
            raise UsageError(
                f"the data do not fit {shown(config.start or '')}: {first_fault(error)}"
            ) from error
        if header.control is not None and header.control.config != control:
            raise UsageError(
                f"{shown(config.start or '')} has a control of other labels, classes or kind "
                f"({header.control.config.summary}); start from the base that it was trained on"
            )
        resolved: dict[str, Any] = {
            **own_or(config, ITERATIONS, LR, CLIP),
            **float32_on_cpu(config),
        }
        assert config.start is not None  # else there is no base
        base = find(config.start)
        return Plan(control, header.schedule, header, resolved, base=base)

    def memory(self, config: ControlTraining, network: NetworkConfig, shape: Shape) -> int:
        """Weights of the base once, of the control five times, and what the backward pass keeps."""
        assert isinstance(network, ControlConfig)
        _, header = _base(config)
        assert header.codec is not None  # as `_base` has seen
        grid = header.codec.latent_grid(shape)
        volumes = config.micro_batch or config.batch_size
        weights = parameter_count(network.base) + 5 * parameter_count(network)
        labels = (len(network.labels) + 1) * grid[0] * grid[1] * grid[2]
        share = 2 / 3 if network.dual else 1 / 2  # of what a base keeps (measured, with some room)
        return 4 * (weights + int(volumes * (share * kept(network.base, grid) + labels)))

    def task(
        self, config: ControlTraining, plan: Plan, weights: Mapping[str, Tensor] | None
    ) -> Task:
        """One player, the control; the base takes part in its objective and never moves."""
        assert isinstance(plan.network, ControlConfig) and plan.begun is not None
        assert weights is not None and plan.base is not None and plan.begun.codec is not None
        base = BiFlowNet(plan.network.base)
        base.load_state_dict(weights)
        base.requires_grad_(requires_grad=False)
        network = control_of(base, plan.network)
        if (learnt := read_control(plan.base, plan.begun)) is not None:
            network.load_state_dict(learnt)
        judge = partial(
            ControlError,
            base=base,
            codec=plan.begun.codec,
            schedule=plan.schedule,
            seed=config.seed,
            loss=config.loss,
        )
        return task_of(network, judge, config, plan.network.base)


def _base(config: ControlTraining) -> tuple[BiFlowConfig, Header]:
    """What is to be controlled."""
    if config.start is None:
        raise without_start(config.stage)
    header = read_header(find(config.start))
    if not isinstance(header.model, BiFlowConfig) or header.codec is None:
        raise UsageError(
            f"{shown(config.start)} is no model in latents but {header.model.family}; a control "
            "needs a base of train --stage latent"
        )
    return header.model, header


def _check(config: ControlTraining, data: LabelledData, header: Header) -> None:
    if config.strategy == "fsdp":
        raise UsageError("fsdp cannot split a base that stays as it is; take ddp")
    for one in data.sets:
        assert isinstance(one.data, PreparedLatents)
        if one.data.codec != header.codec_digest:
            raise UsageError(
                f"{shown(one.place)} was encoded by {one.data.codec[:12]}, not by the codec of "
                f"{shown(config.start or '')}; encode it with latents --labels --codec "
                f"{shown(config.start or '')}"
            )

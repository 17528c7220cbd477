"""What a run has learnt: averaged weights and what follows, as checkpoint and as prior."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from prdit_core.checkpoints.catalog import codec_of, filled, steered
from prdit_core.checkpoints.controls import controlled
from prdit_core.checkpoints.header import Header
from prdit_core.checkpoints.store import codec_weights, read_header, read_weights
from prdit_core.models.codec import Identity
from prdit_core.models.families import family_of
from prdit_core.models.prior import Prior
from prdit_core.training.volumes import leading, trained_on

if TYPE_CHECKING:
    from torch import Tensor, nn

    from prdit_core.config import NetworkConfig
    from prdit_core.training.loop import Trainer
    from prdit_core.training.settings import Settings
    from prdit_core.training.volumes import AnyData


class _Fitted(NamedTuple):
    """Averaged weights of an iteration with what follows from the volumes, and its record."""

    iteration: int
    module: nn.Module
    record: dict[str, Any]


class _Decoder(NamedTuple):
    """A codec beside the network that is trained."""

    config: NetworkConfig
    weights: dict[str, Tensor]


@dataclass
class Learnt:
    """The network of a run as it is now, by its averaged weights."""

    settings: Settings
    data: AnyData
    trainer: Trainer
    _latest: _Fitted | None = None

    def header(self, record: dict[str, Any]) -> Header:
        """Header of a checkpoint with this record."""
        plan = self.settings.plan
        if plan.base is not None and plan.begun is not None:
            return controlled(plan.begun, plan.network, record)
        return Header(
            model=plan.network,
            schedule=plan.schedule,
            intensity=self.settings.intensity,
            geometry=leading(self.data).geometry,
            codec=None if self.decoder is None else self.decoder.config,
            record=record,
        )

    @cached_property
    def decoder(self) -> _Decoder | None:
        """The codec that comes with the network."""
        plan = self.settings.plan
        source = plan.base or plan.codec
        if source is None:
            return None
        header = read_header(source)
        return _Decoder(header.codec_alone.model, codec_weights(source, header))

    def averaged(self) -> nn.Module:
        """A copy of the network with the averaged weights, where the training computes."""
        network = self.settings.plan.network
        module = family_of(network).build(network)
        module.load_state_dict(self.trainer.averaged())
        return module.to(self.trainer.fabric.device).eval()

    def fitted(self, iteration: int) -> _Fitted:
        """The same with what follows from the volumes: for picture and checkpoint once."""
        fit = self.trainer.task.fit
        if fit is None:
            return _Fitted(iteration, self.averaged(), {})
        if self._latest is None or self._latest.iteration != iteration:
            module = self.averaged()
            record = fit(module, trained_on(self.data, self.settings.intensity))
            self._latest = _Fitted(iteration, module, record)
        return self._latest

    def written(self, iteration: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Weights that a checkpoint holds, and what to record of them."""
        if self.trainer.task.fit is None:
            return self.trainer.averaged(), {}
        fitted = self.fitted(iteration)
        return fitted.module.state_dict(), fitted.record

    def prior(self, module: nn.Module, name: str) -> Prior:
        """A prior to look at what the network generates."""
        header, plan = self.header({}), self.settings.plan
        face = family_of(header.model).face
        assert face is not None  # else it is a codec
        device = str(self.trainer.fabric.device)
        decoder = None if self.decoder is None else self.decoder.weights
        if plan.base is not None and plan.begun is not None:
            below = filled(header.model, read_weights(plan.base, plan.begun)).to(device)
            network = steered(face(below), module)
        else:
            network = face(module)
        return Prior(
            network=network,
            codec=Identity() if decoder is None else codec_of(header, decoder, device),
            schedule=header.schedule,
            intensity=header.intensity,
            geometry=header.geometry,
            name=name,
            digest="",
        )

"""Two stages of the Patch-Volume autoencoder: on patches, then the decoder on volumes (spec 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from pydantic import ValidationError

from prdit_core.data.classed import open_data
from prdit_core.errors import UsageError, first_fault
from prdit_core.models.families import parameter_count
from prdit_core.models.initial import draw_weights
from prdit_core.models.latent.autoencoder import Autoencoder
from prdit_core.models.latent.config import AutoencoderConfig
from prdit_core.models.latent.discriminator import Discriminator
from prdit_core.noise import Draw
from prdit_core.schedule import VPCosineSchedule
from prdit_core.training.contracts import Plan, Player, Recipe, Task, float32_on_cpu, own_or
from prdit_core.training.families.latent.boxes import TrainingBoxes
from prdit_core.training.families.latent.codebook import Codebook
from prdit_core.training.families.latent.fit import fit
from prdit_core.training.families.latent.players import (
    JOINT_KINDS,
    PATCH_KINDS,
    RIVAL,
    AutoencoderError,
    DecoderError,
    Duel,
    HingeError,
    JointJudge,
    PatchJudge,
)
from prdit_core.training.families.latent.settings import (
    AUTOENCODERS,
    AutoencoderTraining,
    JointTraining,
)
from prdit_core.training.volumes import AnyData, shapes_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor, nn

    from prdit_core.checkpoints.header import Header
    from prdit_core.config import NetworkConfig, TrainingConfig
    from prdit_core.models.contracts import Shape

CLIP = 1.0
PATCH_ITERATIONS, PATCH_LR = 100_000, 3e-4
PATCH_START = {4: 12_000, 8: 20_000}
JOINT_ITERATIONS, JOINT_LR = 20_000, 3e-5
# Volumes of more voxels are decoded in parts of this edge in stage 2 (spec 2).
LARGEST, CROP = 256 * 256 * 128, 192


class AutoencoderRecipe(Recipe[AutoencoderTraining, AnyData]):
    """The stage "autoencoder"."""

    def opened(self, config: AutoencoderTraining) -> AnyData:
        """One set or several: a patch shows neither class nor grid."""
        return open_data(config.data)

    def plan(self, config: AutoencoderTraining, data: AnyData, start: Header | None) -> Plan:
        """A new network, or that of the checkpoint to go on from."""
        *_, largest = shapes_of(data)
        network = _new(config, largest) if start is None else _begun(start, config)
        _check_grids(network, data)
        resolved = {
            "patch": network.patch,
            "discriminator_from": _or(config.discriminator_from, PATCH_START[network.ratio]),
            **_common(config, PATCH_ITERATIONS, PATCH_LR),
        }
        begun = None if start is None else start.codec_alone
        return Plan(network, VPCosineSchedule(), begun, resolved)

    def memory(self, config: AutoencoderTraining, network: NetworkConfig, shape: Shape) -> int:
        """Both networks with their optimisers, and what the backward pass keeps of the patches."""
        assert isinstance(network, AutoencoderConfig)
        patches = config.micro_batch or config.batch_size
        return _weights(network) + _encoder(network, patches) + _decoder(network, patches)

    def task(
        self, config: AutoencoderTraining, plan: Plan, weights: Mapping[str, Tensor] | None
    ) -> Task:
        """Autoencoder and discriminator; the codes move after each step."""
        network = _network(plan, config.seed, weights)
        duel = _duel(network, config.seed, config.discriminator_from)
        codebook = Codebook(network.quantiser, config.seed)
        boxes = TrainingBoxes(config.seed, network.config.patch)
        objective = AutoencoderError(network, boxes, duel, codebook)
        return Task(
            _players(network, objective, PATCH_KINDS, duel),
            PatchJudge,
            levels=1,
            after_step=codebook.move,
            fit=fit,
        )


class JointRecipe(Recipe[JointTraining, AnyData]):
    """The stage "autoencoder-joint"."""

    needs_start = True

    def opened(self, config: JointTraining) -> AnyData:
        """One set or several; a batch holds volumes of one grid."""
        return open_data(config.data)

    def plan(self, config: JointTraining, data: AnyData, start: Header | None) -> Plan:
        """The network of the checkpoint to go on from."""
        assert start is not None  # `needs_start`
        network, (*_, largest) = _codec(start), shapes_of(data)
        _check_grids(network, data)
        crop = config.crop
        if crop is None and largest[0] * largest[1] * largest[2] > LARGEST:
            crop = CROP - CROP % network.patch
        if crop is not None and crop % network.patch:
            raise UsageError(f"crop {crop} must be a multiple of the patch {network.patch}")
        resolved = {
            "crop": crop,
            "discriminator_from": _or(config.discriminator_from, 0),
            **_common(config, JOINT_ITERATIONS, JOINT_LR),
        }
        return Plan(network, VPCosineSchedule(), start.codec_alone, resolved)

    def memory(self, config: JointTraining, network: NetworkConfig, shape: Shape) -> int:
        """As of patches, but the encoder keeps nothing."""
        assert isinstance(network, AutoencoderConfig)
        edges = [edge if config.crop is None else min(edge, config.crop) for edge in shape]
        patches = edges[0] * edges[1] * edges[2] / network.patch**3
        return _weights(network) + _decoder(network, patches * (config.micro_batch or 1))

    def task(self, config: JointTraining, plan: Plan, weights: Mapping[str, Tensor] | None) -> Task:
        """Decoder and discriminator; the codes, and all that comes before them, stay."""
        network = _network(plan, config.seed, weights)
        for part in (network.encoder, network.before):
            part.requires_grad_(False)
        duel = _duel(network, config.seed, config.discriminator_from)
        boxes = TrainingBoxes(config.seed, config.crop, network.config.patch)
        objective = DecoderError(network, boxes, duel)
        return Task(_players(network, objective, JOINT_KINDS, duel), JointJudge, levels=1)

    def lighter(self, config: JointTraining) -> Iterator[JointTraining]:
        """Fewer volumes at once, then smaller parts of them."""
        yield from super().lighter(config)
        for crop in (128, 64):
            yield config.model_copy(update={"micro_batch": 1, "crop": crop})


def adam(weights: list[nn.Parameter], peak: float) -> torch.optim.Optimizer:
    """The release's, of both players."""
    return torch.optim.Adam(weights, lr=peak, betas=(0.5, 0.9))


def _players(
    network: Autoencoder, objective: nn.Module, kinds: tuple[str, ...], duel: Duel
) -> tuple[Player, Player]:
    return (
        Player("", network, objective, kinds, adam),
        Player(RIVAL, duel.discriminator, HingeError(duel), (RIVAL,), adam, duel.start),
    )


def _network(plan: Plan, seed: int, weights: Mapping[str, Tensor] | None) -> Autoencoder:
    assert isinstance(plan.network, AutoencoderConfig)
    network = Autoencoder(plan.network)
    if weights is None:
        draw_weights(network, Draw.CODEC_WEIGHTS, seed)
    else:
        network.load_state_dict(weights)
    return network


def _duel(network: Autoencoder, seed: int, start: int | None) -> Duel:
    """A discriminator two thirds as wide as the autoencoder, as in the release."""
    assert start is not None  # resolved
    discriminator = Discriminator(network.config.channels, 2 * network.config.width // 3)
    draw_weights(discriminator, Draw.DISCRIMINATOR_WEIGHTS, seed)
    return Duel(discriminator, start)


def _new(config: AutoencoderTraining, shape: Shape) -> AutoencoderConfig:
    name = config.model or ("small-8x" if max(shape) < 128 else "paper-8x")
    known = AUTOENCODERS[name].model_dump()
    try:
        return AutoencoderConfig(**(known | {"patch": config.patch or known["patch"]}))
    except ValidationError as error:
        raise UsageError(
            f"patch {config.patch} does not fit {name}: {first_fault(error)}"
        ) from error


def _begun(start: Header, config: AutoencoderTraining) -> AutoencoderConfig:
    network = _codec(start)
    if config.model is not None:
        raise UsageError("leave out --model: the checkpoint to start from has its network")
    if config.patch not in (None, network.patch):
        raise UsageError(
            f"the checkpoint to start from has patches of {network.patch}, not {config.patch}"
        )
    return network


def _codec(start: Header) -> AutoencoderConfig:
    network = start.codec_alone.model
    if not isinstance(network, AutoencoderConfig):
        raise UsageError(
            f"the checkpoint to start from is no autoencoder but {network.family}; train one "
            "with --stage autoencoder"
        )
    return network


def _check_grids(network: AutoencoderConfig, data: AnyData) -> None:
    try:
        for shape in shapes_of(data):
            network.grid(shape)
    except ValueError as error:
        raise UsageError(f"{error}, or choose a --patch that divides their edges") from error


def _common(config: TrainingConfig, iterations: int, lr: float) -> dict[str, Any]:
    """What both stages decide alike."""
    if config.strategy == "fsdp":
        raise UsageError("fsdp cannot split two networks that look at each other; take ddp")
    return {**own_or(config, iterations, lr, CLIP), **float32_on_cpu(config)}


def _weights(network: AutoencoderConfig) -> int:
    """Bytes of weights, averages, gradients and moments; of a discriminator a third of it."""
    return 4 * 5 * parameter_count(network) * 4 // 3


def _encoder(network: AutoencoderConfig, patches: float) -> int:
    """Bytes that the backward pass keeps: 18 times the first level (measured), and some room."""
    return int(4 * 24 * network.width * network.patch**3 * patches)


def _decoder(network: AutoencoderConfig, patches: float) -> int:
    """The same of the decoder, 24 times, and of the discriminator."""
    return int(4 * 32 * network.width * network.patch**3 * patches)


def _or(wished: int | None, usual: int) -> int:
    return usual if wished is None else wished

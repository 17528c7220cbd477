"""The families of models: one row each, through which headers are validated and networks built."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from prdit_core.config import NetworkConfig, SamplingConfig
from prdit_core.models.latent.config import AutoencoderConfig, BiFlowConfig, ControlConfig
from prdit_core.models.patch.config import PatchConfig
from prdit_core.prdit_config import ModelConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from prdit_core.models.codec import Codec
    from prdit_core.models.contracts import Network

# Of headers that name none: they were written before there was another.
FIRST = "prdit"


@dataclass(frozen=True)
class Family:
    """One row.

    Attributes
    ----------
    name : as configurations give it
    title : what users read
    config : its configurations
    build : the bare network of a configuration, its weights not yet filled
    face : a bare network in evaluation mode as the house sees it; None: it predicts nothing
    codec : the same as a codec; None: it is none
    paper : how its paper walks; None: as PRDiT's
    rebuilds : how its paper walks to fit data; None: it does not
    steered : a network with a bare one of these beside it, as the house sees both; None: it
        steers nothing
    """

    name: str
    title: str
    config: type[NetworkConfig]
    build: Callable[[Any], nn.Module]
    face: Callable[[Any], Network] | None
    codec: Callable[[Any], Codec] | None = None
    paper: SamplingConfig | None = None
    rebuilds: SamplingConfig | None = None
    steered: Callable[[Network, Any], Network] | None = None


def _build_prdit(config: ModelConfig) -> nn.Module:
    from prdit_core.models.prdit.network import PRDiT

    return PRDiT(config)


def _prdit(module: Any) -> Network:
    from prdit_core.models.prdit.evaluation import PRDiTNetwork

    return PRDiTNetwork(module)


def _build_patch(config: PatchConfig) -> nn.Module:
    from prdit_core.models.patch.unet import UNet3d

    return UNet3d(config)


def _patch(module: Any) -> Network:
    from prdit_core.models.patch.face import PatchNetwork

    return PatchNetwork(module)


def _build_biflownet(config: BiFlowConfig) -> nn.Module:
    from prdit_core.models.latent.biflownet import BiFlowNet

    return BiFlowNet(config)


def _latent(module: Any) -> Network:
    from prdit_core.models.latent.denoiser import LatentNetwork

    return LatentNetwork(module)


def _build_autoencoder(config: AutoencoderConfig) -> nn.Module:
    from prdit_core.models.latent.autoencoder import Autoencoder

    return Autoencoder(config)


def _patch_volume(module: Any) -> Codec:
    from prdit_core.models.latent.patch_volume import PatchVolume

    return PatchVolume(module)


def _build_control(config: ControlConfig) -> nn.Module:
    from prdit_core.models.latent.control import ControlNet

    return ControlNet(config)


def _steered(network: Network, module: Any) -> Network:
    from prdit_core.models.latent.denoiser import LatentNetwork

    assert isinstance(network, LatentNetwork)  # as the header was checked to have it
    return replace(network, steering=module)


FAMILIES = {
    family.name: family
    for family in (
        Family(FIRST, "PRDiT", ModelConfig, _build_prdit, _prdit),
        Family(
            "patch",
            "3D patch prior",
            PatchConfig,
            _build_patch,
            _patch,
            paper=SamplingConfig(steps=200, sampler="ddim-even", grid="exact"),
            rebuilds=SamplingConfig(
                steps=200, sampler="ddim-even", grid="exact", eta=0.8, renoise=2
            ),
        ),
        Family(
            "latent",
            "3D MedDiffusion",
            BiFlowConfig,
            _build_biflownet,
            _latent,
            paper=SamplingConfig(steps=1000, sampler="ddpm", grid="exact"),
        ),
        Family(
            "patch-volume",
            "Patch-Volume autoencoder",
            AutoencoderConfig,
            _build_autoencoder,
            None,
            _patch_volume,
        ),
        Family(
            "latent-control",
            "ControlNet of 3D MedDiffusion",
            ControlConfig,
            _build_control,
            None,
            steered=_steered,
        ),
    )
}


def family_of(config: NetworkConfig) -> Family:
    """Row of a configuration."""
    return FAMILIES[config.family]


def configuration(content: Any) -> NetworkConfig:
    """A network's configuration out of a header, by the family it names.

    Raises
    ------
    ValueError
        If the family is unknown, or it is no configuration of it (`ValidationError`).
    """
    if isinstance(content, NetworkConfig):
        return content
    name = content.get("family", FIRST) if isinstance(content, dict) else FIRST
    if name not in FAMILIES:
        raise ValueError(f"family {name!r} is none of {', '.join(FAMILIES)}; upgrade napari-prdit")
    return FAMILIES[name].config.model_validate(content)


def expected_shapes(config: NetworkConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all weights of a network, without allocating them."""
    import torch

    with torch.device("meta"):
        module = family_of(config).build(config)
    return {name: tuple(weight.shape) for name, weight in module.state_dict().items()}


def parameter_count(config: NetworkConfig) -> int:
    """Number of parameters, without allocating any."""
    import torch

    with torch.device("meta"):
        module = family_of(config).build(config)
    return sum(weight.numel() for weight in module.parameters())

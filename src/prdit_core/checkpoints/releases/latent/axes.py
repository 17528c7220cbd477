"""The release's networks see (Z, X, Y); their weights are turned so that they see (z, y, x).

A network of convolutions and attention does not know its axes but where its weights say so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from prdit_core.models.latent.config import BiFlowConfig


def turned_autoencoder(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights, under our names, of the same autoencoder on volumes with their last axes swapped."""
    return {
        name: weight.transpose(3, 4).contiguous() if weight.ndim == 5 else weight
        for name, weight in state.items()
    }


def turned_biflownet(state: Mapping[str, Tensor], config: BiFlowConfig) -> dict[str, Tensor]:
    """The same of a BiFlowNet: kernels, positions, what heads write, and the resolution's order."""
    edge, patch = config.sub_volume // config.patch, config.patch
    turned = turned_autoencoder(state)
    for name, weight in turned.items():
        if name == "intra.positions":
            turned[name] = (
                torch.unflatten(weight, 1, (edge, edge, edge)).transpose(2, 3).flatten(1, 3)
            )
        elif name.startswith(("intra.input_heads.", "intra.output_heads.")) and ".linear." in name:
            if ".modulation." not in name:
                voxels = torch.unflatten(weight, 0, (patch, patch, patch, -1))
                turned[name] = voxels.transpose(1, 2).flatten(0, 3)
        elif name == "conditions.resolution.0.weight":
            turned[name] = weight[:, [0, 2, 1]]
    return {name: weight.contiguous() for name, weight in turned.items()}

"""ControlNet on BiFlowNet: a trainable copy of its encoder that also sees a condition (spec 6).

The base stays as it is. What the copy finds is added to the base's middle and to one skip of every
level, through convolutions that are 0 at first: so training begins at the base, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from prdit_core.errors import InputRejected
from prdit_core.models.latent.biflownet import BiFlowEncoder
from prdit_core.models.latent.intra import IntraInputs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prdit_core.models.contracts import Shape
    from prdit_core.models.latent.biflownet import BiFlowNet
    from prdit_core.models.latent.config import ControlConfig


class ControlNet(BiFlowEncoder):
    """The copy: noisy latents and a hint of the same grid to what is added to the base.

    Without maps of the intra-patch flow (variant A), or with those of its two blocks in, which then
    are copied and see the hint too (variant B, `ControlConfig.dual`).
    """

    def __init__(self, config: ControlConfig) -> None:
        base = config.base
        super().__init__(base, base.channels + config.hint_channels)
        self.config = config
        self.intra = (
            IntraInputs(base, base.channels + config.hint_channels) if config.dual else None
        )
        widths = (*base.widths, base.widths[-1])
        self.zeros = nn.ModuleList(nn.Conv3d(width, width, 1) for width in widths)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        hint: Tensor,
        label: Tensor | None = None,
        resolution: Tensor | None = None,
    ) -> list[Tensor]:
        """What `BiFlowNet.forward` takes as its control: one for every level, and the middle.

        Parameters
        ----------
        x, t, label, resolution : as the base gets them
        hint : (B, hint channels, D, H, W), see `label_hint`
        """
        c = self.condition(x, t, label, resolution)
        seen = torch.cat([x, hint], dim=1)
        maps = [] if self.intra is None else self.intra.enter(seen, c)[0]
        skips, middle = self.down(self.first(seen), c, maps)
        outputs = [*(second for _, second in skips), middle]
        return [zero(output) for zero, output in zip(self.zeros, outputs, strict=True)]


def control_of(base: BiFlowNet, config: ControlConfig) -> ControlNet:
    """A ControlNet to train: weights of the base, 0 for the hint, 0 for what it adds.

    Raises
    ------
    ValueError
        If the configuration is of another base.
    """
    if base.config != config.base:
        raise ValueError("the configuration of a control is one of its base")
    control = ControlNet(config)
    own = control.state_dict()
    for name, weight in base.state_dict().items():
        if name in own:
            own[name].zero_()
            # The hint's channels come after those of the latents.
            own[name][tuple(slice(edge) for edge in weight.shape)] = weight
    for parameter in control.zeros.parameters():
        nn.init.zeros_(parameter)
    return control


@dataclass(frozen=True, eq=False)
class ControlledNet:
    """A base and its control as one network with a given condition.

    Attributes
    ----------
    hint : (1 or B, hint channels, D, H, W), of the grid of the latents
    scales : of every output of the control, 1 as trained, 0 none of it; None: 1
    """

    base: BiFlowNet
    control: ControlNet
    hint: Tensor
    scales: Sequence[float] | None = None

    def __call__(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        """Noise in latents (B, C, D, H, W), as of the base."""
        hint = self.hint.expand(len(x), *self.hint.shape[1:])
        outputs = self.control(x, t, hint, label)
        scales = [1.0] * len(outputs) if self.scales is None else self.scales
        added = [scale * one for scale, one in zip(scales, outputs, strict=True)]
        return cast("Tensor", self.base(x, t, label, control=added))


def label_hint(
    labels: Tensor, config: ControlConfig, grid: Shape, volume: Shape | None = None
) -> Tensor:
    """A channel for every label the model knows, on the grid of the latents.

    Parameters
    ----------
    labels : (B, D, H, W) whole numbers; 0 is background, n the n-th of `ControlConfig.labels`
    volume : (D, H, W) that is encoded, of which the labels are the near part; None: all of it

    Returns
    -------
    (B, labels, *grid) float32 within [0, 1], see `ControlConfig.hint`

    Raises
    ------
    InputRejected
        If a label is not one of them.
    """
    known = len(config.labels)
    unknown = sorted(set(torch.unique(labels).tolist()) - set(range(known + 1)))
    if unknown:
        words = ", ".join(f"{n} {name}" for n, name in enumerate(config.labels, 1))
        raise InputRejected(
            f"label {', '.join(map(str, unknown))} is none that the model knows, which are "
            f"{words}; number the labels so, or leave them out"
        )
    if volume is not None:
        z, y, x = (all_of - n for all_of, n in zip(volume, labels.shape[1:], strict=True))
        labels = functional.pad(labels, (0, x, 0, y, 0, z))
    if config.hint == "share":
        return _shares(labels.long(), known, grid)
    near = functional.interpolate(labels[:, None].float(), size=grid, mode="nearest-exact")
    return (near == torch.arange(1, known + 1, device=labels.device).view(-1, 1, 1, 1)).float()


def _shares(labels: Tensor, known: int, grid: Shape) -> Tensor:
    """Of the voxels in every cell of the grid, how many have each label."""
    depth, height, width = grid
    a, b, c = (edge // cells for edge, cells in zip(labels.shape[1:], grid, strict=True))
    cells = labels.reshape(len(labels), depth, a, height, b, width, c)
    cells = cells.permute(0, 1, 3, 5, 2, 4, 6).reshape(-1, a * b * c)
    first = (known + 1) * torch.arange(len(cells), device=labels.device)
    counts = torch.bincount((cells + first[:, None]).flatten(), minlength=(known + 1) * len(cells))
    shares = counts.view(len(labels), depth, height, width, known + 1)[..., 1:] / (a * b * c)
    return shares.movedim(-1, 1).float()

"""What fixes the autoencoder and BiFlowNet; read without torch."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from prdit_core.classes import VolumeClass
from prdit_core.config import NetworkConfig

Times = Annotated[int, Field(ge=1, le=64)]
LabelHint = Literal["nearest", "share"]


class AutoencoderConfig(NetworkConfig):
    """Everything that fixes the names and shapes of a Patch-Volume autoencoder.

    Attributes
    ----------
    ratio : edge of volumes by that of their latents
    width, groups : channels of the first level, groups of every GroupNorm
    code_size, codes : channels of the latents, number of codes
    patch : edge of the patches that are encoded one by one, in voxels
    """

    family: Literal["patch-volume"] = "patch-volume"
    channels: int = Field(default=1, ge=1, le=64)
    ratio: Literal[4, 8] = 8
    width: int = Field(default=48, ge=1, le=1024)
    groups: int = Field(default=24, ge=1, le=1024)
    code_size: int = Field(default=8, ge=1, le=256)
    codes: int = Field(default=8192, ge=2, le=2**20)
    patch: int = Field(default=64, ge=8, le=512)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if any(width % self.groups for width in self.widths):
            raise ValueError(f"widths {self.widths} must be multiples of {self.groups} groups")
        if self.patch % self.ratio:
            raise ValueError(f"patch {self.patch} is no multiple of the ratio {self.ratio}")
        return self

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level; the last is repeated."""
        n = self.width
        return (n, 2 * n, 2 * n) if self.ratio == 4 else (n, 2 * n, 4 * n, 4 * n)

    @property
    def edge_multiple(self) -> int:
        """Whole patches."""
        return self.patch

    @property
    def latent_channels(self) -> int:
        """Those of the codes."""
        return self.code_size

    def padded(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """Whole patches that hold a volume (D, H, W)."""
        depth, height, width = (-(-edge // self.patch) * self.patch for edge in shape)
        return depth, height, width

    def grid(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """Grid of the latents of a volume (D, H, W).

        Raises
        ------
        ValueError
            If it is not made of whole patches, as `padded` ones are; a rest would be lost.
        """
        if any(edge % self.patch for edge in shape):
            raise ValueError(
                f"volumes of {shape} are not made of whole patches of {self.patch} voxels; pad "
                "them with air first"
            )
        depth, height, width = (edge // self.ratio for edge in shape)
        return depth, height, width

    @property
    def least_parameters(self) -> int:
        """Those of the middle convolutions."""
        return 8 * 27 * self.widths[-1] ** 2

    @property
    def summary(self) -> str:
        """What it is made of, in words."""
        return f"Patch-Volume autoencoder, {self.ratio}x, {self.codes} codes of {self.code_size}"


class BiFlowConfig(NetworkConfig):
    """Everything that fixes the names and shapes of a BiFlowNet.

    Attributes
    ----------
    channels : of the latents
    width, multipliers : channels of the first level, those of each level by it; the first two
        levels are equally wide, of full resolution, and take the maps of the intra-patch flow
    sub_volume, patch : edges of a sub-volume and of a token in latent voxels
    attention : levels that have attention
    heads, intra_heads : of the U-Net (32 wide each), and of the intra-patch flow
    groups : of every GroupNorm
    classes : numbered from 0, each with its units and the grids it was trained on
    null : whether there is one more row for no class, which guidance needs
    intra : whether there is an intra-patch flow; without is an ablation (Table IV)
    blocks : of the intra-patch flow: "dit", or for another ablation of Table IV those of the U-Net
    """

    family: Literal["latent"] = "latent"
    channels: int = Field(default=8, ge=1, le=256)
    width: int = Field(default=72, ge=6, le=4096)
    multipliers: tuple[Times, ...] = Field(default=(1, 1, 2, 4, 8), min_length=3, max_length=8)
    sub_volume: int = Field(default=8, ge=1, le=64)
    patch: int = Field(default=1, ge=1, le=8)
    attention: tuple[int, ...] = Field(default=(3, 4), max_length=8)
    heads: int = Field(default=8, ge=1, le=128)
    intra_heads: int = Field(default=8, ge=1, le=128)
    groups: int = Field(default=24, ge=1, le=1024)
    classes: tuple[VolumeClass, ...] = Field(min_length=1, max_length=1000)
    null: bool = True
    intra: bool = True
    blocks: Literal["dit", "u-net"] = "dit"

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.multipliers[:2] != (1, 1) or 1 in self.multipliers[2:]:
            raise ValueError("the first two levels, and no others, must be of multiplier 1")
        if any(width % self.groups for width in self.widths):
            raise ValueError(f"widths {self.widths} must be multiples of {self.groups} groups")
        if self.width % 6 or self.width % self.intra_heads:
            raise ValueError(f"width {self.width} is no multiple of 6 and {self.intra_heads} heads")
        if self.sub_volume % self.patch:
            raise ValueError(f"sub-volume {self.sub_volume} is no multiple of {self.patch}")
        if any(not 0 <= level < len(self.multipliers) for level in self.attention):
            raise ValueError(f"attention {self.attention} names a level that is not there")
        if len(self.names) != len(set(self.names)):
            raise ValueError(f"two classes have one name: {', '.join(self.names)}")
        if any(one.intensity.model_range != (-1, 1) for one in self.classes):
            raise ValueError("classes have model units from -1, which is air, to 1")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Of the classes."""
        return tuple(one.name for one in self.classes)

    @property
    def trained_on(self) -> tuple[VolumeClass, ...]:
        """The classes."""
        return self.classes

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level."""
        return tuple(self.width * times for times in self.multipliers)

    @property
    def class_rows(self) -> int:
        """Rows of the table of classes."""
        return len(self.classes) + self.null

    @property
    def edge_multiple(self) -> int:
        """Of every edge of the latents: halvings of the U-Net, and whole sub-volumes."""
        halvings: int = 2 ** (len(self.multipliers) - 2)
        return math.lcm(halvings, self.sub_volume) if self.intra else halvings

    @property
    def least_parameters(self) -> int:
        """Those of the lowest level."""
        return 27 * 4 * self.widths[-1] ** 2

    @property
    def summary(self) -> str:
        """What it is made of, in words."""
        flow = "with intra-patch flow" if self.intra else "U-Net alone"
        return f"BiFlowNet, {len(self.multipliers)} levels, {flow}, {', '.join(self.names)}"


class ControlConfig(NetworkConfig):
    """Everything that fixes the names and shapes of a ControlNet (spec 6).

    Attributes
    ----------
    base : the network it controls
    labels : names of the labels 1, 2, ... of a map; 0, background, is none of them
    images : names of what else it sees, each a volume that is encoded as the base's are
    dual : whether it has a copy of the intra-patch flow's blocks in, too (variant B)
    hint : what a voxel of the latents sees of the labels in it: "nearest", that of its middle
        (spec 6), or "share", how much of it each label fills, which keeps what is small
    classes : of the base's, each with those of its grids that it was trained on; (): all
    """

    family: Literal["latent-control"] = "latent-control"
    channels: int = Field(default=8, ge=1, le=256)
    base: BiFlowConfig
    labels: tuple[str, ...] = Field(default=(), max_length=255)
    images: tuple[str, ...] = Field(default=(), max_length=16)
    dual: bool = False
    hint: LabelHint = "nearest"
    classes: tuple[VolumeClass, ...] = Field(default=(), max_length=1000)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.channels != self.base.channels:
            raise ValueError(f"a control of {self.base.channels} channels has no {self.channels}")
        if not self.hint_channels:
            raise ValueError("a control needs a condition: labels, images, or both")
        if len({*self.labels, *self.images}) != len(self.labels) + len(self.images):
            raise ValueError("two conditions of a control have one name")
        if self.dual and not self.base.intra:
            raise ValueError("a dual control needs a base with an intra-patch flow")
        known = {one.name: one for one in self.base.classes}
        for one in self.classes:
            its = known.get(one.name)
            if its is None or one.intensity != its.intensity:
                raise ValueError(f"class {one.name}, with its units, is none of its base")
            if not set(one.geometries) <= set(its.geometries):
                raise ValueError(f"a grid of class {one.name} is none of its base")
        return self

    @property
    def trained_on(self) -> tuple[VolumeClass, ...]:
        """The classes."""
        return self.classes or self.base.classes

    @property
    def label_names(self) -> tuple[str, ...]:
        """The labels."""
        return self.labels

    @property
    def image_names(self) -> tuple[str, ...]:
        """The images."""
        return self.images

    def controls(self, model: NetworkConfig) -> bool:
        """Of its base."""
        return model == self.base

    @property
    def hint_channels(self) -> int:
        """One for each label, those of the latents for each image."""
        return len(self.labels) + len(self.images) * self.base.channels

    @property
    def edge_multiple(self) -> int:
        """Of the base."""
        return self.base.edge_multiple

    @property
    def least_parameters(self) -> int:
        """Those of the base's lowest level."""
        return self.base.least_parameters

    @property
    def summary(self) -> str:
        """What it is made of, in words."""
        kind = "dual ControlNet" if self.dual else "ControlNet"
        return f"{kind} by {', '.join((*self.labels, *self.images))}"

"""The way between volumes and the states a network sees; for networks on voxels there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from prdit_core.models.contracts import Shape


class Codec(Protocol):
    """Volumes (B, C, D, H, W) in model units to states and back; it owns the scale of these.

    States need not know the grid of their volumes: a codec that pads is told it by `of`.
    """

    def of(self, shape: Shape) -> Codec:
        """The same codec for volumes (D, H, W)."""

    def to(self, device: str) -> Codec:
        """The same codec there; this one stays where it is."""

    def channels(self, states: int) -> int:
        """Of volumes, if their states have so many."""

    def padded(self, shape: Shape) -> Shape:
        """The volume that is encoded in place of one (D, H, W), with air at its far ends."""

    def grid(self, shape: Shape) -> Shape:
        """Grid of the states of a volume (D, H, W), padded or not."""

    def encode(self, x: Tensor) -> Tensor:
        """State of a clean volume."""

    def decode(self, z: Tensor) -> Tensor:
        """Clean volume of a state."""

    def preview(self, z: Tensor) -> Tensor:
        """A cheap picture of what `decode` would give, for the live view."""


@dataclass(frozen=True)
class Identity:
    """The codec of networks that see the voxels themselves."""

    def of(self, shape: Shape) -> Identity:
        """Itself: states are as large as volumes."""
        del shape
        return self

    def to(self, device: str) -> Identity:
        """Itself: it holds nothing."""
        del device
        return self

    def channels(self, states: int) -> int:
        """Those of the states."""
        return states

    def padded(self, shape: Shape) -> Shape:
        """That volume."""
        return shape

    def grid(self, shape: Shape) -> Shape:
        """That of the volume."""
        return shape

    def encode(self, x: Tensor) -> Tensor:
        """The volume."""
        return x

    def decode(self, z: Tensor) -> Tensor:
        """The volume."""
        return z

    def preview(self, z: Tensor) -> Tensor:
        """The volume."""
        return z

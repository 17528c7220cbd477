"""What the release says of its networks and classes, and its files do not (spec 2, 4 and 7)."""

from __future__ import annotations

from dataclasses import dataclass

from prdit_core.classes import VolumeClass
from prdit_core.geometry import Geometry
from prdit_core.intensity import Intensity

# Latents of 8x are an eighth of a volume's edge, and those of 4x a quarter of the same.
LATENT = 8
# Until a user states it: the release's files are in [0, 1], and nobody says of what.
CT_WINDOW, MR_WINDOW, MR_UNITS = (-1000.0, 1000.0), (0.0, 1000.0), "a.u."

# Grids of latents at 8x and spacings in mm, (z, y, x) each; the numbers of the classes are places.
CLASSES: dict[str, dict[tuple[int, int, int], tuple[float, float, float]]] = {
    "ct-head-neck": {(16, 32, 32): (1.0, 1.0, 1.0), (32, 32, 32): (1.0, 1.0, 1.0)},
    "ct-chest-abdomen": {(32, 32, 32): (1.25, 1.25, 1.25), (64, 64, 64): (1.0, 0.7, 0.7)},
    "ct-legs": {(32, 32, 32): (1.25, 1.25, 1.25), (64, 32, 32): (1.25, 1.25, 1.25)},
    "mr-brain-t1": {(24, 24, 24): (1.0, 1.0, 1.0)},
    "mr-brain-t2": {(24, 24, 24): (1.0, 1.0, 1.0)},
    "mr-abdomen": {(16, 32, 32): (2.0, 1.2, 1.2)},
    "mr-knee": {(8, 40, 40): (1.0, 1.0, 1.0)},
}


@dataclass(frozen=True)
class Unseen:
    """Numbers of the release's networks that shapes of weights do not tell.

    Attributes
    ----------
    groups, intra_heads : of BiFlowNet
    codec_groups, codec_patch : of the autoencoder
    """

    groups: int = 24
    intra_heads: int = 8
    codec_groups: int = 24
    codec_patch: int = 64


def released_classes(window: tuple[float, float] | None) -> tuple[VolumeClass, ...]:
    """The classes in their order.

    Parameters
    ----------
    window : HU of the CT data that the weights were trained on; None: unknown, HU are approximate
    """
    ct = Intensity(window_hu=window or CT_WINDOW, exact=window is not None)
    mr = Intensity(window_hu=MR_WINDOW, exact=False, units=MR_UNITS)
    return tuple(
        VolumeClass(
            name=name,
            intensity=ct if name.startswith("ct") else mr,
            geometries=tuple(_geometry(*one) for one in grids.items()),
        )
        for name, grids in CLASSES.items()
    )


def _geometry(latent: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> Geometry:
    depth, height, width = (LATENT * edge for edge in latent)
    longest = max(LATENT * edge * mm for edge, mm in zip(latent, spacing_mm, strict=True))
    return Geometry(
        shape=(depth, height, width),
        spacing_mm=spacing_mm,
        field_of_view_mm=longest,
        exact=False,
    )

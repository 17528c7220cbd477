"""What `File > Open Sample` offers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_prdit.layers import LayerData

SPACING_MM = 2.5


def phantom() -> list[LayerData]:
    """An invented chest in HU, and a hidden layer that labels its organs."""
    from napari_prdit.layers import image_layer, placement
    from prdit_core.data.phantoms import make_phantom
    from prdit_core.provenance import SYNTHETIC
    from prdit_core.volume import Volume

    made = make_phantom(0, 0, spacing_mm=SPACING_MM)
    note = {**made.volume.metadata, "description": SYNTHETIC}
    volume = Volume(made.volume.voxels_hu, made.volume.affine, note)
    labels = {"name": "phantom: organs", "visible": False, **placement(volume.affine)}
    return [image_layer(volume, "phantom"), (made.labels, labels, "labels")]


def generated() -> list[LayerData]:
    """A chest that the bundled model makes while one waits, some seconds; always the same."""
    import prdit_core
    from napari_prdit.layers import image_layer
    from prdit_core.machine import use_threads

    use_threads()
    prior = prdit_core.load("demo")
    volume = prdit_core.generate(prior.at_size(min(prior.sizes)), seed=0)
    return [image_layer(volume, "generated chest")]

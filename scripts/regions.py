"""The picture of the regions of the body that phantoms are made of, for docs/images/regions.png."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from prdit_core.data.phantoms import CT, REGIONS, make_phantom
from prdit_core.data.preparing import phantom_preset
from prdit_core.data.transforms import conform
from prdit_core.pictures import Panel, save_picture
from prdit_core.provenance import SYNTHETIC

OUT = Path(__file__).resolve().parents[1] / "docs" / "images" / "regions.png"
SIZE = 64
SEED, INDEX = 0, 4
# Region, modality, and the window it is shown in.
ROWS = (
    ("chest", CT, (-1000, 400)),
    ("head", CT, (-200, 600)),
    ("head", "t1", (0, 1000)),
    ("head", "t2", (0, 1000)),
    ("legs", CT, (-250, 800)),
)


def panel(region: str, modality: str, window: tuple[float, float]) -> Panel:
    """One patient, prepared as `prdit-core phantoms --size 64` does."""
    preset = phantom_preset(region, modality)
    spacing_mm = preset.field_of_view_mm / (2 * SIZE)
    phantom = make_phantom(SEED, INDEX, spacing_mm=spacing_mm, region=region, modality=modality)
    cube = conform(phantom.volume, preset, SIZE).volume
    low, high = window
    tissues = len(REGIONS[region].labels) - 1
    caption = f"{region}, {modality}: {low} to {high} {cube.units}, {tissues} labels"
    if region == "legs":  # between them is air: with more of it beside, the right one is the middle
        around = (SIZE // 4, SIZE // 4)  # so that all three planes keep one scale
        beside = (around, around, (SIZE // 2, 0))
        wider = np.pad(cube.voxels_hu, beside, constant_values=preset.window_hu[0])
        return Panel(wider, cube.spacing_mm, window, f"{caption}; sagittal through the right one")
    return Panel(cube.voxels_hu, cube.spacing_mm, window, caption)


def main() -> None:
    """Draw all rows, to a path given as argument or into the docs."""
    place = Path(sys.argv[1]) if len(sys.argv) > 1 else OUT
    footer = f"{SIZE}^3 voxels, axial, coronal, sagittal; {SYNTHETIC}"
    save_picture([panel(*row) for row in ROWS], place, footer)
    print(f"wrote {place}")


if __name__ == "__main__":
    main()

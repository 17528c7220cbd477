"""Pictures of volumes: three planes at a glance, as a radiologist expects them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from prdit_core.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

PLANE_PIXELS = 256
MARGIN = 4
LINE = 14
# Of volumes whose maker has no window of its own.
WINDOW_HU = (-1000.0, 400.0)


@dataclass(frozen=True)
class Panel:
    """One row of a picture.

    Attributes
    ----------
    voxels : (D, H, W), z superior, y posterior, x left
    spacing_mm : (z, y, x)
    window : values shown black and white
    caption : one line above the row
    palette : "grey", or "signed" with blue below the middle of the window and red above
    """

    voxels: NDArray[np.float32]
    spacing_mm: tuple[float, float, float]
    window: tuple[float, float]
    caption: str
    palette: str = "grey"


def planes(panel: Panel) -> list[Image.Image]:
    """Middle axial, coronal and sagittal plane; superior up, the patient's right on the left."""
    depth, height, width = panel.voxels.shape
    sz, sy, sx = panel.spacing_mm
    cuts = [
        (panel.voxels[depth // 2], sy, sx),
        (panel.voxels[::-1, height // 2], sz, sx),
        (panel.voxels[::-1, :, width // 2], sz, sy),
    ]
    return [_scaled(_coloured(cut, panel), row_mm, column_mm) for cut, row_mm, column_mm in cuts]


def draw(panels: Sequence[Panel], footer: str = "") -> Image.Image:
    """Panels below each other, three planes each, with captions and a footer."""
    rows = [planes(panel) for panel in panels]
    width = max(sum(p.width + MARGIN for p in row) for row in rows) + MARGIN
    heights = [max(p.height for p in row) + LINE + 2 * MARGIN for row in rows]
    picture = Image.new("RGB", (width, sum(heights) + (LINE + MARGIN if footer else 0)))
    pen = ImageDraw.Draw(picture)
    top = 0
    for panel, row, height in zip(panels, rows, heights, strict=True):
        pen.text((MARGIN, top + 1), panel.caption, fill=(230, 230, 230))
        left = MARGIN
        for plane in row:
            picture.paste(plane, (left, top + LINE + MARGIN))
            left += plane.width + MARGIN
        top += height
    if footer:
        pen.text((MARGIN, top), footer, fill=(150, 150, 150))
    return picture


def save_picture(panels: Sequence[Panel], path: Path, footer: str = "") -> Path:
    """Write `draw`'s picture as PNG, whole or not at all."""
    picture = draw(panels, footer)
    return write_atomically(path, lambda part: picture.save(part, format="PNG"))


def _coloured(cut: NDArray[np.float32], panel: Panel) -> NDArray[np.uint8]:
    low, high = panel.window
    share = np.clip((cut.astype(np.float32) - low) / (high - low), 0, 1)
    if panel.palette == "grey":
        return np.repeat((share * 255).round().astype(np.uint8)[..., None], 3, axis=2)
    signed = 2 * share - 1  # blue below zero, red above, dark in the middle
    channels = np.clip(np.stack([signed, np.abs(signed) * 0.35, -signed], axis=-1), 0, 1)
    coloured: NDArray[np.uint8] = (channels * 255).round().astype(np.uint8)
    return coloured


def _scaled(pixels: NDArray[np.uint8], row_mm: float, column_mm: float) -> Image.Image:
    """Square millimetres; the longer edge gets `PLANE_PIXELS`."""
    rows_mm, columns_mm = pixels.shape[0] * row_mm, pixels.shape[1] * column_mm
    scale = PLANE_PIXELS / max(rows_mm, columns_mm)
    size = (max(1, round(columns_mm * scale)), max(1, round(rows_mm * scale)))
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)

"""Volumes at a glance: three planes each, small enough for a page with many of them."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

from PIL import Image

from prdit_core.pictures import Panel, planes
from prdit_core.reports.markup import Html, image, joined, paragraph, tag

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from prdit_core.metrics.evaluation import Evaluation
    from prdit_core.volume import Volume

    Pictures = Mapping[tuple[str, str], str]

SHOWN = 4
EDGE, FEWEST = 160, 96
# So many sets fit on a page of a few MB at the full edge.
SETS = 5
GAP = 3


def draw_all(
    evaluation: Evaluation, volumes: Iterable[tuple[str, str, Volume]]
) -> dict[tuple[str, str], str]:
    """A picture of each volume as the source of an image, by set and volume.

    Parameters
    ----------
    volumes : (name of its set, its own name, the volume), of which one is kept at a time
    """
    edge = max(FEWEST, round(EDGE * min(1.0, (SETS / len(evaluation.sets)) ** 0.5)))
    return {
        (of, name): _source(volume, evaluation.protocol.window_hu, edge)
        for of, name, volume in volumes
    }


def gallery(evaluation: Evaluation, pictures: Pictures) -> Html:
    """The first volumes of the real set and of each fake."""
    sets = [evaluation.real_name, *evaluation.fakes]
    return joined(_row(name, pictures) for name in sets)


def pictured(source: str | None, caption: str) -> Html:
    """A picture with its caption; without a picture the caption says so."""
    seen = tag("p", "no picture", class_="missing")
    if source is not None:
        seen = image(source, f"axial, coronal and sagittal plane of {caption}")
    return tag("figure", seen, tag("figcaption", caption))


def _row(name: str, pictures: Pictures) -> Html:
    keys = [key for key in pictures if key[0] == name][:SHOWN]
    shown = [pictured(pictures[key], key[1]) for key in keys]
    content = tag("div", *shown, class_="gallery") if shown else paragraph("No pictures were made.")
    return joined([tag("h3", name), content])


def _source(volume: Volume, window: tuple[float, float], edge: int) -> str:
    """Three planes beside each other as an inline PNG."""
    panel = Panel(volume.voxels_hu, volume.spacing_mm, window, "")
    cuts = [_small(plane.convert("L"), edge) for plane in planes(panel)]
    width = sum(cut.width for cut in cuts) + GAP * (len(cuts) - 1)
    strip = Image.new("L", (width, max(cut.height for cut in cuts)))
    left = 0
    for cut in cuts:
        strip.paste(cut, (left, (strip.height - cut.height) // 2))
        left += cut.width + GAP
    stream = io.BytesIO()
    strip.save(stream, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _small(plane: Image.Image, edge: int) -> Image.Image:
    """No longer than `edge`; millimetres stay square."""
    plane.thumbnail((edge, edge), Image.Resampling.LANCZOS)
    return plane

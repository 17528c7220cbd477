"""Curves and clouds as drawings within the page: text and axes take the colours of the page."""

from __future__ import annotations

import io
import math
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from prdit_core.reports.looks import INK
from prdit_core.reports.markup import Html, tag

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from prdit_core.metrics.evaluation import Description, EmbeddingEntry, Spectrum
    from prdit_core.reports.looks import Look

    Curves = Mapping[str, Description]

STYLE: Any = {
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
    "grid.alpha": 0.15,
    "svg.fonttype": "path",
}
WIDTH = 7.6  # inches; one inch is 72 pixels of the page
LEAST_SHARE = 1e-5
MOST_POINTS = 400


def histograms(curves: Curves, looks: Mapping[str, Look]) -> Html:
    """Share of the voxels by HU, `histogram` of each set."""
    with _figure("histograms", 3.0, 1) as (figure, (axes,)):
        for name, look in looks.items():
            histogram = curves[name].histogram
            shares = np.maximum(np.asarray(histogram.share), LEAST_SHARE)
            axes.stairs(shares, histogram.edges_hu, baseline=None, **_line(look))
        axes.set_yscale("log")
        _label(axes, "HU (air -1000, water 0)", "share of all voxels")
        return _inline(figure, "Histogram of HU of each set")


def spectra(curves: Curves, looks: Mapping[str, Look], real: str) -> Html:
    """Energy by size of detail: of each set, and that of the fakes against the real one's."""
    with _figure("spectra", 3.2, 2) as (figure, (left, right)):
        limits = curves[real].spectrum.limits_mm
        base = np.asarray(curves[real].spectrum.energy)
        for name, look in looks.items():
            energy = np.asarray(curves[name].spectrum.energy)
            left.plot(energy, **_marker(look), **_line(look))
            _span(left, curves[name].spectrum, look)
            ratio = np.divide(energy, base, out=np.full_like(energy, np.nan), where=base > 0)
            right.plot(ratio, **_marker(look), **_line(look))
        left.set_yscale("log")
        right.set_yscale("log", base=2)
        low, high = right.get_ylim()
        right.set_ylim(min(low, 1 / 2), max(high, 2))
        right.yaxis.set_major_formatter("{x:.3g}")
        for axes, words in (
            (left, "square of the gradient, HU²/mm²"),
            (right, "against real (1: the same)"),
        ):
            axes.set_xticks(range(len(base)), _bands(limits), rotation=30, ha="right")
            _label(axes, "size of detail in mm, coarse to fine", words)
        return _inline(figure, "Energy by size of detail, and against the real volumes")


def projection(
    points: Mapping[str, Sequence[Sequence[float]]],
    explained: Sequence[float],
    looks: Mapping[str, Look],
) -> Html:
    """Features of all volumes in the plane in which they differ most."""
    with _figure("projection", 4.6, 1) as (figure, (axes,)):
        for name, look in looks.items():
            _cloud(axes, points.get(name, []), {"color": look.colour, **_marker(look)})
        _plane(axes, explained)
        return _inline(figure, "Features of all volumes, projected to two dimensions")


def embedding(entry: EmbeddingEntry, looks: Mapping[str, Look]) -> Html:
    """Real volumes of each class, hollow, and generated ones, filled, on one plane."""
    with _figure("embedding", 4.6, 1) as (figure, (axes,)):
        for name, look in looks.items():
            style = {"color": look.colour, "marker": look.marker, "markersize": 5}
            _cloud(axes, entry.points[name].real, {**style, "markerfacecolor": "none"})
            _cloud(axes, entry.points[name].generated, {**style, "markeredgewidth": 0})
        _plane(axes, entry.explained)
        return _inline(figure, "Real and generated volumes of each class, projected to a plane")


def _cloud(axes: Axes, points: Sequence[Sequence[float]], style: dict[str, Any]) -> None:
    """A marker for each of the points, or for some where they are many."""
    cloud = np.asarray(points, dtype=float).reshape(-1, 2)
    cloud = cloud[:: max(1, math.ceil(len(cloud) / MOST_POINTS))]
    axes.plot(*cloud.T, linestyle="", **style)


def _plane(axes: Axes, explained: Sequence[float]) -> None:
    """What both directions of a projection are."""
    words = [f"component {n + 1} ({share:.0%} of variance)" for n, share in enumerate(explained)]
    _label(axes, words[0], words[1])
    axes.set_aspect("equal", adjustable="datalim")


@contextmanager
def _figure(name: str, height: float, columns: int) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure of the page's style; nobody else's style changes."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    # The name keeps identifiers of two drawings in one page apart, and the same from run to run.
    with mpl.rc_context({**STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        FigureCanvasSVG(figure)
        yield figure, list(figure.subplots(1, columns, squeeze=False)[0])


def _inline(figure: Figure, words: str) -> Html:
    """A figure as an element of the page."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", transparent=True, metadata=dict.fromkeys(_UNWANTED))
    drawing = stream.getvalue()
    drawing = drawing[drawing.index("<svg") :].replace(INK, "currentColor")
    return tag("div", Html(drawing), class_="drawing", role="img", aria_label=words)


_UNWANTED = ("Creator", "Date", "Format", "Type")


def _line(look: Look) -> dict[str, Any]:
    """The line of the real set lies on top, thin, so that what differs from it is seen."""
    dash = tuple(float(part) / 2 for part in look.dash.split())
    style: Any = (0, dash) if dash else "-"
    real = look.colour == INK
    width, order = (1.1, 3) if real else (1.8, 2)
    return {"color": look.colour, "linewidth": width, "linestyle": style, "zorder": order}


def _marker(look: Look) -> dict[str, Any]:
    face = {"markerfacecolor": "none"} if look.colour == INK else {"markeredgewidth": 0}
    return {"marker": look.marker, "markersize": 5, **face}


def _span(axes: Axes, spectrum: Spectrum, look: Look) -> None:
    """The interval about a curve, where there is one."""
    if spectrum.low is not None and spectrum.high is not None:
        low = np.maximum(spectrum.low, np.finfo(np.float32).tiny)  # it may reach below 0
        at = range(len(low))
        axes.fill_between(at, low, spectrum.high, color=look.colour, alpha=0.15, linewidth=0)


def _label(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(True)
    axes.set_axisbelow(True)


def _bands(limits: Sequence[float | None]) -> list[str]:
    """Names of the bands between falling limits; the outermost limits are no numbers."""
    names = []
    for above, below in pairwise(limits):
        if above is None or not math.isfinite(above):
            names.append(f"≥ {below:g}")
        else:
            names.append(f"< {above:g}" if not below else f"{below:g}-{above:g}")
    return names

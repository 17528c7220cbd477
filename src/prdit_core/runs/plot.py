"""A run at a glance: losses by iteration and by noise level, gradients, learning rate."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from prdit_core.errors import UsageError
from prdit_core.files import shown, write_atomically
from prdit_core.runs.listing import state_of
from prdit_core.runs.metrics import LEVELS, read_lines
from prdit_core.runs.status import read_status
from prdit_core.schedule import T

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from prdit_core.runs.folder import RunFolder

    Line = dict[str, Any]
    Values = NDArray[np.float64]

# By Okabe and Ito, for the colour-blind.
COLOURS = {"total": "#000000", "x0": "#0072B2", "eps": "#D55E00"}
FURTHER = ("#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
OTHER, GUIDE = "#009E73", "#707070"
# Losses of training by noise level are means of so many lines.
NEWEST = 200
# Thick curves are running means over this part of the run, but of no more than so many lines.
SMOOTHED, WIDEST = 1 / 40, 200
# So few iterations get a dot each; one of them alone would make no line.
FEW = 30
LONGEST_NAME = 60
SIZE_INCHES, DPI = (12.0, 8.0), 100
LAYOUT, ROWS = "AA;BC;BD", (2.2, 1.0, 1.0)


def plot_run(folder: RunFolder, out: Path) -> Path:
    """Draw a run, finished or not, as PNG of 1200 x 800 pixels.

    Raises
    ------
    UsageError
        If `out` does not end in .png, or nothing was measured yet.
    OutputError
        If `out` cannot be written.
    """
    if out.suffix.lower() != ".png":
        raise UsageError(f"{shown(out)} does not end in .png; pictures of runs are PNG")
    lines = read_lines(folder.metrics)
    if not lines:
        raise UsageError(f"{shown(folder.path)} has no metrics yet; wait for its first iteration")
    figure = _draw(lines, _resumptions(folder))
    figure.suptitle(_title(folder), parse_math=False)
    return write_atomically(out, lambda part: figure.savefig(part, format="png", dpi=DPI))


def _draw(lines: list[Line], resumptions: list[int]) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE_INCHES, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplot_mosaic(LAYOUT, height_ratios=ROWS)
    losses, levels, norm, rate = (panels[letter] for letter in "ABCD")
    train, validation = (_of_kind(lines, kind) for kind in ("train", "validation"))
    colours = _colours(lines)
    _draw_losses(losses, train, validation, colours)
    _draw_levels(levels, train[-NEWEST:], validation[-1:], colours)
    _draw_training(norm, train, "grad_norm", "gradient norm", "log")
    _draw_training(rate, train, "lr", "learning rate", "linear")
    rate.set_ylim(bottom=0)
    for axes in (losses, norm, rate):
        _finish_iterations(axes, lines[-1]["iteration"], resumptions)
    _legend(losses, colours)
    return figure


def _colours(lines: list[Line]) -> dict[str, str]:
    """Colour of each kind of loss that the run has; the sum of a stage lies on top."""
    kinds = dict.fromkeys(kind for line in lines for kind in line["loss"])
    further = cycle(FURTHER)
    return {kind: COLOURS.get(kind) or next(further) for kind in kinds}


def _draw_losses(
    axes: Axes, train: list[Line], validation: list[Line], colours: dict[str, str]
) -> None:
    at, held_out_at = _iterations(train), _iterations(validation)
    for name, colour in colours.items():
        losses = _losses(train, name)
        axes.plot(at, losses, color=colour, linewidth=0.6, alpha=0.25)
        axes.plot(at, _smooth(losses), color=colour, linewidth=2, marker=_marker(at))
    for name, colour in colours.items():
        _draw_validation(axes, held_out_at, _losses(validation, name), colour)
    _name(axes, "loss", "log")


def _draw_levels(
    axes: Axes, train: list[Line], validation: list[Line], colours: dict[str, str]
) -> None:
    edges = np.linspace(0, T, LEVELS + 1)
    parts = [name for name in colours if name != "total"] or ["total"]
    for name in parts:
        colour = colours[name]
        axes.stairs(_levels(train, name), edges, baseline=None, color=colour, linewidth=2)
        _draw_validation(axes, (edges[1:] + edges[:-1]) / 2, _levels(validation, name), colour)
    axes.set_xlim(0, T)
    axes.set_xlabel("noise level t  (0 clean, 1000 pure noise)")
    labels = [f"training: newest {len(train)}"] if train else []
    labels += [f"validation: iteration {line['iteration']}" for line in validation]
    _name(axes, f"loss by noise level  ({', '.join(labels)})", "log")


def _draw_training(axes: Axes, train: list[Line], key: str, title: str, scale: str) -> None:
    at = _iterations(train)
    values = np.array([line[key] for line in train], dtype=float)
    axes.plot(at, values, color=OTHER, linewidth=1, marker=_marker(at))
    _name(axes, title, scale)


def _draw_validation(axes: Axes, at: Values, values: Values, colour: str) -> None:
    axes.plot(
        at, values, color=colour, linewidth=1, linestyle="--", marker="o", markerfacecolor="white"
    )


def _finish_iterations(axes: Axes, last: int, resumptions: list[int]) -> None:
    from matplotlib.ticker import MaxNLocator

    for iteration in resumptions:
        axes.axvline(iteration, color=GUIDE, linewidth=1.3, linestyle=":")
    axes.set_xlim(0, last + max(1, 0.01 * last))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("iteration")


def _name(axes: Axes, title: str, scale: str) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    axes.set_yscale(scale)
    if scale == "log":
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_title(title, loc="left", fontsize="medium")
    axes.grid(color="#E4E4E4")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _legend(axes: Axes, colours: dict[str, str]) -> None:
    """Above the panel, where no curve goes."""
    from matplotlib.lines import Line2D

    entries = [Line2D([], [], color=c, linewidth=2, label=n) for n, c in colours.items()]
    entries += [
        Line2D([], [], color=GUIDE, linewidth=0.6, label="training, each iteration"),
        Line2D([], [], color=GUIDE, linewidth=2, label="training, mean"),
        Line2D([], [], color=GUIDE, linestyle="--", marker="o", mfc="white", label="validation"),
        Line2D([], [], color=GUIDE, linewidth=1.3, linestyle=":", label="resumed"),
    ]
    axes.legend(
        handles=entries,
        ncols=len(entries),
        loc="lower right",
        bbox_to_anchor=(1, 1),
        borderaxespad=0.2,
        frameon=False,
    )


def _title(folder: RunFolder) -> str:
    """Name, state, stage and progress."""
    name = shown(folder.path.resolve().name)
    status = read_status(folder)
    parts = [name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}…"]
    if status is not None:
        parts += [f"stage {status.stage}"]
    parts += [state_of(folder)]
    if status is not None:
        parts += [f"iteration {status.iteration} of {status.total}"]
    return "   ·   ".join(parts)


def _resumptions(folder: RunFolder) -> list[int]:
    """Iterations the run went on from, by its history; lines that were cut are left out."""
    lines = [line for line in read_lines(folder.history) if {"iteration", "dropped"} <= line.keys()]
    return [line["iteration"] for line in lines if line["iteration"] > 0 or line["dropped"] > 0]


def _of_kind(lines: list[Line], kind: str) -> list[Line]:
    return [line for line in lines if line["kind"] == kind]


def _iterations(lines: list[Line]) -> Values:
    return np.array([line["iteration"] for line in lines], dtype=float)


def _losses(lines: list[Line], name: str) -> Values:
    return np.array([line["loss"].get(name, np.nan) for line in lines], dtype=float)


def _levels(lines: list[Line], name: str) -> Values:
    """Mean over lines, (LEVELS,); NaN where no line has a value."""
    rows = [line["levels"][name] for line in lines if name in line["levels"]]
    values = np.array(rows, dtype=float).reshape(-1, LEVELS)
    there = np.isfinite(values)
    sums, counts = np.where(there, values, 0).sum(0), there.sum(0)
    means: Values = np.divide(sums, counts, out=np.full(LEVELS, np.nan), where=counts > 0)
    return means


def _smooth(values: Values) -> Values:
    """Running mean; narrower at both ends."""
    if len(values) == 0:
        return values
    window = np.ones(max(1, min(WIDEST, round(len(values) * SMOOTHED))))
    sums = np.convolve(values, window, mode="same")
    means: Values = sums / np.convolve(np.ones_like(values), window, mode="same")
    return means


def _marker(at: Values) -> str:
    return "." if len(at) < FEW else ""

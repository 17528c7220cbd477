"""What files do not say: the options of every command that reads scans, or raw projections."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prdit_core.cli.options import Group, option_of, parameters_of, takes, those_given
from prdit_core.data.read_options import ReadOptions

if TYPE_CHECKING:
    from prdit_core.inverse.scans import RawOptions

RAW = "Raw projections"
METAVARS = {
    "assume_rescale": "SLOPE INTERCEPT",
    "npz_spacing_mm": "Z Y X",
    "npz_clip_hu": "LOW HIGH",
}
FLAGS = {"npz_spacing_mm": "--npz-spacing", "npz_clip_hu": "--npz-clip"}
Flats = Annotated[
    Path | None,
    typer.Option(
        rich_help_panel=RAW,
        metavar="TIFF",
        help="Pictures without object: a stack, a folder, or a pattern in quotes.",
    ),
]
Darks = Annotated[
    Path | None,
    typer.Option(rich_help_panel=RAW, metavar="TIFF", help="Pictures without beam, likewise."),
]
GeometryFile = Annotated[
    Path | None,
    typer.Option(
        rich_help_panel=RAW,
        metavar="FILE.json",
        help="ASTRA's proj_geom, alone or with vol_geom; HDF5 is parallel without.",
    ),
]
Axis = Annotated[
    float | None,
    typer.Option(
        rich_help_panel=RAW,
        help="Bin that sees the axis of rotation, from 0. [as the geometry says, else searched]",
    ),
]
Rows = Annotated[
    tuple[int, int] | None,
    typer.Option(
        rich_help_panel=RAW, metavar="FIRST END", help="Rows of the detector, such as 0 1. [all]"
    ),
]
Binning = Annotated[
    int, typer.Option(rich_help_panel=RAW, min=1, help="Bins side by side taken as one.")
]
Every = Annotated[
    int, typer.Option(rich_help_panel=RAW, min=1, help="Take each so-many-th view only.")
]
UnitMm = Annotated[
    float | None,
    typer.Option(
        rich_help_panel=RAW,
        min=1e-6,
        max=1e6,
        help="mm of ASTRA's unit, or of a pixel of HDF5. [unknown: HU are relative]",
    ),
]


def read_options(**values: Any) -> ReadOptions:
    """The options as reading takes them; what is not given keeps its default.

    Raises
    ------
    ValidationError
        Of pydantic, which `door` turns into one line, for a value that makes no sense.
    """
    return ReadOptions.model_validate(those_given(**values))


def raw_options(
    flats: Flats = None,
    darks: Darks = None,
    geometry: GeometryFile = None,
    axis: Axis = None,
    rows: Rows = None,
    binning: Binning = 1,
    every: Every = 1,
    unit_mm: UnitMm = None,
) -> RawOptions:
    """The options as reading projections takes them."""
    from prdit_core.inverse.scans import RawOptions

    return RawOptions(flats, darks, geometry, axis, rows, binning, every, unit_mm)


_SCANS = Group(
    tuple(
        option_of(
            ReadOptions,
            name,
            *([FLAGS[name]] if name in FLAGS else []),
            metavar=METAVARS.get(name),
            least=0 if name == "frame" else None,
            usual=0.0 if name == "hu_offset" else None,
        )
        for name in ReadOptions.model_fields
    ),
    read_options,
)
# Decorators: all options of reading scans for a command's `options`, and those of raw projections
# for its `raw`.
reads_scans = takes("options", _SCANS)
reads_projections = takes("raw", Group(tuple(parameters_of(raw_options).values()), raw_options))

"""What files do not say: the options of every command that reads scans, or raw projections."""

from __future__ import annotations

import functools
import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from prdit_core.data.io import ReadOptions
    from prdit_core.inverse.scans import RawOptions

RAW = "Raw projections"
Series = Annotated[
    str | None, typer.Option(help="DICOM series to take where a folder holds several.")
]
Frame = Annotated[int | None, typer.Option(min=0, help="Frame of a 4D NIfTI, from 0.")]
AssumeOrientation = Annotated[
    str | None, typer.Option(help="Axis directions such as LPS, for files that state none.")
]
AssumeRescale = Annotated[
    tuple[float, float] | None,
    typer.Option(metavar="SLOPE INTERCEPT", help="For DICOM without these tags, such as 1 -1024."),
]
HuOffset = Annotated[
    float, typer.Option(help="Added to every voxel, such as -1024 for unsigned files.")
]
NanFill = Annotated[float | None, typer.Option(help="HU in place of NaN voxels.")]
NpzSpacing = Annotated[
    tuple[float, float, float] | None,
    typer.Option(metavar="Z Y X", help="Voxels of RAD-ChestCT .npz in mm. Default: 0.8 0.8 0.8."),
]
NpzClip = Annotated[
    tuple[float, float] | None,
    typer.Option(metavar="LOW HIGH", help="HU of RAD-ChestCT .npz. Default: -1000 1000."),
]
Modality = Annotated[
    Literal["ct", "mr"], typer.Option(help="mr: the voxels are MR signal in units of their own.")
]
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


def read_options(
    series: Series = None,
    frame: Frame = None,
    assume_orientation: AssumeOrientation = None,
    assume_rescale: AssumeRescale = None,
    hu_offset: HuOffset = 0.0,
    nan_fill: NanFill = None,
    npz_spacing: NpzSpacing = None,
    npz_clip: NpzClip = None,
    modality: Modality = "ct",
) -> ReadOptions:
    """The options as reading takes them; what is None keeps its default.

    Raises
    ------
    ValidationError
        Of pydantic, which `door` turns into one line, for a value that makes no sense.
    """
    from prdit_core.data.io import ReadOptions

    given = {
        "series": series,
        "frame": frame,
        "assume_orientation": assume_orientation,
        "assume_rescale": assume_rescale,
        "hu_offset": hu_offset,
        "nan_fill": nan_fill,
        "npz_spacing_mm": npz_spacing,
        "npz_clip_hu": npz_clip,
        "modality": modality,
    }
    return ReadOptions.model_validate({k: v for k, v in given.items() if v is not None})


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


def reads_scans(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command all options of reading scans where it has one parameter, `options`."""
    return _with_options(command, "options", read_options)


def reads_projections(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command all options of raw projections where it has one parameter, `raw`."""
    return _with_options(command, "raw", raw_options)


def _with_options(
    command: Callable[..., None], name: str, read: Callable[..., Any]
) -> Callable[..., None]:
    """The command with the parameters of `read` in place of the one that takes what it gives.

    typer learns them from the signature, so what the command is called with and what it says of
    itself are made here, once.
    """
    reading = _parameters(read)

    @functools.wraps(command)
    def reader(**given: Any) -> None:
        own = {option: given.pop(option) for option in reading}
        command(**given, **{name: read(**own)})

    parameters: list[inspect.Parameter] = []
    for own, parameter in _parameters(command).items():
        parameters += reading.values() if own == name else [parameter]
    described: Any = reader
    described.__signature__ = inspect.Signature(parameters)
    described.__annotations__ = {one.name: one.annotation for one in parameters}
    return reader


def _parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """By name, with types for their names; all by keyword, as typer calls a command."""
    untyped = {"ReadOptions": object, "RawOptions": object}
    types = get_type_hints(function, localns=untyped, include_extras=True)
    return {
        name: one.replace(annotation=types[name], kind=inspect.Parameter.KEYWORD_ONLY)
        for name, one in inspect.signature(function).parameters.items()
    }

"""What a scan's file does not say: the options of every command that reads scans."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from prdit_core.data.io import ReadOptions

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


def read_options(
    series: Series = None,
    frame: Frame = None,
    assume_orientation: AssumeOrientation = None,
    assume_rescale: AssumeRescale = None,
    hu_offset: HuOffset = 0.0,
    nan_fill: NanFill = None,
    npz_spacing: NpzSpacing = None,
    npz_clip: NpzClip = None,
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
    }
    return ReadOptions.model_validate({k: v for k, v in given.items() if v is not None})


def reads_scans(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command all options of reading where it has one parameter, `options`.

    typer learns them from the signature, so what the command is called with and what it says of
    itself are made here, once.
    """
    reading = _parameters(read_options)

    @functools.wraps(command)
    def reader(**given: Any) -> None:
        own = {name: given.pop(name) for name in reading}
        command(**given, options=read_options(**own))

    parameters: list[inspect.Parameter] = []
    for name, parameter in _parameters(command).items():
        parameters += reading.values() if name == "options" else [parameter]
    told: Any = reader
    told.__signature__ = inspect.Signature(parameters)
    told.__annotations__ = {one.name: one.annotation for one in parameters}
    return reader


def _parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """By name, with types for their names; all by keyword, as typer calls a command."""
    types = get_type_hints(function, localns={"ReadOptions": object}, include_extras=True)
    return {
        name: one.replace(annotation=types[name], kind=inspect.Parameter.KEYWORD_ONLY)
        for name, one in inspect.signature(function).parameters.items()
    }

"""What a scan's file does not say: the options of every command that reads scans."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
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
    series: str | None,
    frame: int | None,
    assume_orientation: str | None,
    assume_rescale: tuple[float, float] | None,
    hu_offset: float,
    nan_fill: float | None,
    npz_spacing: tuple[float, float, float] | None,
    npz_clip: tuple[float, float] | None,
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

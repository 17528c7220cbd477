"""`prdit-core export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prdit_core.cli.console import Json, door, result, say
from prdit_core.cli.reading import reads_scans

if TYPE_CHECKING:
    from prdit_core.data.io import ReadOptions


@door
@reads_scans
def export(
    volume: Annotated[
        str,
        typer.Argument(
            help="What `generate` or `decompose` wrote, a CT volume of any format, or "
            "DATA/volumes/ID.npy of a prepared data set.",
            metavar="VOLUME",
        ),
    ],
    dicom: Annotated[
        str, typer.Option(metavar="DIR", help="Folder of the DICOM series; new or empty.")
    ],
    source: Annotated[
        Path | None,
        typer.Option(metavar="SCAN", help="DICOM scan it was made from; the images refer to it."),
    ] = None,
    keep_identity: Annotated[
        bool,
        typer.Option("--keep-identity", help="Patient, study and frame of reference of --source."),
    ] = False,
    mask: Annotated[
        Path | None,
        typer.Option(
            metavar="MASK.nii.gz",
            help="What was imagined of it, beside the series as DIR-imagined.dcm, a DICOM SEG; "
            "needs highdicom.",
        ),
    ] = None,
    resample: Annotated[
        bool, typer.Option("--resample", help="Bring sheared axes to right angles.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a series of an earlier export.")
    ] = False,
    *,
    options: ReadOptions,
    json: Json = False,
) -> None:
    """Write a volume as a DICOM series: CT images, one file a slice, in HU.

    Volumes that a model made are marked as synthetic. No patient is named unless --keep-identity
    is given. The same volume gives the same bytes.
    """
    from prdit_core.data.sources import named, refuse_overlap
    from prdit_core.verbs.export import export_dicom, export_mask, open_volume

    inputs = [named(volume), *([] if mask is None else [named(mask)])]
    refuse_overlap(inputs, named(dicom))
    opened = open_volume(volume, options, resample=resample)
    exported = export_dicom(
        opened,
        dicom,
        source=source,
        series=options.series,
        keep_identity=keep_identity,
        overwrite=overwrite,
    )
    segmentation = None
    if mask is not None:
        segmentation = str(export_mask(mask, exported, overwrite=overwrite))
    for note in opened.metadata.get("notes", []):
        say(f"note: {note}")
    kind = "synthetic" if exported.synthetic else "not marked as synthetic: its file does not say"
    result(
        {
            "dicom": str(exported.folder),
            "slices": exported.slices,
            "series": exported.series_uid,
            "synthetic": exported.synthetic,
            "segmentation": segmentation,
            "notes": list(opened.metadata.get("notes", [])),
        },
        [
            f"series   {exported.folder}",
            f"slices   {exported.slices}, {kind}",
            *([] if segmentation is None else [f"segment  {segmentation}"]),
            opened.metadata.get("notice", "not for diagnosis"),
        ],
        json,
    )

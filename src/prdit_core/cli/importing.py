"""`prdit-core import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prdit_core.cli.console import Json, door, refuse_unheeded, result
from prdit_core.cli.describing import described, in_lines
from prdit_core.config import ReleaseName, WeightsName
from prdit_core.errors import UsageError
from prdit_core.prdit_config import Norm


@door
def import_(
    file: Annotated[Path, typer.Argument(help="The authors' .pt file.", metavar="FILE.pt")],
    out: Annotated[Path, typer.Option(help="Checkpoint folder to write.")],
    release: Annotated[ReleaseName, typer.Option(help="Whose file it is.")] = "prdit",
    codec: Annotated[
        Path | None,
        typer.Option(help="3d-meddiffusion: the autoencoder's .ckpt that the file belongs to."),
    ] = None,
    window: Annotated[
        tuple[float, float] | None,
        typer.Option(
            metavar="LOW HIGH",
            help="3d-meddiffusion: HU of the CT data of the training. [unknown: approximate]",
        ),
    ] = None,
    norm: Annotated[
        Norm | None,
        typer.Option(help="layer: PRDiT and PRDiT-FM; rms: TF-PRDiT. Same names, another network."),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(min=1, help="Edge of the volumes; of a high-resolution model, of its output."),
    ] = None,
    patch: Annotated[int | None, typer.Option(min=1, help="Edge of a patch.")] = None,
    stride: Annotated[int | None, typer.Option(min=1, help="Distance of patches.")] = None,
    padding: Annotated[int | None, typer.Option(min=0, help="Reflected border.")] = None,
    channels: Annotated[int | None, typer.Option(min=1, help="Image channels.")] = None,
    heads: Annotated[int | None, typer.Option(min=1, help="Attention heads.")] = None,
    noise_std: Annotated[
        float | None,
        typer.Option(help="Standard deviation of the training noise; default: as in the release."),
    ] = None,
    refiner_patch: Annotated[
        int | None, typer.Option(min=1, help="As --patch, of a high-resolution model's refiner.")
    ] = None,
    refiner_stride: Annotated[int | None, typer.Option(min=1, help="Its --stride.")] = None,
    refiner_padding: Annotated[int | None, typer.Option(min=0, help="Its --padding.")] = None,
    weights: Annotated[
        WeightsName, typer.Option(help="ema samples best; model: raw weights.")
    ] = "ema",
    json: Json = False,
) -> None:
    """Convert files of the authors' releases into a checkpoint of ours.

    Of PRDiT, TF-PRDiT and PRDiT-FM one file; a high-resolution model becomes a chain of two sizes.
    Of 3D MedDiffusion two: BiFlowNet and its autoencoder. What they do not say must be given;
    nothing in them is executed.
    """
    from prdit_core.checkpoints.releases.latent.importer import import_latent
    from prdit_core.checkpoints.releases.prdit.importer import import_official
    from prdit_core.checkpoints.store import read_header

    of_prdit: dict[str, object] = {
        "norm": norm,
        "size": size,
        "patch": patch,
        "stride": stride,
        "padding": padding,
        "channels": channels,
        "heads": heads,
        "noise-std": noise_std,
        "refiner-patch": refiner_patch,
        "refiner-stride": refiner_stride,
        "refiner-padding": refiner_padding,
    }
    of_latent: dict[str, object] = {"codec": codec, "window": window}
    heeded = dict.fromkeys(of_prdit, ("prdit",)) | dict.fromkeys(of_latent, ("3d-meddiffusion",))
    refuse_unheeded(release, of_prdit | of_latent, heeded)
    if release == "prdit":
        path = import_official(
            file,
            out,
            norm=norm,
            size=size,
            patch=patch,
            stride=stride,
            padding=padding,
            channels=channels,
            heads=heads,
            noise_std=noise_std,
            refiner_patch=refiner_patch,
            refiner_stride=refiner_stride,
            refiner_padding=refiner_padding,
            weights=weights,
        )
    elif codec is None:
        raise UsageError("a file of 3d-meddiffusion needs its autoencoder: give --codec AE.ckpt")
    else:
        path = import_latent(file, codec, out, window=window, weights=weights)
    header = read_header(path)
    content = described(header, str(path))
    result(content, [f"imported {path}", *in_lines(content)], json)

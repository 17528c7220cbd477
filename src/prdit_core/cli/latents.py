"""`prdit-core latents`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from prdit_core.cli.console import Json, door
from prdit_core.cli.options import Device
from prdit_core.cli.preparing import drain
from prdit_core.errors import UsageError

if TYPE_CHECKING:
    from prdit_core.models.contracts import Shape


@door
def latents(
    data: Annotated[str, typer.Option(help="Prepared data set, or a file that names several.")],
    codec: Annotated[str, typer.Option(help="Autoencoder: checkpoint folder or run.")],
    out: Annotated[str, typer.Option(metavar="PATH", help="Folder of the latents.")],
    shape: Annotated[
        str | None,
        typer.Option(
            metavar="D,H,W",
            help="Encode the box of so many voxels in the middle of every volume. [all of it]",
        ),
    ] = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Encode prepared data with an autoencoder, once, for train --stage latent.

    Patients and split stay as they are. Stopped, it goes on when run again. Of a file of classes
    it makes a set for each, and a classes.json that names them.
    """
    from prdit_core.verbs.latents import latents_steps

    box = None if shape is None else _shape(shape)
    drain(latents_steps(data, codec=codec, out=out, shape=box, device=device), "cases", json)


def _shape(text: str) -> Shape:
    """Three edges, such as 64,32,32."""
    try:
        depth, height, width = (int(edge) for edge in text.split(","))
    except ValueError as error:
        raise UsageError(f"--shape {text} is not D,H,W; give three edges, such as 64,32,32") from (
            error
        )
    if min(depth, height, width) < 1:
        raise UsageError(f"--shape {text} has an edge below 1")
    return depth, height, width

"""`prdit-core latents`."""

from __future__ import annotations

from typing import Annotated

import typer

from prdit_core.cli.console import Json, door
from prdit_core.cli.options import Device
from prdit_core.cli.preparing import drain
from prdit_core.geometry import shape_of


@door
def latents(
    data: Annotated[str, typer.Option(help="Prepared data set, or a file that names several.")],
    codec: Annotated[
        str,
        typer.Option(help="Autoencoder, or a model in latents that has one: checkpoint or run."),
    ],
    out: Annotated[str, typer.Option(metavar="PATH", help="Folder of the latents.")],
    shape: Annotated[
        str | None,
        typer.Option(
            metavar="D,H,W",
            help="Encode the box of so many voxels in the middle of every volume. [all of it]",
        ),
    ] = None,
    labels: Annotated[
        bool, typer.Option("--labels", help="Take label maps along, for train --stage control.")
    ] = False,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Encode prepared data with an autoencoder, once, for train --stage latent.

    Patients and split stay as they are. Stopped, it goes on when run again. Of a file of classes
    it makes a set for each, and a classes.json that names them.
    """
    from prdit_core.verbs.latents import latents_steps

    box = None if shape is None else shape_of(shape)
    steps = latents_steps(data, codec=codec, out=out, shape=box, labels=labels, device=device)
    drain(steps, "cases", json)
